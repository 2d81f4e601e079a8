/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/headers.h"

#include <errno.h>

#include "common/http_parse.h"

/* Lower case, '-' for '_'; a final '*' stands for any rest. */
static const struct str request_drops[] = {
	/* credentials and identity (api-contract.md 8) */
	{"authorization", 13},
	{"cookie", 6},
	{"x-api-key", 9},
	{"x-admin-api-key", 15},
	{"x-user-id", 9},
	{"x-tenant-id", 11},
	{"x-worker-*", 10},
	/* where a request claims to come from or to go to */
	{"forwarded", 9},
	{"true-client-ip", 14},
	{"x-forwarded*", 12},
	{"x-real-ip", 9},
	{"x-original-*", 12},
	{"x-rewrite-*", 11},
	{"x-http-method*", 14},
	{"x-method-override", 17},
	/* hop by hop (RFC 9110 7.6.1); framing and Host are written anew */
	{"connection", 10},
	{"content-length", 14},
	{"expect", 6},
	{"host", 4},
	{"http2-settings", 14},
	{"keep-alive", 10},
	{"proxy-*", 7},
	{"sec-websocket-*", 15},
	{"te", 2},
	{"trailer", 7},
	{"transfer-encoding", 17},
	{"upgrade", 7},
	/* the gateway's own */
	{"idempotency-key", 15},
	{"stacygate-*", 11},
	{"x-request-id", 12},
	/* CORS is between a browser and whoever it talks to: the gateway */
	{"access-control-*", 16},
	{"origin", 6},
};

static const struct str response_drops[] = {
	{"access-control-*", 16},
	{"connection", 10},
	{"content-length", 14},
	{"keep-alive", 10},
	{"proxy-*", 7},
	{"set-cookie*", 11},
	{"stacygate-*", 11},
	{"te", 2},
	{"trailer", 7},
	{"transfer-encoding", 17},
	{"upgrade", 7},
	{"x-request-id", 12},
};

static char fold(char c)
{
	if (c >= 'A' && c <= 'Z')
		return (char)(c + ('a' - 'A'));
	return c == '_' ? '-' : c;
}

static bool matches(struct str name, struct str pattern)
{
	bool prefix = pattern.p[pattern.n - 1] == '*';
	size_t n = prefix ? pattern.n - 1 : pattern.n;

	if (prefix ? name.n < n : name.n != n)
		return false;
	for (size_t i = 0; i < n; i++)
		if (fold(name.p[i]) != pattern.p[i])
			return false;
	return true;
}

static bool listed(struct str name, const struct str *patterns, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (fold(name.p[0]) == patterns[i].p[0] && matches(name, patterns[i]))
			return true;
	return false;
}

static bool is_hop(struct str name, const struct headers_hop *hop)
{
	for (size_t i = 0; i < hop->n; i++)
		if (str_eq_nocase(name, hop->names[i]))
			return true;
	return false;
}

int headers_hop_collect(const struct http_head *head, struct headers_hop *out)
{
	out->n = 0;
	for (size_t i = 0; i < head->nheaders; i++) {
		if (!str_eq_nocase(head->headers[i].name, STR("connection")))
			continue;
		for (struct str rest = head->headers[i].value; rest.p;) {
			struct str name = str_trim(str_cut(&rest, ','));
			if (name.n == 0)
				continue;
			if (out->n == HEADERS_CONNECTION_MAX)
				return -E2BIG;
			out->names[out->n++] = name;
		}
	}
	return 0;
}

bool headers_pass_request(struct str name, const struct headers_hop *hop)
{
	return !listed(name, request_drops, sizeof(request_drops) / sizeof(request_drops[0])) && !is_hop(name, hop);
}

bool headers_pass_response(struct str name, const struct headers_hop *hop)
{
	return !listed(name, response_drops, sizeof(response_drops) / sizeof(response_drops[0])) && !is_hop(name, hop);
}
