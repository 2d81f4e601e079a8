/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each turn is one pass of libevent (EVLOOP_ONCE), then the work that was put off. Deadlines sit on FIFO queues, one
 * per length, so the earliest of each is its first; one timer is armed for the earliest of all and looks at each
 * queue's head when it fires. Clearing a deadline leaves the timer: a tick with nothing to do is cheaper than a
 * timer operation per request.
 *
 * Whether a turn told of everything that was ready depends on how many events libevent asks epoll for: 32 at first, and
 * twice as many (to 4096) after each turn in which it was given as many as it asked for. It does not say how many, so a
 * number that is never above it is kept here: that many descriptors seen ready in one turn mean that it was doubled.
 */
#include "common/loop.h"

#include <event2/event.h>
#include <stdlib.h>

#include "common/check.h"
#include "common/clock.h"

enum {
	TICK_MS = 20,
	ASKED_MIN = 32,
	ASKED_MAX = 4096,
};

struct loop {
	struct event_base *base; /* owned */
	struct event *tick;      /* owned; armed while some deadline is set */
	uint64_t tick_at_ms;     /* when it fires; UINT64_MAX when not armed */
	struct list deferred;    /* struct deferred, in the order of loop_defer */
	struct list queues;      /* struct deadline_queue */
	bool stopping;
	bool turning;    /* within a turn of loop_run */
	uint64_t now_ms; /* the clock as it was first asked in this turn; 0: not yet */
	uint64_t turn;   /* number of the present one */
	bool settled;    /* its callbacks have run, and they were for everything that was ready */
	int asked;       /* events that libevent asks the kernel for, at least */
	int seen;        /* descriptors seen ready in this turn, at least */
};

static void arm_tick(struct loop *loop, uint64_t at_ms)
{
	uint64_t now = clock_ms();
	uint64_t wait = at_ms > now + TICK_MS ? at_ms - now : TICK_MS;
	struct timeval tv = clock_span(wait);

	/* Without memory the next deadline that is set tries again. */
	loop->tick_at_ms = event_add(loop->tick, &tv) == 0 ? now + wait : UINT64_MAX;
}

static void expire_queue(struct deadline_queue *q, uint64_t now)
{
	struct deadline *d;

	while ((d = LIST_FIRST(&q->items, struct deadline, link)) && d->at_ms <= now) {
		list_remove(&d->link);
		d->on_expire(d);
	}
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
	struct loop *loop = arg;
	uint64_t now = clock_ms();
	uint64_t next = UINT64_MAX;

	(void)fd;
	(void)what;
	loop->tick_at_ms = UINT64_MAX;
	LIST_FOREACH (n, &loop->queues)
		expire_queue(CONTAINER_OF(n, struct deadline_queue, link), now);
	LIST_FOREACH (n, &loop->queues) {
		struct deadline_queue *q = CONTAINER_OF(n, struct deadline_queue, link);
		struct deadline *d = LIST_FIRST(&q->items, struct deadline, link);
		if (d && d->at_ms < next)
			next = d->at_ms;
	}
	if (next != UINT64_MAX)
		arm_tick(loop, next);
}

struct loop *loop_new(void)
{
	struct loop *loop = calloc(1, sizeof(*loop));

	if (!loop)
		return NULL;
	list_init(&loop->deferred);
	list_init(&loop->queues);
	loop->tick_at_ms = UINT64_MAX;
	loop->asked = ASKED_MIN;
	loop->base = event_base_new();
	if (loop->base)
		loop->tick = evtimer_new(loop->base, on_tick, loop);
	if (!loop->tick) {
		loop_free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	CHECK(list_empty(&loop->queues));
	if (loop->tick)
		event_free(loop->tick);
	if (loop->base)
		event_base_free(loop->base);
	free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

void loop_run_deferred(struct loop *loop)
{
	struct deferred *d;

	while ((d = LIST_FIRST(&loop->deferred, struct deferred, link))) {
		list_remove(&d->link);
		d->run(d);
	}
}

/* Each event of the kernel makes at least one of libevent's active, so fewer than it asked for are all there were. */
static void settle(struct loop *loop)
{
	int active = event_base_get_max_events(loop->base, EVENT_BASE_COUNT_ACTIVE, 1);

	/* A loop that is stopped leaves callbacks out. */
	loop->settled = !loop->stopping && active < loop->asked;
	if (loop->seen >= loop->asked && loop->asked < ASKED_MAX)
		loop->asked *= 2;
}

uint64_t loop_turn(const struct loop *loop)
{
	return loop->turning ? loop->turn : 0;
}

bool loop_is_settled(const struct loop *loop)
{
	return loop->turning && loop->settled;
}

void loop_saw_ready(struct loop *loop)
{
	loop->seen++;
}

void loop_run(struct loop *loop)
{
	loop->stopping = false;
	loop_run_deferred(loop);
	loop->turning = true;
	while (!loop->stopping) {
		loop->now_ms = 0;
		loop->turn++;
		loop->settled = false;
		loop->seen = 0;
		event_base_loop(loop->base, EVLOOP_ONCE);
		settle(loop);
		loop_run_deferred(loop);
	}
	loop->turning = false;
}

uint64_t loop_now_ms(struct loop *loop)
{
	if (!loop->turning)
		return clock_ms();
	if (loop->now_ms == 0)
		loop->now_ms = clock_ms();
	return loop->now_ms;
}

void loop_stop(struct loop *loop)
{
	loop->stopping = true;
	event_base_loopbreak(loop->base);
}

void deferred_init(struct deferred *d, void (*run)(struct deferred *d))
{
	list_init(&d->link);
	d->run = run;
}

void loop_defer(struct loop *loop, struct deferred *d)
{
	if (list_empty(&d->link))
		list_add_tail(&loop->deferred, &d->link);
}

void deferred_cancel(struct deferred *d)
{
	list_remove(&d->link);
}

void deadline_queue_init(struct deadline_queue *q, struct loop *loop, uint64_t span_ms)
{
	list_init(&q->items);
	q->loop = loop;
	q->span_ms = span_ms;
	list_add_tail(&loop->queues, &q->link);
}

void deadline_queue_fini(struct deadline_queue *q)
{
	LIST_FOREACH_SAFE (n, &q->items)
		list_remove(n);
	list_remove(&q->link);
}

void deadline_init(struct deadline *d, void (*on_expire)(struct deadline *d))
{
	list_init(&d->link);
	d->on_expire = on_expire;
}

void deadline_set(struct deadline_queue *q, struct deadline *d)
{
	list_remove(&d->link);
	if (q->span_ms == 0)
		return;
	d->at_ms = loop_now_ms(q->loop) + q->span_ms;
	list_add_tail(&q->items, &d->link);
	if (d->at_ms + TICK_MS <= q->loop->tick_at_ms)
		arm_tick(q->loop, d->at_ms);
}

void deadline_clear(struct deadline *d)
{
	list_remove(&d->link);
}
