/* SPDX-License-Identifier: Apache-2.0 */
/* Reads JSON request bodies as leniently as the StacyVM server's decoder does, and binds their members to structs. */
#ifndef LOCAL_GO_JSON_H
#define LOCAL_GO_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "common/err.h"
#include "common/json_write.h"
#include "common/str.h"

enum go_type {
	GO_STR,     /* struct str, borrowed from the document */
	GO_INT,     /* int64_t */
	GO_BOOL,    /* bool */
	GO_LIST,    /* json_t *, borrowed: an array of strings and nulls */
	GO_MAP,     /* json_t *, borrowed: an object of strings and nulls */
	GO_OBJECTS, /* json_t *, borrowed: an array of GO_MAPs and nulls */
};

struct go_field {
	const char *key;   /* compared without ASCII case */
	enum go_type type; /* what the member must be */
	size_t offset;     /* where in the bound struct its value goes */
};

/*
 * Parses the first JSON value of `text`: what follows it is ignored, invalid UTF-8 and lone surrogates become U+FFFD.
 * An object, or null (given as an empty object); anything else is -EINVAL. 0, -EINVAL or -ENOMEM. *out is the
 * caller's (json_decref).
 */
MUST_CHECK int go_json_parse(struct str text, json_t **out);

/*
 * Sets the fields of `target` from the object's members. Unknown members are ignored, null leaves a field as it is,
 * the last of several spellings wins. -EINVAL when a member has another type than its field.
 */
MUST_CHECK int go_json_bind(const json_t *object, const struct go_field *fields, size_t nfields, void *target);

/* The text of a string member; empty for null. */
struct str go_json_text(const json_t *value);

/* Writes a GO_LIST, GO_MAP or GO_OBJECTS value; nulls are empty strings (or maps). NULL writes nothing. */
void go_json_emit(struct json_writer *w, const char *key, const json_t *value);

#endif
