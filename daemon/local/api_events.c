/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events go from the listener's queue into the answer while that takes them. An answer whose client does not read is
 * paused by the connection, and then the queue fills; what comes to a full queue is lost. A comment line, which every
 * client skips, is sent when nothing else was for the API's beat_ms.
 */
#include "local/api_events.h"

#include <event2/event.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/loop.h"
#include "local/call.h"
#include "local/events.h"

struct subscription {
	struct events_listener listener;
	struct call *call;  /* borrowed */
	struct event *beat; /* owned */
	bool paused;        /* until on_drained */
};

static void arm_beat(struct subscription *s)
{
	unsigned ms = s->call->api->beat_ms;
	const struct timeval tv = clock_span(ms);

	event_add(s->beat, &tv);
}

static void pass_on(struct subscription *s)
{
	struct str text;

	while (!s->paused && (text = events_first(&s->listener)).n) {
		s->paused = conn_send(s->call->conn, text);
		events_drop(&s->listener);
		arm_beat(s);
	}
}

static void on_event(struct events_listener *l)
{
	pass_on(CONTAINER_OF(l, struct subscription, listener));
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
	struct subscription *s = arg;

	(void)fd;
	(void)what;
	if (!conn_has_backlog(s->call->conn))
		conn_send(s->call->conn, STR(": \n\n"));
	arm_beat(s);
}

static void on_drained(struct call *call)
{
	struct subscription *s = call->state;

	s->paused = false;
	pass_on(s);
}

/* Nobody half-closes a stream without an end to read the rest of it. */
static void on_half_closed(struct call *call)
{
	conn_end(call->conn);
	call_over(call);
}

static void on_over(struct call *call)
{
	struct subscription *s = call->state;

	if (!s)
		return;
	events_leave(&s->listener);
	if (s->beat)
		event_free(s->beat);
	free(s);
}

void api_events_stream(struct call *call)
{
	static const struct call_events events = {
		.on_drained = on_drained,
		.on_half_closed = on_half_closed,
		.on_over = on_over,
	};
	struct subscription *s = calloc(1, sizeof(*s));

	call->events = &events;
	call->state = s;
	if (s)
		s->beat = event_new(loop_base(call->api->loop), -1, 0, on_beat, s);
	if (!s || !s->beat) {
		call_no_memory(call);
		return;
	}
	s->call = call;
	if (!events_listen(call->api->events, &s->listener, on_event)) {
		call_error(call, CALL_UNAVAILABLE, "too many event streams");
		return;
	}
	conn_begin(call->conn, 200, "text/event-stream", STR("Cache-Control: no-cache\r\n"), -1);
	arm_beat(s);
}
