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

static enum route_class class_of(enum http_method method, struct str rest)
{
	struct str first = take_segment(&rest);
	struct str second = take_segment(&rest);
	struct str third = take_segment(&rest);

	if (method != METHOD_POST || rest.n)
		return ROUTE_CLASS_PLAIN;
	if (str_eq(first, STR("sandboxes")) && second.n == 0)
		return ROUTE_CLASS_SPAWN;
	if (str_eq(first, STR("templates")) && str_eq(third, STR("spawn")))
		return ROUTE_CLASS_SPAWN;
	if (str_eq(first, STR("sandboxes")) && str_eq(third, STR("exec")))
		return ROUTE_CLASS_EXEC;
	return ROUTE_CLASS_PLAIN;
}

/*
 * Bodies that go upstream with a Content-Length whatever the client sent: the server notices only then that a client has
 * left (api-contract.md 2.1).
 */
static bool is_read_whole(enum http_method method, struct str rest)
{
	struct str first = take_segment(&rest);
	struct str second = take_segment(&rest);
	struct str third = take_segment(&rest);

	if (rest.n || (method != METHOD_POST && method != METHOD_PUT))
		return false;
	if (str_eq(first, STR("templates")))
		return true;
	return str_eq(first, STR("sandboxes")) &&
	       (third.n == 0 || str_eq(third, STR("exec")) || str_eq(third, STR("extend"))) &&
	       (second.n == 0 || third.n || str_eq(second, STR("admission")));
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
		struct str rest = r.rest;
		if (str_eq(take_segment(&rest), STR("worker")))
			r.place = ROUTE_WORKER;
		r.class = class_of(method, r.rest);
		r.read_whole = is_read_whole(method, r.rest);
	}
	return r;
}

bool route_is_safe(enum http_method method)
{
	return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS;
}
