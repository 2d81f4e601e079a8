/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the gateway's own loopback listener: a name of the attacker's that leads here is on no list, a page of
 * another site is told by what its browser adds. As on any preview host, somebody may come here by a link.
 */
#include "cli/admit.h"

#include "common/browser.h"
#include "common/http_parse.h"

/* Whether what stands behind a name is ":PORT" of the door, or nothing where that means the same. */
static bool is_own_port(const struct admit *a, struct str tail, bool may_be_empty)
{
	uint64_t port;

	if (tail.n == 0)
		return may_be_empty;
	return str_parse_u64(str_of(tail.p + 1, tail.n - 1), &port) == 0 && port == a->port;
}

static bool is_own_host(const struct admit *a, struct str host)
{
	static const struct str names[] = {{"localhost", 9}, {"127.0.0.1", 9}, {"[::1]", 5}};
	struct str name = browser_host_name(host);
	struct str tail = str_of(host.p + name.n, host.n - name.n);

	if (host.n == 0)
		return false;
	if (str_eq_nocase(name, a->preview))
		return is_own_port(a, tail, true);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (str_eq_nocase(name, names[i]))
			return is_own_port(a, tail, a->port == 80);
	return false;
}

static bool is_own_origin(const struct admit *a, struct str origin)
{
	return str_starts(origin, STR("http://")) && is_own_host(a, str_of(origin.p + 7, origin.n - 7));
}

static bool is_own_target(const struct http_head *head)
{
	return str_starts(head->target, STR("/")) || (head->method == METHOD_OPTIONS && str_eq(head->target, STR("*")));
}

static struct admit_ruling refuse(unsigned status, const char *why)
{
	return (struct admit_ruling){status, why};
}

struct admit_ruling admit_judge(const struct admit *a, const struct http_head *head)
{
	struct str origin;

	if (!is_own_host(a, head->host))
		return refuse(421,
			      "Host is neither localhost, 127.0.0.1 or [::1] with this port nor the preview's own");
	if (!is_own_target(head))
		return refuse(421, "the request target names another host");
	if (!browser_origin(head, &origin))
		return refuse(403, "more than one Origin, or an empty one");
	if (origin.n && !is_own_origin(a, origin))
		return refuse(403, "a page of another site may not use this preview (Origin)");
	if (origin.n == 0 && browser_is_from_elsewhere(head) && !browser_is_navigation(head))
		return refuse(403, "a page of another site may not use this preview (Sec-Fetch-Site)");
	return refuse(0, NULL);
}

/* Adds what stands between *from and the value, then `instead` of the value. */
static void replace(struct str *from, struct str value, const char *scheme, struct str instead, struct buf *out)
{
	buf_add(out, from->p, (size_t)(value.p - from->p));
	buf_add_cstr(out, scheme);
	buf_add_str(out, instead);
	*from = str_of(value.p + value.n, from->n - (size_t)(value.p + value.n - from->p));
}

void admit_write(const struct admit *a, const struct http_head *head, struct str raw, struct buf *out)
{
	for (size_t i = 0; i < head->nheaders; i++) {
		const struct http_header *h = &head->headers[i];

		if (str_eq_nocase(h->name, STR("host")))
			replace(&raw, h->value, "", a->preview, out);
		else if (str_eq_nocase(h->name, STR("origin")))
			replace(&raw, h->value, "http://", a->preview, out);
	}
	buf_add_str(out, raw);
}
