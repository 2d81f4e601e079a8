/* SPDX-License-Identifier: Apache-2.0 */
#include "common/str.h"

#include <errno.h>
#include <stdlib.h>

static unsigned char lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static uint64_t load8(const char *p)
{
	uint64_t x;

	memcpy(&x, p, sizeof(x));
	return x;
}

/* Eight bytes at once: they may differ in the bit of case, and only where they are letters. */
static bool eq_nocase_8(const char *a, const char *b)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	const uint64_t tops = UINT64_C(0x8080808080808080);
	uint64_t x = load8(a);
	uint64_t diff = x ^ load8(b);
	uint64_t folded = (x | ones * 0x20) & ~tops;
	/* No sum carries into the next byte, since every byte is below 0x80. */
	uint64_t letters = (folded + ones * (0x80 - 'a')) & ~(folded + ones * (0x7f - 'z')) & ~x & tops;

	return (diff & ~(letters >> 2)) == 0;
}

bool str_eq_nocase_n(const char *a, const char *b, size_t n)
{
	if (n >= 8) {
		for (size_t i = 0; i + 8 < n; i += 8)
			if (!eq_nocase_8(a + i, b + i))
				return false;
		return eq_nocase_8(a + n - 8, b + n - 8); /* what is left, and perhaps some of it again */
	}
	for (size_t i = 0; i < n; i++)
		if (a[i] != b[i] && lower(a[i]) != lower(b[i]))
			return false;
	return true;
}

bool str_ends(struct str s, struct str suffix)
{
	return s.n >= suffix.n && str_eq(str_of(s.p + (s.n - suffix.n), suffix.n), suffix);
}

struct str str_cut(struct str *rest, char sep)
{
	struct str all = *rest;
	const char *at = all.n ? memchr(all.p, sep, all.n) : NULL;

	if (!at) {
		*rest = str_of(NULL, 0);
		return all;
	}
	size_t n = (size_t)(at - all.p);
	*rest = str_of(at + 1, all.n - n - 1);
	return str_of(all.p, n);
}

int str_parse_u64(struct str s, uint64_t *out)
{
	uint64_t v = 0;

	if (s.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		uint64_t digit = (uint64_t)(s.p[i] - '0');
		if (v > (UINT64_MAX - digit) / 10)
			return -ERANGE;
		v = v * 10 + digit;
	}
	*out = v;
	return 0;
}

char *str_dup(struct str s)
{
	char *copy = malloc(s.n + 1);

	if (!copy)
		return NULL;
	if (s.n)
		memcpy(copy, s.p, s.n);
	copy[s.n] = '\0';
	return copy;
}

bool str_is_id(struct str s, size_t max)
{
	static const bool good[256] = {
		['0' ... '9'] = true, ['A' ... 'Z'] = true, ['a' ... 'z'] = true,
		['.'] = true,         ['_'] = true,         ['-'] = true,
	};

	if (s.n == 0 || s.n > max)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if (!good[(unsigned char)s.p[i]])
			return false;
	return true;
}

uint32_t str_hash(struct str s)
{
	uint32_t hash = UINT32_C(2166136261);

	for (size_t i = 0; i < s.n; i++)
		hash = (hash ^ (unsigned char)s.p[i]) * UINT32_C(16777619);
	return hash;
}

int str_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

ssize_t str_percent_decode(struct str s, bool plus, char *out)
{
	size_t o = 0;

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (c == '%') {
			if (s.n - i < 3)
				return -EINVAL;
			int hi = str_hex_value(s.p[i + 1]);
			int lo = str_hex_value(s.p[i + 2]);
			if (hi < 0 || lo < 0)
				return -EINVAL;
			c = (char)(hi << 4 | lo);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		out[o++] = c;
	}
	return (ssize_t)o;
}

int str_utf8_len(struct str s)
{
	const unsigned char *u = (const unsigned char *)s.p;
	size_t need;
	unsigned char low = 0x80;
	unsigned char high = 0xbf;

	if (s.n == 0)
		return -1;
	if (u[0] < 0x80)
		return 1;
	if (u[0] >= 0xc2 && u[0] <= 0xdf)
		need = 2;
	else if (u[0] >= 0xe0 && u[0] <= 0xef)
		need = 3;
	else if (u[0] >= 0xf0 && u[0] <= 0xf4)
		need = 4;
	else
		return 0;
	/* The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF. */
	if (u[0] == 0xe0)
		low = 0xa0;
	else if (u[0] == 0xed)
		high = 0x9f;
	else if (u[0] == 0xf0)
		low = 0x90;
	else if (u[0] == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < need; i++) {
		if (i >= s.n)
			return -1;
		if (u[i] < low || u[i] > high)
			return 0;
		low = 0x80;
		high = 0xbf;
	}
	return (int)need;
}
