/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/preview_host: which Host stands for a sandbox's port (X12), and what a record may name as a domain. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/preview_host.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Port, id, domain and what is behind it; a port that cannot be is 0. */
Test(gw_preview_host, X12_parts)
{
	static const struct {
		const char *host;
		uint16_t port;
		const char *id, *domain, *suffix;
	} rows[] = {
		{"3000-sb-a1b2c3d4.localhost", 3000, "sb-a1b2c3d4", "localhost", ""},
		{"1-sb-0.x:80", 1, "sb-0", "x", ":80"},
		{"65535-SB-AB.LocalHost:7423", 65535, "sb-ab", "LocalHost", ":7423"},
		{"65536-sb-a.x", 0, "sb-a", "x", ""},
		{"99999999999999999999-sb-a.x", 0, "sb-a", "x", ""},
		{"0-sb-a.x", 0, "sb-a", "x", ""},
		{"080-sb-a.x", 0, "sb-a", "x", ""},
		{"80-sb-a.", 80, "sb-a", "", ""},
		{"80-sb-a.:80", 80, "sb-a", "", ":80"},
		{"80-sb-a.x.y.", 80, "sb-a", "x.y.", ""},
		/* No name with a port: nobody's domain, so that it is refused. */
		{"80-sb-a.x:0", 80, "sb-a", "x:0", ""},
		{"80-sb-a.x:y", 80, "sb-a", "x:y", ""},
		{"80-sb-a.x:", 80, "sb-a", "x:", ""},
		{"80-sb-a.[::1]:80", 80, "sb-a", "[::1]:80", ""},
		{"80-sb-a.x]:80", 80, "sb-a", "x]:80", ""},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct preview_host h;

		cr_assert(preview_host_parse(str_from(rows[i].host), &h), "%s", rows[i].host);
		cr_expect_eq(h.port, rows[i].port, "%s: %u", rows[i].host, h.port);
		cr_expect_str_eq(h.id, rows[i].id);
		cr_expect(str_eq(h.domain, str_from(rows[i].domain)), "%s", rows[i].host);
		cr_expect(str_eq(h.suffix, str_from(rows[i].suffix)), "%s", rows[i].host);
	}
}

/* Everything else is the gateway's own Host. */
Test(gw_preview_host, others)
{
	static const char *const hosts[] = {"-sb-a.x",  "80-sb-.x",   "80-sb-g.x",
					    "80-sb-a",  "x80-sb-a.x", "a.80-sb-a.x",
					    "",         "80",         "80-sb-a1-x.localhost",
					    "80sb-a.x", "127.0.0.1",  "80-sc-a.x",
					    "80-sb",    "localhost"};
	struct preview_host h;

	for (size_t i = 0; i < COUNT(hosts); i++)
		cr_expect_not(preview_host_parse(str_from(hosts[i]), &h), "%s", hosts[i]);
	cr_expect_not(preview_host_parse(str_of(NULL, 0), &h));
}

/* An id that is longer than one may be is none. */
Test(gw_preview_host, long_ids)
{
	char host[300];
	struct preview_host h;

	for (size_t hex = 120; hex < 135; hex++) {
		size_t n = 0;
		memcpy(host, "1-sb-", 5);
		for (n = 5; n < 5 + hex; n++)
			host[n] = 'a';
		host[n++] = '.';
		host[n++] = 'x';
		cr_assert(preview_host_parse(str_of(host, n), &h));
		cr_expect_eq(strlen(h.id), hex + 3 <= SANDBOX_DOC_ID_MAX_BYTES ? hex + 3 : 0);
	}
}

Test(gw_preview_host, domains)
{
	static const struct {
		const char *domain;
		bool good;
		uint16_t port;
	} rows[] = {
		{"localhost", true, 0},    {"a-b_c.example.com", true, 0},
		{"x:8080", true, 8080},    {"", false, 0},
		{":80", false, 80},        {"x:", false, 0},
		{"x:0", false, 0},         {"x:65536", false, 0},
		{"x:80:80", false, 0},     {"a b", false, 0},
		{"a/b", false, 0},         {"u@h", false, 0},
		{"a\r\nb", false, 0},      {"[::1]", false, 0},
		{"\xc3\xa4.de", false, 0},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct str domain = str_from(rows[i].domain);

		cr_expect_eq(preview_host_domain_is_good(domain), rows[i].good, "%s", rows[i].domain);
		cr_expect_eq(preview_host_cut_port(&domain), rows[i].port, "%s", rows[i].domain);
	}
}
