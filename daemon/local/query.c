/* SPDX-License-Identifier: Apache-2.0 */
#include "local/query.h"

/* Decodes `text` as the new content of out; false for a bad escape or without memory. */
static bool decode(struct str text, struct buf *out)
{
	char *to;
	ssize_t n;

	buf_reset(out);
	if (text.n == 0)
		return true;
	to = buf_reserve(out, text.n);
	if (!to)
		return false;
	n = str_percent_decode(text, true, to);
	if (n < 0)
		return false;
	buf_commit(out, (size_t)n);
	return true;
}

bool query_get(struct str query, struct str key, struct buf *out)
{
	struct str rest = query;

	while (rest.p) {
		struct str pair = str_cut(&rest, '&');
		struct str value = pair;
		struct str name = str_cut(&value, '=');

		if (pair.n == 0 || memchr(pair.p, ';', pair.n))
			continue;
		if (!decode(name, out) || !str_eq(buf_str(out), key))
			continue;
		if (decode(value, out))
			return true;
	}
	buf_reset(out);
	return false;
}
