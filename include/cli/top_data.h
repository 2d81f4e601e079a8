/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the gateway's status document, in which anything may be missing, and what happened between two of them. */
#ifndef CLI_TOP_DATA_H
#define CLI_TOP_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/str.h"

struct json_t;

enum {
	TOP_SHORT = 24
};

/* A member, "pool.leased" below others; borrowed. NULL: there is none. */
const struct json_t *top_member(const struct json_t *object, const char *path);

/* 0 for what is no number, below 0 or not there; "" for what is no text. Borrowed. */
int64_t top_number(const struct json_t *object, const char *path);
struct str top_text(const struct json_t *object, const char *path);

/*
 * Per second, from two values of a counter in two documents. 0 without an earlier document, and for a counter that has gone back.
 */
double top_per_second(const struct json_t *now, const struct json_t *before, int64_t value, int64_t value_before);

/* The same of a counter that stands at `path`. */
double top_rate(const struct json_t *now, const struct json_t *before, const char *path);

/* "0", "0.4", "12.3", "140". */
void top_format_rate(double rate, char out[TOP_SHORT]);

/* "5s", "3m 4s", "2h 10m", "3d 4h". */
void top_format_span(int64_t ms, char out[TOP_SHORT]);

#endif
