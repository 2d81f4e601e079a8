/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream ends cleanly when another configuration has come into force, since its rule may show less, and when the daemon stops,
 * so that nobody who looks on holds it up; who wants more asks again. A client that reads slowly misses documents.
 */
#include "gateway/status_watch.h"

#include <errno.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/http_parse.h"
#include "common/json_write.h"
#include "common/loop.h"
#include "gateway/call.h"
#include "gateway/control_stats.h"
#include "gateway/headers.h"
#include "gateway/status.h"

enum {
	PERIOD_MS = 1000
};

#define STREAM_TYPE "text/event-stream"

struct status_watch {
	struct call call;
	struct status_view view;
	struct event *tick; /* owned */
};

/* Without memory this one is left out. */
static void send_document(struct status_watch *s)
{
	struct buf event = BUF_EMPTY;
	struct json_writer w = json_writer(&event);

	buf_add_cstr(&event, "data: ");
	status_write(&s->view, &w);
	buf_add_cstr(&event, "\n\n");
	if (!event.failed)
		call_stream_send(&s->call, buf_str(&event));
	buf_fini(&event);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct status_watch *s = arg;
	const struct control_stats *stats = s->view.stats;

	(void)fd;
	(void)what;
	if (stats->in_force != s->view.snapshot) {
		call_stream_end(&s->call);
		return;
	}
	if (!s->call.stalled)
		send_document(s);
	if (stats->draining)
		call_stream_end(&s->call);
}

static void on_request(struct call *c, struct str body)
{
	struct status_watch *s = CONTAINER_OF(c, struct status_watch, call);
	const struct timeval period = clock_span(PERIOD_MS);

	(void)body;
	s->tick = event_new(loop_base(c->c.loop), -1, EV_PERSIST, on_tick, s);
	if (!s->tick || event_add(s->tick, &period)) {
		call_refuse(c, 503, "out of memory");
		return;
	}
	if (call_stream_begin(c, STREAM_TYPE, NULL)) {
		call_stream_send(c, STR("retry: 1000\n\n"));
		send_document(s);
	}
}

static void on_free(struct call *c)
{
	struct status_watch *s = CONTAINER_OF(c, struct status_watch, call);

	if (s->tick)
		event_free(s->tick);
	call_fini(c);
	free(s);
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

bool status_watch_is_asked_for(const struct http_head *head)
{
	return headers_prefer(head, STR(STREAM_TYPE), STR("application/json"));
}

int status_watch_call_new(const struct status_view *view, const struct call_case *what, struct call **out)
{
	struct status_watch *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->view = *view;
	if (call_init(&s->call, &ops, what, STR("")) == 0) {
		*out = &s->call;
		return 0;
	}
	on_free(&s->call);
	return -ENOMEM;
}
