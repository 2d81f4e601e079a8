/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every route of the API for every class of caller, each a listener of one daemon: what the rule does not allow is 403
 * and never seen upstream, what it allows goes up as it was sent. What a rule allows is said here a second time, in
 * terms of the contract's table and of prefixes, not by the daemon's own matcher.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/api_routes.h"
#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(routes, .fini = gw_fini);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define BIT(class)   ROUTE_CLASS_BIT(ROUTE_##class)
#define EVERYTHING   (BIT(UNKNOWN) * 2 - 1)
#define DEFAULTS     (BIT(SANDBOXES) | BIT(TEMPLATES_READ) | BIT(SYSTEM) | BIT(EVENTS) | BIT(PREVIEW) | BIT(RUN))

struct caller {
	const char *name;  /* of listener, rule and user id */
	const char *rule;  /* the rest of the rule; NULL: there is none for this listener */
	uint32_t classes;  /* allowed */
	const char *allow; /* and what begins "METHOD /path" like this, NULL: nothing more */
	const char *deny;  /* but not what begins like this */
	bool unknown;      /* what is in no table is forwarded */
	bool owner;        /* isolation: owner: what is allowed may be answered by the gateway as well */
};

static const struct caller callers[] = {
	{.name = "nobody"},
	{.name = "plain", .rule = "", .classes = DEFAULTS | BIT(PRUNE), .owner = true},
	{.name = "open",
	 .rule = ", allow: [all], isolation: none",
	 .classes = EVERYTHING & ~BIT(ADMIN),
	 .unknown = true},
	{.name = "operator", .rule = ", admin: true", .classes = EVERYTHING, .unknown = true},
	{.name = "reader",
	 .rule = ", allow: [templates:read, metrics], isolation: none",
	 .classes = BIT(TEMPLATES_READ) | BIT(METRICS)},
	{.name = "denied",
	 .rule = ", allow: [all], deny: [\"DELETE /api/v1/**\"], isolation: none",
	 .classes = EVERYTHING & ~BIT(ADMIN),
	 .deny = "DELETE /api/v1/",
	 .unknown = true},
	{.name = "classless",
	 .rule = ", admin: true, deny: [sandboxes, config, quotas, admin]",
	 .classes = EVERYTHING & ~(BIT(SANDBOXES) | BIT(CONFIG) | BIT(QUOTAS) | BIT(ADMIN)),
	 .unknown = true},
	{.name = "narrow",
	 .rule = ", allow: [\"GET /api/v1/environments/**\"], isolation: none",
	 .allow = "GET /api/v1/environments/"},
	{.name = "alice", .rule = ", allow: [system], isolation: none", .classes = BIT(SYSTEM)},
};

static const char *socket_of(struct gw *gw, const struct caller *c)
{
	return scratch_path(&gw->dir, "%s.sock", c->name);
}

/* A gateway with one listener and, but for the first, one rule for each caller. */
static struct gw *start(const struct caller *list, size_t n)
{
	struct gw *gw = gw_prepare(NULL);
	struct buf text = BUF_EMPTY;
	bool admins = false;

	buf_add_cstr(&text, "listen:\n");
	for (size_t i = 0; i < n; i++)
		buf_addf(&text, "  - { path: %s, name: %s }\n", socket_of(gw, &list[i]), list[i].name);
	/* Bound last, and what the start waits for. */
	buf_addf(&text, "  - { path: %s, name: ready }\n", gw->socket);
	buf_addf(&text, "upstreams: { main: { url: \"%s\" } }\n", upstream_url(gw->up));
	buf_addf(&text, "credentials: { team: { api_key: { file: %s }", gw->key_file);
	for (size_t i = 0; i < n && !admins; i++)
		admins = list[i].rule && strstr(list[i].rule, "admin: true");
	if (admins)
		buf_addf(&text, ", admin_api_key: { file: %s }", gw->key_file);
	buf_add_cstr(&text, " } }\nclients:\n");
	for (size_t i = 0; i < n; i++)
		if (list[i].rule)
			buf_addf(&text, "  - { name: %s, match: { listener: %s }, credential: team, user_id: %s%s }\n",
				 list[i].name, list[i].name, list[i].name, list[i].rule);
	buf_add_cstr(&text, "log: { level: warn }\n");
	scratch_file(&gw->dir, "stacygate.yaml", 0644, buf_data(&text), text.len);
	buf_fini(&text);
	gw_run(gw, NULL);
	return gw;
}

/* How many of the requests that the upstream has seen since `from` have this first line. */
static unsigned seen(struct gw *gw, unsigned from, const char *method, const char *target)
{
	char want[200];
	unsigned n = 0;

	snprintf(want, sizeof(want), "%s %s HTTP/1.1", method, target);
	for (unsigned i = from; i < upstream_requests(gw->up); i++) {
		struct buf head = upstream_request_head(gw->up, i);
		n += str_eq(wire_first_line(buf_str(&head)), str_from(want));
		buf_fini(&head);
	}
	return n;
}

/* Asks on the connection, which is renewed when the answer closes it. */
static struct answer ask(struct raw *r, const char *path, const char *method, const char *target)
{
	char request[400];
	const bool body = method[0] == 'P';
	struct answer a;

	snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: h\r\n%s", method, target,
		 body ? "Content-Length: 2\r\n\r\n{}" : "\r\n");
	cr_assert(raw_text(r, request));
	a = raw_answer(r, strcmp(method, "HEAD") == 0, WAIT_MS);
	/* The upstream's one answer is no list, so where it is filtered it breaks off. */
	cr_assert(a.end == ANSWER_COMPLETE || (a.end == ANSWER_CUT && strcmp(target, "/api/v1/sandboxes") == 0),
		  "%s %s: %d", method, target, (int)a.end);
	if (a.end == ANSWER_CUT || wire_header_is(answer_head(&a), "Connection", "close")) {
		raw_close(r);
		*r = raw_unix(path);
	}
	return a;
}

static void expect_forbidden(const struct caller *c, const struct answer *a, const char *method, const char *target)
{
	cr_expect_eq(a->status, 403, "%s: %s %s is %u", c->name, method, target, a->status);
	cr_expect(wire_header_is(answer_head(a), "Stacygate-Error", "FORBIDDEN"), "%s: %s %s", c->name, method, target);
	for (size_t i = 0; i < COUNT(callers); i++) {
		char name[40];

		/* ID15: no rule but the caller's own is named. */
		snprintf(name, sizeof(name), "\\\"%s\\\"", callers[i].name);
		cr_expect_eq(buf_contains(&a->body, name), c->rule && strcmp(c->name, callers[i].name) == 0,
			     "%s: %s %s: %.*s", c->name, method, target, STR_ARG(buf_str(&a->body)));
	}
}

static void try(struct gw *gw, const struct caller *c, struct raw *r, const char *method, const char *target,
		bool allowed)
{
	const unsigned before = upstream_requests(gw->up);
	struct answer a = ask(r, socket_of(gw, c), method, target);
	const unsigned up = seen(gw, before, method, target);

	/* A template spawn goes up as the look at its template, of which the echo makes none. */
	const bool expands = strcmp(target, "/api/v1/templates/n-1/spawn") == 0;

	if (!allowed) {
		expect_forbidden(c, &a, method, target);
		cr_expect_eq(up, 0, "%s: %s %s went up", c->name, method, target);
	} else if (expands && !c->owner) {
		cr_expect_eq(a.status, 502, "%s: %s %s is %u", c->name, method, target, a.status);
		cr_expect_eq(seen(gw, before, "GET", "/api/v1/templates/n-1"), 1);
	} else if (c->owner) {
		cr_expect_neq(a.status, 403, "%s: %s %s", c->name, method, target);
	} else {
		/* The upstream's one answer is no stream of events either. */
		bool odd = strcmp(method, "GET") == 0 && strcmp(target, "/api/v1/events") == 0;
		cr_expect_eq(a.status, odd ? 502 : 200, "%s: %s %s is %u", c->name, method, target, a.status);
		cr_expect_eq(up, 1, "%s: %s %s went up %u times", c->name, method, target, up);
	}
	answer_fini(&a);
}

static bool begins(const char *prefix, const char *method, const char *path)
{
	char line[200];

	snprintf(line, sizeof(line), "%s %s", method, path);
	return prefix && strncmp(line, prefix, strlen(prefix)) == 0;
}

static bool is_allowed(const struct caller *c, const struct api_route *row)
{
	uint32_t bit = ROUTE_CLASS_BIT(row->class);

	if (!c->rule || row->class == ROUTE_UNKNOWN || begins(c->deny, row->method_text, row->path))
		return false;
	/* The owner of the table's quotas is alice. */
	if (row->method == METHOD_GET && strcmp(c->name, "alice") == 0 && strstr(row->path, "/v1/quotas/alice"))
		bit = BIT(SYSTEM);
	return (c->classes & bit) || begins(c->allow, row->method_text, row->path);
}

/*
 * U12 and the rest: 403 and nothing upstream, or forwarded. PATCH /config, quotas, /worker, diagnostics, metrics and
 * template writes are rows of the table, so a rule without allow reaches none of them.
 */
Test(routes, U12_every_route_for_every_caller)
{
	struct gw *gw = start(callers, COUNT(callers));
	size_t n;
	const struct api_route *rows = api_routes(&n);

	for (size_t k = 0; k < COUNT(callers); k++) {
		struct raw r = raw_unix(socket_of(gw, &callers[k]));

		for (size_t i = 0; i < n; i++)
			try(gw, &callers[k], &r, rows[i].method_text, rows[i].path, is_allowed(&callers[k], &rows[i]));
		raw_close(&r);
	}
	gw_stop(gw);
}

/* What is in no table: for `all` alone, and for nobody under isolation: owner. U11: a method that the path has not. */
Test(routes, U11_what_is_in_no_table)
{
	static const struct {
		const char *method;
		const char *target;
	} cases[] = {
		{"GET", "/api/v1/new/thing"},
		{"POST", "/api/v1/new"},
		{"PUT", "/api/v1/sandboxes/sb-1"},
		{"PATCH", "/api/v1/templates/n-1"},
		{"PATCH", "/api/v1/system/config"},
		{"GET", "/api/v1/users/me/ssh-keys"},
		{"GET", "/api/v1"},
		{"GET", "/api/v1/a/b/c/d/e/f/g/h/i/j"},
	};
	struct gw *gw = start(callers, COUNT(callers));

	for (size_t k = 0; k < COUNT(callers); k++) {
		struct raw r = raw_unix(socket_of(gw, &callers[k]));

		for (size_t i = 0; i < COUNT(cases); i++)
			try(gw, &callers[k], &r, cases[i].method, cases[i].target,
			    callers[k].unknown && !begins(callers[k].deny, cases[i].method, cases[i].target));
		raw_close(&r);
	}
	gw_stop(gw);
}

/* U11: a rule for one method refuses the others of the same path; HEAD goes with GET; the target goes up as sent. */
Test(routes, U11_methods)
{
	static const struct caller one[] = {
		{.name = "getter", .rule = ", allow: [\"GET /api/v1/sandboxes/*\"], isolation: none"}};
	struct gw *gw = start(one, 1);
	struct raw r = raw_unix(socket_of(gw, one));

	try(gw, one, &r, "GET", "/api/v1/sandboxes/sb-1", true);
	try(gw, one, &r, "HEAD", "/api/v1/sandboxes/sb-1", true);
	try(gw, one, &r, "GET", "/api/v1/sandboxes/sb-1/?a=/../b&c", true);
	try(gw, one, &r, "GET", "/api/v1/sandboxes/sb-1?x=%2e%2e/admin", true);
	for (size_t i = 0; i < 4; i++) {
		static const char *const others[] = {"DELETE", "PUT", "POST", "PATCH"};
		struct answer a = ask(&r, socket_of(gw, one), others[i], "/api/v1/sandboxes/sb-1");

		expect_error(&a, 403, "FORBIDDEN");
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), 4);
	raw_close(&r);
	gw_stop(gw);
}

/* An id that no sandbox can have is answered here, as the server answers for one that it does not know. */
Test(routes, impossible_ids)
{
	static const char *const ids[] = {"a%20b", "a:b", "a@b", "%C3%BC"};
	struct gw *gw = gw_start(NULL);

	for (size_t i = 0; i < COUNT(ids); i++) {
		struct answer a = gw_ask(gw, "DELETE /api/v1/sandboxes/%s HTTP/1.1\r\nHost: h\r\n\r\n", ids[i]);
		char text[80];

		expect_error(&a, 404, "NOT_FOUND");
		snprintf(text, sizeof(text), "\"sandbox not found: %s\"", ids[i]);
		cr_expect(buf_contains(&a.body, text), "%.*s", STR_ARG(buf_str(&a.body)));
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), 0);
	gw_stop(gw);
}

/* The gateway's own routes: status in whole for admin rules, one's own part for others; whoami says what one may do. */
Test(routes, own_routes)
{
	struct gw *gw = start(callers, COUNT(callers));

	for (size_t k = 1; k < COUNT(callers); k++) {
		const struct caller *c = &callers[k];
		const bool admin = strstr(c->rule, "admin: true") != NULL;
		struct raw r = raw_unix(socket_of(gw, c));
		struct answer a = ask(&r, socket_of(gw, c), "GET", "/gateway/v1/status");
		json_t *json = answer_json(&a);

		expect_status(&a, 200);
		cr_expect_str_eq(json_text_at(json, "own.user_id"), c->name);
		cr_expect_eq(json_object_get(json, "upstreams") != NULL, admin, "%s", c->name);
		cr_expect_eq(json_object_get(json, "config") != NULL, admin, "%s", c->name);
		json_decref(json);
		answer_fini(&a);

		a = ask(&r, socket_of(gw, c), "GET", "/gateway/v1/whoami");
		json = answer_json(&a);
		cr_expect_eq(json_is_true(json_object_get(json, "admin")), admin, "%s", c->name);
		cr_expect_str_eq(json_text_at(json, "isolation"), c->owner ? "owner" : "none");
		cr_expect_gt(json_array_size(json_object_get(json, "allow")), 0);
		cr_expect_eq(json_object_get(json, "deny") != NULL, strstr(c->rule, "deny") != NULL);
		json_decref(json);
		answer_fini(&a);

		a = ask(&r, socket_of(gw, c), "PUT", "/gateway/v1/log");
		cr_expect_eq(a.status == 403, !admin, "%s: %u", c->name, a.status);
		answer_fini(&a);
		raw_close(&r);
	}
	gw_stop(gw);
}

/* --- U13 ------------------------------------------------------------------------------------------------------------- */

/* The path of a target without its query and one trailing slash. */
static struct str judged_path(struct str target)
{
	struct str path = str_cut(&target, '?');

	if (str_ends(path, STR("/")))
		path.n--;
	return path;
}

/* "/api/v1/a/" and one more segment. */
static bool is_inside(struct str path)
{
	return str_starts(path, STR("/api/v1/a/")) && path.n > 10 && !memchr(path.p + 10, '/', path.n - 10);
}

static void random_target(uint32_t *x, unsigned n, char out[64])
{
	static const char alphabet[] = "/a/a.%2efA6!1;?\\bc";
	const size_t start = n % 2 ? 10 : 8;
	const size_t len = start + n % 9;

	memcpy(out, "/api/v1/a/", start);
	for (size_t i = start; i < len; i++) {
		*x = *x * 1664525 + 1013904223;
		out[i] = alphabet[(*x >> 16) % (sizeof(alphabet) - 1)];
	}
	out[len] = '\0';
}

/*
 * Of random targets: each that goes up is, in the bytes that go up, inside what is allowed (or not inside what is
 * denied, escapes taken for what they stand for as well); each that is inside and well-formed does go up.
 */
static void random_targets(const struct caller *c, bool inside)
{
	struct gw *gw = start(c, 1);
	struct raw r = raw_unix(socket_of(gw, c));
	unsigned forwarded = 0, forbidden = 0;
	uint32_t x = 11;

	for (unsigned n = 0; n < 8000; n++) {
		char target[64];
		char decoded[64];
		struct answer a;

		random_target(&x, n, target);
		a = ask(&r, socket_of(gw, c), "GET", target);
		if (a.status == 200) {
			struct buf head = upstream_request_head(gw->up, forwarded++);
			struct str path = judged_path(wire_target(buf_str(&head)));
			ssize_t len = str_percent_decode(path, false, decoded);

			cr_assert(str_eq(wire_target(buf_str(&head)), str_from(target)), "%s went up otherwise",
				  target);
			cr_assert_eq(is_inside(path), inside, "%s went up", target);
			cr_assert_geq(len, 0);
			cr_assert(inside || !is_inside(str_of(decoded, (size_t)len)), "%s went up", target);
			buf_fini(&head);
		} else if (a.status == 403) {
			struct str path = judged_path(str_from(target));
			ssize_t len = str_percent_decode(path, false, decoded);

			cr_assert_geq(len, 0);
			cr_assert_eq(inside ? is_inside(path) : is_inside(str_of(decoded, (size_t)len)), !inside,
				     "%s was refused", target);
			forbidden++;
		} else {
			cr_assert_eq(a.status, 400, "%s: %u", target, a.status);
		}
		answer_fini(&a);
	}
	cr_expect_eq(upstream_requests(gw->up), forwarded);
	cr_expect_gt(forwarded, 300);
	cr_expect_gt(forbidden, 300);
	raw_close(&r);
	gw_stop(gw);
}

/* U13: what a pattern allowed is what goes up. */
Test(routes, U13_allowed_by_a_pattern)
{
	static const struct caller c = {.name = "in", .rule = ", allow: [\"GET /api/v1/a/*\"], isolation: none"};

	random_targets(&c, true);
}

/* U13: what a pattern denied goes up in no spelling. */
Test(routes, U13_denied_by_a_pattern)
{
	static const struct caller c = {.name = "out",
					.rule = ", allow: [all], deny: [\"GET /api/v1/a/*\"], isolation: none"};

	random_targets(&c, false);
}
