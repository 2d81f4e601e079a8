/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/route.h"

/* Cuts a prefix of whole segments: "/api/v1" fits "/api/v1" and "/api/v1/x", not "/api/v1x". */
static bool cut_prefix(struct str *path, struct str prefix)
{
	if (!str_starts(*path, prefix) || (path->n > prefix.n && path->p[prefix.n] != '/'))
		return false;
	*path = str_of(path->p + prefix.n, path->n - prefix.n);
	return true;
}

static struct str take_segment(struct str *rest)
{
	if (rest->n == 0)
		return str_of(NULL, 0);
	*rest = str_of(rest->p + 1, rest->n - 1); /* the slash */
	struct str segment = str_cut(rest, '/');
	if (rest->p) {
		rest->p--;
		rest->n++;
	}
	return segment;
}

/* The segments behind /api/v1 that tell routes apart. */
struct segments {
	struct str first;
	struct str second;
	struct str third;
	bool more; /* there is a fourth */
};

static struct segments cut_segments(struct str rest)
{
	struct segments s;

	s.first = take_segment(&rest);
	s.second = take_segment(&rest);
	s.third = take_segment(&rest);
	s.more = rest.n != 0;
	return s;
}

static enum route_class class_of(enum http_method method, const struct segments *s)
{
	if (method != METHOD_POST || s->more)
		return ROUTE_CLASS_PLAIN;
	if (str_eq(s->first, STR("sandboxes")) && s->second.n == 0)
		return ROUTE_CLASS_SPAWN;
	if (str_eq(s->first, STR("templates")) && str_eq(s->third, STR("spawn")))
		return ROUTE_CLASS_SPAWN;
	if (str_eq(s->first, STR("sandboxes")) && str_eq(s->third, STR("exec")))
		return ROUTE_CLASS_EXEC;
	return ROUTE_CLASS_PLAIN;
}

/*
 * Bodies that go upstream with a Content-Length whatever the client sent: the server notices only then that a client has
 * left (api-contract.md 2.1).
 */
static bool is_read_whole(enum http_method method, const struct segments *s)
{
	if (s->more || (method != METHOD_POST && method != METHOD_PUT))
		return false;
	if (str_eq(s->first, STR("templates")))
		return true;
	return str_eq(s->first, STR("sandboxes")) &&
	       (s->third.n == 0 || str_eq(s->third, STR("exec")) || str_eq(s->third, STR("extend"))) &&
	       (s->second.n == 0 || s->third.n || str_eq(s->second, STR("admission")));
}

struct route route_of(enum http_method method, struct str path)
{
	struct route r = {.place = ROUTE_OTHER, .class = ROUTE_CLASS_PLAIN, .rest = path};

	if (cut_prefix(&r.rest, STR("/api/v1")))
		r.place = ROUTE_API;
	else if (cut_prefix(&r.rest, STR("/gateway/v1")))
		r.place = ROUTE_GATEWAY;
	else
		return r;
	if (r.rest.n && r.rest.p[r.rest.n - 1] == '/')
		r.rest.n--;
	if (r.place == ROUTE_API) {
		const struct segments s = cut_segments(r.rest);
		if (str_eq(s.first, STR("worker")))
			r.place = ROUTE_WORKER;
		r.class = class_of(method, &s);
		r.read_whole = is_read_whole(method, &s);
	}
	return r;
}

bool route_is_safe(enum http_method method)
{
	return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS;
}
