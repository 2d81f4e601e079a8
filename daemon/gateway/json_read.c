/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass without recursion: a bit per open container says which bracket closes it. Every function that scans takes
 * and returns a pointer into the text and answers NULL for what the grammar does not allow.
 */
#include "gateway/json_read.h"

#include <errno.h>
#include <stdint.h>

struct nest {
	uint8_t is_object[JSON_READ_MAX_DEPTH / 8]; /* a bit for each open container */
	size_t depth;
};

/* --- scanning ----------------------------------------------------------------------------------------------------- */

static const char *skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

static bool has_hex(const char *p, const char *end)
{
	if (end - p < 4)
		return false;
	for (int i = 0; i < 4; i++)
		if (str_hex_value(p[i]) < 0)
			return false;
	return true;
}

/* 1 for bytes that stand for themselves inside a string. */
static const uint8_t is_plain[256] = {
	[0x20 ... 0x21] = 1,
	[0x23 ... 0x5b] = 1,
	[0x5d ... 0xff] = 1,
};

/* p is at the opening quote. */
static const char *scan_string(const char *p, const char *end)
{
	for (p++; p < end; p++) {
		if (is_plain[(unsigned char)*p])
			continue;
		if (*p == '"')
			return p + 1;
		if (*p != '\\' || ++p == end)
			return NULL;
		if (*p == 'u' && has_hex(p + 1, end))
			p += 4;
		else if (!memchr("\"\\/bfnrt", *p, 8))
			return NULL;
	}
	return NULL;
}

static const char *scan_digits(const char *p, const char *end)
{
	const char *start = p;

	while (p < end && *p >= '0' && *p <= '9')
		p++;
	return p > start ? p : NULL;
}

static const char *scan_number(const char *p, const char *end)
{
	if (*p == '-')
		p++;
	if (p < end && *p == '0')
		p++; /* no digit may follow it */
	else
		p = scan_digits(p, end);
	if (p && p < end && *p == '.')
		p = scan_digits(p + 1, end);
	if (p && p < end && (*p == 'e' || *p == 'E')) {
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		p = scan_digits(p, end);
	}
	return p;
}

static const char *scan_word(const char *p, const char *end, struct str word)
{
	return (size_t)(end - p) >= word.n && memcmp(p, word.p, word.n) == 0 ? p + word.n : NULL;
}

static const char *scan_scalar(const char *p, const char *end)
{
	switch (*p) {
	case '"':
		return scan_string(p, end);
	case 't':
		return scan_word(p, end, STR("true"));
	case 'f':
		return scan_word(p, end, STR("false"));
	case 'n':
		return scan_word(p, end, STR("null"));
	default:
		return scan_number(p, end);
	}
}

/* A member's key and its colon; white space may stand before either. */
static const char *scan_key(const char *p, const char *end, struct str *key)
{
	p = skip_space(p, end);
	if (p == end || *p != '"')
		return NULL;
	const char *start = p;
	p = scan_string(p, end);
	if (!p)
		return NULL;
	*key = str_of(start, (size_t)(p - start));
	p = skip_space(p, end);
	return p < end && *p == ':' ? p + 1 : NULL;
}

/* A scalar or an empty container whole, of another container only its start: *whole says which. */
static const char *scan_start(struct nest *nest, const char *p, const char *end, bool *whole)
{
	bool object;
	struct str key;

	p = skip_space(p, end);
	if (p == end)
		return NULL;
	*whole = true;
	object = *p == '{';
	if (!object && *p != '[')
		return scan_scalar(p, end);
	p = skip_space(p + 1, end);
	if (p < end && *p == (object ? '}' : ']'))
		return p + 1;
	if (nest->depth == JSON_READ_MAX_DEPTH)
		return NULL;
	*whole = false;
	uint8_t bit = (uint8_t)(1u << nest->depth % 8);
	uint8_t *bits = &nest->is_object[nest->depth++ / 8];
	*bits = (uint8_t)(object ? *bits | bit : *bits & ~bit);
	return object ? scan_key(p, end, &key) : p;
}

/* Behind a value inside a container: the comma before the next one, or the bracket, which makes *whole the container. */
static const char *scan_behind(struct nest *nest, const char *p, const char *end, bool *whole)
{
	size_t top = nest->depth - 1;
	bool object = nest->is_object[top / 8] >> top % 8 & 1;
	struct str key;

	p = skip_space(p, end);
	if (p == end)
		return NULL;
	if (*p == (object ? '}' : ']')) {
		nest->depth--;
		return p + 1;
	}
	*whole = false;
	if (*p != ',')
		return NULL;
	return object ? scan_key(p + 1, end, &key) : p + 1;
}

static const char *scan_value(const char *p, const char *end)
{
	struct nest nest;
	bool whole = false;

	nest.depth = 0;
	while (p && !whole) {
		p = scan_start(&nest, p, end, &whole);
		while (p && whole && nest.depth)
			p = scan_behind(&nest, p, end, &whole);
	}
	return p;
}

/* --- values ------------------------------------------------------------------------------------------------------- */

struct str json_read_space(struct str text)
{
	if (text.n == 0)
		return text;
	const char *p = skip_space(text.p, text.p + text.n);
	return str_of(p, text.n - (size_t)(p - text.p));
}

int json_read_value(struct str *text, struct str *value)
{
	struct str rest = json_read_space(*text);

	if (rest.n == 0)
		return -EPROTO;
	const char *behind = scan_value(rest.p, rest.p + rest.n);
	if (!behind)
		return -EPROTO;
	*value = str_of(rest.p, (size_t)(behind - rest.p));
	*text = str_of(behind, rest.n - value->n);
	return 0;
}

int json_read_document(struct str text, struct str *value)
{
	int rc = json_read_value(&text, value);

	return rc ? rc : json_read_space(text).n ? -EPROTO : 0;
}

enum json_kind json_read_kind(struct str value)
{
	switch (value.p[0]) {
	case '{':
		return JSON_KIND_OBJECT;
	case '[':
		return JSON_KIND_ARRAY;
	case '"':
		return JSON_KIND_STRING;
	case 't':
	case 'f':
		return JSON_KIND_BOOL;
	case 'n':
		return JSON_KIND_NULL;
	default:
		return JSON_KIND_NUMBER;
	}
}

struct json_members json_read_members(struct str text)
{
	return (struct json_members){str_of(text.p + 1, text.n - 1), true};
}

int json_read_member(struct json_members *m, struct json_member *out)
{
	struct str rest = json_read_space(m->rest);

	if (rest.n == 0)
		return -EPROTO;
	const char *end = rest.p + rest.n;
	if (rest.p[0] == '}') {
		m->rest = str_of(rest.p + 1, rest.n - 1);
		return 0;
	}
	if (!m->first && rest.p[0] != ',')
		return -EPROTO;
	const char *p = scan_key(m->first ? rest.p : rest.p + 1, end, &out->key);
	if (!p)
		return -EPROTO;
	m->first = false;
	m->rest = str_of(p, (size_t)(end - p));
	int rc = json_read_value(&m->rest, &out->value);
	return rc ? rc : 1;
}

/* --- strings ------------------------------------------------------------------------------------------------------ */

static int add_utf8(uint32_t c, char out[4])
{
	if (c < 0x80) {
		out[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		out[0] = (char)(0xc0 | c >> 6);
		out[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		out[0] = (char)(0xe0 | c >> 12);
		out[1] = (char)(0x80 | (c >> 6 & 0x3f));
		out[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | c >> 18);
	out[1] = (char)(0x80 | (c >> 12 & 0x3f));
	out[2] = (char)(0x80 | (c >> 6 & 0x3f));
	out[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

/* The code unit of the \uXXXX at the start of s; UINT32_MAX when there is none. */
static uint32_t unit_at(struct str s)
{
	uint32_t unit = 0;

	if (s.n < 6 || s.p[0] != '\\' || s.p[1] != 'u')
		return UINT32_MAX;
	for (size_t i = 2; i < 6; i++)
		unit = unit << 4 | (uint32_t)str_hex_value(s.p[i]);
	return unit;
}

/* The character of the escape at the start of *s, which is taken off. */
static uint32_t take_escape(struct str *s)
{
	static const char names[] = "bfnrt";
	static const char values[] = "\b\f\n\r\t";
	uint32_t unit = unit_at(*s);
	uint32_t low;

	if (unit == UINT32_MAX) {
		char c = s->p[1];
		const char *at = memchr(names, c, 5);
		*s = str_of(s->p + 2, s->n - 2);
		return (unsigned char)(at ? values[at - names] : c);
	}
	*s = str_of(s->p + 6, s->n - 6);
	if (unit < 0xd800 || unit > 0xdfff)
		return unit;
	low = unit_at(*s);
	if (unit >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
		return 0xfffd; /* what follows is read by itself */
	*s = str_of(s->p + 6, s->n - 6);
	return 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
}

/* Takes one character off the inside of a string and writes it as UTF-8; returns its length. */
static int take_char(struct str *s, char out[4])
{
	unsigned char c = (unsigned char)s->p[0];
	int n = 1;

	if (c == '\\')
		return add_utf8(take_escape(s), out);
	if (c >= 0x80)
		n = str_utf8_len(*s);
	if (n <= 0) {
		*s = str_of(s->p + 1, s->n - 1);
		return add_utf8(0xfffd, out);
	}
	memcpy(out, s->p, (size_t)n);
	*s = str_of(s->p + n, s->n - (size_t)n);
	return n;
}

static struct str inside(struct str quoted)
{
	return str_of(quoted.p + 1, quoted.n - 2);
}

void json_read_string(struct str quoted, struct buf *out)
{
	struct str s = inside(quoted);
	char c[4];

	while (s.n)
		buf_add(out, c, (size_t)take_char(&s, c));
}

bool json_read_string_is(struct str quoted, struct str text)
{
	struct str s = inside(quoted);
	char c[4];

	if (s.n == 0 || !memchr(s.p, '\\', s.n))
		return str_eq(s, text);
	while (s.n) {
		size_t n = (size_t)take_char(&s, c);
		if (text.n < n || memcmp(text.p, c, n) != 0)
			return false;
		text = str_of(text.p + n, text.n - n);
	}
	return text.n == 0;
}

bool json_read_copy(struct str quoted, char *out, size_t size)
{
	struct str s = inside(quoted);
	size_t n = 0;
	char c[4];

	while (s.n) {
		size_t more = (size_t)take_char(&s, c);
		if (n + more >= size || c[0] == '\0') {
			out[0] = '\0';
			return false;
		}
		memcpy(out + n, c, more);
		n += more;
	}
	out[n] = '\0';
	return true;
}
