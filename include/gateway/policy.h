/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule is a peer's, what that rule makes of it and lets it do. Pure: no socket, no clock. */
#ifndef GATEWAY_POLICY_H
#define GATEWAY_POLICY_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/http_parse.h"
#include "common/str.h"

struct config;
struct config_rule;
struct identity;
struct route;

enum {
	POLICY_USER_ID_MAX_BYTES = 128
};

struct policy_refusal {
	char text[384]; /* for the caller: his own rule, the route, what to change; nothing of other rules */
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

/*
 * Whether the rule lets its client `user_id` make a request with this method and path, whose route is `route`; the path
 * is canonical (target_parse) and what goes upstream. *why is written only when not.
 */
bool policy_allows(const struct config_rule *rule, const char *user_id, enum http_method method,
		   const struct route *route, struct str path, struct policy_refusal *why);

#endif
