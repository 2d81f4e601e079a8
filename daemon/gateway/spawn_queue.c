/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/spawn_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	OWNERS_MAX = 1024 /* who has used time and does not wait is forgotten above this */
};

struct spawn_turns_owner {
	struct list link;    /* on spawn_turns.owners */
	struct list waiting; /* struct spawn_turn, the first asked first */
	size_t nwaiting;
	size_t running;
	uint64_t used_ms; /* of the server's time, counted from where the queue stood when it came */
	char name[];      /* terminated */
};

void spawn_turns_init(struct spawn_turns *q, size_t max_running, size_t max_waiting)
{
	memset(q, 0, sizeof(*q));
	list_init(&q->owners);
	q->max_running = max_running;
	q->max_waiting = max_waiting;
}

static void owner_free(struct spawn_turns_owner *o)
{
	list_remove(&o->link);
	free(o);
}

void spawn_turns_fini(struct spawn_turns *q)
{
	LIST_FOREACH_SAFE (n, &q->owners)
		owner_free(CONTAINER_OF(n, struct spawn_turns_owner, link));
}

void spawn_turn_init(struct spawn_turn *t, void (*on_turn)(struct spawn_turn *t))
{
	memset(t, 0, sizeof(*t));
	list_init(&t->link);
	t->on_turn = on_turn;
}

static bool is_present(const struct spawn_turns_owner *o)
{
	return o->nwaiting || o->running;
}

bool spawn_turns_are_idle(const struct spawn_turns *q)
{
	return q->waiting == 0 && q->running == 0;
}

/*
 * Forgets those who are away: who has no more time than a newcomer; the rest when there are too many, and when nobody waits or
 * runs at all, so that numbers stay small and old debts end.
 */
static void forget(struct spawn_turns *q)
{
	bool idle = spawn_turns_are_idle(q);
	size_t n = 0;

	if (idle)
		q->least_ms = 0;

	LIST_FOREACH_SAFE (node, &q->owners) {
		struct spawn_turns_owner *o = CONTAINER_OF(node, struct spawn_turns_owner, link);
		if (!is_present(o) && (idle || n >= OWNERS_MAX || o->used_ms <= q->least_ms))
			owner_free(o);
		else
			n++;
	}
}

static struct spawn_turns_owner *find_owner(struct spawn_turns *q, const char *name)
{
	struct spawn_turns_owner *o;
	size_t n = strlen(name) + 1;

	LIST_FOREACH (node, &q->owners) {
		o = CONTAINER_OF(node, struct spawn_turns_owner, link);
		if (strcmp(o->name, name) == 0)
			return o;
	}
	o = calloc(1, sizeof(*o) + n);
	if (!o)
		return NULL;
	memcpy(o->name, name, n);
	list_init(&o->waiting);
	o->used_ms = q->least_ms;
	list_add_tail(&q->owners, &o->link);
	return o;
}

/* So many of the turns one owner may have at a time. */
static size_t share_of(const struct spawn_turns *q)
{
	return (q->max_running + 1) / 2;
}

static size_t above(size_t n, size_t bound)
{
	return n > bound ? n - bound : 0;
}

/* Whether one more of that owner may wait. Those whose turn is free, and comes with the next run, do not wait. */
static bool has_place(const struct spawn_turns *q, const struct spawn_turns_owner *o)
{
	size_t free_turns = q->max_running - q->running;
	size_t own_turns = above(share_of(q), o->running);
	size_t own = above(o->nwaiting, own_turns < free_turns ? own_turns : free_turns);

	if (q->waiting < free_turns && o->nwaiting < own_turns)
		return true;
	return above(q->waiting, free_turns) < q->max_waiting && own < (q->max_waiting + 3) / 4;
}

int spawn_turn_ask(struct spawn_turns *q, struct spawn_turn *t, const char *owner)
{
	struct spawn_turns_owner *o = find_owner(q, owner);

	if (!o)
		return -ENOMEM;
	if (!has_place(q, o)) {
		if (!is_present(o) && o->used_ms <= q->least_ms)
			owner_free(o);
		return -EBUSY;
	}
	/* Who was away has no claim on the time that others used meanwhile. */
	if (!is_present(o) && o->used_ms < q->least_ms)
		o->used_ms = q->least_ms;
	t->turns = q;
	t->owner = o;
	t->running = false;
	list_add_tail(&o->waiting, &t->link);
	o->nwaiting++;
	q->waiting++;
	return 0;
}

void spawn_turn_end(struct spawn_turn *t, uint64_t now_ms)
{
	struct spawn_turns *q = t->turns;
	struct spawn_turns_owner *o = t->owner;

	if (!q)
		return;
	t->turns = NULL;
	t->owner = NULL;
	if (t->running) {
		q->running--;
		o->running--;
		o->used_ms += now_ms - t->began_ms;
	} else {
		list_remove(&t->link);
		o->nwaiting--;
		q->waiting--;
	}
	t->running = false;
	forget(q);
}

/*
 * The owner that runs least, of those the one that has used least, of those the one whose turn was longest ago; NULL when nobody may
 * have a turn.
 */
static struct spawn_turns_owner *next_owner(struct spawn_turns *q)
{
	struct spawn_turns_owner *best = NULL;

	LIST_FOREACH (node, &q->owners) {
		struct spawn_turns_owner *o = CONTAINER_OF(node, struct spawn_turns_owner, link);
		if (o->nwaiting == 0 || o->running >= share_of(q))
			continue;
		if (!best || o->running < best->running || (o->running == best->running && o->used_ms < best->used_ms))
			best = o;
	}
	return best;
}

void spawn_turns_run(struct spawn_turns *q, uint64_t now_ms)
{
	while (q->running < q->max_running) {
		struct spawn_turns_owner *o = next_owner(q);
		struct spawn_turn *t;

		if (!o)
			return;
		t = LIST_FIRST(&o->waiting, struct spawn_turn, link);
		list_remove(&t->link);
		o->nwaiting--;
		q->waiting--;
		o->running++;
		q->running++;
		q->served++;
		list_remove(&o->link);
		list_add_tail(&q->owners, &o->link);
		t->running = true;
		t->began_ms = now_ms;
		if (o->used_ms > q->least_ms)
			q->least_ms = o->used_ms;
		t->on_turn(t);
	}
}

size_t spawn_turn_position(const struct spawn_turn *t)
{
	size_t own = 0;
	size_t before = 0;

	if (!t->turns || t->running)
		return 0;
	LIST_FOREACH (node, &t->owner->waiting) {
		if (node == &t->link)
			break;
		own++;
	}
	/* Owners take turns, so each of the others has at most as many before it as stand before it of its own, and one. */
	LIST_FOREACH (node, &t->turns->owners) {
		const struct spawn_turns_owner *o = CONTAINER_OF(node, struct spawn_turns_owner, link);
		if (o == t->owner)
			before += own;
		else
			before += o->nwaiting < own + 1 ? o->nwaiting : own + 1;
	}
	return before;
}
