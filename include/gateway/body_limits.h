/* SPDX-License-Identifier: Apache-2.0 */
/* Applies a rule's defaults and limits to the fields of a spawn, so that none is evaded by leaving something out. */
#ifndef GATEWAY_BODY_LIMITS_H
#define GATEWAY_BODY_LIMITS_H

#include <stdbool.h>

#include "common/str.h"
#include "gateway/body_fields.h"

struct config_limits;

/*
 * Fills in from `defaults`, the text of a JSON object of spawn fields, what is not set, but for metadata. With limits a
 * ttl of zero counts as not set.
 */
void body_limits_default(struct body_fields *f, const struct config_limits *limits, const char *defaults);

/*
 * Makes the limited fields of a spawn explicit: what is not set becomes the limit, what is above it is lowered to it.
 * Status 400 for a negative or unreadable value and for an image or provider that is not set, 403 for one that the
 * limits do not name.
 */
void body_limits_apply(struct body_fields *f, const struct config_limits *limits, struct body_verdict *v);

/* Lowers a ttl that is set to max_ttl; one that is not, or is zero, is left to the server. 400 as above. */
void body_limits_ttl(struct body_fields *f, const struct config_limits *limits, struct body_verdict *v);

/*
 * Notes in v->ttl_ms how long the sandbox is to live, and makes it lease_ttl_ms (unless 0) where that is shorter. What cannot be
 * read, or is no time at all, is left to the server.
 */
void body_limits_lease(struct body_fields *f, uint64_t lease_ttl_ms, struct body_verdict *v);

/* Whether a pattern covers all of `text`; '*' stands for any run of characters without '/'. */
bool body_limits_match(struct str pattern, struct str text);

#endif
