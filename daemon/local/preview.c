/* SPDX-License-Identifier: Apache-2.0 */
/*
 *     CONNECTING --the init passes a connected socket--> RELAYING --either side is done--> freed
 *         |
 *         +-- refused, late, the sandbox ended: answered; the client left --> freed
 *
 * While it connects the client's connection is held by the front, which listens for its end. Then it is taken away from
 * there, and belongs to the program until it closes: what follows the first request is not looked at.
 */
#include "local/preview.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "local/call.h"
#include "local/conn.h"
#include "local/port_fd.h"
#include "local/preview_host.h"
#include "local/records.h"
#include "local/relay.h"
#include "local/sandbox.h"

struct previews {
	struct loop *loop; /* borrowed */
	struct list items; /* struct preview */
	size_t nitems;
	struct deadline_queue connect; /* how long a program may leave a client waiting */
	char scratch[RELAY_PIECE_BYTES];
};

struct preview {
	struct list link;        /* previews->items */
	struct list record_link; /* record->previews */
	struct previews *all;    /* borrowed */
	struct record *record;   /* borrowed */
	unsigned port;
	struct conn *conn;       /* borrowed; NULL once it was taken or answered */
	struct sandbox_job *job; /* borrowed; NULL once it ended */
	struct deadline limit;   /* while connecting */
	struct relay relay;      /* all zeros while connecting */
};

static void preview_free(struct preview *p)
{
	if (p->job)
		sandbox_job_cancel(p->job);
	deadline_clear(&p->limit);
	relay_fini(&p->relay);
	list_remove(&p->link);
	list_remove(&p->record_link);
	p->all->nitems--;
	p->record->npreviews--;
	free(p);
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

/* The client gets this answer, and the preview is over. */
static void preview_refuse(struct preview *p, enum call_error error, const char *why)
{
	char message[200];

	snprintf(message, sizeof(message), "port %u of sandbox %s: %s", p->port, p->record->id, why);
	call_refuse(p->conn, error, message);
	preview_free(p);
}

static void on_late(struct deadline *d)
{
	preview_refuse(CONTAINER_OF(d, struct preview, limit), CALL_PROVIDER_ERROR,
		       "the program does not accept the connection");
}

static void on_failed(struct preview *p, const struct job_result *result)
{
	char message[100];

	if (result->outcome == JOB_GONE) {
		snprintf(message, sizeof(message), "sandbox destroyed: %s", p->record->id);
		call_refuse(p->conn, CALL_NOT_FOUND, message);
		preview_free(p);
		return;
	}
	switch (result->error) {
	case ECONNREFUSED:
		preview_refuse(p, CALL_PROVIDER_ERROR, "nothing listens there");
		return;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		preview_refuse(p, CALL_UNAVAILABLE, result->text);
		return;
	default:
		preview_refuse(p, CALL_PROVIDER_ERROR, result->text);
		return;
	}
}

/* --- the relay -------------------------------------------------------------------------------------------------- */

static void on_relay_end(struct relay *r)
{
	struct preview *p = CONTAINER_OF(r, struct preview, relay);

	log_info("preview %s port %u: %llu bytes in, %llu bytes out", p->record->id, p->port,
		 (unsigned long long)r->program.taken, (unsigned long long)r->client.taken);
	preview_free(p);
}

static void on_connected(void *arg, int fd)
{
	struct preview *p = arg;
	struct conn_taken taken;
	int one = 1;

	deadline_clear(&p->limit);
	conn_take(p->conn, &taken);
	p->conn = NULL;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (taken.in.failed || relay_start(&p->relay, p->all->loop, p->all->scratch, taken.fd, fd, on_relay_end)) {
		if (taken.in.failed) {
			fd_close(&taken.fd);
			port_fd_close(&fd);
		}
		log_warn("out of memory: a preview was cut");
	} else {
		relay_give(&p->relay, &taken.out, &taken.in, taken.ended);
	}
	buf_fini(&taken.in);
	buf_fini(&taken.out);
}

/* What could not be relayed has no connection any more, and ends with its job. */
static void on_end(void *arg, const struct job_result *result)
{
	struct preview *p = arg;

	p->job = NULL;
	if (p->conn)
		on_failed(p, result);
	else if (!p->relay.client.ev)
		preview_free(p);
}

/* --- beginning and end ------------------------------------------------------------------------------------------ */

/* The client has gone before it was connected. */
static void on_client_gone(void *arg)
{
	struct preview *p = arg;

	p->conn = NULL;
	preview_free(p);
}

static struct preview *preview_new(struct previews *ps, struct record *r, struct conn *c, unsigned port)
{
	struct preview *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	*p = (struct preview){.all = ps, .record = r, .conn = c, .port = port};
	deadline_init(&p->limit, on_late);
	list_add_tail(&ps->items, &p->link);
	list_add_tail(&r->previews, &p->record_link);
	ps->nitems++;
	r->npreviews++;
	return p;
}

static void connect_to(struct previews *ps, struct record *r, struct conn *c, uint16_t port)
{
	static const struct job_events events = {.on_connected = on_connected, .on_end = on_end};
	static const struct conn_watch watch = {.on_gone = on_client_gone};
	struct preview *p = preview_new(ps, r, c, port);

	if (p)
		p->job = sandbox_connect(r->sandbox, port, &events, p);
	if (!p || !p->job) {
		call_refuse(c, CALL_UNAVAILABLE, "out of memory");
		if (p)
			preview_free(p);
		return;
	}
	conn_hold(c);
	conn_watch(c, &watch, p);
	deadline_set(&ps->connect, &p->limit);
}

void preview_begin(struct previews *ps, struct records *records, struct conn *c, const struct preview_host *host)
{
	struct record *r = records_find(records, str_from(host->id));
	char message[100];

	if (r && r->state == RECORD_RUNNING) {
		if (ps->nitems >= PREVIEWS_MAX || r->npreviews >= PREVIEWS_PER_SANDBOX_MAX)
			call_refuse(c, CALL_UNAVAILABLE,
				    ps->nitems >= PREVIEWS_MAX ? "too many preview connections"
							       : "too many preview connections to this sandbox");
		else
			connect_to(ps, r, c, host->port);
		return;
	}
	/* As for the API: what is being made or has ended by itself is not there. */
	snprintf(message, sizeof(message), "sandbox %s: %s",
		 r && (r->state == RECORD_DESTROYED || r->state == RECORD_EXPIRED) ? "destroyed" : "not found",
		 host->id);
	call_refuse(c, CALL_NOT_FOUND, message);
}

void preview_drop_all(struct record *r)
{
	while (!list_empty(&r->previews)) {
		struct preview *p = LIST_FIRST(&r->previews, struct preview, record_link);
		/* Its job ended with the sandbox. */
		CHECK(!p->conn && !p->job);
		log_info("preview %s port %u: cut, the sandbox has ended", r->id, p->port);
		preview_free(p);
	}
}

struct previews *previews_new(struct loop *loop, uint64_t connect_ms)
{
	struct previews *ps = calloc(1, sizeof(*ps));

	if (!ps)
		return NULL;
	ps->loop = loop;
	list_init(&ps->items);
	deadline_queue_init(&ps->connect, loop, connect_ms);
	return ps;
}

void previews_free(struct previews *ps)
{
	if (!ps)
		return;
	while (!list_empty(&ps->items))
		preview_free(LIST_FIRST(&ps->items, struct preview, link));
	deadline_queue_fini(&ps->connect);
	free(ps);
}
