/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool dials a listening socket of this same process; its backlog makes the connection, so everything here happens in
 * one thread and in an order that the test decides. Time is injected.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "gateway/config.h"
#include "gateway/dial.h"
#include "gateway/upstream.h"
#include "lib/scratch.h"
#include "lib/wait.h"

enum {
	SPAN_MS = 10,
	MAX = 8
};

struct waiter {
	struct upstream_ticket ticket;
	struct upstream_conn *conn; /* owned lease */
	bool failed;
	enum upstream_failure failure;
	unsigned order; /* of its end, from 1 */
};

static struct loop *loop;
static struct dialer *dialer;
static struct scratch dir;
static struct upstream *up;
static struct config_upstream config;
static uint64_t now_ms;
static int listening;
static int accepted[32];
static unsigned naccepted;
static unsigned ended;
static unsigned readable;
static unsigned writable;

static unsigned asked; /* times that a socket was asked whether anything had come */

ssize_t __real_recv(int fd, void *to, size_t n, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t n, int flags);

ssize_t __wrap_recv(int fd, void *to, size_t n, int flags)
{
	if (flags & MSG_PEEK)
		asked++;
	return __real_recv(fd, to, n, flags);
}

static uint64_t injected_ns(void)
{
	return now_ms * 1000000u;
}

static void on_lease(struct upstream_ticket *t, struct upstream_conn *c)
{
	struct waiter *w = CONTAINER_OF(t, struct waiter, ticket);

	w->conn = c;
	w->order = ++ended;
}

static void on_failure(struct upstream_ticket *t, enum upstream_failure failure, const char *why)
{
	struct waiter *w = CONTAINER_OF(t, struct waiter, ticket);

	cr_expect(why && why[0]);
	w->failed = true;
	w->failure = failure;
	w->order = ++ended;
}

static void on_readable(void *arg)
{
	struct upstream_conn **c = arg;
	char bytes[16];

	readable++;
	cr_expect_neq(upstream_conn_recv(*c, bytes, sizeof(bytes)), -EAGAIN);
}

static void on_writable(void *arg)
{
	struct upstream_conn **c = arg;

	writable++;
	upstream_conn_want_write(*c, false);
}

static const struct upstream_events events = {on_readable, on_writable};

static void turn(void)
{
	int fd;

	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	loop_run_deferred(loop);
	while (listening >= 0 && (fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		cr_assert_lt(naccepted, sizeof(accepted) / sizeof(accepted[0]));
		accepted[naccepted++] = fd;
	}
}

static void turn_for(unsigned ms)
{
	uint64_t until = wait_now_ms() + ms;

	do {
		turn();
		usleep(500);
	} while (wait_now_ms() < until);
}

/* Turns until the waiter has what it waits for. */
static void await(const struct waiter *w)
{
	uint64_t until = wait_now_ms() + WAIT_MS;

	while (!w->order && wait_now_ms() < until)
		turn();
	cr_assert(w->order, "a ticket neither got a connection nor an error");
}

static void listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(listening, 64), 0);
}

static void begin(void)
{
	now_ms = 1000;
	clock_set_source(injected_ns);
	log_set_level(LOG_LEVEL_ERROR);
	scratch_init(&dir);
	loop = loop_new();
	dialer = dialer_new(loop);
	cr_assert(loop && dialer);
	listen_at(scratch_path(&dir, "up.sock"));
	memset(&config, 0, sizeof(config));
	config_upstream_defaults(&config);
	config.scheme = CONFIG_UNIX;
	config.name = (char *)(uintptr_t) "main";
	config.url = (char *)(uintptr_t) "unix:///up.sock";
	config.pool.max_connections = MAX;
	config.pool.max_idle = MAX;
	config.pool.idle_timeout_ms = SPAN_MS;
	config.pool.wait_timeout_ms = SPAN_MS;
	config.pool.lifetime_ms = 0;
}

static void start(void)
{
	if (!config.pool.max_per_identity)
		config.pool.max_per_identity = config.pool.max_connections;
	up = upstream_new(loop, dialer, &config, scratch_path(&dir, "up.sock"));
	cr_assert_not_null(up);
}

static void end(void)
{
	upstream_unref(up);
	turn_for(5);
	for (unsigned i = 0; i < naccepted; i++)
		close(accepted[i]);
	if (listening >= 0)
		close(listening);
	/* Whatever is left of a pool would be a leak, or a dial that the dialer counts. */
	dialer_free(dialer);
	loop_free(loop);
	scratch_fini(&dir);
	clock_set_source(NULL);
}

TestSuite(gateway_upstream, .init = begin, .fini = end, .timeout = 60);

static enum upstream_lease ask_as(struct waiter *w, const char *identity, bool fresh)
{
	enum upstream_lease got;

	memset(w, 0, sizeof(*w));
	w->ticket.identity = identity;
	w->ticket.on_lease = on_lease;
	w->ticket.on_failure = on_failure;
	got = upstream_lease(up, &w->ticket, fresh, &w->conn);
	cr_assert_eq(got == UPSTREAM_LEASE_NOW, w->conn != NULL);
	return got;
}

static enum upstream_lease ask(struct waiter *w, bool fresh)
{
	return ask_as(w, "alice", fresh);
}

/* Asks and waits. */
static void lease(struct waiter *w)
{
	if (ask(w, false) == UPSTREAM_LEASE_WAIT)
		await(w);
	cr_assert_not_null(w->conn);
}

static void give_back(struct waiter *w, bool reusable)
{
	upstream_release(&w->conn, reusable);
	cr_assert_null(w->conn);
}

/* Which accepted socket belongs to a lease: what is sent there arrives here. */
static unsigned number_of(const struct waiter *w)
{
	char byte;

	cr_assert_eq(upstream_conn_send(w->conn, "n", 1), 1);
	for (unsigned i = 0; i < naccepted; i++)
		if (recv(accepted[i], &byte, 1, MSG_DONTWAIT) == 1)
			return i;
	cr_assert_fail("the byte arrived nowhere");
	return 0;
}

static void expect_gauges(size_t connections, size_t idle, size_t leased, size_t waiting)
{
	struct upstream_gauges g = upstream_gauges(up);

	cr_expect_eq(g.connections, connections, "%zu connections, not %zu", g.connections, connections);
	cr_expect_eq(g.idle, idle, "%zu idle, not %zu", g.idle, idle);
	cr_expect_eq(g.leased, leased, "%zu leased, not %zu", g.leased, leased);
	cr_expect_eq(g.waiting, waiting, "%zu waiting, not %zu", g.waiting, waiting);
}

/* One after the other: one connection serves all. */
Test(gateway_upstream, reuse)
{
	struct waiter w;

	start();
	cr_expect_str_eq(upstream_name(up), "main");
	cr_expect_str_eq(upstream_authority(up), "localhost");
	lease(&w);
	cr_expect_not(upstream_conn_reused(w.conn));
	for (unsigned i = 0; i < 200; i++) {
		give_back(&w, true);
		cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_NOW);
		cr_assert(upstream_conn_reused(w.conn));
	}
	turn();
	cr_expect_eq(naccepted, 1);
	cr_expect_eq(upstream_counters(up).leases, 201);
	cr_expect_eq(upstream_counters(up).reused, 200);
	cr_expect_eq(upstream_counters(up).dials, 1);
	give_back(&w, true);
}

/* The one given back last is used first. */
Test(gateway_upstream, last_in_first_out)
{
	struct waiter w[3];
	unsigned last;

	start();
	for (unsigned i = 0; i < 3; i++)
		lease(&w[i]);
	last = number_of(&w[1]);
	give_back(&w[0], true);
	give_back(&w[2], true);
	give_back(&w[1], true);
	cr_assert_eq(ask(&w[0], false), UPSTREAM_LEASE_NOW);
	cr_expect_eq(number_of(&w[0]), last);
	give_back(&w[0], true);
}

/* Never more than max_connections, however many ask; all are served in the order of their asking. */
Test(gateway_upstream, cap_and_order)
{
	struct waiter w[20];

	config.pool.max_connections = 2;
	start();
	for (unsigned i = 0; i < 20; i++)
		cr_assert_eq(ask(&w[i], false), UPSTREAM_LEASE_WAIT);
	for (unsigned i = 0; i < 20; i++) {
		await(&w[i]);
		cr_expect_eq(w[i].order, i + 1);
		cr_assert_leq(upstream_gauges(up).connections, 2);
		give_back(&w[i], i % 3 != 0);
	}
	turn_for(5);
	cr_expect_eq(upstream_counters(up).peak, 2);
	cr_expect_eq(upstream_counters(up).leases, 20);
	expect_gauges(1, 1, 0, 0);
}

/* The queue holds max_waiting beyond those for whom the pool still has room. */
Test(gateway_upstream, queue_full)
{
	struct waiter w[5];

	config.pool.max_connections = 2;
	config.pool.max_waiting = 1;
	start();
	for (unsigned i = 0; i < 3; i++)
		cr_assert_eq(ask(&w[i], false), UPSTREAM_LEASE_WAIT);
	cr_expect_eq(ask(&w[3], false), UPSTREAM_LEASE_FULL);
	await(&w[0]);
	await(&w[1]);
	cr_expect_eq(ask(&w[4], false), UPSTREAM_LEASE_FULL);
	expect_gauges(2, 0, 2, 1);
	/* A ticket that was turned away, or has ended, may be cancelled all the same. */
	upstream_ticket_cancel(&w[3].ticket);
	upstream_ticket_cancel(&w[0].ticket);
	expect_gauges(2, 0, 2, 1);
	upstream_ticket_cancel(&w[2].ticket);
	expect_gauges(2, 0, 2, 0);
	cr_expect_eq(ask(&w[4], false), UPSTREAM_LEASE_WAIT);
	give_back(&w[0], false);
	await(&w[4]);
	cr_expect_not_null(w[4].conn);
	give_back(&w[1], true);
	give_back(&w[4], true);
	cr_expect_eq(upstream_counters(up).refused, 2);
}

/* With max_waiting 0 nobody waits for another's connection, but a free place is dialled for. */
Test(gateway_upstream, no_queue)
{
	struct waiter w[2];

	config.pool.max_connections = 1;
	config.pool.max_waiting = 0;
	start();
	lease(&w[0]);
	cr_expect_eq(ask(&w[1], false), UPSTREAM_LEASE_FULL);
	give_back(&w[0], true);
	cr_expect_eq(ask(&w[1], false), UPSTREAM_LEASE_NOW);
	give_back(&w[1], true);
}

/* Who waits longer than wait_timeout is told so; the connection then goes to the next one. */
Test(gateway_upstream, wait_timeout)
{
	struct waiter holder;
	struct waiter late;
	struct waiter next;

	config.pool.max_connections = 1;
	start();
	lease(&holder);
	cr_assert_eq(ask(&late, false), UPSTREAM_LEASE_WAIT);
	turn_for(50);
	cr_expect_eq(late.order, 0, "the clock stands still");
	now_ms += SPAN_MS;
	cr_assert_eq(ask(&next, false), UPSTREAM_LEASE_WAIT);
	await(&late);
	cr_expect(late.failed);
	cr_expect_eq(late.failure, UPSTREAM_WAITED);
	cr_expect_eq(next.order, 0);
	give_back(&holder, true);
	await(&next);
	cr_expect_not_null(next.conn);
	give_back(&next, true);
	cr_expect_eq(upstream_counters(up).refused, 1);
}

/* A cancelled ticket hears nothing more, even if its dial ends well; that connection stays for others. */
Test(gateway_upstream, cancel)
{
	struct waiter w;

	start();
	cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_WAIT);
	turn();
	upstream_ticket_cancel(&w.ticket);
	upstream_ticket_cancel(&w.ticket);
	turn_for(20);
	cr_expect_eq(w.order, 0);
	expect_gauges(1, 1, 0, 0);
	cr_expect_eq(ask(&w, false), UPSTREAM_LEASE_NOW);
	cr_expect_not(upstream_conn_reused(w.conn));
	give_back(&w, true);
}

/* C15: an idle connection that closes or speaks is gone, whether or not the loop has turned meanwhile. */
Test(gateway_upstream, eviction)
{
	struct waiter w;

	start();
	for (unsigned how = 0; how < 4; how++) {
		unsigned i;
		lease(&w);
		i = number_of(&w);
		cr_expect_not(upstream_conn_reused(w.conn));
		give_back(&w, true);
		if (how % 2)
			shutdown(accepted[i], SHUT_RDWR);
		else
			cr_assert_eq(send(accepted[i], "HTTP/1.1 200 OK\r\n", 17, MSG_NOSIGNAL), 17);
		if (how / 2) {
			turn_for(5);
			expect_gauges(0, 0, 0, 0);
		} else {
			cr_expect_eq(ask(&w, false), UPSTREAM_LEASE_WAIT);
			upstream_ticket_cancel(&w.ticket);
			turn_for(5);
			now_ms += SPAN_MS;
			turn_for(100);
		}
		cr_expect_eq(upstream_counters(up).evicted, how + 1);
	}
}

/* Leases a connection in each of some turns, in work put off or, as orphans do, within a callback. */
struct turner {
	struct deferred deferred;
	struct event *tick; /* owned */
	struct waiter waiter;
	bool in_callback;
	unsigned turns;
	enum upstream_lease last;
};

static void lease_in_turn(struct turner *t)
{
	t->last = ask(&t->waiter, false);
	upstream_release(&t->waiter.conn, true);
	if (++t->turns == 5 || t->last != UPSTREAM_LEASE_NOW)
		loop_stop(loop);
}

static void on_turner(struct deferred *d)
{
	lease_in_turn(CONTAINER_OF(d, struct turner, deferred));
}

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
	struct turner *t = arg;

	(void)fd;
	(void)what;
	if (t->in_callback)
		lease_in_turn(t);
	else
		loop_defer(loop, &t->deferred);
}

static void run_turner(struct turner *t, bool in_callback)
{
	const struct timeval soon = {0, 1000};

	memset(t, 0, sizeof(*t));
	t->in_callback = in_callback;
	deferred_init(&t->deferred, on_turner);
	t->tick = event_new(loop_base(loop), -1, EV_PERSIST, on_turn, t);
	cr_assert_eq(event_add(t->tick, &soon), 0);
	asked = 0;
	loop_run(loop);
	event_free(t->tick);
}

/*
 * When the turn has told of all idle connections that closed or spoke, no socket is asked once more: that would be a
 * system call for each request. Before that it is.
 */
Test(gateway_upstream, silence_is_known)
{
	struct turner t;
	struct waiter w;

	config.pool.idle_timeout_ms = 3600000;
	start();
	lease(&w);
	give_back(&w, true);
	run_turner(&t, false);
	cr_expect_eq(t.turns, 5);
	cr_expect_eq(asked, 0);
	run_turner(&t, true);
	cr_expect_eq(t.turns, 5);
	cr_expect_eq(asked, 5);
	cr_expect_eq(upstream_counters(up).reused, 10);
}

/* C15: what came before the turn evicts the connection, whenever in the turn it is asked for. */
Test(gateway_upstream, C15_spoken_before_the_turn)
{
	struct turner t;
	struct waiter w;

	start();
	for (unsigned how = 0; how < 2; how++) {
		unsigned i;
		lease(&w);
		i = number_of(&w);
		give_back(&w, true);
		cr_assert_eq(send(accepted[i], "HTTP/1.1 200 OK\r\n", 17, MSG_NOSIGNAL), 17);
		run_turner(&t, how);
		cr_expect_eq(t.turns, 1);
		cr_expect_eq(t.last, UPSTREAM_LEASE_WAIT);
		cr_expect_eq(upstream_counters(up).evicted, how + 1);
		upstream_ticket_cancel(&t.waiter.ticket);
		turn_for(5);
		now_ms += SPAN_MS;
		turn_for(100);
	}
}

/* A connection that was not used for idle_timeout is closed. */
Test(gateway_upstream, idle_timeout)
{
	struct waiter w;

	start();
	lease(&w);
	now_ms += 10 * SPAN_MS;
	turn_for(50);
	expect_gauges(1, 0, 1, 0);
	give_back(&w, true);
	turn_for(50);
	expect_gauges(1, 1, 0, 0);
	now_ms += SPAN_MS;
	turn_for(100);
	expect_gauges(0, 0, 0, 0);
	cr_expect_eq(upstream_counters(up).idle_expired, 1);
	cr_expect_eq(upstream_counters(up).evicted, 0);
}

/* Of more than max_idle the ones unused for longest are closed, a second after they were last used. */
Test(gateway_upstream, max_idle)
{
	struct waiter w[4];
	unsigned kept;

	config.pool.max_idle = 1;
	config.pool.idle_timeout_ms = 5000;
	start();
	for (unsigned i = 0; i < 4; i++)
		lease(&w[i]);
	kept = number_of(&w[3]);
	for (unsigned i = 0; i < 4; i++)
		give_back(&w[i], true);
	turn_for(5);
	/* Not at once: the next turn may want them again. */
	expect_gauges(4, 4, 0, 0);
	now_ms += 1000;
	turn_for(100);
	expect_gauges(1, 1, 0, 0);
	cr_assert_eq(ask(&w[0], false), UPSTREAM_LEASE_NOW);
	cr_expect_eq(number_of(&w[0]), kept);
	give_back(&w[0], true);
}

/* max_idle 0 keeps none, but one that is given back still serves who waits. */
Test(gateway_upstream, no_idle)
{
	struct waiter w[2];

	config.pool.max_connections = 1;
	config.pool.max_idle = 0;
	start();
	lease(&w[0]);
	cr_assert_eq(ask(&w[1], false), UPSTREAM_LEASE_WAIT);
	give_back(&w[0], true);
	await(&w[1]);
	cr_expect(upstream_conn_reused(w[1].conn));
	give_back(&w[1], true);
	turn_for(5);
	expect_gauges(0, 0, 0, 0);
}

/* Older than its lifetime, it is not leased again; while it is leased nothing happens to it. */
Test(gateway_upstream, lifetime)
{
	struct waiter w;

	config.pool.lifetime_ms = 1000;
	config.pool.idle_timeout_ms = 3600000;
	start();
	lease(&w);
	give_back(&w, true);
	now_ms += 1000;
	cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_NOW, "not older yet");
	now_ms += 1;
	give_back(&w, true);
	cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_WAIT);
	await(&w);
	cr_expect_not(upstream_conn_reused(w.conn));
	give_back(&w, true);
	cr_expect_eq(naccepted, 2);
}

/* What its holder calls not reusable is closed, and its place is dialled anew for who waits. */
Test(gateway_upstream, not_reusable)
{
	struct waiter w[2];
	unsigned i;
	char byte;

	config.pool.max_connections = 1;
	start();
	lease(&w[0]);
	i = number_of(&w[0]);
	cr_assert_eq(ask(&w[1], false), UPSTREAM_LEASE_WAIT);
	give_back(&w[0], false);
	await(&w[1]);
	cr_expect_not(upstream_conn_reused(w[1].conn));
	cr_expect_neq(number_of(&w[1]), i);
	cr_expect_eq(recv(accepted[i], &byte, 1, 0), 0, "it was not closed");
	give_back(&w[1], false);
	upstream_release(&w[1].conn, true); /* nothing is held: harmless */
}

/* A fresh one is asked for after a kept one failed: the other kept ones go, too. */
Test(gateway_upstream, fresh)
{
	struct waiter w[3];

	start();
	for (unsigned i = 0; i < 3; i++)
		lease(&w[i]);
	give_back(&w[0], true);
	give_back(&w[1], true);
	cr_assert_eq(ask(&w[0], true), UPSTREAM_LEASE_WAIT);
	expect_gauges(1, 0, 1, 1);
	await(&w[0]);
	cr_expect_not(upstream_conn_reused(w[0].conn));
	give_back(&w[0], true);
	give_back(&w[2], true);
}

/* What is given back while a fresh one is waited for does not pass for one. */
Test(gateway_upstream, regress_fresh_is_fresh)
{
	struct waiter w[2];

	config.pool.max_connections = 1;
	start();
	lease(&w[0]);
	give_back(&w[0], true);
	lease(&w[0]);
	cr_assert_eq(ask(&w[1], true), UPSTREAM_LEASE_WAIT);
	give_back(&w[0], true);
	await(&w[1]);
	cr_expect_not(upstream_conn_reused(w[1].conn));
	give_back(&w[1], true);
	cr_expect_eq(naccepted, 2);
}

/* A failed dial is told to one who waits, with libcurl's words, and remembered until one goes well. */
Test(gateway_upstream, refused)
{
	struct waiter w[2];

	start();
	close(listening);
	listening = -1;
	unlink(scratch_path(&dir, "up.sock"));
	cr_expect_null(upstream_trouble(up));
	cr_assert_eq(ask(&w[0], false), UPSTREAM_LEASE_WAIT);
	cr_assert_eq(ask(&w[1], false), UPSTREAM_LEASE_WAIT);
	await(&w[0]);
	await(&w[1]);
	cr_expect(w[0].failed && w[1].failed);
	cr_expect_eq(w[0].failure, UPSTREAM_REFUSED);
	cr_expect_eq(upstream_counters(up).dial_failures, 2);
	cr_expect_not_null(upstream_trouble(up));
	expect_gauges(0, 0, 0, 0);
	listen_at(scratch_path(&dir, "up.sock"));
	lease(&w[0]);
	cr_expect_null(upstream_trouble(up));
	give_back(&w[0], true);
}

/* Those who wait are served in turn, one of each identity, whatever the order in which they came. */
Test(gateway_upstream, turns)
{
	static const char *const who[] = {"alice", "alice", "alice", "alice", "bob", "bob", "carol"};
	static const unsigned order[] = {1, 4, 6, 7, 2, 5, 3};
	struct waiter holder;
	struct waiter w[7];

	config.pool.max_connections = 1;
	start();
	lease(&holder);
	for (unsigned i = 0; i < 7; i++)
		cr_assert_eq(ask_as(&w[i], who[i], false), UPSTREAM_LEASE_WAIT);
	ended = 0;
	give_back(&holder, true);
	for (unsigned turn_of = 1; turn_of <= 7; turn_of++) {
		for (unsigned i = 0; i < 7; i++) {
			if (order[i] != turn_of)
				continue;
			await(&w[i]);
			cr_expect_eq(w[i].order, turn_of, "%s, waiter %u", who[i], i);
			give_back(&w[i], true);
		}
	}
}

/* K16: one identity never holds more than max_per_identity, and what it leaves is another's at once. */
Test(gateway_upstream, share_of_an_identity)
{
	struct waiter w[4];
	struct waiter other;

	config.pool.max_connections = 4;
	config.pool.max_per_identity = 3;
	start();
	for (unsigned i = 0; i < 3; i++)
		lease(&w[i]);
	cr_assert_eq(ask(&w[3], false), UPSTREAM_LEASE_WAIT);
	turn_for(20);
	cr_expect_eq(w[3].order, 0);
	expect_gauges(3, 0, 3, 1);
	if (ask_as(&other, "bob", false) == UPSTREAM_LEASE_WAIT)
		await(&other);
	cr_expect_not_null(other.conn);
	give_back(&other, true);
	turn_for(20);
	cr_expect_eq(w[3].order, 0, "there is an idle connection, and it is not for alice");
	give_back(&w[0], true);
	await(&w[3]);
	for (unsigned i = 1; i < 4; i++)
		give_back(&w[i], true);
}

/* A quarter of the queue's places is the most that one identity takes. */
Test(gateway_upstream, share_of_the_queue)
{
	struct waiter holder;
	struct waiter w[3];
	struct waiter other;

	config.pool.max_connections = 1;
	config.pool.max_waiting = 8;
	start();
	lease(&holder);
	for (unsigned i = 0; i < 2; i++)
		cr_expect_eq(ask(&w[i], false), UPSTREAM_LEASE_WAIT);
	cr_expect_eq(ask(&w[2], false), UPSTREAM_LEASE_FULL);
	cr_expect_eq(ask_as(&other, "bob", false), UPSTREAM_LEASE_WAIT);
	for (unsigned i = 0; i < 2; i++)
		upstream_ticket_cancel(&w[i].ticket);
	upstream_ticket_cancel(&other.ticket);
	give_back(&holder, true);
}

/* Five failed dials in a row: nobody waits any longer, nor later comers, until the server can be reached again. */
Test(gateway_upstream, circuit)
{
	struct waiter w[10];
	struct waiter late;
	uint64_t until;

	config.pool.max_connections = 6;
	start();
	close(listening);
	listening = -1;
	unlink(scratch_path(&dir, "up.sock"));
	for (unsigned i = 0; i < 10; i++)
		cr_assert_eq(ask(&w[i], false), UPSTREAM_LEASE_WAIT);
	for (unsigned i = 0; i < 10; i++) {
		await(&w[i]);
		cr_expect(w[i].failed);
	}
	cr_expect_leq(upstream_counters(up).dials, 6, "the others were told only by further dials");
	cr_expect_eq(ask(&late, false), UPSTREAM_LEASE_DOWN);
	cr_expect_eq(upstream_counters(up).circuit_opened, 1);
	cr_expect_eq(upstream_counters(up).circuit_refused, 1);
	listen_at(scratch_path(&dir, "up.sock"));
	until = wait_now_ms() + WAIT_MS;
	while (upstream_trouble(up) && wait_now_ms() < until)
		turn();
	lease(&late);
	give_back(&late, true);
}

/* Milliseconds until one more dial is made. */
static uint64_t until_next_dial(void)
{
	uint64_t dials = upstream_counters(up).dials, from = wait_now_ms();

	while (upstream_counters(up).dials == dials && wait_now_ms() - from < WAIT_MS)
		turn();
	return wait_now_ms() - from;
}

/* F31: a closed door is tried at growing intervals, each a little longer than its length by what the clock happens to say. */
Test(gateway_upstream, back_off)
{
	struct waiter w[5];

	config.pool.max_connections = 5;
	start();
	close(listening);
	listening = -1;
	unlink(scratch_path(&dir, "up.sock"));
	/* The microseconds of the clock are what is added to the first interval, up to 20 ms. */
	while (now_ms * 1000 % 21 != 20)
		now_ms++;
	for (unsigned i = 0; i < 5; i++) {
		cr_assert_eq(ask(&w[i], false), UPSTREAM_LEASE_WAIT);
		await(&w[i]);
	}
	cr_assert_eq(upstream_counters(up).circuit_opened, 1);
	for (unsigned i = 0, ms = 100; i < 4; i++, ms *= 2) {
		uint64_t took = until_next_dial();

		cr_expect_geq(took + 3, i ? ms : 120, "try %u after %llu ms", i, (unsigned long long)took);
		cr_expect_lt(took, ms * 6 / 5 + 400, "try %u after %llu ms", i, (unsigned long long)took);
	}
	cr_expect_eq(upstream_counters(up).circuit_opened, 1);
}

/* min_idle connections are there before anybody asks, and again after they are gone. */
Test(gateway_upstream, min_idle)
{
	struct waiter w;

	config.pool.min_idle = 2;
	start();
	turn_for(20);
	expect_gauges(2, 2, 0, 0);
	cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_NOW);
	turn_for(20);
	expect_gauges(3, 2, 1, 0);
	give_back(&w, true);
	for (unsigned i = 0; i < naccepted; i++)
		shutdown(accepted[i], SHUT_RDWR);
	turn_for(20);
	expect_gauges(2, 2, 0, 0);
}

/* The holder hears of bytes and of room, but not after its lease; a pause holds bytes back and loses none. */
Test(gateway_upstream, events)
{
	struct waiter w;
	unsigned i;

	start();
	lease(&w);
	i = number_of(&w);
	upstream_conn_listen(w.conn, &events, &w.conn);
	upstream_conn_pause_read(w.conn, true);
	cr_assert_eq(send(accepted[i], "x", 1, 0), 1);
	turn_for(5);
	cr_expect_eq(readable, 0);
	upstream_conn_pause_read(w.conn, false);
	turn_for(5);
	cr_expect_eq(readable, 1);
	cr_expect_eq(writable, 0);
	upstream_conn_want_write(w.conn, true);
	turn_for(5);
	cr_expect_eq(writable, 1);
	/* Given back with both interests set as an exchange may leave them: idle means watched, and not for writing. */
	upstream_conn_want_write(w.conn, true);
	upstream_conn_pause_read(w.conn, true);
	give_back(&w, true);
	turn_for(5);
	cr_expect_eq(writable, 1);
	shutdown(accepted[i], SHUT_RDWR);
	turn_for(5);
	cr_expect_eq(readable, 1);
	expect_gauges(0, 0, 0, 0);
}

/* A connection that breaks under its holder says so as recv and send do. */
Test(gateway_upstream, broken)
{
	struct waiter w;
	unsigned i;
	char byte;

	start();
	lease(&w);
	i = number_of(&w);
	cr_expect_eq(upstream_conn_recv(w.conn, &byte, 1), -EAGAIN);
	shutdown(accepted[i], SHUT_RDWR);
	cr_expect_eq(upstream_conn_recv(w.conn, &byte, 1), 0);
	cr_expect_eq(upstream_conn_send(w.conn, "x", 1), -EPIPE);
	give_back(&w, false);
}

/* The last reference closes what rests and what is being dialled; a lease outlives it, and ends the pool. */
Test(gateway_upstream, references)
{
	struct waiter held;
	struct waiter w;
	unsigned kept;
	char byte;

	start();
	lease(&held);
	lease(&w);
	kept = number_of(&held);
	give_back(&w, true);
	cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_NOW);
	give_back(&w, true);
	/* As an exchange does: it holds a reference as long as its lease. */
	cr_expect_eq(upstream_ref(up), up);
	upstream_unref(up);
	turn_for(5);
	expect_gauges(2, 1, 1, 0);
	give_back(&held, true);
	upstream_unref(up);
	up = NULL;
	turn_for(5);
	cr_expect_eq(recv(accepted[kept], &byte, 1, 0), 0, "the pool is gone, its connection is not");
}

/* The same while dialling. */
Test(gateway_upstream, dropped_while_dialling)
{
	struct waiter w;

	start();
	cr_assert_eq(ask(&w, false), UPSTREAM_LEASE_WAIT);
	turn();
	upstream_ticket_cancel(&w.ticket);
	upstream_unref(up);
	up = NULL;
	turn_for(20);
	cr_expect_eq(w.order, 0);
}

/* Host names the server as it was configured; the default port is not written (RFC 9110 7.2). */
Test(gateway_upstream, authority)
{
	config.scheme = CONFIG_HTTP;
	config.host = (char *)(uintptr_t) "[::1]";
	config.port = 80;
	up = upstream_new(loop, dialer, &config, NULL);
	cr_expect_str_eq(upstream_authority(up), "[::1]");
	upstream_unref(up);
	config.port = 7000;
	up = upstream_new(loop, dialer, &config, NULL);
	cr_expect_str_eq(upstream_authority(up), "[::1]:7000");
}
