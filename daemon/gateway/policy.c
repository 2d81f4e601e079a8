/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/policy.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "gateway/config.h"
#include "gateway/identity.h"

static bool matches_uid(const struct config_rule *r, const struct identity *peer)
{
	if (!r->match_uids)
		return true;
	for (size_t i = 0; i < r->uids.n; i++)
		if (r->uids.ids[i] == peer->uid)
			return true;
	return false;
}

static bool matches_gid(const struct config_rule *r, const struct identity *peer)
{
	if (!r->match_gids)
		return true;
	for (size_t i = 0; i < r->gids.n; i++)
		if (identity_in_group(peer, r->gids.ids[i]))
			return true;
	return false;
}

static bool matches_listener(const struct config_rule *r, const char *listener)
{
	if (!r->match_listeners)
		return true;
	for (size_t i = 0; i < r->nlisteners; i++)
		if (strcmp(r->listeners[i], listener) == 0)
			return true;
	return false;
}

const struct config_rule *policy_match(const struct config *c, const struct identity *peer, const char *listener)
{
	if (!identity_is_known(peer))
		return NULL;
	for (size_t i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		if (matches_uid(r, peer) && matches_gid(r, peer) && matches_listener(r, listener))
			return r;
	}
	return NULL;
}

struct expansion {
	char *out; /* borrowed */
	size_t n;
	bool too_long;
};

static void add(struct expansion *e, struct str s)
{
	if (e->too_long || s.n > POLICY_USER_ID_MAX_BYTES - e->n) {
		e->too_long = true;
		return;
	}
	memcpy(e->out + e->n, s.p, s.n);
	e->n += s.n;
}

static const char *name_of(const struct config_rule *rule, uid_t uid)
{
	for (size_t i = 0; rule->user_names && i < rule->uids.n; i++)
		if (rule->uids.ids[i] == uid)
			return rule->user_names[i];
	return "";
}

static void add_field(struct expansion *e, struct str field, const struct config *c, const struct config_rule *rule,
		      const struct identity *peer)
{
	char number[12];

	if (str_eq(field, STR("{user}"))) {
		add(e, str_from(name_of(rule, peer->uid)));
	} else if (str_eq(field, STR("{uid}"))) {
		snprintf(number, sizeof(number), "%u", (unsigned)peer->uid);
		add(e, str_from(number));
	} else if (str_eq(field, STR("{host}"))) {
		add(e, str_from(c->host));
	} else if (str_eq(field, STR("{client}"))) {
		add(e, str_from(rule->name));
	}
}

int policy_user_id(const struct config *c, const struct config_rule *rule, const struct identity *peer,
		   char out[POLICY_USER_ID_MAX_BYTES + 1])
{
	struct expansion e = {.out = out};
	struct str rest = str_from(rule->user_id);

	while (rest.n) {
		const char *end = rest.p[0] == '{' ? memchr(rest.p, '}', rest.n) : NULL;
		size_t n = end ? (size_t)(end - rest.p) + 1 : 1;
		if (end)
			add_field(&e, str_of(rest.p, n), c, rule, peer);
		else
			add(&e, str_of(rest.p, 1));
		rest = str_of(rest.p + n, rest.n - n);
	}
	if (e.too_long || e.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < e.n; i++)
		if ((unsigned char)out[i] <= 0x20 || (unsigned char)out[i] == 0x7f || out[i] == '/' || out[i] == '\\')
			return -EINVAL;
	out[e.n] = '\0';
	return 0;
}
