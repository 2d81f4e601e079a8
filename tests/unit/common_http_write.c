/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/http_write.h"
#include "common/secret.h"

/* Heads are written byte for byte as RFC 9112 wants them. */
Test(common_http_write, heads)
{
	struct buf b = BUF_EMPTY;

	http_write_request_line(&b, STR("POST"), STR("/api/v1/x?y=%2e"));
	http_write_header(&b, STR("Host"), STR("localhost"));
	http_write_header_u64(&b, STR("Content-Length"), 18446744073709551615ull);
	http_write_end(&b);
	cr_expect(str_eq(buf_str(&b), STR("POST /api/v1/x?y=%2e HTTP/1.1\r\nHost: localhost\r\n"
					  "Content-Length: 18446744073709551615\r\n\r\n")));
	buf_reset(&b);
	http_write_status_line(&b, 404);
	http_write_end(&b);
	cr_expect(str_eq(buf_str(&b), STR("HTTP/1.1 404 Not Found\r\n\r\n")));
	buf_fini(&b);
}

/* Names and values of every length, into buffers with and without room, are written whole and nothing beside them. */
Test(common_http_write, every_length)
{
	static const char text[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz";

	for (size_t name = 1; name < sizeof(text); name++) {
		for (size_t value = 0; value < sizeof(text); value++) {
			struct buf b = BUF_EMPTY;
			char expected[256];
			int n = snprintf(expected, sizeof(expected), "%.*s: %.*s\r\n", (int)name, text, (int)value,
					 text + sizeof(text) - 1 - value);

			/* 256 bytes at first, so that the third or fourth finds no room. */
			for (unsigned i = 0; i < 4; i++)
				http_write_header(&b, str_of(text, name),
						  str_of(text + sizeof(text) - 1 - value, value));
			cr_assert_eq(b.len, 4 * (size_t)n);
			for (unsigned i = 0; i < 4; i++)
				cr_assert(memcmp(buf_data(&b) + i * (unsigned)n, expected, (size_t)n) == 0, "%s",
					  expected);
			buf_fini(&b);
		}
	}
}

/* A credential becomes the value of a header and nothing more. */
Test(common_http_write, secret)
{
	struct buf b = BUF_EMPTY;
	char key[] = "planted";
	struct secret *s;

	cr_assert_eq(secret_take(key, 7, &s), 0);
	http_write_header_secret(&b, STR("X-API-Key"), s);
	cr_expect(str_eq(buf_str(&b), STR("X-API-Key: planted\r\n")));
	buf_wipe(&b);
	secret_unref(s);
}

/* Every status that a gateway or its server sends has its phrase; others have one too. */
Test(common_http_write, reasons)
{
	static const unsigned ours[] = {200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 413,
					414, 417, 421, 429, 431, 500, 501, 502, 503, 504, 505};

	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
		cr_expect_str_neq(http_reason(ours[i]), "Unknown", "%u", ours[i]);
	cr_expect_str_eq(http_reason(299), "Unknown");
}
