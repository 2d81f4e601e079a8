/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests come through the door of a preview, and what of them changes on the way. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "cli/admit.h"
#include "common/http_parse.h"

#define PREVIEW "80-sb-1.example.com"

static struct admit door(uint16_t port)
{
	return (struct admit){.preview = STR(PREVIEW), .port = port};
}

/* The status that a request with these header lines gets, 0 when it passes; *out is its head as it goes on. */
static unsigned judge(uint16_t port, const char *line, const char *headers, struct buf *out)
{
	const struct admit a = door(port);
	struct admit_ruling ruling;
	struct http_parser parser;
	struct http_head head;
	char text[1024];
	size_t head_bytes;
	int n = snprintf(text, sizeof(text), "%s\r\n%s\r\n", line, headers);

	http_parser_init(&parser, HTTP_REQUEST);
	cr_assert_eq(http_parse_head(&parser, text, (size_t)n, &head, &head_bytes), HTTP_DONE, "%s", text);
	ruling = admit_judge(&a, &head);
	cr_assert_eq(ruling.status == 0, ruling.why == NULL);
	if (!ruling.status && out)
		admit_write(&a, &head, str_of(text, head_bytes), out);
	return ruling.status;
}

/* ID10: a name that leads here but is not ours is turned away, whatever port it names. */
Test(cli_admit, ID10_hosts)
{
	static const struct {
		uint16_t port;
		const char *host;
		bool passes;
	} cases[] = {
		{8080, "localhost:8080", true},
		{8080, "127.0.0.1:8080", true},
		{8080, "[::1]:8080", true},
		{8080, PREVIEW, true},
		{8080, PREVIEW ":8080", true},
		{8080, "80-SB-1.Example.com", true},
		{80, "localhost", true},
		{80, "[::1]", true},
		{80, "localhost:80", true},
		{8080, "localhost", false},
		{8080, "[::1]", false},
		{8080, "localhost:80", false},
		{8080, PREVIEW ":80", false},
		{8080, "localhost:", false},
		{8080, "localhost:18080", false},
		{8080, "localhost:73616", false},
		{8080, "localhost.:8080", false},
		{8080, "evil.test:8080", false},
		{8080, "80-sb-2.example.com", false},
		{8080, "example.com", false},
		{8080, "[::1]x:8080", false},
		{8080, "[::2]:8080", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char headers[128];

		snprintf(headers, sizeof(headers), "Host: %s\r\n", cases[i].host);
		cr_expect_eq(judge(cases[i].port, "GET / HTTP/1.1", headers, NULL), cases[i].passes ? 0u : 421u, "%s",
			     cases[i].host);
	}
	cr_expect_eq(judge(8080, "GET / HTTP/1.0", "", NULL), 421u);
	cr_expect_eq(judge(8080, "GET http://evil.test/ HTTP/1.1", "Host: localhost:8080\r\n", NULL), 421u);
	cr_expect_eq(judge(8080, "OPTIONS * HTTP/1.1", "Host: localhost:8080\r\n", NULL), 0u);
}

/* ID10: what a page of another site makes its browser send is turned away; a link that somebody follows is not. */
Test(cli_admit, ID10_pages)
{
	static const struct {
		const char *line;
		const char *headers;
		unsigned status;
	} cases[] = {
		{"GET / HTTP/1.1", "Origin: http://localhost:8080\r\n", 0},
		{"GET / HTTP/1.1", "Origin: http://" PREVIEW "\r\n", 0},
		{"GET / HTTP/1.1", "Origin: http://evil.test\r\n", 403},
		{"GET / HTTP/1.1", "Origin: null\r\n", 403},
		{"GET / HTTP/1.1", "Origin:\r\n", 403},
		{"GET / HTTP/1.1", "Origin: http://\r\n", 403},
		{"GET / HTTP/1.1", "Origin: http://localhost:8080\r\nOrigin: http://localhost:8080\r\n", 403},
		{"GET / HTTP/1.1", "Sec-Fetch-Site: cross-site\r\n", 403},
		{"GET / HTTP/1.1", "Sec-Fetch-Site: none\r\n", 0},
		{"GET / HTTP/1.1",
		 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 0},
		{"GET / HTTP/1.1", "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n", 403},
		{"POST / HTTP/1.1",
		 "Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 403},
		{"GET / HTTP/1.1",
		 "Origin: http://evil.test\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n", 403},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char headers[256];

		snprintf(headers, sizeof(headers), "Host: localhost:8080\r\n%s", cases[i].headers);
		cr_expect_eq(judge(8080, cases[i].line, headers, NULL), cases[i].status, "%s", headers);
	}
}

/* Host and a page's own Origin become the preview's; nothing else changes, not even white space. */
Test(cli_admit, what_changes)
{
	struct buf out = BUF_EMPTY;

	cr_assert_eq(judge(8080, "PUT /p?q HTTP/1.0",
			   "A:b\r\nORIGIN:   http://[::1]:8080  \r\nhOsT:localhost:8080\r\nCookie:  c=d\r\nX-Host: "
			   "localhost:8080\r\n",
			   &out),
		     0u);
	cr_assert(
		str_eq(buf_str(&out), STR("PUT /p?q HTTP/1.0\r\nA:b\r\nORIGIN:   http://" PREVIEW "  \r\nhOsT:" PREVIEW
					  "\r\nCookie:  c=d\r\nX-Host: localhost:8080\r\n\r\n")),
		"%.*s", STR_ARG(buf_str(&out)));
	buf_fini(&out);
}
