/* SPDX-License-Identifier: Apache-2.0 */
/* Writes JSON text into a buffer, strings escaped as the StacyVM server escapes them. */
#ifndef COMMON_JSON_WRITE_H
#define COMMON_JSON_WRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/str.h"

struct json_writer {
	struct buf *out; /* borrowed */
	bool comma;      /* the next element needs a comma before it */
	bool ascii;      /* strings are written by json_add_ascii */
};

static inline struct json_writer json_writer(struct buf *out)
{
	return (struct json_writer){out, false, false};
}

/* For lines of a log: whatever the strings hold, one line of printable ASCII comes out. */
static inline struct json_writer json_writer_ascii(struct buf *out)
{
	return (struct json_writer){out, false, true};
}

/* Objects and arrays; `key` is NULL inside an array and for the outermost value. Keys are literals of ours. */
void json_object_begin(struct json_writer *w, const char *key);
void json_object_end(struct json_writer *w);
void json_array_begin(struct json_writer *w, const char *key);
void json_array_end(struct json_writer *w);

void json_str(struct json_writer *w, const char *key, struct str value);
void json_cstr(struct json_writer *w, const char *key, const char *value);
void json_int(struct json_writer *w, const char *key, int64_t value);
void json_uint(struct json_writer *w, const char *key, uint64_t value);
void json_double(struct json_writer *w, const char *key, double value);
void json_bool(struct json_writer *w, const char *key, bool value);
void json_nothing(struct json_writer *w, const char *key);

/* The same as json_str with a key that is somebody else's text (a member of metadata, say). */
void json_member(struct json_writer *w, struct str key, struct str value);

/*
 * One quoted string. < > & and U+0085, U+2028, U+2029 become \uXXXX, control bytes \b \f \n \r \t or \u00xx, each
 * byte of invalid UTF-8 \ufffd.
 */
void json_add_quoted(struct buf *out, struct str s);

/* The same in printable ASCII only: control bytes as \u00xx, what is beyond ASCII as \uXXXX, in pairs where needed. */
void json_add_ascii(struct buf *out, struct str s);

/* What json_add_ascii writes between the quotes; `out` has room for JSON_ASCII_GROWTH bytes per byte. How many it took. */
enum {
	JSON_ASCII_GROWTH = 6
};
size_t json_escape_ascii(char *out, struct str s);

#endif
