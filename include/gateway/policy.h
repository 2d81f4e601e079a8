/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule is a peer's, and what that rule makes of it. Pure: no socket, no clock. */
#ifndef GATEWAY_POLICY_H
#define GATEWAY_POLICY_H

#include <stddef.h>

#include "common/err.h"
#include "common/str.h"

struct config;
struct config_rule;
struct identity;

enum {
	POLICY_USER_ID_MAX_BYTES = 128
};

/* The first rule that matches the peer on the listener of that name, borrowed from the configuration; NULL for none. */
const struct config_rule *policy_match(const struct config *c, const struct identity *peer, const char *listener);

/*
 * Expands the rule's user_id for the peer into out, terminated. 0, or -EINVAL when what comes out is empty, too long or
 * holds a byte that a user id must not.
 */
MUST_CHECK int policy_user_id(const struct config *c, const struct config_rule *rule, const struct identity *peer,
			      char out[POLICY_USER_ID_MAX_BYTES + 1]);

#endif
