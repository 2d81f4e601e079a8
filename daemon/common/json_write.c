/* SPDX-License-Identifier: Apache-2.0 */
#include "common/json_write.h"

#include <math.h>
#include <string.h>

static void before_value(struct json_writer *w, const char *key)
{
	if (w->comma)
		buf_add_char(w->out, ',');
	if (key) {
		buf_add_char(w->out, '"');
		buf_add_cstr(w->out, key);
		buf_add(w->out, "\":", 2);
	}
	w->comma = true;
}

static void open_value(struct json_writer *w, const char *key, char bracket)
{
	before_value(w, key);
	buf_add_char(w->out, bracket);
	w->comma = false;
}

static void close_value(struct json_writer *w, char bracket)
{
	buf_add_char(w->out, bracket);
	w->comma = true;
}

void json_object_begin(struct json_writer *w, const char *key)
{
	open_value(w, key, '{');
}

void json_object_end(struct json_writer *w)
{
	close_value(w, '}');
}

void json_array_begin(struct json_writer *w, const char *key)
{
	open_value(w, key, '[');
}

void json_array_end(struct json_writer *w)
{
	close_value(w, ']');
}

static void add_string(const struct json_writer *w, struct str s)
{
	if (w->ascii)
		json_add_ascii(w->out, s);
	else
		json_add_quoted(w->out, s);
}

void json_str(struct json_writer *w, const char *key, struct str value)
{
	before_value(w, key);
	add_string(w, value);
}

void json_cstr(struct json_writer *w, const char *key, const char *value)
{
	json_str(w, key, str_from(value));
}

void json_int(struct json_writer *w, const char *key, int64_t value)
{
	before_value(w, key);
	if (value < 0)
		buf_add_char(w->out, '-');
	buf_add_u64(w->out, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void json_uint(struct json_writer *w, const char *key, uint64_t value)
{
	before_value(w, key);
	buf_add_u64(w->out, value);
}

void json_double(struct json_writer *w, const char *key, double value)
{
	before_value(w, key);
	/* JSON has no infinities and no NaN (RFC 8259 6). */
	if (isfinite(value))
		buf_addf(w->out, "%.6g", value);
	else
		buf_add_char(w->out, '0');
}

void json_bool(struct json_writer *w, const char *key, bool value)
{
	before_value(w, key);
	buf_add_cstr(w->out, value ? "true" : "false");
}

void json_nothing(struct json_writer *w, const char *key)
{
	before_value(w, key);
	buf_add_cstr(w->out, "null");
}

void json_member(struct json_writer *w, struct str key, struct str value)
{
	before_value(w, NULL);
	add_string(w, key);
	buf_add_char(w->out, ':');
	add_string(w, value);
}

static void add_escaped_byte(struct buf *out, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char text[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	switch (c) {
	case '"':
	case '\\':
		text[1] = (char)c;
		break;
	case '\b':
		text[1] = 'b';
		break;
	case '\f':
		text[1] = 'f';
		break;
	case '\n':
		text[1] = 'n';
		break;
	case '\r':
		text[1] = 'r';
		break;
	case '\t':
		text[1] = 't';
		break;
	default:
		buf_add(out, text, 6);
		return;
	}
	buf_add(out, text, 2);
}

/* The escape for a sequence that some line splitter takes for a line end, or NULL. */
static const char *line_end_escape(const char *p, int n)
{
	if (n == 2 && memcmp(p, "\xc2\x85", 2) == 0)
		return "\\u0085";
	if (n == 3 && memcmp(p, "\xe2\x80\xa8", 3) == 0)
		return "\\u2028";
	if (n == 3 && memcmp(p, "\xe2\x80\xa9", 3) == 0)
		return "\\u2029";
	return NULL;
}

void json_add_quoted(struct buf *out, struct str s)
{
	size_t plain = 0; /* start of the run that needs no escape */
	size_t i = 0;

	buf_add_char(out, '"');
	while (i < s.n) {
		unsigned char c = (unsigned char)s.p[i];
		if (c >= 0x20 && c < 0x80 && !strchr("\"\\<>&", c)) {
			i++;
			continue;
		}
		int n = c < 0x80 ? 1 : str_utf8_len(str_of(s.p + i, s.n - i));
		const char *line_end = n > 1 ? line_end_escape(s.p + i, n) : NULL;
		if (n > 1 && !line_end) {
			i += (size_t)n;
			continue;
		}
		buf_add(out, s.p + plain, i - plain);
		if (line_end)
			buf_add_cstr(out, line_end);
		else if (n == 1)
			add_escaped_byte(out, c);
		else
			buf_add_cstr(out, "\\ufffd");
		i += n > 1 ? (size_t)n : 1;
		plain = i;
	}
	if (plain < s.n) /* an empty string's pointer may be NULL, to which nothing may be added */
		buf_add(out, s.p + plain, s.n - plain);
	buf_add_char(out, '"');
}

/* --- printable ASCII ------------------------------------------------------------------------------------------------- */

static char *put_unit(char *to, unsigned unit)
{
	static const char hex[] = "0123456789abcdef";

	*to++ = '\\';
	*to++ = 'u';
	for (int shift = 12; shift >= 0; shift -= 4)
		*to++ = hex[unit >> shift & 15];
	return to;
}

/* The code point of a valid sequence of two to four bytes. */
static unsigned code_point(const char *p, int n)
{
	unsigned code = (unsigned char)p[0] & (0xffu >> (n + 1));

	for (int i = 1; i < n; i++)
		code = code << 6 | ((unsigned char)p[i] & 0x3fu);
	return code;
}

static char *put_code(char *to, unsigned code)
{
	if (code < 0x10000)
		return put_unit(to, code);
	code -= 0x10000;
	return put_unit(put_unit(to, 0xd800 + (code >> 10)), 0xdc00 + (code & 0x3ff));
}

static bool stays(unsigned char c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* One character, or one byte that is none; how many bytes it was. */
static size_t escape_one(char **to, struct str s)
{
	unsigned char c = (unsigned char)s.p[0];
	int n = c < 0x80 ? 1 : str_utf8_len(s);

	if (n > 1) {
		*to = put_code(*to, code_point(s.p, n));
		return (size_t)n;
	}
	if (c == '"' || c == '\\') {
		*(*to)++ = '\\';
		*(*to)++ = (char)c;
	} else {
		*to = put_unit(*to, c < 0x80 ? c : 0xfffd);
	}
	return 1;
}

size_t json_escape_ascii(char *out, struct str s)
{
	char *to = out;
	size_t i = 0;

	while (i < s.n) {
		size_t begin = i;
		while (i < s.n && stays((unsigned char)s.p[i]))
			i++;
		memcpy(to, s.p + begin, i - begin);
		to += i - begin;
		if (i < s.n)
			i += escape_one(&to, str_of(s.p + i, s.n - i));
	}
	return (size_t)(to - out);
}

void json_add_ascii(struct buf *out, struct str s)
{
	char *to;

	buf_add_char(out, '"');
	to = buf_reserve(out, JSON_ASCII_GROWTH * s.n + 1);
	if (!to)
		return;
	buf_commit(out, json_escape_ascii(to, s));
	buf_add_char(out, '"');
}
