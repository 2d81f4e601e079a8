/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a query name the caller as owner, whoever it named. */
#ifndef GATEWAY_OWNER_QUERY_H
#define GATEWAY_OWNER_QUERY_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/str.h"

/*
 * Appends `query` (without '?') with the value of every owner_id replaced by `owner`, percent-encoded, and every
 * tenant_id left out; all else byte for byte. Names are compared after decoding and without case; ';' parts pairs as
 * '&' does, for servers that split there. False, and nothing is appended, when there is nothing to change. The result
 * may be empty.
 */
bool owner_query_rewrite(struct str query, const char *owner, struct buf *out);

struct target;

/* Appends what goes upstream of a target: its path, and its query with the caller as owner; NULL leaves that as it is. */
void owner_query_target(const struct target *target, const char *owner, struct buf *out);

#endif
