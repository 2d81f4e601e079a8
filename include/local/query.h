/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the query part of a request target. */
#ifndef LOCAL_QUERY_H
#define LOCAL_QUERY_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/str.h"

/*
 * The first value of `key`, decoded ('+' is a space), replaces the content of out. False when there is none; a pair
 * with a raw ';' or a bad escape counts as not there.
 */
bool query_get(struct str query, struct str key, struct buf *out);

#endif
