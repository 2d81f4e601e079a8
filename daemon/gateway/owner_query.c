/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/owner_query.h"

#include <sys/types.h>

#include "gateway/target.h"

enum {
	NAME_MAX_BYTES = 9,                   /* "tenant_id" */
	NAME_MAX_ENCODED = 3 * NAME_MAX_BYTES /* every byte of it as %XX */
};

enum pair_kind {
	PAIR_OTHER,
	PAIR_OWNER,
	PAIR_TENANT,
};

/* A pair and the separator in front of it. */
struct pair {
	struct str separator; /* empty for the first pair */
	struct str name;      /* as written, without '=' */
	struct str all;       /* name and value */
};

/* Takes the first pair off *rest; false when there is none. */
static bool take_pair(struct str *rest, bool first, struct pair *out)
{
	size_t n = 0;

	if (!rest->p || (rest->n == 0 && !first))
		return false;
	out->separator = str_of(rest->p, first ? 0 : 1);
	*rest = str_of(rest->p + out->separator.n, rest->n - out->separator.n);
	while (n < rest->n && rest->p[n] != '&' && rest->p[n] != ';')
		n++;
	out->all = str_of(rest->p, n);
	struct str value = out->all;
	out->name = str_cut(&value, '=');
	*rest = str_of(rest->p + n, rest->n - n);
	return true;
}

static enum pair_kind kind_of(struct str name)
{
	char decoded[NAME_MAX_ENCODED];
	ssize_t n;

	if (name.n < STR("owner_id").n || name.n > sizeof(decoded))
		return PAIR_OTHER;
	n = str_percent_decode(name, true, decoded);
	if (n < 0)
		return PAIR_OTHER; /* the server drops such a pair */
	if (str_eq_nocase(str_of(decoded, (size_t)n), STR("owner_id")))
		return PAIR_OWNER;
	if (str_eq_nocase(str_of(decoded, (size_t)n), STR("tenant_id")))
		return PAIR_TENANT;
	return PAIR_OTHER;
}

static bool needs_change(struct str query)
{
	struct pair pair;
	bool first = true;

	for (; take_pair(&query, first, &pair); first = false)
		if (kind_of(pair.name) != PAIR_OTHER)
			return true;
	return false;
}

static void add_encoded(struct buf *out, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";

	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;
		char escape[3] = {'%', hex[c >> 4], hex[c & 15]};
		/* RFC 3986 2.3: the unreserved characters. */
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._~", c))
			buf_add(out, p, 1);
		else
			buf_add(out, escape, sizeof(escape));
	}
}

bool owner_query_rewrite(struct str query, const char *owner, struct buf *out)
{
	struct pair pair;
	bool first = true;
	bool written = false; /* a pair stands before */

	if (!needs_change(query))
		return false;
	for (; take_pair(&query, first, &pair); first = false) {
		enum pair_kind kind = kind_of(pair.name);
		if (kind == PAIR_TENANT)
			continue;
		if (written)
			buf_add_str(out, pair.separator);
		written = true;
		buf_add_str(out, kind == PAIR_OWNER ? pair.name : pair.all);
		if (kind == PAIR_OWNER) {
			buf_add_char(out, '=');
			add_encoded(out, owner);
		}
	}
	return true;
}

void owner_query_target(const struct target *target, const char *owner, struct buf *out)
{
	if (!target->query.n || !owner) {
		buf_add_str(out, target->origin);
		return;
	}
	buf_add_str(out, target->path);
	buf_add_char(out, '?');
	if (!owner_query_rewrite(target->query, owner, out))
		buf_add_str(out, target->query);
}
