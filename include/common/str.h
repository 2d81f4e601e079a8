/* SPDX-License-Identifier: Apache-2.0 */
/* A span of bytes that somebody else owns, and the questions asked of one. */
#ifndef COMMON_STR_H
#define COMMON_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "common/err.h"

struct str {
	const char *p; /* borrowed; may be NULL when n is 0; not terminated */
	size_t n;      /* bytes */
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
/* For printf's "%.*s". */
#define STR_ARG(s) (int)(s).n, (s).p

static inline struct str str_of(const char *p, size_t n)
{
	return (struct str){p, n};
}

static inline struct str str_from(const char *cstr)
{
	return (struct str){cstr, cstr ? strlen(cstr) : 0};
}

static inline bool str_eq(struct str a, struct str b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

/* n bytes of both, ASCII case ignored. */
bool str_eq_nocase_n(const char *a, const char *b, size_t n);

/* ASCII case is ignored; other bytes must be equal. Most comparisons are of names of different lengths. */
static inline bool str_eq_nocase(struct str a, struct str b)
{
	/* First bytes that differ in more than the bit of case settle most of the rest. */
	return a.n == b.n && (a.n == 0 || (((a.p[0] ^ b.p[0]) & ~0x20) == 0 && str_eq_nocase_n(a.p, b.p, a.n)));
}

static inline bool str_starts(struct str s, struct str prefix)
{
	return s.n >= prefix.n && str_eq(str_of(s.p, prefix.n), prefix);
}

bool str_ends(struct str s, struct str suffix);

/* Without the spaces and tabs at both ends (RFC 9110 5.6.3). */
static inline struct str str_trim(struct str s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t')) {
		s.p++;
		s.n--;
	}
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}

/*
 * Cuts *rest at the first `sep`: returns what stands before it and leaves what stands behind in *rest.
 * Without one, returns everything and makes *rest empty with p NULL.
 */
struct str str_cut(struct str *rest, char sep);

/* Decimal digits only, no sign, no space. 0, -EINVAL or -ERANGE. */
MUST_CHECK int str_parse_u64(struct str s, uint64_t *out);

/* 1 to max bytes of letters, digits, '.', '_' and '-': what ids are made of. */
bool str_is_id(struct str s, size_t max);

/* FNV-1a. The journal writes it as a checksum: it stays what it is. */
uint32_t str_hash(struct str s);

/* 0 to 15, or -1 when c is no hexadecimal digit. */
int str_hex_value(char c);

/* A terminated copy, owned by the caller; NULL without memory. */
char *str_dup(struct str s);

/*
 * Decodes percent escapes into out (at least s.n bytes; may be s.p itself); `plus` also turns '+' into a space.
 * Returns the length, or -EINVAL for a bad escape.
 */
ssize_t str_percent_decode(struct str s, bool plus, char *out);

/* Length of the valid UTF-8 sequence at the start of s (1-4), 0 if there is none, -1 if s ends within one. */
int str_utf8_len(struct str s);

#endif
