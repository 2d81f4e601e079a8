/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule is a peer's, and what that rule makes of it. Pure: no socket, no clock. */
#ifndef GATEWAY_POLICY_H
#define GATEWAY_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/str.h"

struct config;
struct config_rule;
struct identity;

enum {
	POLICY_USER_ID_MAX_BYTES = 128
};

/*
 * The first rule that matches the peer on the listener of that name, borrowed from the configuration; NULL for none. A uid
 * of /etc/subuid is matched only by rules that name it, by uid or by listener, and over TCP uid 0 and administrators only
 * by rules that name the listener.
 */
const struct config_rule *policy_match(const struct config *c, const struct identity *peer, const char *listener);

/* What the name service calls the peer; borrowed. NULL: not asked for (see below), or without a name. */
struct policy_names {
	const char *user;
	const char *group;
};

/* Whether the rule's user_id needs the name of the peer's user, or of its primary group. */
bool policy_needs_user(const struct config_rule *rule);
bool policy_needs_group(const struct config_rule *rule, const struct identity *peer);

/*
 * Expands the rule's user_id for the peer into out, terminated. 0, or -EINVAL when a field of it is not known of this peer,
 * or what comes out is empty, too long or holds a byte that a user id must not.
 */
MUST_CHECK int policy_user_id(const struct config *c, const struct config_rule *rule, const struct identity *peer,
			      const struct policy_names *names, char out[POLICY_USER_ID_MAX_BYTES + 1]);

#endif
