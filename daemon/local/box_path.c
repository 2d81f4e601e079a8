/* SPDX-License-Identifier: Apache-2.0 */
#include "local/box_path.h"

#include <errno.h>
#include <stdint.h>

/* Puts one segment behind what is in out; `n` is its length so far, without a slash at the end. */
static int add_segment(char *out, size_t *n, struct str segment)
{
	if (segment.n == 0 || str_eq(segment, STR(".")))
		return 0;
	if (str_eq(segment, STR(".."))) {
		while (*n > 0 && out[*n - 1] != '/')
			(*n)--;
		if (*n > 0)
			(*n)--;
		return 0;
	}
	if (*n + 1 + segment.n > BOX_PATH_MAX)
		return -ENAMETOOLONG;
	out[(*n)++] = '/';
	memcpy(out + *n, segment.p, segment.n);
	*n += segment.n;
	return 0;
}

int box_path_clean(struct str path, char *out)
{
	size_t n = 0;
	int rc = 0;

	if (path.n == 0 || memchr(path.p, 0, path.n))
		return -EINVAL;
	if (path.p[0] != '/')
		rc = add_segment(out, &n, STR("workspace"));
	while (rc == 0 && path.p)
		rc = add_segment(out, &n, str_cut(&path, '/'));
	if (rc)
		return rc;
	if (n == 0)
		out[n++] = '/';
	out[n] = 0;
	return (int)n;
}

bool box_path_is_pattern(struct str segment)
{
	for (size_t i = 0; i < segment.n; i++)
		if (memchr("*?[\\", segment.p[i], 4))
			return true;
	return false;
}

/* One character of a name: UTF-8 where it is valid, else a byte. 0 at the end. */
static size_t char_len(struct str s)
{
	if (s.n == 0)
		return 0;
	int n = str_utf8_len(s);
	return n > 0 ? (size_t)n : 1;
}

static uint32_t char_value(struct str s, size_t n)
{
	uint32_t v = 0;

	for (size_t i = 0; i < n; i++)
		v = v << 8 | (unsigned char)s.p[i];
	return v;
}

static struct str skip(struct str s, size_t n)
{
	return str_of(s.p + n, s.n - n);
}

/* Takes one character of a set, escaped or not, off *p. */
static int take_set_char(struct str *p, uint32_t *value)
{
	if (p->n && p->p[0] == '\\')
		*p = skip(*p, 1);
	size_t n = char_len(*p);
	if (n == 0)
		return -EINVAL;
	*value = char_value(*p, n);
	*p = skip(*p, n);
	return 0;
}

/* *p stands behind the '['; afterwards behind the ']'. 1 or 0: whether c is in the set; -EINVAL. */
static int match_set(struct str *p, uint32_t c)
{
	bool negated = p->n && (p->p[0] == '^' || p->p[0] == '!');
	bool found = false;
	uint32_t low, high;

	if (negated)
		*p = skip(*p, 1);
	for (bool first = true;; first = false) {
		if (p->n && p->p[0] == ']' && !first)
			break;
		if (take_set_char(p, &low) < 0)
			return -EINVAL;
		high = low;
		if (p->n > 1 && p->p[0] == '-' && p->p[1] != ']') {
			*p = skip(*p, 1);
			if (take_set_char(p, &high) < 0)
				return -EINVAL;
		}
		found |= low <= c && c <= high;
	}
	*p = skip(*p, 1);
	return found != negated;
}

/* One step of a pattern that is not a star: takes it off *p, a character off *s. 1 matched, 0 not, -EINVAL. */
static int match_one(struct str *p, struct str *s)
{
	size_t n = char_len(*s);
	char c = p->p[0];

	*p = skip(*p, 1);
	if (c == '[') {
		int rc = match_set(p, n ? char_value(*s, n) : 0);
		*s = skip(*s, n);
		return rc < 0 ? rc : rc && n > 0;
	}
	if (c == '?') {
		*s = skip(*s, n);
		return n > 0;
	}
	if (c == '\\') {
		if (p->n == 0)
			return -EINVAL;
		c = p->p[0];
		*p = skip(*p, 1);
	}
	if (s->n == 0 || s->p[0] != c)
		return 0;
	*s = skip(*s, 1);
	return 1;
}

static int check_pattern(struct str p)
{
	while (p.n) {
		struct str none = {p.p, 0};
		int rc = p.p[0] == '*' ? 0 : match_one(&p, &none);
		if (rc < 0)
			return rc;
		if (p.n && p.p[0] == '*')
			p = skip(p, 1);
	}
	return 0;
}

int box_path_match(struct str p, struct str s)
{
	struct str star_p = {NULL, 0}, star_s = {NULL, 0};

	if (check_pattern(p) < 0)
		return -EINVAL;
	/* A mismatch goes back to the last star and gives it one byte more: no recursion, at most n * m steps. */
	while (s.n || p.n) {
		if (p.n && p.p[0] == '*') {
			p = skip(p, 1);
			star_p = p;
			star_s = s;
			continue;
		}
		if (p.n && match_one(&p, &s) == 1)
			continue;
		if (!star_p.p || star_s.n == 0)
			return 0;
		star_s = skip(star_s, 1);
		p = star_p;
		s = star_s;
	}
	return 1;
}
