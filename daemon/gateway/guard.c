/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page in a browser of the same user reaches a loopback port with that user's uid. Two things tell it from a program: the
 * name under which it came here (Host: a name of the attacker's that resolves to loopback is on no list), and what the
 * browser adds by itself and no page can leave out (Origin, Sec-Fetch-Site). Sec-Fetch-Mode alone is no browser: Node's
 * fetch sends it.
 */
#include "gateway/guard.h"

#include <string.h>

#include "common/browser.h"
#include "common/http_parse.h"
#include "common/http_write.h"
#include "gateway/config.h"

static bool is_named(const struct config_names *names, struct str text)
{
	for (size_t i = 0; i < names->n; i++)
		if (str_eq_nocase(str_from(names->names[i]), text))
			return true;
	return false;
}

bool guard_is_preview_host(struct str host)
{
	struct str rest = browser_host_name(host);
	size_t n = 0;

	while (n < rest.n && rest.p[n] >= '0' && rest.p[n] <= '9')
		n++;
	rest = str_of(rest.p + n, rest.n - n);
	if (n == 0 || rest.n < 4 || !str_eq_nocase(str_of(rest.p, 4), STR("-sb-")))
		return false;
	rest = str_of(rest.p + 4, rest.n - 4);
	for (n = 0; n < rest.n && str_hex_value(rest.p[n]) >= 0; n++)
		;
	return n > 0 && n + 1 < rest.n && rest.p[n] == '.';
}

/* Whether the origin is http:// and the very Host of the request: a page that this gateway itself has served. */
static bool is_own(struct str origin, struct str host)
{
	return str_starts(origin, STR("http://")) && str_eq_nocase(str_of(origin.p + 7, origin.n - 7), host);
}

static struct guard_ruling refuse(unsigned status, const char *why)
{
	return (struct guard_ruling){.status = status, .why = why};
}

struct guard_ruling guard_judge(const struct config_listener *l, const struct http_head *head)
{
	struct guard_ruling ruling = {0};
	struct str origin;

	if (guard_is_preview_host(head->host))
		return refuse(421, "this version has no preview traffic on a TCP listener");
	if (!l || !is_named(&l->hosts, browser_host_name(head->host)))
		return refuse(421, "Host is not among the names of this listener (listen: hosts)");
	if (!browser_origin(head, &origin))
		return refuse(403, "more than one Origin, or an empty one");
	if (origin.n && is_named(&l->origins, origin)) {
		ruling.origin = origin;
		ruling.preflight =
			head->method == METHOD_OPTIONS && http_head_find(head, STR("access-control-request-method"));
		return ruling;
	}
	if (origin.n && !is_own(origin, head->host))
		return refuse(403, "a web page may not use this listener (listen: origins)");
	if (origin.n == 0 && browser_is_from_elsewhere(head))
		return refuse(403, "a web page may not use this listener (Sec-Fetch-Site)");
	return ruling;
}

void guard_add_cors(const struct guard_ruling *ruling, const struct http_head *head, struct buf *out)
{
	const struct http_header *asked = http_head_find(head, STR("access-control-request-headers"));

	http_write_header(out, STR("Access-Control-Allow-Origin"), ruling->origin);
	http_write_header(out, STR("Vary"), STR("Origin"));
	if (!ruling->preflight) {
		http_write_header(out, STR("Access-Control-Expose-Headers"), STR("*"));
		return;
	}
	http_write_header(out, STR("Access-Control-Allow-Methods"),
			  STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
	if (asked)
		http_write_header(out, STR("Access-Control-Allow-Headers"), asked->value);
	if (http_head_find(head, STR("access-control-request-private-network")))
		http_write_header(out, STR("Access-Control-Allow-Private-Network"), STR("true"));
	http_write_header(out, STR("Access-Control-Max-Age"), STR("600"));
}
