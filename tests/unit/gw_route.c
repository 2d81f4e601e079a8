/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/route: which of the API's routes a request is, and what everybody must know of it. */
#include <criterion/criterion.h>
#include <string.h>

#include "gateway/route.h"
#include "lib/api_routes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct route of(enum http_method method, const char *path)
{
	return route_of(method, str_from(path));
}

static bool text_is(struct str s, const char *text)
{
	return str_eq(s, str_from(text));
}

/* Every row of the contract has its class, its owner and its answer to "again?", with and without a trailing slash. */
Test(gw_route, every_row)
{
	size_t n;
	const struct api_route *rows = api_routes(&n);

	cr_assert_eq(n, 92);
	for (size_t i = 0; i < n; i++) {
		const struct route r = of(rows[i].method, rows[i].path);

		cr_expect_eq(r.class, rows[i].class, "%s %s: %s", rows[i].method_text, rows[i].path,
			     route_class_text(r.class));
		cr_expect_eq(r.owner, rows[i].owner, "%s %s", rows[i].method_text, rows[i].path);
		cr_expect_eq(r.retry, rows[i].retry, "%s %s", rows[i].method_text, rows[i].path);
		cr_expect_eq(r.place, rows[i].class == ROUTE_UNKNOWN ? ROUTE_WORKER : ROUTE_API, "%s", rows[i].path);
		cr_expect_eq(r.id == ROUTE_ID_UNKNOWN, rows[i].class == ROUTE_UNKNOWN, "%s", rows[i].path);
		if (r.owner == ROUTE_OWNER_ID) {
			cr_expect(text_is(r.sandbox, "sb-1") && !r.sandbox_bad && r.name.n == 0, "%s", rows[i].path);
		} else {
			cr_expect_eq(r.sandbox.n, 0, "%s", rows[i].path);
		}
	}
}

/* No row of the table is hidden by one before it, says a number of segments that it has not, or is in no contract. */
Test(gw_route, table)
{
	size_t n;
	size_t listed;
	const struct route_row *rows = route_rows(ROUTE_API, &n);

	(void)api_routes(&listed);
	cr_assert_eq(n, listed - 2, "the two routes of workers are in no row");
	for (size_t i = 0; i < n; i++) {
		struct route r;
		unsigned slashes = 0;
		enum http_method method = METHOD_GET;

		for (const char *p = rows[i].path; *p; p++)
			slashes += *p == '/';
		cr_expect_eq(rows[i].segments, slashes - 2, "%s", rows[i].path);
		while (!(rows[i].methods & 1u << method))
			method = (enum http_method)(method + 1);
		r = of(method, rows[i].path);
		cr_expect_str_eq(r.template, rows[i].path);
		cr_expect_eq(r.id, rows[i].id, "%s", rows[i].path);
	}
}

/* The routes that others tell apart by id, the wait for their answers, and the bodies that are read. */
Test(gw_route, ids)
{
	static const struct {
		enum http_method method;
		const char *path;
		enum route_id id;
		enum route_wait wait;
		bool read_whole;
		bool unchunk;
	} cases[] = {
		{METHOD_POST, "/api/v1/sandboxes", ROUTE_SPAWN, ROUTE_WAIT_SPAWN, true, false},
		{METHOD_POST, "/api/v1/sandboxes/", ROUTE_SPAWN, ROUTE_WAIT_SPAWN, true, false},
		{METHOD_GET, "/api/v1/sandboxes", ROUTE_LIST, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_DELETE, "/api/v1/sandboxes", ROUTE_PRUNE_ALL, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_POST, "/api/v1/sandboxes/admission", ROUTE_ADMISSION, ROUTE_WAIT_RESPONSE, true, false},
		{METHOD_GET, "/api/v1/sandboxes/sb", ROUTE_GET, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_HEAD, "/api/v1/sandboxes/sb", ROUTE_GET, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_DELETE, "/api/v1/sandboxes/sb", ROUTE_DESTROY, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_POST, "/api/v1/sandboxes/sb/extend", ROUTE_EXTEND, ROUTE_WAIT_RESPONSE, true, false},
		{METHOD_POST, "/api/v1/sandboxes/sb/exec", ROUTE_EXEC, ROUTE_WAIT_EXEC, false, true},
		{METHOD_GET, "/api/v1/sandboxes/sb/exec/ws", ROUTE_EXEC_WS, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_POST, "/api/v1/sandboxes/sb/files", ROUTE_FILES_WRITE, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_GET, "/api/v1/events", ROUTE_EVENTS_STREAM, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_POST, "/api/v1/templates", ROUTE_TEMPLATE_SAVE, ROUTE_WAIT_RESPONSE, true, false},
		{METHOD_PUT, "/api/v1/templates/t", ROUTE_TEMPLATE_REPLACE, ROUTE_WAIT_RESPONSE, true, false},
		{METHOD_POST, "/api/v1/templates/t/spawn", ROUTE_TEMPLATE_SPAWN, ROUTE_WAIT_SPAWN, true, false},
		{METHOD_GET, "/api/v1/pool/status", ROUTE_POOL_STATUS, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_GET, "/api/v1/quotas/o", ROUTE_QUOTA_GET, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_GET, "/api/v1/quotas/o/usage", ROUTE_QUOTA_USAGE, ROUTE_WAIT_RESPONSE, false, false},
		{METHOD_GET, "/gateway/v1/sandboxes/sb/preview/80", ROUTE_PREVIEW_URL, ROUTE_WAIT_RESPONSE, false,
		 false},
		{METHOD_POST, "/gateway/v1/run", ROUTE_RUN_ONCE, ROUTE_WAIT_SPAWN, true, false},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct route r = of(cases[i].method, cases[i].path);

		cr_expect_eq(r.id, cases[i].id, "%s", cases[i].path);
		cr_expect_eq(r.wait, cases[i].wait, "%s", cases[i].path);
		cr_expect_eq(r.read_whole, cases[i].read_whole, "%s", cases[i].path);
		cr_expect_eq(r.unchunk, cases[i].unchunk, "%s", cases[i].path);
	}
}

/* U5: a prefix is one of whole segments, in exact case. */
Test(gw_route, U5_places)
{
	static const struct {
		enum http_method method;
		const char *path;
		enum route_place place;
		enum route_class class;
		const char *template;
	} cases[] = {
		{METHOD_GET, "/api/v1", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1/", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1x", ROUTE_OTHER, ROUTE_UNKNOWN, "*"},
		{METHOD_GET, "/API/v1/x", ROUTE_OTHER, ROUTE_UNKNOWN, "*"},
		{METHOD_GET, "/api/v2/x", ROUTE_OTHER, ROUTE_UNKNOWN, "*"},
		{METHOD_GET, "/swagger/index.html", ROUTE_OTHER, ROUTE_UNKNOWN, "*"},
		{METHOD_GET, "/", ROUTE_OTHER, ROUTE_UNKNOWN, "*"},
		{METHOD_GET, "/gateway/v1/health", ROUTE_GATEWAY, ROUTE_OWN, "/gateway/v1/health"},
		{METHOD_GET, "/gateway/v1/", ROUTE_GATEWAY, ROUTE_OPERATE, "/gateway/v1/"},
		{METHOD_POST, "/gateway/v1/reload", ROUTE_GATEWAY, ROUTE_OPERATE, "/gateway/v1/reload"},
		{METHOD_GET, "/gateway/v1/nothing", ROUTE_GATEWAY, ROUTE_OWN, "/gateway/v1/*"},
		{METHOD_GET, "/gateway/v1health", ROUTE_OTHER, ROUTE_UNKNOWN, "*"},
		{METHOD_POST, "/api/v1/worker/register", ROUTE_WORKER, ROUTE_UNKNOWN, "/api/v1/worker/*"},
		{METHOD_POST, "/api/v1/worker", ROUTE_WORKER, ROUTE_UNKNOWN, "/api/v1/worker/*"},
		{METHOD_GET, "/api/v1/workers", ROUTE_API, ROUTE_WORKERS, "/api/v1/workers"},
		{METHOD_GET, "/api/v1/Sandboxes", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1/sandboxesx", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1/sandboxe", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_PUT, "/api/v1/sandboxes", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_PATCH, "/api/v1/system/config", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1/admin", ROUTE_API, ROUTE_ADMIN, "/api/v1/admin/*"},
		{METHOD_GET, "/api/v1/admin/new/thing", ROUTE_API, ROUTE_ADMIN, "/api/v1/admin/*"},
		{METHOD_GET, "/api/v1/administration", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1/users/me/ssh-keys", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_POST, "/api/v1/sandboxes/sb-1/execute", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
		{METHOD_GET, "/api/v1/a/b/c/d/e/f/g/h/i/j/k", ROUTE_API, ROUTE_UNKNOWN, "/api/v1/*"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct route r = of(cases[i].method, cases[i].path);

		cr_expect_eq(r.place, cases[i].place, "%s", cases[i].path);
		cr_expect_eq(r.class, cases[i].class, "%s", cases[i].path);
		cr_expect_str_eq(r.template, cases[i].template);
	}
	cr_expect(route_is_safe(METHOD_GET) && route_is_safe(METHOD_HEAD) && route_is_safe(METHOD_OPTIONS));
	cr_expect(!route_is_safe(METHOD_POST) && !route_is_safe(METHOD_PUT) && !route_is_safe(METHOD_PATCH) &&
		  !route_is_safe(METHOD_DELETE));
}

/* Words that the server takes for names: `admission` but for POST, `summary` with a slash behind it. */
Test(gw_route, literals_that_are_names)
{
	struct route r = of(METHOD_GET, "/api/v1/sandboxes/admission");

	cr_expect_eq(r.id, ROUTE_GET);
	cr_expect(text_is(r.sandbox, "admission"));
	r = of(METHOD_DELETE, "/api/v1/sandboxes/admission/");
	cr_expect_eq(r.id, ROUTE_DESTROY);
	cr_expect(text_is(r.sandbox, "admission"));
	r = of(METHOD_GET, "/api/v1/quotas/summary");
	cr_expect_eq(r.class, ROUTE_SYSTEM);
	cr_expect_eq(r.name.n, 0);
	r = of(METHOD_GET, "/api/v1/quotas/summary/");
	cr_expect_eq(r.id, ROUTE_QUOTA_GET);
	cr_expect(text_is(r.name, "summary"));
	r = of(METHOD_GET, "/api/v1/templates/a%20b");
	cr_expect_eq(r.id, ROUTE_TEMPLATE_GET);
	cr_expect(text_is(r.name, "a%20b"));
	r = of(METHOD_DELETE, "/api/v1/admin/tenants/t/members/u");
	cr_expect(text_is(r.name, "t"));
}

/* An id that no sandbox can have is told, escapes included: what it means depends on who decodes it. */
Test(gw_route, sandbox_ids)
{
	static const char *const bad[] = {"a%20b", "a%41", "a:b", "a@b", "a~b", "a+b", "{id}"};
	static const char *const good[] = {"a", "sb-1", "A.b_c-9", "..."};
	char path[300] = "/api/v1/sandboxes/";
	const size_t n = strlen(path);

	for (size_t i = 0; i < COUNT(bad); i++) {
		memcpy(path + n, bad[i], strlen(bad[i]) + 1);
		cr_expect(of(METHOD_GET, path).sandbox_bad, "%s", path);
	}
	for (size_t i = 0; i < COUNT(good); i++) {
		memcpy(path + n, good[i], strlen(good[i]) + 1);
		cr_expect_not(of(METHOD_GET, path).sandbox_bad, "%s", path);
	}
	memset(path + n, 'a', 129);
	path[n + 128] = '\0';
	cr_expect_not(of(METHOD_GET, path).sandbox_bad);
	path[n + 128] = 'a';
	path[n + 129] = '\0';
	cr_expect(of(METHOD_GET, path).sandbox_bad);
}

/* Every class that a rule can name is found by its word, and no other one. */
Test(gw_route, class_words)
{
	enum route_class class;

	for (unsigned i = 0; i < ROUTE_CLASSES; i++) {
		const char *word = route_class_text((enum route_class)i);
		const bool has_word = ROUTE_CLASS_WORDS & ROUTE_CLASS_BIT(i);

		cr_expect_eq(route_class_parse(str_from(word), &class), has_word, "%s", word);
		if (has_word)
			cr_expect_eq(class, i);
	}
	cr_expect_not(route_class_parse(STR("all"), &class));
	cr_expect_not(route_class_parse(STR(""), &class));
}
