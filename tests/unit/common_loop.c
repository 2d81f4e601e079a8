/* SPDX-License-Identifier: Apache-2.0 */
/* Time is injected: the loop ticks in real time, but deadlines are due when the clock here says so. */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"

static uint64_t now_ms;
static struct loop *loop;

static uint64_t injected_ns(void)
{
	return now_ms * 1000000u;
}

static void setup(void)
{
	now_ms = 1000;
	clock_set_source(injected_ns);
	loop = loop_new();
	cr_assert_not_null(loop);
}

static void teardown(void)
{
	loop_free(loop);
	clock_set_source(NULL);
}

TestSuite(common_loop, .init = setup, .fini = teardown);

struct probe {
	struct deferred deferred;
	struct deadline deadline;
	struct deadline_queue *again; /* borrowed; where on_expire sets it anew; NULL: not */
	unsigned ran;
	unsigned order;
	bool last;           /* the loop ends with it */
	unsigned stop_after; /* the loop ends when on_expire has run that often; 0: never */
};

static unsigned ran_so_far;

static void on_deferred(struct deferred *d)
{
	struct probe *p = CONTAINER_OF(d, struct probe, deferred);

	p->ran++;
	p->order = ++ran_so_far;
	if (p->last)
		loop_stop(loop);
}

static void on_expire(struct deadline *d)
{
	struct probe *p = CONTAINER_OF(d, struct probe, deadline);

	p->ran++;
	p->order = ++ran_so_far;
	if (p->again && p->ran < 3) {
		deadline_set(p->again, d);
		now_ms += p->again->span_ms;
	}
	if (p->last || (p->stop_after && p->ran == p->stop_after))
		loop_stop(loop);
}

static void probe_init(struct probe *p)
{
	*p = (struct probe){0};
	deferred_init(&p->deferred, on_deferred);
	deadline_init(&p->deadline, on_expire);
}

static void stop_now(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	loop_stop(loop);
}

static void run_one_turn(void)
{
	const struct timeval none = {0, 0};

	event_base_once(loop_base(loop), -1, EV_TIMEOUT, stop_now, NULL, &none);
	loop_run(loop);
}

/* Work runs in the order in which it was put off, once, however often it was put off. */
Test(common_loop, deferred_in_order)
{
	struct probe a;
	struct probe b;

	probe_init(&a);
	probe_init(&b);
	loop_defer(loop, &b.deferred);
	loop_defer(loop, &a.deferred);
	loop_defer(loop, &b.deferred);
	cr_expect_eq(a.ran + b.ran, 0);
	run_one_turn();
	cr_expect_eq(a.ran, 1);
	cr_expect_eq(b.ran, 1);
	cr_expect_lt(b.order, a.order);
}

struct stacked {
	struct probe probe;
	bool ran_on_the_stack;
};

static void defer_in_event(evutil_socket_t fd, short what, void *arg)
{
	struct stacked *s = arg;

	(void)fd;
	(void)what;
	loop_defer(loop, &s->probe.deferred);
	s->ran_on_the_stack = s->probe.ran > 0;
	loop_stop(loop);
}

/* What an event puts off runs after its callback has returned, also in the last turn. */
Test(common_loop, deferred_after_the_callback)
{
	struct stacked s = {.ran_on_the_stack = false};
	const struct timeval none = {0, 0};

	probe_init(&s.probe);
	event_base_once(loop_base(loop), -1, EV_TIMEOUT, defer_in_event, &s, &none);
	loop_run(loop);
	cr_expect_not(s.ran_on_the_stack);
	cr_expect_eq(s.probe.ran, 1);
}

enum {
	CROWD = 100
};

struct crowd {
	struct deferred look;
	struct event *events[CROWD]; /* owned; always ready */
	unsigned seen;               /* callbacks in this turn */
	bool settled_early;          /* within a callback */
	unsigned turns;
	unsigned settled_turns;
};

static void on_crowd(evutil_socket_t fd, short what, void *arg)
{
	struct crowd *c = arg;

	(void)fd;
	(void)what;
	loop_saw_ready(loop);
	c->seen++;
	c->settled_early = c->settled_early || loop_is_settled(loop);
	loop_defer(loop, &c->look);
}

static void look_at_crowd(struct deferred *d)
{
	struct crowd *c = CONTAINER_OF(d, struct crowd, look);

	cr_expect_eq(loop_turn(loop), ++c->turns);
	if (loop_is_settled(loop)) {
		cr_expect_eq(c->seen, CROWD, "turn %u is called settled after %u of them", c->turns, c->seen);
		c->settled_turns++;
	}
	c->seen = 0;
	if (c->turns == 10)
		loop_stop(loop);
}

/*
 * A turn is settled when the callbacks of everything that was ready have run: not within them, not when more was ready
 * than libevent asks for at once, and in all turns after it has learned to ask for more.
 */
Test(common_loop, settled)
{
	struct crowd c = {.turns = 0};
	int fds[2];

	deferred_init(&c.look, look_at_crowd);
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], "x", 1), 1);
	for (unsigned i = 0; i < CROWD; i++) {
		c.events[i] = event_new(loop_base(loop), dup(fds[0]), EV_READ | EV_PERSIST, on_crowd, &c);
		cr_assert_eq(event_add(c.events[i], NULL), 0);
	}
	cr_expect_eq(loop_turn(loop), 0);
	cr_expect_not(loop_is_settled(loop));
	loop_run(loop);
	cr_expect_eq(c.turns, 10);
	cr_expect_not(c.settled_early);
	cr_expect_geq(c.settled_turns, 7);
	cr_expect_eq(loop_turn(loop), 0);
	for (unsigned i = 0; i < CROWD; i++) {
		close(event_get_fd(c.events[i]));
		event_free(c.events[i]);
	}
	close(fds[0]);
	close(fds[1]);
}

static void defer_and_stop(evutil_socket_t fd, short what, void *arg)
{
	struct crowd *c = arg;

	on_crowd(fd, what, c);
	loop_stop(loop);
}

/* The turn that stops the loop is not settled: callbacks are left out. */
Test(common_loop, stopped_is_not_settled)
{
	struct crowd c = {.turns = 0};
	const struct timeval none = {0, 0};

	deferred_init(&c.look, look_at_crowd);
	event_base_once(loop_base(loop), -1, EV_TIMEOUT, defer_and_stop, &c, &none);
	loop_run(loop);
	cr_expect_eq(c.turns, 1);
	cr_expect_eq(c.settled_turns, 0);
}

/* What is cancelled does not run. */
Test(common_loop, deferred_cancelled)
{
	struct probe a;

	probe_init(&a);
	loop_defer(loop, &a.deferred);
	deferred_cancel(&a.deferred);
	deferred_cancel(&a.deferred);
	run_one_turn();
	cr_expect_eq(a.ran, 0);
}

struct owned {
	struct deferred deferred;
};

static void free_owner(struct deferred *d)
{
	free(CONTAINER_OF(d, struct owned, deferred));
	loop_stop(loop);
}

/* The object that holds the work may be freed by it. */
Test(common_loop, deferred_frees_its_object)
{
	struct owned *o = malloc(sizeof(*o));

	cr_assert_not_null(o);
	deferred_init(&o->deferred, free_owner);
	loop_defer(loop, &o->deferred);
	run_one_turn();
}

/* A timer that ends the test if nothing else does, far above what any machine needs. */
static void too_long(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	*(bool *)arg = true;
	loop_stop(loop);
}

static bool run_until_stopped(void)
{
	const struct timeval limit = {30, 0};
	bool late = false;
	struct event *e = evtimer_new(loop_base(loop), too_long, &late);

	cr_assert_not_null(e);
	event_add(e, &limit);
	loop_run(loop);
	event_free(e);
	return !late;
}

static void advance(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	now_ms += *(uint64_t *)arg;
}

/* A deadline expires when its time has come, not before, and once. */
Test(common_loop, deadline_expires)
{
	struct deadline_queue q;
	struct probe a;
	struct probe end;
	struct event *e;
	const struct timeval soon = {0, 1000};
	uint64_t step = 6;

	deadline_queue_init(&q, loop, 10);
	probe_init(&a);
	probe_init(&end);
	end.last = true;
	deadline_set(&q, &a.deadline);
	now_ms += 5;
	deadline_set(&q, &end.deadline);
	/* One is due at 1010, the other at 1015; the clock goes to 1011, then to 1017. */
	e = event_new(loop_base(loop), -1, EV_PERSIST, advance, &step);
	event_add(e, &soon);
	cr_expect(run_until_stopped());
	event_free(e);
	cr_expect_eq(a.ran, 1);
	cr_expect_eq(end.ran, 1);
	cr_expect_lt(a.order, end.order);
	cr_expect_geq(now_ms, 1015);
	deadline_queue_fini(&q);
}

/* While the injected clock stands still nothing expires, however long the loop really runs. */
Test(common_loop, deadline_waits_for_the_clock)
{
	struct deadline_queue q;
	struct probe a;
	const struct timeval real = {0, 100000};

	deadline_queue_init(&q, loop, 1);
	probe_init(&a);
	deadline_set(&q, &a.deadline);
	event_base_once(loop_base(loop), -1, EV_TIMEOUT, stop_now, NULL, &real);
	loop_run(loop);
	cr_expect_eq(a.ran, 0);
	deadline_queue_fini(&q);
}

/* Setting anew moves it behind the others of its queue; clearing ends it; a length of 0 never expires. */
Test(common_loop, deadline_moved_and_cleared)
{
	struct deadline_queue q;
	struct deadline_queue never;
	struct probe moved;
	struct probe cleared;
	struct probe endless;
	struct probe end;

	deadline_queue_init(&q, loop, 10);
	deadline_queue_init(&never, loop, 0);
	probe_init(&moved);
	probe_init(&cleared);
	probe_init(&endless);
	probe_init(&end);
	deadline_set(&q, &moved.deadline);
	deadline_set(&q, &cleared.deadline);
	deadline_set(&q, &end.deadline);
	deadline_set(&never, &endless.deadline);
	now_ms += 5;
	deadline_set(&q, &moved.deadline);
	deadline_clear(&cleared.deadline);
	deadline_clear(&cleared.deadline);
	now_ms += 6;
	end.last = true;
	cr_expect(run_until_stopped());
	cr_expect_eq(end.ran, 1);
	cr_expect_eq(moved.ran, 0, "due only at 1015, it is 1011");
	cr_expect_eq(cleared.ran, 0);
	now_ms += 1000000;
	moved.last = true;
	cr_expect(run_until_stopped());
	cr_expect_eq(moved.ran, 1);
	cr_expect_eq(endless.ran, 0);
	deadline_queue_fini(&q);
	deadline_queue_fini(&never);
}

/* The earliest of several lengths comes first, whatever the order in which they were set. */
Test(common_loop, deadline_queues_of_several_lengths)
{
	struct deadline_queue slow;
	struct deadline_queue quick;
	struct probe a;
	struct probe b;

	deadline_queue_init(&slow, loop, 3600000);
	deadline_queue_init(&quick, loop, 1);
	probe_init(&a);
	probe_init(&b);
	b.last = true;
	deadline_set(&slow, &a.deadline);
	deadline_set(&quick, &b.deadline);
	now_ms += 2;
	cr_expect(run_until_stopped());
	cr_expect_eq(b.ran, 1);
	cr_expect_eq(a.ran, 0);
	deadline_queue_fini(&slow);
	deadline_queue_fini(&quick);
}

/* on_expire may set its deadline again, on another queue too. */
Test(common_loop, deadline_set_while_it_expires)
{
	struct deadline_queue q;
	struct probe a;

	deadline_queue_init(&q, loop, 10);
	probe_init(&a);
	a.again = &q;
	deadline_set(&q, &a.deadline);
	now_ms += 10;
	a.stop_after = 3;
	cr_expect(run_until_stopped());
	cr_expect_eq(a.ran, 3);
	deadline_queue_fini(&q);
}

/* Ending a queue clears what is set on it. */
Test(common_loop, deadline_queue_ends)
{
	struct deadline_queue q;
	struct probe a;

	deadline_queue_init(&q, loop, 1);
	probe_init(&a);
	deadline_set(&q, &a.deadline);
	deadline_queue_fini(&q);
	cr_expect(list_empty(&a.deadline.link));
	now_ms += 100;
	run_one_turn();
	cr_expect_eq(a.ran, 0);
}
