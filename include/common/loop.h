/* SPDX-License-Identifier: Apache-2.0 */
/* The event loop of a program: libevent's, with work put off to the end of a turn and cheap deadlines. */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/list.h"

struct loop;
struct event_base;

/* NULL without memory. */
struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* For event_new and friends; borrowed. */
struct event_base *loop_base(struct loop *loop);

/* Turns until loop_stop(). Work put off in a turn runs at its end, also that of the last one. */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);

/* The clock, asked once in a turn of loop_run: turns are short. */
uint64_t loop_now_ms(struct loop *loop);

/*
 * What was ready when a turn began is known to all when its callbacks have run. loop_turn numbers the turns of loop_run
 * from 1; it is 0 outside of them. loop_is_settled says that the callbacks of this turn have run and that they were for
 * every descriptor that was ready: so in deferred work, but for a few turns in which more of them were ready than ever
 * before. loop_saw_ready is for the callbacks of sockets, once for each descriptor that the kernel called ready.
 */
uint64_t loop_turn(const struct loop *loop);
bool loop_is_settled(const struct loop *loop);
void loop_saw_ready(struct loop *loop);

/*
 * Work put off until no callback of this turn is on the stack: the one way in which objects are freed in reaction
 * to an event. Embedded in the object that it destroys.
 */
struct deferred {
	struct list link; /* on the loop's list while put off */
	void (*run)(struct deferred *d);
};

void deferred_init(struct deferred *d, void (*run)(struct deferred *d));
/* Puts it off; does nothing if it is put off already. */
void loop_defer(struct loop *loop, struct deferred *d);
/* Runs what is put off now: for teardown, when the loop no longer turns and no callback is on the stack. */
void loop_run_deferred(struct loop *loop);
void deferred_cancel(struct deferred *d);

/* All deadlines of one length, in the order in which they were set: setting and clearing costs a list operation. */
struct deadline_queue {
	struct list items; /* struct deadline, the earliest first */
	struct list link;  /* on the loop's list of queues */
	struct loop *loop; /* borrowed */
	uint64_t span_ms;  /* 0: deadlines set here never expire */
};

struct deadline {
	struct list link; /* on its queue while set */
	uint64_t at_ms;   /* clock_ms() of expiry */
	void (*on_expire)(struct deadline *d);
};

void deadline_queue_init(struct deadline_queue *q, struct loop *loop, uint64_t span_ms);
/* Clears all of its deadlines. */
void deadline_queue_fini(struct deadline_queue *q);

void deadline_init(struct deadline *d, void (*on_expire)(struct deadline *d));
/* (Re)starts it: on_expire is called once, at most 20 ms after now + span_ms, and may free its object. */
void deadline_set(struct deadline_queue *q, struct deadline *d);
void deadline_clear(struct deadline *d);

#endif
