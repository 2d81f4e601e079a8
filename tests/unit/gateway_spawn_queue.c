/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/spawn_queue: whose turn it is at a server that runs one spawn at a time. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "gateway/spawn_queue.h"

enum {
	TURNS = 4,
	WAITING = 8,
	MANY = 64
};

struct one {
	struct spawn_turn turn;
	unsigned order; /* of its turn, from 1; 0: not yet */
};

static struct spawn_turns q;
static unsigned given;

static void on_turn(struct spawn_turn *t)
{
	CONTAINER_OF(t, struct one, turn)->order = ++given;
}

static void begin(void)
{
	given = 0;
	spawn_turns_init(&q, TURNS, WAITING);
}

static void end(void)
{
	spawn_turns_fini(&q);
}

TestSuite(gateway_spawn_queue, .init = begin, .fini = end);

static int ask(struct one *o, const char *owner)
{
	o->order = 0;
	spawn_turn_init(&o->turn, on_turn);
	return spawn_turn_ask(&q, &o->turn, owner);
}

static void asked(struct one *o, const char *owner)
{
	cr_assert_eq(ask(o, owner), 0, "%s may not ask", owner);
}

/* Nobody has more than half of the turns, however free the others are. */
Test(gateway_spawn_queue, half)
{
	struct one a[4];

	for (int i = 0; i < 4; i++)
		asked(&a[i], "alice");
	spawn_turns_run(&q, 0);
	cr_expect_eq(q.running, 2);
	cr_expect_eq(q.waiting, 2);
	cr_expect(a[0].order == 1 && a[1].order == 2 && !a[2].order && !a[3].order, "the first asked has it first");
	spawn_turn_end(&a[0].turn, 10);
	spawn_turns_run(&q, 10);
	cr_expect_eq(a[2].order, 3);
	for (int i = 1; i < 4; i++)
		spawn_turn_end(&a[i].turn, 20);
	cr_expect(spawn_turns_are_idle(&q));
	spawn_turn_end(&a[0].turn, 20);
	cr_expect(spawn_turns_are_idle(&q), "ending twice is harmless");
}

/* Who has used least of the server's time is next, however many the others have waiting. */
Test(gateway_spawn_queue, least_time_first)
{
	struct one a[6];
	struct one b[3];
	struct one c[1];

	spawn_turns_fini(&q);
	spawn_turns_init(&q, 1, MANY);
	for (int i = 0; i < 6; i++)
		asked(&a[i], "alice");
	spawn_turns_run(&q, 0);
	asked(&b[0], "bob");
	asked(&b[1], "bob");
	asked(&b[2], "bob");
	spawn_turn_end(&a[0].turn, 1000);
	spawn_turns_run(&q, 1000);
	cr_expect_eq(b[0].order, 2, "alice has used 1000 ms, bob none");
	spawn_turn_end(&b[0].turn, 1100);
	spawn_turns_run(&q, 1100);
	cr_expect_eq(b[1].order, 3, "1000 against 100");
	spawn_turn_end(&b[1].turn, 2300);
	spawn_turns_run(&q, 2300);
	cr_expect_eq(a[1].order, 4, "1000 against 1300");
	asked(&c[0], "carol");
	spawn_turn_end(&a[1].turn, 2350);
	spawn_turns_run(&q, 2350);
	cr_expect_eq(c[0].order, 5, "who comes anew begins where the queue stands, not before it");
	spawn_turn_end(&c[0].turn, 2350);
	spawn_turns_run(&q, 2350);
	cr_expect_eq(a[2].order, 6, "1050 against 1300");
	for (int i = 0; i < 6; i++)
		spawn_turn_end(&a[i].turn, 2400);
	spawn_turn_end(&b[2].turn, 2400);
}

/* Where no time was used turns go round. */
Test(gateway_spawn_queue, round_robin)
{
	struct one a[3];
	struct one b[3];

	spawn_turns_fini(&q);
	spawn_turns_init(&q, 1, MANY);
	for (int i = 0; i < 3; i++)
		asked(&a[i], "alice");
	for (int i = 0; i < 3; i++)
		asked(&b[i], "bob");
	for (unsigned i = 0; i < 3; i++) {
		spawn_turns_run(&q, 0);
		cr_expect_eq(a[i].order, 2 * i + 1);
		spawn_turn_end(&a[i].turn, 0);
		spawn_turns_run(&q, 0);
		cr_expect_eq(b[i].order, 2 * i + 2);
		spawn_turn_end(&b[i].turn, 0);
	}
}

/* Who was away claims nothing for it, and nothing is held against anybody when all have gone. */
Test(gateway_spawn_queue, away)
{
	struct one a[2];
	struct one b[2];

	spawn_turns_fini(&q);
	spawn_turns_init(&q, 1, MANY);
	asked(&a[0], "alice");
	spawn_turns_run(&q, 0);
	spawn_turn_end(&a[0].turn, 300000);
	cr_expect(spawn_turns_are_idle(&q) && list_empty(&q.owners) && q.least_ms == 0, "old debts end");
	asked(&a[0], "alice");
	asked(&b[0], "bob");
	spawn_turns_run(&q, 300000);
	cr_expect(a[0].order && !b[0].order, "alice owes nothing");
	spawn_turn_end(&a[0].turn, 300001);
	spawn_turn_end(&b[0].turn, 300001);
}

/* pool.max_waiting bounds all, a quarter of it each owner; whose turn is free at once does not wait. */
Test(gateway_spawn_queue, bounds)
{
	static const char *const names[] = {"alice", "bob", "carol", "dave", "erin"};
	struct one all[MANY];
	struct one extra;
	size_t n = 0;

	for (int i = 0; i < 4; i++)
		asked(&all[n++], "alice");
	cr_expect_eq(ask(&extra, "alice"), -EBUSY, "two have a turn, two wait: a quarter of eight");
	spawn_turns_run(&q, 0);
	cr_expect_eq(ask(&extra, "alice"), -EBUSY);
	for (int i = 0; i < 4; i++)
		asked(&all[n++], "bob");
	spawn_turns_run(&q, 0);
	cr_expect_eq(q.running, 4);
	for (int i = 2; i < 4; i++)
		for (int k = 0; k < 2; k++)
			asked(&all[n++], names[i]);
	cr_expect_eq(q.waiting, WAITING);
	cr_expect_eq(ask(&extra, "erin"), -EBUSY, "the queue is full");
	LIST_FOREACH (node, &q.owners)
		cr_expect(node, "whoever was refused is not remembered");
	for (size_t i = 0; i < n; i++)
		spawn_turn_end(&all[i].turn, 1);
	cr_expect(spawn_turns_are_idle(&q) && list_empty(&q.owners));
}

/* Without any places to wait, free turns are given all the same. */
Test(gateway_spawn_queue, nobody_may_wait)
{
	struct one all[6];

	spawn_turns_fini(&q);
	spawn_turns_init(&q, TURNS, 0);
	asked(&all[0], "alice");
	asked(&all[1], "alice");
	cr_expect_eq(ask(&all[5], "alice"), -EBUSY);
	asked(&all[2], "bob");
	spawn_turns_run(&q, 0);
	asked(&all[3], "bob");
	cr_expect_eq(ask(&all[5], "carol"), -EBUSY);
	spawn_turns_run(&q, 0);
	cr_expect_eq(q.running, 4);
	for (int i = 0; i < 4; i++)
		spawn_turn_end(&all[i].turn, 1);
}

/* A position is how many may come before, so it never grows while nobody new comes. */
Test(gateway_spawn_queue, positions)
{
	struct one a[6];
	struct one b[2];

	spawn_turns_fini(&q);
	spawn_turns_init(&q, 2, MANY);
	for (int i = 0; i < 6; i++)
		asked(&a[i], "alice");
	spawn_turns_run(&q, 0);
	cr_expect_eq(spawn_turn_position(&a[0].turn), 0, "it has its turn");
	for (int i = 1; i < 6; i++)
		cr_expect_eq(spawn_turn_position(&a[i].turn), (size_t)i - 1);
	asked(&b[0], "bob");
	asked(&b[1], "bob");
	cr_expect_eq(spawn_turn_position(&b[0].turn), 1, "one of alice's may come before");
	cr_expect_eq(spawn_turn_position(&b[1].turn), 3);
	cr_expect_eq(spawn_turn_position(&a[1].turn), 1);
	cr_expect_eq(spawn_turn_position(&a[5].turn), 6, "four of her own and both of bob's");
	spawn_turn_end(&b[0].turn, 0);
	cr_expect_eq(spawn_turn_position(&b[1].turn), 1, "who gives up makes room");
	spawn_turns_run(&q, 0);
	cr_expect_eq(spawn_turn_position(&b[1].turn), 0);
	cr_expect(b[1].order);
	for (int i = 0; i < 6; i++)
		spawn_turn_end(&a[i].turn, 0);
	spawn_turn_end(&b[1].turn, 0);
	cr_expect_eq(spawn_turn_position(&b[1].turn), 0, "it is in no queue");
}

static struct one chain[3];

/* Its turn ends within its callback, and another asks from there. */
static void on_turn_that_fails(struct spawn_turn *t)
{
	struct one *o = CONTAINER_OF(t, struct one, turn);

	o->order = ++given;
	spawn_turn_end(t, 5);
	if (o != &chain[2]) {
		spawn_turn_init(&o[1].turn, on_turn_that_fails);
		cr_assert_eq(spawn_turn_ask(&q, &o[1].turn, "bob"), 0);
	}
}

/* on_turn may end its turn and ask for others. */
Test(gateway_spawn_queue, from_within)
{
	spawn_turn_init(&chain[0].turn, on_turn_that_fails);
	cr_assert_eq(spawn_turn_ask(&q, &chain[0].turn, "alice"), 0);
	spawn_turns_run(&q, 5);
	cr_expect(chain[0].order == 1 && chain[1].order == 2 && chain[2].order == 3);
	cr_expect(spawn_turns_are_idle(&q) && list_empty(&q.owners));
}

/* Owners who have used time and are away are forgotten above a bound, while others go on. */
Test(gateway_spawn_queue, many_owners)
{
	static struct one all[1500];
	struct one lasting;
	size_t n = 0;

	spawn_turns_fini(&q);
	spawn_turns_init(&q, TURNS, MANY);
	asked(&lasting, "lasting");
	spawn_turns_run(&q, 0);
	for (int i = 0; i < 1500; i++) {
		char name[16];
		snprintf(name, sizeof(name), "u%d", i);
		asked(&all[i], name);
		spawn_turns_run(&q, 0);
		cr_assert(all[i].order);
		spawn_turn_end(&all[i].turn, 1000);
	}
	LIST_FOREACH (node, &q.owners)
		n += node != NULL;
	cr_expect_leq(n, 1025);
	spawn_turn_end(&lasting.turn, 1000);
	cr_expect(list_empty(&q.owners));
}
