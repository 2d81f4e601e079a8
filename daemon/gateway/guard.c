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
#include "gateway/preview_host.h"

static bool is_named(const struct config_names *names, struct str text)
{
	for (size_t i = 0; i < names->n; i++)
		if (str_eq_nocase(str_from(names->names[i]), text))
			return true;
	return false;
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

/* Whether the origin is a page of a preview of that sandbox. */
static bool is_of_sandbox(struct str origin, const char *id)
{
	struct preview_host page;

	return str_starts(origin, STR("http://")) && preview_host_parse(str_of(origin.p + 7, origin.n - 7), &page) &&
	       page.port && page.id[0] && strcmp(page.id, id) == 0;
}

struct guard_ruling guard_judge_preview(const struct config_listener *l, const struct http_head *head,
					const char *sandbox)
{
	struct guard_ruling ruling = {0};
	struct str origin;

	if (!l)
		return refuse(421, "this listener is no longer in the configuration");
	if (!browser_origin(head, &origin))
		return refuse(403, "more than one Origin, or an empty one");
	if (origin.n && !is_of_sandbox(origin, sandbox) && !is_named(&l->origins, origin))
		return refuse(403, "another web page may not use a preview (listen: origins)");
	if (origin.n == 0 && browser_is_from_elsewhere(head) && !browser_is_navigation(head))
		return refuse(403, "another web page may not use a preview (Sec-Fetch-Site)");
	return ruling;
}

struct guard_ruling guard_judge(const struct config_listener *l, const struct http_head *head)
{
	struct guard_ruling ruling = {0};
	struct str origin;

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
