/* SPDX-License-Identifier: Apache-2.0 */
/* The keys of a JSON object: whether they mean the same to every reader, and which there are. */
#ifndef GATEWAY_JSON_KEYS_H
#define GATEWAY_JSON_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	JSON_KEYS_MAX = 16384 /* more are refused: what they cost is time of the loop */
};

enum json_keys_rule {
	JSON_KEYS_EXACT, /* keys of a map: equal ones are duplicates */
	JSON_KEYS_FOLDED, /* keys that Go binds to fields: ASCII case does not count, and what is not ASCII may fold to it */
};

/* The keys of an object, sorted. */
struct json_keys {
	struct str *keys; /* owned; spans of text */
	size_t n;
	struct buf text; /* owned; what the keys stand for, folded with JSON_KEYS_FOLDED */
};

/*
 * `object` is a checked JSON object; its own keys are taken, by what they stand for, not those of objects within. 0,
 * -E2BIG for more than JSON_KEYS_MAX, -EEXIST for a duplicate, -EILSEQ for a key with a character that is not ASCII (JSON_KEYS_FOLDED only), or -ENOMEM;
 * nothing is left to be released on a fault. Takes time in proportion to n log n of the members.
 */
MUST_CHECK int json_keys_init(struct json_keys *k, struct str object, enum json_keys_rule rule);
void json_keys_fini(struct json_keys *k);

/* Whether there is a key that stands for exactly `key`. */
bool json_keys_has(const struct json_keys *k, struct str key);

/* The verdict of json_keys_init, no keys kept. */
MUST_CHECK int json_keys_check(struct str object, enum json_keys_rule rule);

#endif
