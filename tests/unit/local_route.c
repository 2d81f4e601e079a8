/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "local/query.h"
#include "local/route.h"

static void expect_route(enum http_method method, const char *path, enum route route, const char *param)
{
	struct route_match m;

	cr_expect_eq(route_find(method, str_from(path), &m), ROUTE_FOUND, "%s", path);
	cr_expect_eq(m.route, route, "%s", path);
	cr_expect(str_eq(m.param, str_from(param)), "%s: %.*s", path, STR_ARG(m.param));
}

/* Each route is found by its method and path, its parameter as sent. */
Test(route, found)
{
	expect_route(METHOD_GET, "/api/v1/health", ROUTE_HEALTH, "");
	expect_route(METHOD_GET, "/api/v1/events", ROUTE_EVENTS, "");
	expect_route(METHOD_GET, "/api/v1/sandboxes", ROUTE_SANDBOXES, "");
	expect_route(METHOD_GET, "/api/v1/sandboxes/", ROUTE_SANDBOXES, "");
	expect_route(METHOD_POST, "/api/v1/sandboxes/", ROUTE_SPAWN, "");
	expect_route(METHOD_DELETE, "/api/v1/sandboxes", ROUTE_PRUNE, "");
	expect_route(METHOD_GET, "/api/v1/sandboxes/sb-1/", ROUTE_SANDBOX, "sb-1");
	expect_route(METHOD_POST, "/api/v1/sandboxes/admission", ROUTE_ADMISSION, "");
	expect_route(METHOD_GET, "/api/v1/sandboxes/admission", ROUTE_SANDBOX, "admission");
	expect_route(METHOD_POST, "/api/v1/sandboxes/a/exec", ROUTE_EXEC, "a");
	expect_route(METHOD_GET, "/api/v1/sandboxes/a/exec/ws", ROUTE_EXEC_WS, "a");
	expect_route(METHOD_GET, "/api/v1/sandboxes/a/files/list", ROUTE_FILE_LIST, "a");
	expect_route(METHOD_PUT, "/api/v1/templates/a%20b", ROUTE_TEMPLATE_REPLACE, "a%20b");
	expect_route(METHOD_POST, "/api/v1/templates/t/spawn", ROUTE_TEMPLATE_SPAWN, "t");
	expect_route(METHOD_POST, "/api/v1/providers/test", ROUTE_PROVIDERS_TEST, "");
	expect_route(METHOD_GET, "/api/v1/providers/test", ROUTE_PROVIDER, "test");
}

/* Paths are not normalised, and most leaves take no trailing slash. */
Test(route, unknown)
{
	static const char *const paths[] = {
		"/",
		"/api/v1",
		"/api/v1/",
		"/api/v1//health",
		"/api/v1/health/",
		"/health",
		"/api/v1/x/../health",
		"/api/v1/HEALTH",
		"/api/v1/sandboxes//",
		"/api/v1/sandboxes/a/exec/",
		"/api/v1/sandboxes//exec",
		"/api/v1/sandboxes/a/b",
		"/api/v1/quotas/x",
		"/api/v1/admin/audit",
	};
	struct route_match m;

	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
		cr_expect_eq(route_find(METHOD_GET, str_from(paths[i]), &m), ROUTE_UNKNOWN, "%s", paths[i]);
}

/* A known path with another method tells the ones that it has; HEAD is none of them. */
Test(route, wrong_method)
{
	struct route_match m;

	cr_expect_eq(route_find(METHOD_PUT, STR("/api/v1/sandboxes"), &m), ROUTE_WRONG_METHOD);
	cr_expect_eq(m.allowed, 1u << METHOD_GET | 1u << METHOD_POST | 1u << METHOD_DELETE);
	cr_expect_eq(route_find(METHOD_HEAD, STR("/api/v1/health"), &m), ROUTE_WRONG_METHOD);
	cr_expect_eq(m.allowed, 1u << METHOD_GET);
	cr_expect_eq(route_find(METHOD_POST, STR("/api/v1/sandboxes/admission/"), &m), ROUTE_WRONG_METHOD);
}

/* Parameters are decoded once; an encoded slash stays, a bad escape is refused. */
Test(route, params)
{
	static const struct {
		const char *in;
		const char *out; /* NULL: refused */
	} cases[] = {
		{"plain", "plain"}, {"a%20b", "a b"},       {"a%2Fb", "a%2Fb"}, {"a%2fb", "a%2fb"}, {"%2541", "%41"},
		{"a+b", "a+b"},     {"%c3%a9", "\xc3\xa9"}, {"%zz", NULL},      {"%2", NULL},       {"x%", NULL},
	};
	char out[64];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		ssize_t n = route_decode_param(str_from(cases[i].in), out);
		if (!cases[i].out)
			cr_expect_eq(n, -EINVAL, "%s", cases[i].in);
		else
			cr_expect(n >= 0 && str_eq(str_of(out, (size_t)n), str_from(cases[i].out)), "%s", cases[i].in);
	}
}

/* The first value of a key wins; pairs with a raw semicolon or a bad escape are not there. */
Test(query, values)
{
	static const struct {
		const char *query;
		const char *value; /* NULL: not there */
	} cases[] = {
		{"path=/a", "/a"},
		{"x=1&path=/a&path=/b", "/a"},
		{"path=a+b%20c", "a b c"},
		{"path=%2Fa", "/a"},
		{"path=", ""},
		{"path", ""},
		{"", NULL},
		{"Path=/a", NULL},
		{"path=a;b", NULL},
		{"path=%zz", NULL},
		{"path=%zz&path=ok", "ok"},
		{"p%61th=x", "x"},
		{"a;path=1&path=2", "2"},
		{"&&path=1", "1"},
		{"path=a=b", "a=b"},
	};
	struct buf out = BUF_EMPTY;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool there = query_get(str_from(cases[i].query), STR("path"), &out);
		cr_expect_eq(there, cases[i].value != NULL, "%s", cases[i].query);
		if (cases[i].value)
			cr_expect(str_eq(buf_str(&out), str_from(cases[i].value)), "%s", cases[i].query);
	}
	cr_expect_not(query_get(str_of(NULL, 0), STR("path"), &out));
	buf_fini(&out);
}
