/* SPDX-License-Identifier: Apache-2.0 */
/* The request of a connection: its head, copied out of the input, and its body. */
#include <stdlib.h>

#include "common/buf.h"
#include "local/conn_private.h"

enum http_method conn_method(const struct conn *c)
{
	return c->req.method;
}

struct str conn_path(const struct conn *c)
{
	struct str rest = c->req.target;

	return str_cut(&rest, '?');
}

struct str conn_query(const struct conn *c)
{
	struct str rest = c->req.target;

	str_cut(&rest, '?');
	return rest;
}

struct str conn_header(const struct conn *c, struct str name)
{
	for (size_t i = 0; i < c->req.nheaders; i++)
		if (str_eq_nocase(c->req.headers[i].name, name))
			return c->req.headers[i].value;
	return str_of(NULL, 0);
}

struct str conn_body(const struct conn *c)
{
	return buf_str(&c->req.body);
}

bool conn_is_tcp(const struct conn *c)
{
	return c->tcp;
}

void conn_watch(struct conn *c, const struct conn_watch *watch, void *arg)
{
	c->req.watch = watch;
	c->req.watch_arg = arg;
}

void *conn_watcher(const struct conn *c)
{
	return c->req.watch ? c->req.watch_arg : NULL;
}

bool conn_has_backlog(const struct conn *c)
{
	return c->out.len > 0;
}

static void release_body(struct conn *c)
{
	c->shared->body_bytes -= c->req.body.len;
	if (c->req.body.cap > KEEP_CAP_BYTES)
		buf_fini(&c->req.body);
	buf_reset(&c->req.body);
}

void conn_request_reset(struct conn *c)
{
	struct buf body;

	release_body(c);
	buf_wipe(&c->req.head);
	free(c->req.headers);
	body = c->req.body;
	c->req = (struct request){.body = body, .minor = 1, .method = METHOD_GET};
	c->ans = (struct answer){0};
	c->half_told = false;
}

static struct str rebase(struct str s, const char *from, const char *to)
{
	return s.p ? str_of(to + (s.p - from), s.n) : s;
}

bool conn_request_keep(struct conn *c, const struct http_head *head, size_t head_bytes)
{
	const char *from = buf_data(&c->in);

	buf_add(&c->req.head, from, head_bytes);
	c->req.headers = calloc(head->nheaders + 1, sizeof(*c->req.headers));
	if (c->req.head.failed || !c->req.headers)
		return false;
	const char *to = buf_data(&c->req.head);
	for (size_t i = 0; i < head->nheaders; i++) {
		c->req.headers[i].name = rebase(head->headers[i].name, from, to);
		c->req.headers[i].value = rebase(head->headers[i].value, from, to);
	}
	c->req.nheaders = head->nheaders;
	c->req.method = head->method;
	c->req.target = rebase(head->target, from, to);
	c->req.minor = head->minor;
	c->req.keep_alive = head->keep_alive && !c->shared->draining;
	c->req.body_left = head->framing == HTTP_BODY_LENGTH ? head->content_length : 0;
	c->req.id = conn_header(c, STR("x-request-id"));
	return true;
}
