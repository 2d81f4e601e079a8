/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listeners accept a bounded number of connections per turn. Without descriptors or memory they pause for a moment,
 * at the connection limit until a connection has closed.
 */
#include "local/httpd.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "local/conn.h"

enum {
	ACCEPTS_PER_TURN = 16,
	ACCEPT_PAUSE_MS = 100
};

struct listener {
	struct list link;    /* on the server's list */
	struct httpd *httpd; /* borrowed */
	struct event *ev;    /* owned */
	int fd;              /* owned */
	bool tcp;
};

struct httpd {
	struct conn_shared shared;
	struct list listeners; /* struct listener, owned */
	size_t max_connections;
	struct deadline_queue pause; /* ACCEPT_PAUSE_MS */
	struct deadline resume;      /* set while accepting pauses for want of descriptors */
};

struct httpd_limits httpd_default_limits(void)
{
	return (struct httpd_limits){
		.connections = 512,
		.body_bytes = 256u << 20,
		.head_ms = 10000,
		.idle_ms = 60000,
		.body_idle_ms = 30000,
		.stall_ms = 60000,
		.linger_ms = 2000,
	};
}

static void set_accepting(struct httpd *h, bool on)
{
	LIST_FOREACH (n, &h->listeners) {
		struct listener *l = CONTAINER_OF(n, struct listener, link);
		if (on)
			event_add(l->ev, NULL);
		else
			event_del(l->ev);
	}
}

static bool has_room(const struct httpd *h)
{
	return h->shared.nconns < h->max_connections;
}

static void on_resume(struct deadline *d)
{
	struct httpd *h = CONTAINER_OF(d, struct httpd, resume);

	if (has_room(h) && !h->shared.draining)
		set_accepting(h, true);
}

static void on_conn_closed(struct conn_shared *shared)
{
	struct httpd *h = CONTAINER_OF(shared, struct httpd, shared);

	if (has_room(h) && !shared->draining && list_empty(&h->resume.link))
		set_accepting(h, true);
}

/* Whether the error is about the connection that was to be accepted, so that the next one may do. */
static bool concerns_one_connection(int error)
{
	return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM;
}

static void accept_failed(struct httpd *h, int error)
{
	if (error == EAGAIN || error == EWOULDBLOCK)
		return;
	log_warn("cannot accept connections: %s; trying again in %d ms", strerror(error), ACCEPT_PAUSE_MS);
	set_accepting(h, false);
	deadline_set(&h->pause, &h->resume);
}

static void on_acceptable(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;
	struct httpd *h = l->httpd;
	int one = 1;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN && has_room(h); i++) {
		int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (client < 0 && concerns_one_connection(errno))
			continue;
		if (client < 0) {
			accept_failed(h, errno);
			return;
		}
		if (l->tcp)
			(void)setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (conn_new(&h->shared, client, l->tcp)) {
			accept_failed(h, ENOMEM);
			return;
		}
	}
	if (!has_room(h))
		set_accepting(h, false);
}

struct httpd *httpd_new(struct loop *loop, const struct httpd_limits *limits, const struct conn_handler *handler,
			void *arg)
{
	struct httpd *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->max_connections = limits->connections;
	h->shared.loop = loop;
	h->shared.handler = handler;
	h->shared.handler_arg = arg;
	h->shared.body_limit = limits->body_bytes;
	h->shared.on_closed = on_conn_closed;
	list_init(&h->shared.conns);
	list_init(&h->listeners);
	deadline_queue_init(&h->shared.head, loop, limits->head_ms);
	deadline_queue_init(&h->shared.idle, loop, limits->idle_ms);
	deadline_queue_init(&h->shared.body, loop, limits->body_idle_ms);
	deadline_queue_init(&h->shared.stall, loop, limits->stall_ms);
	deadline_queue_init(&h->shared.linger, loop, limits->linger_ms);
	deadline_queue_init(&h->pause, loop, ACCEPT_PAUSE_MS);
	deadline_init(&h->resume, on_resume);
	return h;
}

int httpd_listen(struct httpd *h, int fd, bool tcp)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l) {
		fd_close(&fd);
		return -ENOMEM;
	}
	*l = (struct listener){.httpd = h, .fd = fd, .tcp = tcp};
	l->ev = event_new(loop_base(h->shared.loop), fd, EV_READ | EV_PERSIST, on_acceptable, l);
	if (!l->ev || event_add(l->ev, NULL)) {
		if (l->ev)
			event_free(l->ev);
		fd_close(&l->fd);
		free(l);
		return -ENOMEM;
	}
	list_add_tail(&h->listeners, &l->link);
	return 0;
}

static void close_listeners(struct httpd *h)
{
	LIST_FOREACH_SAFE (n, &h->listeners) {
		struct listener *l = CONTAINER_OF(n, struct listener, link);
		list_remove(&l->link);
		event_free(l->ev);
		fd_close(&l->fd);
		free(l);
	}
	deadline_clear(&h->resume);
}

void httpd_drain(struct httpd *h)
{
	h->shared.draining = true;
	close_listeners(h);
	LIST_FOREACH_SAFE (n, &h->shared.conns)
		conn_drain(conn_of_link(n));
}

void httpd_free(struct httpd *h)
{
	if (!h)
		return;
	h->shared.draining = true;
	close_listeners(h);
	while (!list_empty(&h->shared.conns))
		conn_free(conn_of_link(h->shared.conns.next));
	deadline_queue_fini(&h->shared.head);
	deadline_queue_fini(&h->shared.idle);
	deadline_queue_fini(&h->shared.body);
	deadline_queue_fini(&h->shared.stall);
	deadline_queue_fini(&h->shared.linger);
	deadline_queue_fini(&h->pause);
	free(h);
}
