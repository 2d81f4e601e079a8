/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/target: one spelling per path, everything else refused. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "gateway/target.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static unsigned parse(struct str text, const char *host, struct target *out)
{
	const char *why = NULL;
	unsigned status = target_parse(text, str_from(host), out, &why);

	cr_assert_eq(status != 0, why != NULL, "status and reason disagree");
	return status;
}

/* Path and query are taken apart, byte for byte. */
Test(gw_target, parts)
{
	static const struct {
		const char *text, *origin, *path, *query;
	} cases[] = {
		{"/", "/", "/", NULL},
		{"/a/b", "/a/b", "/a/b", NULL},
		{"/a/b/", "/a/b/", "/a/b/", NULL},
		{"/a?", "/a?", "/a", ""},
		{"/a?b=/../c//%2e?d", "/a?b=/../c//%2e?d", "/a", "b=/../c//%2e?d"},
		{"/%C3%A9%20x", "/%C3%A9%20x", "/%C3%A9%20x", NULL},
		{"/%c3%a9", "/%c3%a9", "/%c3%a9", NULL},
		{"/...", "/...", "/...", NULL},
		{"/a.b/.c", "/a.b/.c", "/a.b/.c", NULL},
		{"http://h", "/", "/", NULL},
		{"http://h/a?b", "/a?b", "/a", "b"},
		{"http://H/a", "/a", "/a", NULL},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct target t;

		cr_assert_eq(parse(str_from(cases[i].text), "h", &t), 0, "%s is refused", cases[i].text);
		cr_expect(str_eq(t.origin, str_from(cases[i].origin)), "%s", cases[i].text);
		cr_expect(str_eq(t.path, str_from(cases[i].path)), "%s", cases[i].text);
		cr_expect(str_eq(t.query, str_from(cases[i].query)), "%s", cases[i].text);
		cr_expect_eq(t.query.p == NULL, cases[i].query == NULL, "%s", cases[i].text);
	}
}

/* U1-U4: what two parties could read differently is 400. */
Test(gw_target, refused)
{
	static const char *const cases[] = {
		"/a/../b",      "/..",         "/a/..",     "/./a",   "/a/.",   "/%2e%2e/a", "/%2E/a",   "/.%2e/a",
		"/%61",         "/%7e",        "/%2D",      "//a",    "/a//b",  "/a//",      "/a;b",     "/..;/a",
		"/;/a",         "/a\\b",       "/a%5cb",    "/a%2fb", "/a%2Fb", "/a%00",     "/a%0d%0a", "/a%7f",
		"/a%1f",        "/a%",         "/a%4",      "/a%zz",  "/a%g0",  "/a%252e",   "/%c0%af",  "/%ff",
		"/%e2%82",      "/%ed%a0%80",  "/%3b",      "a",      "*",      "x:80",      "http://",  "http:///a",
		"http://u@h/a", "https://h/a", "file:///a",
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct target t;

		cr_expect_eq(parse(str_from(cases[i]), "h", &t), 400, "%s", cases[i]);
	}
}

/* U7: the absolute form for somebody else is 421. */
Test(gw_target, another_host)
{
	struct target t;

	cr_expect_eq(parse(STR("http://other/a"), "h", &t), 421);
	cr_expect_eq(parse(STR("http://h:80/a"), "h", &t), 421);
	cr_expect_eq(parse(STR("http://hh/a"), "h", &t), 421);
	cr_expect_eq(parse(STR("http://h/../a"), "h", &t), 400);
}

/* U13: whatever is accepted has exactly one reading: no escape of a separator, no dot segment, no empty one inside. */
Test(gw_target, random_paths)
{
	static const char alphabet[] = "/.%2efa5cx;?\\c0";
	uint32_t x = 1;
	unsigned accepted = 0;

	for (unsigned n = 0; n < 200000; n++) {
		char text[16] = "/";
		size_t len = 2 + n % 13;
		struct target t;

		for (size_t i = 1; i < len; i++) {
			x = x * 1664525 + 1013904223;
			text[i] = alphabet[(x >> 16) % (sizeof(alphabet) - 1)];
		}
		if (parse(str_of(text, len), "h", &t))
			continue;
		accepted++;
		cr_assert_eq(t.path.n + (t.query.p ? t.query.n + 1 : 0), len);
		cr_assert(!memmem(t.path.p, t.path.n, "//", 2), "%.*s", (int)len, text);
		cr_assert(!memmem(t.path.p, t.path.n, "/./", 3) && !str_ends(t.path, STR("/.")), "%.*s", (int)len,
			  text);
		cr_assert(!memmem(t.path.p, t.path.n, "/../", 4) && !str_ends(t.path, STR("/..")), "%.*s", (int)len,
			  text);
		cr_assert(!memmem(t.path.p, t.path.n, "%2", 2) || !strpbrk(text, "ef") ||
				  !(memmem(t.path.p, t.path.n, "%2e", 3) || memmem(t.path.p, t.path.n, "%2f", 3)),
			  "%.*s", (int)len, text);
		cr_assert(!memchr(t.path.p, '\\', t.path.n) && !memchr(t.path.p, ';', t.path.n), "%.*s", (int)len,
			  text);
	}
	cr_assert_gt(accepted, 100);
}

/* Of a preview nothing but the form is judged: its path is the sandbox program's own. */
Test(gw_target, foreign)
{
	static const struct {
		const char *text, *origin;
		unsigned status;
	} cases[] = {
		{"/a/../b//c;d?x", "/a/../b//c;d?x", 0},
		{"/%2e%2e/%ff%00\\", "/%2e%2e/%ff%00\\", 0},
		{"*", "*", 0},
		{"http://H/../a", "/../a", 0},
		{"http://h", "/", 0},
		{"//h/x", "//h/x", 0},
		{"http://g/a", NULL, 421},
		{"http://u@h/a", NULL, 400},
		{"a", NULL, 400},
		{"https://h/a", NULL, 400},
		{"**", NULL, 400},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct target t;
		const char *why = NULL;

		cr_expect_eq(target_parse_foreign(str_from(cases[i].text), STR("h"), &t, &why), cases[i].status, "%s",
			     cases[i].text);
		cr_expect_eq(why != NULL, cases[i].status != 0, "%s", cases[i].text);
		if (cases[i].origin)
			cr_expect(str_eq(t.origin, str_from(cases[i].origin)), "%s", cases[i].text);
	}
}
