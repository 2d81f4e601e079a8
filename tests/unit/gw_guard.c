/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/guard: which requests a web page could have sent, by Host, Origin and what browsers add (ID10). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/http_parse.h"
#include "gateway/config.h"
#include "gateway/guard.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define APP          "https://app.example.com"

static char *hosts[] = {"localhost", "127.0.0.1", "[::1]"};
static char *origins[] = {APP, "http://localhost:3000"};
static const struct config_listener door = {.port = 7423, .hosts = {3, hosts}, .origins = {2, origins}};

static struct http_head head;
static char text[2048];

/* Parses a request with these header lines. */
static void parse(const char *method, const char *lines)
{
	struct http_parser parser;
	size_t used;

	snprintf(text, sizeof(text), "%s /api/v1/x HTTP/1.1\r\n%s\r\n", method, lines);
	http_parser_init(&parser, HTTP_REQUEST);
	cr_assert_eq(http_parse_head(&parser, text, strlen(text), &head, &used), HTTP_DONE, "%s", lines);
}

/* U9 too: a name that is not listed is somebody else's. */
Test(gw_guard, ID10_hosts)
{
	static const struct {
		const char *host;
		unsigned status;
	} rows[] = {
		{"localhost", 0},
		{"LocalHost:7423", 0},
		{"127.0.0.1:7423", 0},
		{"[::1]", 0},
		{"[::1]:7423", 0},
		{"localhost:1", 0},
		{"evil.test", 421},
		{"evil.test:7423", 421},
		{"localhost.evil.test", 421},
		{"localhost.", 421},
		{"127.0.0.2", 421},
		{"[::2]:7423", 421},
		{"3000-sb-a1b2c3d4.localhost", 421},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char lines[200];

		snprintf(lines, sizeof(lines), "Host: %s\r\n", rows[i].host);
		parse("GET", lines);
		cr_expect_eq(guard_judge(&door, &head).status, rows[i].status, "%s", rows[i].host);
		/* Without its entry in the configuration nothing passes. */
		cr_expect_eq(guard_judge(NULL, &head).status, 421);
	}
}

Test(gw_guard, ID10_browsers)
{
	static const struct {
		const char *lines;
		unsigned status;
		const char *origin; /* configured; NULL: none */
	} rows[] = {
		{"", 0, NULL},
		/* Node's own fetch. */
		{"Sec-Fetch-Mode: cors\r\n", 0, NULL},
		{"Sec-Fetch-Site: none\r\n", 0, NULL},
		{"Sec-Fetch-Site: same-origin\r\n", 0, NULL},
		{"Sec-Fetch-Site: same-site\r\n", 403, NULL},
		{"Sec-Fetch-Site: cross-site\r\n", 403, NULL},
		{"Sec-Fetch-Site: None\r\n", 403, NULL},
		{"Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", 403, NULL},
		{"Origin: http://evil\r\n", 403, NULL},
		{"Origin: null\r\n", 403, NULL},
		{"Origin: \r\n", 403, NULL},
		{"Origin: http://localhost:7423\r\n", 0, NULL},
		{"Origin: http://localhost:7423\r\nSec-Fetch-Site: same-origin\r\n", 0, NULL},
		{"Origin: https://localhost:7423\r\n", 403, NULL},
		{"Origin: http://localhost\r\n", 403, NULL},
		{"Origin: http://localhost:7423.evil\r\n", 403, NULL},
		{"Origin: " APP "\r\n", 0, APP},
		{"Origin: " APP "\r\nSec-Fetch-Site: cross-site\r\n", 0, APP},
		{"Origin: " APP ":443\r\n", 403, NULL},
		{"Origin: " APP ".evil\r\n", 403, NULL},
		{"Origin: http://localhost:3000\r\n", 0, "http://localhost:3000"},
		{"Origin: " APP "\r\nOrigin: http://evil\r\n", 403, NULL},
		{"Origin: http://evil\r\nOrigin: " APP "\r\n", 403, NULL},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char lines[400];
		struct guard_ruling r;

		snprintf(lines, sizeof(lines), "Host: localhost:7423\r\n%s", rows[i].lines);
		parse("POST", lines);
		r = guard_judge(&door, &head);
		cr_expect_eq(r.status, rows[i].status, "row %zu: %u", i, r.status);
		cr_expect_eq(r.origin.n > 0, rows[i].origin != NULL, "row %zu", i);
		if (rows[i].origin)
			cr_expect(str_eq(r.origin, str_from(rows[i].origin)));
		cr_expect_not(r.preflight);
	}
}

/* A configured origin is named in the answer, and its preflight is answered; nobody else's is. */
Test(gw_guard, cors)
{
	struct buf out = BUF_EMPTY;
	struct guard_ruling r;

	parse("OPTIONS", "Host: localhost\r\nOrigin: " APP "\r\nAccess-Control-Request-Method: PUT\r\n"
			 "Access-Control-Request-Headers: content-type,x-a\r\n");
	r = guard_judge(&door, &head);
	cr_assert(r.preflight);
	guard_add_cors(&r, &head, &out);
	buf_add_char(&out, '\0');
	cr_expect_str_eq(buf_data(&out),
			 "Access-Control-Allow-Origin: " APP "\r\nVary: Origin\r\n"
			 "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
			 "Access-Control-Allow-Headers: content-type,x-a\r\nAccess-Control-Max-Age: 600\r\n");
	buf_reset(&out);
	parse("GET", "Host: localhost\r\nOrigin: " APP "\r\n");
	r = guard_judge(&door, &head);
	guard_add_cors(&r, &head, &out);
	buf_add_char(&out, '\0');
	cr_expect_str_eq(buf_data(&out), "Access-Control-Allow-Origin: " APP "\r\nVary: Origin\r\n"
					 "Access-Control-Expose-Headers: *\r\n");
	buf_fini(&out);
	parse("OPTIONS", "Host: localhost\r\nOrigin: http://evil\r\nAccess-Control-Request-Method: PUT\r\n");
	r = guard_judge(&door, &head);
	cr_expect_eq(r.status, 403);
	parse("OPTIONS", "Host: localhost\r\nAccess-Control-Request-Method: PUT\r\n");
	r = guard_judge(&door, &head);
	cr_expect(r.status == 0 && !r.preflight);
}

/* Of a preview: the sandbox's own pages pass, others only by a navigation. */
Test(gw_guard, ID10_previews)
{
	static const struct {
		const char *method;
		const char *lines;
		unsigned status;
	} rows[] = {
		{"POST", "", 0},
		{"POST", "Sec-Fetch-Mode: cors\r\n", 0},
		{"POST", "Origin: http://3000-sb-ab.localhost:7423\r\n", 0},
		{"OPTIONS", "Origin: http://80-SB-AB.x\r\nAccess-Control-Request-Method: PUT\r\n", 0},
		{"POST", "Origin: http://80-sb-ab.x\r\nSec-Fetch-Site: cross-site\r\n", 0},
		{"POST", "Origin: " APP "\r\n", 0},
		{"POST", "Origin: http://80-sb-abc.x\r\n", 403},
		{"POST", "Origin: http://0-sb-ab.x\r\n", 403},
		{"POST", "Origin: https://80-sb-ab.x\r\n", 403},
		{"POST", "Origin: http://x.80-sb-ab.x\r\n", 403},
		{"POST", "Origin: http://localhost:7423\r\n", 403},
		{"POST", "Origin: null\r\n", 403},
		{"POST", "Origin: http://80-sb-ab.x\r\nOrigin: http://80-sb-ab.x\r\n", 403},
		{"POST", "Sec-Fetch-Site: same-site\r\n", 403},
		{"GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 0},
		{"HEAD", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 403},
		{"POST", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 403},
		{"GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe\r\n", 403},
		{"GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", 403},
		{"GET", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Dest: document\r\n", 403},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char lines[400];
		struct guard_ruling r;

		snprintf(lines, sizeof(lines), "Host: 3000-sb-ab.localhost:7423\r\n%s", rows[i].lines);
		parse(rows[i].method, lines);
		r = guard_judge_preview(&door, &head, "sb-ab");
		cr_expect_eq(r.status, rows[i].status, "row %zu: %u", i, r.status);
		cr_expect(r.origin.n == 0 && !r.preflight, "row %zu", i);
		cr_expect_eq(guard_judge_preview(NULL, &head, "sb-ab").status, 421);
	}
}
