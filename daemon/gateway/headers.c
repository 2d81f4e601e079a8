/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/headers.h"

#include <errno.h>
#include <stdint.h>

#include "common/check.h"
#include "common/http_parse.h"

/*
 * Lower case, '-' for '_'; a final '*' stands for any rest. Grouped by first letter in alphabetical order, so that a name
 * is compared with the few that begin like it.
 */
static const struct str request_drops[] = {
	{"access-control-*", 16}, /* CORS is between a browser and whoever it talks to: the gateway */
	{"authorization", 13},    /* credentials and identity (api-contract.md 8) */
	{"connection", 10},       /* hop by hop (RFC 9110 7.6.1); framing and Host are written anew */
	{"content-length", 14},
	{"cookie", 6},
	{"expect", 6},
	{"forwarded", 9}, /* where a request claims to come from or to go to */
	{"host", 4},
	{"http2-settings", 14},
	{"idempotency-key", 15}, /* for the gateway */
	{"keep-alive", 10},
	{"origin", 6},
	{"proxy-*", 7},
	{"sec-websocket-*", 15},
	{"stacygate-*", 11},
	{"te", 2},
	{"trailer", 7},
	{"transfer-encoding", 17},
	{"true-client-ip", 14},
	{"upgrade", 7},
	{"x-admin-api-key", 15},
	{"x-api-key", 9},
	{"x-forwarded*", 12},
	{"x-http-method*", 14},
	{"x-method-override", 17},
	{"x-original-*", 12},
	{"x-real-ip", 9},
	{"x-request-id", 12},
	{"x-rewrite-*", 11},
	{"x-tenant-id", 11},
	{"x-user-id", 9},
	{"x-worker-*", 10},
};

static const struct str response_drops[] = {
	{"access-control-*", 16}, {"connection", 10},        {"content-length", 14}, {"keep-alive", 10},
	{"proxy-*", 7},           {"set-cookie*", 11},       {"stacygate-*", 11},    {"te", 2},
	{"trailer", 7},           {"transfer-encoding", 17}, {"upgrade", 7},         {"x-request-id", 12},
};

static const struct str preview_request_drops[] = {
	{"connection", 10}, /* hop by hop; framing and Host are written anew */
	{"content-length", 14},
	{"expect", 6}, /* answered here */
	{"host", 4},
	{"keep-alive", 10},
	{"proxy-connection", 16},
	{"stacygate-*", 11},
	{"te", 2},
	{"trailer", 7},
	{"transfer-encoding", 17},
	{"upgrade", 7},
	{"x-admin-api-key", 15},
	{"x-api-key", 9},
	{"x-tenant-id", 11},
	{"x-user-id", 9},
	{"x-worker-*", 10},
};

static const struct str preview_response_drops[] = {
	{"connection", 10},        {"content-length", 14}, {"keep-alive", 10},
	{"proxy-connection", 16},  {"stacygate-*", 11},    {"te", 2},
	{"transfer-encoding", 17}, {"upgrade", 7},
};

/* A list of patterns, and where those of each first letter begin. */
struct drops {
	const struct str *patterns; /* borrowed */
	unsigned char n;
	unsigned char start[27]; /* of 'a' to 'z', and the end; filled at the first use */
	uint64_t lengths[26];    /* of those of each letter: bit N is set when a name of N bytes may match */
	bool indexed;
};

#define DROPS(list)                                                                                                    \
	{                                                                                                              \
		.patterns = (list), .n = sizeof(list) / sizeof((list)[0])                                              \
	}

static struct drops request = DROPS(request_drops);
static struct drops response = DROPS(response_drops);
static struct drops preview_request = DROPS(preview_request_drops);
static struct drops preview_response = DROPS(preview_response_drops);

/* Whether c is this byte of a pattern; most are the same as written. */
static bool is_same(char c, char pattern)
{
	return c == pattern || ((c ^ pattern) == 0x20 && pattern >= 'a') || (pattern == '-' && c == '_');
}

static bool matches(struct str name, struct str pattern)
{
	bool prefix = pattern.p[pattern.n - 1] == '*';
	size_t n = prefix ? pattern.n - 1 : pattern.n;

	if (prefix ? name.n < n : name.n != n)
		return false;
	/* The last byte tells most of those apart that begin alike. */
	if (!is_same(name.p[n - 1], pattern.p[n - 1]))
		return false;
	if (str_eq_nocase_n(name.p, pattern.p, n))
		return true;
	for (size_t i = 0; i + 1 < n; i++)
		if (!is_same(name.p[i], pattern.p[i]))
			return false;
	return true;
}

/* Names of 63 bytes and more share a bit. */
static uint64_t lengths_of(struct str pattern)
{
	bool prefix = pattern.p[pattern.n - 1] == '*';

	CHECK(pattern.n < 63);
	return prefix ? ~UINT64_C(0) << (pattern.n - 1) : UINT64_C(1) << pattern.n;
}

static void make_index(struct drops *d)
{
	unsigned char at = 0;

	for (int letter = 0; letter < 26; letter++) {
		d->start[letter] = at;
		for (; at < d->n && d->patterns[at].p[0] == 'a' + letter; at++)
			d->lengths[letter] |= lengths_of(d->patterns[at]);
	}
	CHECK(at == d->n); /* the list is in order */
	d->start[26] = at;
	d->indexed = true;
}

static __attribute__((noinline)) bool is_one_of(struct str name, const struct drops *d, int letter)
{
	for (int i = d->start[letter]; i < d->start[letter + 1]; i++)
		if (matches(name, d->patterns[i]))
			return true;
	return false;
}

/* Most names are of another length than those that begin like them. */
static inline bool listed(struct str name, struct drops *d)
{
	int letter = (name.p[0] | 0x20) - 'a';

	if (!d->indexed)
		make_index(d);
	return letter >= 0 && letter < 26 && (d->lengths[letter] >> (name.n < 63 ? name.n : 63) & 1) &&
	       is_one_of(name, d, letter);
}

static inline bool is_hop(struct str name, const struct headers_hop *hop)
{
	for (size_t i = 0; i < hop->n; i++)
		if (str_eq_nocase(name, hop->names[i]))
			return true;
	return false;
}

int headers_hop_collect(const struct http_head *head, struct headers_hop *out)
{
	out->n = 0;
	if (!head->has_connection)
		return 0;
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
	return !listed(name, &request) && !is_hop(name, hop);
}

bool headers_pass_response(struct str name, const struct headers_hop *hop)
{
	return !listed(name, &response) && !is_hop(name, hop);
}

bool headers_pass_preview_request(struct str name, const struct headers_hop *hop)
{
	return !listed(name, &preview_request) && !is_hop(name, hop);
}

bool headers_pass_preview_response(struct str name, const struct headers_hop *hop)
{
	return !listed(name, &preview_response) && !is_hop(name, hop);
}

/* Whether an entry of an Accept names that type, itself or by "*" for its second half. */
static bool covers(struct str entry, struct str type)
{
	struct str main = type;

	main = str_cut(&main, '/');
	return str_eq_nocase(entry, type) || (entry.n == main.n + 2 && str_eq_nocase(str_of(entry.p, main.n), main) &&
					      memcmp(entry.p + main.n, "/*", 2) == 0);
}

bool headers_prefer(const struct http_head *head, struct str type, struct str usual)
{
	const struct http_header *h = http_head_find(head, STR("accept"));
	struct str rest = h ? h->value : str_of(NULL, 0);

	while (rest.p) {
		struct str entry = str_cut(&rest, ',');
		struct str weight = entry;
		entry = str_trim(str_cut(&weight, ';'));
		if (weight.p && str_eq(str_trim(weight), STR("q=0")))
			continue;
		if (covers(entry, type))
			return true;
		if (covers(entry, usual) || str_eq(entry, STR("*/*")))
			return false;
	}
	return false;
}
