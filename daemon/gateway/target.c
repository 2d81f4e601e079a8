/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A path passes as it was sent or not at all: dot segments, empty segments, encoded slashes, dots and other characters
 * that need no encoding, backslashes, path parameters and control bytes all have a second spelling somewhere, so they
 * are refused rather than mended (design.md, llhttp parses both directions).
 */
#include "gateway/target.h"

#include <stdbool.h>
#include <string.h>

/* RFC 3986 2.3. */
static bool is_unreserved(unsigned char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
	       c == '_' || c == '~';
}

/* Why the escape at p (n bytes are left) must not stand in a path, or NULL. */
static const char *bad_escape(const char *p, size_t n)
{
	int high = n >= 3 ? str_hex_value(p[1]) : -1;
	int low = n >= 3 ? str_hex_value(p[2]) : -1;
	unsigned char c;

	if (high < 0 || low < 0)
		return "malformed percent escape in the path";
	c = (unsigned char)(high << 4 | low);
	if (is_unreserved(c))
		return "percent escape of a character that needs none in the path";
	if (c == '/' || c == '\\' || c == '%' || c == ';' || c < 0x20 || c == 0x7f)
		return "percent escape of a separator or control byte in the path";
	return NULL;
}

static const char *check_segment(struct str s, bool last)
{
	if (s.n == 0 && !last)
		return "empty segment in the path";
	if (str_eq(s, STR(".")) || str_eq(s, STR("..")))
		return "dot segment in the path";
	bool escapes = false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] == '\\' || s.p[i] == ';')
			return "backslash or semicolon in the path";
		if (s.p[i] == '%') {
			escapes = true;
			const char *why = bad_escape(s.p + i, s.n - i);
			if (why)
				return why;
			i += 2;
		}
	}
	if (!escapes)
		return NULL;
	/* Escaped bytes above 0x7f must be well-formed UTF-8: an overlong form is another spelling. */
	char decoded[256];
	if (s.n > sizeof(decoded))
		return "segment with escapes is too long";
	ssize_t n = str_percent_decode(s, false, decoded);
	for (ssize_t i = 0; i < n;) {
		int len = str_utf8_len(str_of(decoded + i, (size_t)(n - i)));
		if (len <= 0)
			return "path that is not UTF-8";
		i += len;
	}
	return NULL;
}

/* Letters, digits, '-' and '_': with single slashes between them nothing has a second spelling. */
static const unsigned char is_plain[256] = {
	['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1, ['-'] = 1, ['_'] = 1,
};

/* Most paths are made of nothing else, and this costs a fraction of a look at each segment. */
static bool is_plain_path(struct str path)
{
	bool behind_slash = false;

	for (size_t i = 0; i < path.n; i++) {
		unsigned char c = (unsigned char)path.p[i];
		if (is_plain[c])
			behind_slash = false;
		else if (c != '/' || behind_slash)
			return false;
		else
			behind_slash = true;
	}
	return true;
}

static const char *check_path(struct str path)
{
	struct str rest = str_of(path.p + 1, path.n - 1);

	if (is_plain_path(path))
		return NULL;
	while (rest.p) {
		struct str segment = str_cut(&rest, '/');
		const char *why = check_segment(segment, !rest.p);
		if (why)
			return why;
	}
	return NULL;
}

/* Cuts "http://authority" off; the authority must be the request's own Host. */
static unsigned cut_authority(struct str *text, struct str host, const char **why)
{
	struct str rest = str_of(text->p + 7, text->n - 7);
	size_t n = 0;

	while (n < rest.n && rest.p[n] != '/' && rest.p[n] != '?')
		n++;
	if (n == 0 || memchr(rest.p, '@', n)) {
		*why = "malformed absolute request target";
		return 400;
	}
	if (!str_eq_nocase(str_of(rest.p, n), host)) {
		*why = "the request target names another host";
		return 421;
	}
	*text = str_of(rest.p + n, rest.n - n);
	if (text->n == 0)
		*text = STR("/");
	return 0;
}

/* Leaves the origin form; 0, or the status to answer. */
static unsigned cut_form(struct str *text, struct str host, const char **why)
{
	if (str_starts(*text, STR("http://"))) {
		unsigned status = cut_authority(text, host, why);
		if (status)
			return status;
	}
	if (text->p[0] == '/')
		return 0;
	*why = "the request target must begin with a slash";
	return 400;
}

static void split(struct str text, struct target *out)
{
	const char *mark = memchr(text.p, '?', text.n);

	out->origin = text;
	out->path = mark ? str_of(text.p, (size_t)(mark - text.p)) : text;
	out->query = mark ? str_of(mark + 1, text.n - out->path.n - 1) : str_of(NULL, 0);
}

unsigned target_parse(struct str text, struct str host, struct target *out, const char **why)
{
	unsigned status = cut_form(&text, host, why);

	if (status)
		return status;
	split(text, out);
	*why = check_path(out->path);
	return *why ? 400 : 0;
}

unsigned target_parse_foreign(struct str text, struct str host, struct target *out, const char **why)
{
	unsigned status = str_eq(text, STR("*")) ? 0 : cut_form(&text, host, why);

	if (status == 0)
		split(text, out);
	return status;
}
