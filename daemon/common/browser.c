/* SPDX-License-Identifier: Apache-2.0 */
#include "common/browser.h"

#include <string.h>

#include "common/http_parse.h"

bool browser_origin(const struct http_head *head, struct str *out)
{
	size_t n = 0;

	*out = str_of(NULL, 0);
	for (size_t i = 0; i < head->nheaders; i++) {
		if (!str_eq_nocase(head->headers[i].name, STR("origin")))
			continue;
		*out = head->headers[i].value;
		n++;
	}
	return n < 2 && (n == 0 || out->n);
}

bool browser_is_from_elsewhere(const struct http_head *head)
{
	for (size_t i = 0; i < head->nheaders; i++) {
		const struct http_header *h = &head->headers[i];
		if (str_eq_nocase(h->name, STR("sec-fetch-site")) && !str_eq(h->value, STR("none")) &&
		    !str_eq(h->value, STR("same-origin")))
			return true;
	}
	return false;
}

static bool says(const struct http_head *head, struct str name, struct str value)
{
	const struct http_header *h = http_head_find(head, name);

	return h && str_eq(h->value, value);
}

bool browser_is_navigation(const struct http_head *head)
{
	return head->method == METHOD_GET && says(head, STR("sec-fetch-mode"), STR("navigate")) &&
	       says(head, STR("sec-fetch-dest"), STR("document"));
}

struct str browser_host_name(struct str host)
{
	const char *colon = host.n ? memrchr(host.p, ':', host.n) : NULL;
	const char *bracket = host.n ? memrchr(host.p, ']', host.n) : NULL;

	return colon && (!bracket || colon > bracket) ? str_of(host.p, (size_t)(colon - host.p)) : host;
}
