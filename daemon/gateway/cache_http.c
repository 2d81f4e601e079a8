/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cache_http.h"

#include "common/http_parse.h"
#include "common/http_write.h"

/* The next directive of a list; false at its end. `value` is without quotes, n 0 without one. */
static bool next_directive(struct str *rest, struct str *name, struct str *value)
{
	if (!rest->p)
		return false;
	*value = str_trim(str_cut(rest, ','));
	*name = str_trim(str_cut(value, '='));
	*value = value->p ? str_trim(*value) : str_of("", 0);
	if (value->n >= 2 && value->p[0] == '"' && value->p[value->n - 1] == '"')
		*value = str_of(value->p + 1, value->n - 2);
	return true;
}

/* Seconds as milliseconds; what cannot be read is none at all, which is the careful reading (RFC 9111 4.2.1). */
static uint64_t seconds(struct str text)
{
	uint64_t s;
	int rc = str_parse_u64(text, &s);

	if (rc)
		return 0;
	return s < UINT64_MAX / 1000 ? s * 1000 : UINT64_MAX - 1;
}

static void read_wishes(struct str rest, struct cache_wish *w)
{
	struct str name, value;

	while (next_directive(&rest, &name, &value)) {
		if (str_eq_nocase(name, STR("no-cache")))
			w->no_cache = true;
		else if (str_eq_nocase(name, STR("no-store")))
			w->no_store = true;
		else if (str_eq_nocase(name, STR("max-age")))
			w->max_age_ms = seconds(value);
	}
}

void cache_http_wish(const struct http_head *request, struct cache_wish *w, struct buf *user_agent)
{
	bool said = false;
	bool pragma = false;

	*w = (struct cache_wish){.max_age_ms = UINT64_MAX};
	for (size_t i = 0; i < request->nheaders; i++) {
		const struct http_header *h = &request->headers[i];
		/* Most are of none of these lengths. */
		if (h->name.n == 6 && str_eq_nocase(h->name, STR("pragma"))) {
			pragma = true;
		} else if (h->name.n == 10 && str_eq_nocase(h->name, STR("user-agent")) && user_agent->len == 0) {
			buf_add_str(user_agent, h->value);
		} else if (h->name.n == 13 && str_eq_nocase(h->name, STR("cache-control"))) {
			said = true;
			read_wishes(h->value, w);
		}
	}
	/* RFC 9111 5.4: counts only where there is no Cache-Control. */
	if (pragma && !said)
		w->no_cache = http_head_has_token(request, STR("pragma"), STR("no-cache"));
	w->no_cache = w->no_cache || w->max_age_ms == 0;
}

static void read_leave(struct str rest, struct cache_leave *l)
{
	static const struct str refusals[] = {
		{"no-store", 8}, {"no-cache", 8}, {"private", 7}, {"must-revalidate", 15}, {"proxy-revalidate", 16},
	};
	struct str name, value;

	while (next_directive(&rest, &name, &value)) {
		for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++)
			if (str_eq_nocase(name, refusals[i]))
				l->store = false;
		if (str_eq_nocase(name, STR("max-age")) || str_eq_nocase(name, STR("s-maxage"))) {
			uint64_t ms = seconds(value);
			l->fresh_max_ms = ms < l->fresh_max_ms ? ms : l->fresh_max_ms;
		}
	}
}

/* Headers that are the same in every request of one identity, or never sent. */
static bool varies_by_known(struct str rest)
{
	static const struct str known[] = {
		{"origin", 6}, {"accept", 6}, {"accept-encoding", 15}, {"x-api-key", 9}, {"x-user-id", 9},
	};

	while (rest.p) {
		struct str name = str_trim(str_cut(&rest, ','));
		bool is_known = name.n == 0;
		for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			is_known = is_known || str_eq_nocase(name, known[i]);
		if (!is_known)
			return false;
	}
	return true;
}

struct cache_leave cache_http_leave(const struct http_head *response)
{
	struct cache_leave l = {.fresh_max_ms = UINT64_MAX};

	l.store = response->status == 200 &&
		  (response->framing == HTTP_BODY_LENGTH || response->framing == HTTP_BODY_CHUNKED);
	for (size_t i = 0; i < response->nheaders; i++) {
		const struct http_header *h = &response->headers[i];
		if (str_eq_nocase(h->name, STR("cache-control")))
			read_leave(h->value, &l);
		else if (str_eq_nocase(h->name, STR("set-cookie")) || str_eq_nocase(h->name, STR("content-range")) ||
			 str_eq_nocase(h->name, STR("content-encoding")))
			l.store = false;
		else if (str_eq_nocase(h->name, STR("vary")))
			l.store = l.store && varies_by_known(h->value);
		else if (str_eq_nocase(h->name, STR("age")))
			l.age_ms = seconds(h->value);
	}
	return l;
}

/* Age is told anew; a validator or a digest would be of other bytes, and how much of a rate is left is of one request. */
static bool is_kept(struct str name, bool again)
{
	static const struct str never[] = {
		{"age", 3}, {"etag", 4}, {"last-modified", 13}, {"content-md5", 11}, {"accept-ranges", 13},
	};
	static const struct str once[] = {{"x-ratelimit-", 12}, {"retry-after", 11}, {"content-digest", 14}};

	for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
		if (str_eq_nocase(name, never[i]))
			return false;
	for (size_t i = 0; again && i < sizeof(once) / sizeof(once[0]); i++)
		if (name.n >= once[i].n && str_eq_nocase_n(name.p, once[i].p, once[i].n))
			return false;
	return true;
}

void cache_http_keep_lines(struct str head, bool again, struct buf *out)
{
	bool first = true;

	while (head.n) {
		struct str line = str_cut(&head, '\n');
		struct str rest = line;
		if (first || is_kept(str_cut(&rest, ':'), again)) {
			buf_add_str(out, line);
			buf_add_char(out, '\n');
		}
		first = false;
	}
}

static void add_ttl(const struct cache_status *s, struct buf *out)
{
	bool over = s->age_ms >= s->fresh_ms;
	/* A stale one is never shown as 0, which would read as fresh just now. */
	uint64_t ms = over ? s->age_ms - s->fresh_ms + 999 : s->fresh_ms - s->age_ms;

	buf_add_str(out, over ? STR("; ttl=-") : STR("; ttl="));
	buf_add_u64(out, over && ms < 1000 ? 1 : ms / 1000);
}

/* Writes digits before `end`; gives where they begin. */
static char *put_digits(char *end, uint64_t v)
{
	do {
		*--end = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	return end;
}

static char *put_text(char *end, struct str s)
{
	memcpy(end - s.n, s.p, s.n);
	return end - s.n;
}

/* What most answers say, written from its end. */
static void write_fresh(const struct cache_status *s, struct buf *out)
{
	char text[128];
	char *const end = text + sizeof(text);
	char *p = put_text(end, STR("\r\n"));

	p = put_digits(p, s->age_ms / 1000);
	p = put_text(p, STR("\r\nAge: "));
	p = put_digits(p, (s->fresh_ms - s->age_ms) / 1000);
	p = put_text(p, STR("Cache-Status: stacygate; hit; ttl="));
	buf_add(out, p, (size_t)(end - p));
}

void cache_http_write(const struct cache_status *s, struct buf *out)
{
	static const struct str ways[] = {
		[CACHE_HIT] = {"; hit", 5},
		[CACHE_MISS] = {"; fwd=miss", 10},
		[CACHE_STALE] = {"; fwd=stale", 11},
		[CACHE_REQUEST] = {"; fwd=request", 13},
		[CACHE_BYPASS] = {"; fwd=bypass", 12},
	};

	if (s->way == CACHE_HIT && s->age_ms < s->fresh_ms && !s->detail) {
		write_fresh(s, out);
		return;
	}
	buf_add_str(out, STR("Cache-Status: stacygate"));
	buf_add_str(out, ways[s->way]);
	if (s->fwd_status) {
		buf_add_str(out, STR("; fwd-status="));
		buf_add_u64(out, s->fwd_status);
	}
	if (s->has_age)
		add_ttl(s, out);
	if (s->stored)
		buf_add_str(out, STR("; stored"));
	if (s->collapsed)
		buf_add_str(out, STR("; collapsed"));
	if (s->detail) {
		buf_add_str(out, STR("; detail="));
		buf_add_cstr(out, s->detail);
	}
	buf_add_str(out, STR("\r\n"));
	if (s->has_age) {
		buf_add_str(out, STR("Age: "));
		buf_add_u64(out, s->age_ms / 1000);
		buf_add_str(out, STR("\r\n"));
	}
}
