/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/policy.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "gateway/config.h"
#include "gateway/identity.h"
#include "gateway/route.h"

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

/* --- routes ---------------------------------------------------------------------------------------------------------- */

/* The next byte of a segment, an escape as what it stands for; canonical paths have no malformed ones. */
static unsigned char next_decoded(struct str *s)
{
	unsigned char c = (unsigned char)s->p[0];
	size_t n = 1;

	if (c == '%' && s->n >= 3) {
		c = (unsigned char)(str_hex_value(s->p[1]) << 4 | str_hex_value(s->p[2]));
		n = 3;
	}
	*s = str_of(s->p + n, s->n - n);
	return c;
}

static bool same_decoded(struct str a, struct str b)
{
	while (a.n && b.n)
		if (next_decoded(&a) != next_decoded(&b))
			return false;
	return a.n == b.n;
}

/*
 * Whether a path fits a pattern. The server takes some escapes for themselves and some for what they stand for
 * (api-contract.md 1.1): what is allowed is the bytes that were written, what is denied every spelling of them.
 */
static bool fits(const char *pattern, struct str path, bool any_spelling)
{
	while (*pattern) {
		struct str want = str_of(pattern + 1, strcspn(pattern + 1, "/"));
		struct str rest = path;
		struct str segment;
		if (str_eq(want, STR("**")))
			return true;
		if (path.n == 0)
			return false;
		rest = str_of(path.p + 1, path.n - 1);
		segment = str_cut(&rest, '/');
		if (!str_eq(want, STR("*")) && !str_eq(want, segment) && !(any_spelling && same_decoded(want, segment)))
			return false;
		pattern += 1 + want.n;
		path = str_of(path.p + 1 + segment.n, path.n - 1 - segment.n);
	}
	return path.n == 0;
}

static bool any_fits(const struct config_route_set *set, enum http_method method, struct str path, bool any_spelling)
{
	if (path.n > 1 && path.p[path.n - 1] == '/')
		path.n--;
	for (size_t i = 0; i < set->npatterns; i++)
		if (set->patterns[i].methods & 1u << method && fits(set->patterns[i].path, path, any_spelling))
			return true;
	return false;
}

/* How the server writes a byte of a path that it reads as itself (Go's url.EscapedPath); out has room for 3. */
static size_t server_spelling(unsigned char c, char *out)
{
	static const char hex[] = "0123456789ABCDEF";
	const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
			   (c && strchr("-_.~$&+,:;=@", c));

	if (plain) {
		out[0] = (char)c;
		return 1;
	}
	out[0] = '%';
	out[1] = hex[c >> 4];
	out[2] = hex[c & 15];
	return 3;
}

/*
 * Whether a segment is the caller's own user id to the server: the bytes themselves, or the one spelling with escapes
 * that it decodes. In any other spelling it is the name of somebody else.
 */
static bool is_own_name(struct str segment, const char *user_id)
{
	if (!memchr(segment.p, '%', segment.n))
		return str_eq(segment, str_from(user_id));
	for (; *user_id; user_id++) {
		char spelling[3];
		size_t n = server_spelling((unsigned char)*user_id, spelling);
		if (!str_starts(segment, str_of(spelling, n)))
			return false;
		segment = str_of(segment.p + n, segment.n - n);
	}
	return segment.n == 0;
}

/* The class that counts: one's own quota belongs to `system`. */
static enum route_class class_for(const struct route *route, const char *user_id)
{
	if ((route->id == ROUTE_QUOTA_GET || route->id == ROUTE_QUOTA_USAGE) && is_own_name(route->name, user_id))
		return ROUTE_SYSTEM;
	return route->class;
}

static const char *method_word(enum http_method method)
{
	static const char *const words[] = {
		[METHOD_GET] = "GET",         [METHOD_HEAD] = "HEAD",     [METHOD_POST] = "POST",
		[METHOD_PUT] = "PUT",         [METHOD_DELETE] = "DELETE", [METHOD_PATCH] = "PATCH",
		[METHOD_OPTIONS] = "OPTIONS",
	};

	return words[method];
}

/* Why this route is nobody's under this rule, whatever it allows; NULL when that decides. */
static const char *closed(const struct config_rule *rule, const struct route *route)
{
	switch (route->place) {
	case ROUTE_OTHER:
		return "only what is below /api/v1 and /gateway/v1 can be asked for here";
	case ROUTE_WORKER:
		return "/api/v1/worker is for the server's own workers and no rule can allow it";
	case ROUTE_API:
	case ROUTE_GATEWAY:
		break;
	}
	if (ROUTE_CLASS_BIT(route->class) & ROUTE_CLASS_ADMINS && !rule->admin)
		return "write admin: true in the rule";
	if (route->place == ROUTE_API && route->id == ROUTE_ID_UNKNOWN && rule->isolation == CONFIG_ISOLATION_OWNER)
		return "the gateway does not know this route, and isolation: owner denies all such";
	return NULL;
}

static void explain(struct policy_refusal *why, const struct config_rule *rule, enum http_method method,
		    const struct route *route, const char *what)
{
	snprintf(why->text, sizeof(why->text), "rule \"%s\" does not allow %s %s (class %s): %s", rule->name,
		 method_word(method), route->template, route_class_text(route->class), what);
}

bool policy_allows(const struct config_rule *rule, const char *user_id, enum http_method method,
		   const struct route *route, struct str path, struct policy_refusal *why)
{
	const uint32_t bit = ROUTE_CLASS_BIT(class_for(route, user_id));
	const char *shut = closed(rule, route);

	if (shut) {
		explain(why, rule, method, route, shut);
		return false;
	}
	if ((rule->deny.classes & bit) || any_fits(&rule->deny, method, path, true)) {
		explain(why, rule, method, route, "the rule's deny names it");
		return false;
	}
	if ((rule->allow.classes & bit) || any_fits(&rule->allow, method, path, false))
		return true;
	explain(why, rule, method, route,
		bit == ROUTE_CLASS_BIT(ROUTE_UNKNOWN) ? "add it, or all, to the rule's allow"
						      : "add it to the rule's allow");
	return false;
}
