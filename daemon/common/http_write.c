/* SPDX-License-Identifier: Apache-2.0 */
#include "common/http_write.h"

#include <string.h>

#include "common/secret.h"

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{100, "Continue"},
	{101, "Switching Protocols"},
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{303, "See Other"},
	{304, "Not Modified"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{406, "Not Acceptable"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{410, "Gone"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{417, "Expectation Failed"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{426, "Upgrade Required"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
};

const char *http_reason(unsigned status)
{
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "Unknown";
}

enum {
	SHORT_MAX_BYTES = 64
};

/* Copies of fixed length that may overlap are cheaper than a call; of at most SHORT_MAX_BYTES. */
static inline __attribute__((always_inline)) char *put(char *to, struct str s)
{
	if (s.n >= 16) {
		memcpy(to, s.p, 16);
		if (s.n > 32) {
			memcpy(to + 16, s.p + 16, 16);
			memcpy(to + s.n - 32, s.p + s.n - 32, 16);
		}
		memcpy(to + s.n - 16, s.p + s.n - 16, 16);
	} else if (s.n >= 8) {
		memcpy(to, s.p, 8);
		memcpy(to + s.n - 8, s.p + s.n - 8, 8);
	} else if (s.n >= 4) {
		memcpy(to, s.p, 4);
		memcpy(to + s.n - 4, s.p + s.n - 4, 4);
	} else {
		for (size_t i = 0; i < s.n; i++)
			to[i] = s.p[i];
	}
	return to + s.n;
}

void http_write_request_line(struct buf *out, struct str method, struct str target)
{
	buf_add_str(out, method);
	buf_add_char(out, ' ');
	buf_add_str(out, target);
	buf_add_str(out, STR(" HTTP/1.1\r\n"));
}

void http_write_status_line(struct buf *out, unsigned status)
{
	buf_add_str(out, STR("HTTP/1.1 "));
	buf_add_u64(out, status);
	buf_add_char(out, ' ');
	buf_add_cstr(out, http_reason(status));
	buf_add_str(out, STR("\r\n"));
}

static __attribute__((noinline)) void write_long_header(struct buf *out, struct str name, struct str value)
{
	buf_add_str(out, name);
	buf_add_str(out, STR(": "));
	buf_add_str(out, value);
	buf_add_str(out, STR("\r\n"));
}

/* Every request writes a dozen of these, most of them short and into a buffer with room: no call is made for those. */
void http_write_header(struct buf *out, struct str name, struct str value)
{
	size_t n = name.n + value.n + 4;
	char *to;

	if (out->failed || name.n > SHORT_MAX_BYTES || value.n > SHORT_MAX_BYTES ||
	    out->cap - out->start - out->len < n) {
		write_long_header(out, name, value);
		return;
	}
	to = put(buf_data(out) + out->len, name);
	*to++ = ':';
	*to++ = ' ';
	to = put(to, value);
	*to++ = '\r';
	*to++ = '\n';
	out->len += n;
}

void http_write_header_u64(struct buf *out, struct str name, unsigned long long value)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[sizeof(digits) - ++n] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	http_write_header(out, name, str_of(digits + sizeof(digits) - n, n));
}

void http_write_header_secret(struct buf *out, struct str name, const struct secret *value)
{
	http_write_header(out, name, secret_bytes(value));
}

void http_write_end(struct buf *out)
{
	buf_add_str(out, STR("\r\n"));
}
