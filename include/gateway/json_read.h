/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON in place: every value is the span of text it was written as, so what is not looked at is not changed. */
#ifndef GATEWAY_JSON_READ_H
#define GATEWAY_JSON_READ_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	JSON_READ_MAX_DEPTH = 2048 /* containers within containers */
};

enum json_kind {
	JSON_KIND_OBJECT,
	JSON_KIND_ARRAY,
	JSON_KIND_STRING,
	JSON_KIND_NUMBER,
	JSON_KIND_BOOL,
	JSON_KIND_NULL,
};

/* An object that is being gone through. */
struct json_members {
	struct str rest; /* borrowed; from the next member on, or from the closing brace */
	bool first;      /* no member was read yet */
};

/* Both are spans of the text. */
struct json_member {
	struct str key;   /* with its quotes, as written; see json_read_string */
	struct str value; /* without white space around it */
};

/* Without JSON's white space (space, tab, CR, LF) at the start. */
struct str json_read_space(struct str text);

/*
 * Takes the value at the start of *text, white space before it skipped, and leaves in *text what stands behind it. The
 * value's whole grammar is checked (RFC 8259), but not whether strings are valid UTF-8. 0, or -EPROTO when it is
 * malformed, cut short or too deep.
 */
MUST_CHECK int json_read_value(struct str *text, struct str *value);

/* The same for a text of one value with nothing but white space behind it. */
MUST_CHECK int json_read_document(struct str text, struct str *value);

/* What a value is, by its first byte; `value` is not empty. */
enum json_kind json_read_kind(struct str value);

/* Begins to go through `text`, whose first byte is the opening brace of an object; it need not have been checked. */
struct json_members json_read_members(struct str text);

/*
 * The next member. 1, or 0 at the closing brace, behind which m->rest is then; -EPROTO when what follows is malformed.
 * Going through all members checks the whole object.
 */
MUST_CHECK int json_read_member(struct json_members *m, struct json_member *out);

/*
 * Appends the text that a string stands for; `quoted` was checked. As in Go's decoder each byte of invalid UTF-8 and
 * each lone surrogate becomes U+FFFD; \u0000 becomes a zero byte.
 */
void json_read_string(struct str quoted, struct buf *out);

/* Whether a checked string stands for exactly `text`, which is valid UTF-8 without U+FFFD. */
bool json_read_string_is(struct str quoted, struct str text);

/*
 * Copies what a checked string stands for into out, terminated. False, and out is then empty, when it does not fit into
 * `size` bytes or holds a zero byte: a part of a name is another name.
 */
bool json_read_copy(struct str quoted, char *out, size_t size);

#endif
