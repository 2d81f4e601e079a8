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

static bool matches_text(bool asked, const struct config_names *any_of, const char *text)
{
	if (!asked)
		return true;
	for (size_t i = 0; text && i < any_of->n; i++)
		if (strcmp(any_of->names[i], text) == 0)
			return true;
	return false;
}

/* Some are matched only by a rule that was written for them. */
static bool may_match(const struct config *c, const struct config_rule *r, const struct identity *peer)
{
	if (r->match_listeners)
		return true;
	if (peer->over_tcp && (peer->uid == 0 || r->admin))
		return false;
	return r->match_uids || !config_ranges_hold(&c->subuids, peer->uid);
}

const struct config_rule *policy_match(const struct config *c, const struct identity *peer, const char *listener)
{
	if (!identity_is_known(peer))
		return NULL;
	for (size_t i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		if (matches_uid(r, peer) && matches_gid(r, peer) && matches_listener(r, listener) &&
		    matches_text(r->match_exes, &r->exes, peer->exe) &&
		    matches_text(r->match_units, &r->units, peer->unit) && may_match(c, r, peer))
			return r;
	}
	return NULL;
}

struct expansion {
	char *out; /* borrowed */
	size_t n;
	bool failed; /* too long, or a field is not known */
};

static void add(struct expansion *e, struct str s)
{
	if (e->failed || s.n > POLICY_USER_ID_MAX_BYTES - e->n) {
		e->failed = true;
		return;
	}
	memcpy(e->out + e->n, s.p, s.n);
	e->n += s.n;
}

/* With what a user id may not hold, and the bytes in `also`, as %XX. */
static void add_escaped(struct expansion *e, const char *text, const char *also)
{
	char code[4];

	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c > 0x20 && c != 0x7f && !strchr("\\/", c) && !strchr(also, c)) {
			add(e, str_of(p, 1));
			continue;
		}
		snprintf(code, sizeof(code), "%%%02X", (unsigned)c);
		add(e, str_from(code));
	}
}

static void add_name(struct expansion *e, const char *name, const char *prefix, uint32_t id)
{
	char number[20];

	if (name) {
		add_escaped(e, name, "");
		return;
	}
	snprintf(number, sizeof(number), "%s%u", prefix, id);
	add(e, str_from(number));
}

/*
 * A program's name is its owner's choice. The bytes that part it from the fields beside it do not pass in it, nor does '%',
 * so that no two users' fields run into the same text.
 */
static void add_exe(struct expansion *e, const char *exe, const char *template)
{
	const char *slash = exe ? strrchr(exe, '/') : NULL;
	const char *at = strstr(template, "{exe}");
	char parts[4] = "%";
	size_t n = 1;

	if (!slash || !slash[1]) {
		e->failed = true;
		return;
	}
	if (at > template)
		parts[n++] = at[-1];
	if (at[5])
		parts[n++] = at[5];
	add_escaped(e, slash + 1, parts);
}

static void add_field(struct expansion *e, struct str field, const struct config *c, const struct config_rule *rule,
		      const struct identity *peer, const struct policy_names *names)
{
	if (str_eq(field, STR("{user}")))
		add_name(e, names->user, "uid-", peer->uid);
	else if (str_eq(field, STR("{uid}")))
		add_name(e, NULL, "", peer->uid);
	else if (str_eq(field, STR("{group}")) && peer->gid != (gid_t)-1)
		add_name(e, names->group, "gid-", peer->gid);
	else if (str_eq(field, STR("{host}")))
		add(e, str_from(c->host));
	else if (str_eq(field, STR("{client}")))
		add(e, str_from(rule->name));
	else if (str_eq(field, STR("{unit}")))
		add_escaped(e, peer->unit ? peer->unit : "", "");
	else if (str_eq(field, STR("{exe}")))
		add_exe(e, peer->exe, rule->user_id);
	else
		e->failed = true;
}

bool policy_needs_user(const struct config_rule *rule)
{
	return strstr(rule->user_id, "{user}");
}

bool policy_needs_group(const struct config_rule *rule, const struct identity *peer)
{
	return peer->gid != (gid_t)-1 && strstr(rule->user_id, "{group}");
}

int policy_user_id(const struct config *c, const struct config_rule *rule, const struct identity *peer,
		   const struct policy_names *names, char out[POLICY_USER_ID_MAX_BYTES + 1])
{
	struct expansion e = {.out = out};
	struct str rest = str_from(rule->user_id);

	while (rest.n) {
		const char *end = rest.p[0] == '{' ? memchr(rest.p, '}', rest.n) : NULL;
		size_t n = end ? (size_t)(end - rest.p) + 1 : 1;
		if (end)
			add_field(&e, str_of(rest.p, n), c, rule, peer, names);
		else
			add(&e, str_of(rest.p, 1));
		rest = str_of(rest.p + n, rest.n - n);
	}
	if (e.failed || e.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < e.n; i++)
		if ((unsigned char)out[i] <= 0x20 || (unsigned char)out[i] == 0x7f || out[i] == '/' || out[i] == '\\')
			return -EINVAL;
	out[e.n] = '\0';
	return 0;
}
