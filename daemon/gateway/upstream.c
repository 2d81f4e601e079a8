/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   DIALLING ---> IDLE <---> LEASED
 *       |           |           |
 *       +---------> CLOSED <----+
 *
 * A connection is dialled when somebody waits and the cap allows one more; it joins the idle ones (last in, first out)
 * and is matched with the first who waits, at the end of the turn, so that nobody is called from within a release. Its
 * descriptor is registered once, for reading; while idle, any readability (a close, or a byte that nobody asked for)
 * evicts it. Who holds the lease says at its end whether it may be used again; that is the only way back.
 *
 * Those who wait queue per identity, and the queues are served in turn, so that nobody waits for all of another's requests;
 * and no identity holds more than pool.max_per_identity connections, so that nobody's streams fill the pool.
 *
 * A failed dial fails one who waits; the others' dials go on. After several failures in a row the circuit opens: nothing is
 * dialled and everybody is told at once, until a single dial, tried again and again at growing intervals, succeeds. Only
 * dials count: a server that breaks off an answer may still answer the next request.
 */
#include "gateway/upstream.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/process.h"
#include "gateway/config.h"
#include "gateway/dial_place.h"

enum conn_state {
	CONN_DIALLING,
	CONN_IDLE,
	CONN_LEASED,
	CONN_CLOSED,
	CONN_STATES,
};

static const char *const conn_state_names[CONN_STATES] = {"dialling", "idle", "leased", "closed"};

static const uint32_t conn_edges[CONN_STATES] = {
	[CONN_DIALLING] = SM_TO(CONN_IDLE) | SM_TO(CONN_CLOSED),
	[CONN_IDLE] = SM_TO(CONN_LEASED) | SM_TO(CONN_CLOSED),
	[CONN_LEASED] = SM_TO(CONN_IDLE) | SM_TO(CONN_CLOSED),
	[CONN_CLOSED] = 0,
};

static const struct sm conn_sm = {"upstream connection", conn_state_names, conn_edges, CONN_STATES};

/* Failed dials in a row that open the circuit, and how long until the next is tried. */
enum {
	CIRCUIT_FAILURES = 5,
	CIRCUIT_MIN_MS = 100,
	CIRCUIT_MAX_MS = 5000,
	FULL_PAUSE_MS = 10000
};

enum {
	OWNER_BUCKETS = 64,
	SURPLUS_MS = 1000,
	RESTED_MANY = 16 /* whose memory is worth the system's while */
};

/* One identity that holds or waits for connections. */
struct upstream_owner {
	struct list link;    /* in its bucket */
	struct list turn;    /* on the upstream's list of those whose turn comes, while it waits */
	struct list waiting; /* struct upstream_ticket, the longest waiting first */
	size_t nwaiting;
	size_t held; /* leased connections */
	char name[]; /* terminated */
};

struct upstream {
	unsigned refs;
	uint64_t serial;
	struct loop *loop;                 /* borrowed */
	struct dialer *dialer;             /* borrowed */
	struct config_upstream config;     /* own copy; of what it points to only name and url, both owned */
	char *name;                        /* owned */
	struct dial_place place;           /* how it is dialled */
	struct list idle;                  /* struct upstream_conn, the one used last first */
	struct list leased;                /* struct upstream_conn */
	struct list dialling;              /* struct upstream_conn */
	struct list turns;                 /* struct upstream_owner with tickets, whose turn is next first */
	struct list owners[OWNER_BUCKETS]; /* struct upstream_owner, by hash of the name */
	size_t nidle;
	size_t nleased;
	size_t ndialling;
	size_t nwaiting;
	size_t nurgent; /* of them */
	struct deadline_queue idle_deadlines;
	struct deadline_queue wait_deadlines;
	struct deadline_queue surplus_deadlines;
	struct deadline surplus;                                  /* set while more than max_idle are idle */
	struct deadline rest;                                     /* set while idle ones have memory to give up */
	struct deadline_queue exchange_deadlines[UPSTREAM_WAITS]; /* of those who hold leases */
	struct deferred deliver;                                  /* matches idle connections with tickets */
	struct upstream_counters counters;
	char trouble[128];           /* the last dial's error; empty: none */
	struct upstream_owner *last; /* who was looked up last, kept for the next; or NULL */
	unsigned failures;           /* dials that failed in a row */
	bool circuit_open;
	bool previews;         /* no connection is used twice, and no circuit opens */
	bool quiet;            /* nothing is logged of dials, and no circuit opens */
	bool far;              /* with previews: nothing near is dialled */
	bool abandoned;        /* nobody holds a reference but its own connections */
	unsigned circuit_ms;   /* until the next try */
	uint64_t full_told_ms; /* when the log said last that requests are turned away; 0: never */
	uint64_t refused_told; /* how many it had said by then */
	struct event *retry;   /* owned; pending since a dial failed, until it is tried again */
};

struct upstream_conn {
	struct list link;             /* on the list of its state */
	struct upstream *upstream;    /* owned reference */
	struct upstream_owner *owner; /* borrowed; who holds the lease */
	enum conn_state state;
	unsigned long long id;
	struct dial *dial;        /* owned */
	int fd;                   /* borrowed from the dial */
	struct event *readable;   /* owned; registered from the end of the dial on */
	struct event *writable;   /* owned; pending only while the holder wants to write */
	struct deadline deadline; /* idle_timeout */
	struct deferred destroy;
	uint64_t born_ms;
	uint64_t idle_since_ms;               /* clock_ms() of the last move to idle */
	uint64_t idle_turn;                   /* loop_turn() of it */
	uint64_t drained_turn;                /* loop_turn() in which it was last read to the end of what had come */
	uint64_t served;                      /* leases so far */
	bool asked;                           /* dialled for a request */
	bool rested;                          /* idle, and it has given up what it can */
	bool read_paused;                     /* `readable` is not pending */
	bool wants_write;                     /* `writable` is pending */
	const struct upstream_events *events; /* borrowed; of the holder */
	void *arg;
};

static unsigned long long next_conn_id = 1;
static uint64_t next_serial = 1;

const struct sm *upstream_conn_sm(void)
{
	return &conn_sm;
}

/* --- identities ------------------------------------------------------------------------------------------------------ */

static struct list *bucket_of(struct upstream *u, const char *name)
{
	return &u->owners[str_hash(str_from(name)) % OWNER_BUCKETS];
}

/* Forgets an identity that neither holds nor waits, but for the one that was looked up last. */
static void owner_maybe_free(const struct upstream *u, struct upstream_owner *o)
{
	if (!o || o->held || o->nwaiting || o == u->last)
		return;
	list_remove(&o->turn);
	list_remove(&o->link);
	free(o);
}

static struct upstream_owner *keep_owner(struct upstream *u, struct upstream_owner *o)
{
	struct upstream_owner *before = u->last;

	u->last = o;
	owner_maybe_free(u, before);
	return o;
}

static struct upstream_owner *owner_of(struct upstream *u, const char *name)
{
	struct list *bucket;
	struct upstream_owner *o;
	size_t n;

	/* Often it is the same as before. */
	if (u->last && strcmp(u->last->name, name) == 0)
		return u->last;
	bucket = bucket_of(u, name);
	LIST_FOREACH (node, bucket) {
		o = CONTAINER_OF(node, struct upstream_owner, link);
		if (strcmp(o->name, name) == 0)
			return keep_owner(u, o);
	}
	n = strlen(name) + 1;
	o = calloc(1, sizeof(*o) + n);
	if (!o)
		return NULL;
	memcpy(o->name, name, n);
	list_init(&o->turn);
	list_init(&o->waiting);
	list_add_head(bucket, &o->link);
	return keep_owner(u, o);
}

/* How many of its tickets could be served now if there were connections. */
static size_t owner_room(const struct upstream *u, const struct upstream_owner *o)
{
	size_t room = u->config.pool.max_per_identity > o->held ? u->config.pool.max_per_identity - o->held : 0;

	return o->nwaiting < room ? o->nwaiting : room;
}

/* --- one mover: lists and counts follow the state ----------------------------------------------------------------- */

static void leave_state(struct upstream_conn *c)
{
	struct upstream *u = c->upstream;

	list_remove(&c->link);
	deadline_clear(&c->deadline);
	switch (c->state) {
	case CONN_DIALLING:
		u->ndialling--;
		break;
	case CONN_IDLE:
		u->nidle--;
		break;
	case CONN_LEASED:
		u->nleased--;
		c->owner->held--;
		owner_maybe_free(u, c->owner);
		c->owner = NULL;
		break;
	case CONN_CLOSED:
	case CONN_STATES:
		break;
	}
}

static void conn_move(struct upstream_conn *c, enum conn_state to)
{
	struct upstream *u = c->upstream;

	leave_state(c);
	c->state = sm_move(&conn_sm, c->id, c->state, to);
	switch (to) {
	case CONN_IDLE:
		list_add_head(&u->idle, &c->link);
		u->nidle++;
		c->idle_since_ms = loop_now_ms(u->loop);
		c->idle_turn = loop_turn(u->loop);
		deadline_set(&u->idle_deadlines, &c->deadline);
		c->rested = !u->place.share;
		if (!c->rested && list_empty(&u->rest.link))
			deadline_set(&u->surplus_deadlines, &u->rest);
		loop_defer(u->loop, &u->deliver);
		break;
	case CONN_LEASED:
		list_add_head(&u->leased, &c->link);
		u->nleased++;
		break;
	case CONN_CLOSED:
		/* The event goes before the descriptor: its number may be another's right afterwards. */
		if (c->readable)
			event_free(c->readable);
		if (c->writable)
			event_free(c->writable);
		c->readable = c->writable = NULL;
		loop_defer(u->loop, &c->destroy);
		break;
	case CONN_DIALLING:
	case CONN_STATES:
		CHECK(!"a connection never goes back to dialling");
	}
}

static void on_destroy(struct deferred *d)
{
	struct upstream_conn *c = CONTAINER_OF(d, struct upstream_conn, destroy);
	struct upstream *u = c->upstream;

	dial_close(&c->dial);
	free(c);
	upstream_unref(u);
}

static void conn_close(struct upstream_conn *c)
{
	struct upstream *u = c->upstream;

	conn_move(c, CONN_CLOSED);
	/* A place in the pool is free again. */
	loop_defer(u->loop, &u->deliver);
}

static size_t connections(const struct upstream *u)
{
	return u->nidle + u->nleased + u->ndialling;
}

/* --- events of a connection ------------------------------------------------------------------------------------------ */

static bool is_silent(const struct upstream_conn *c);

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct upstream_conn *c = arg;

	(void)fd;
	(void)what;
	/* With TLS it may be upstream_conn_read_again that calls. */
	if (!dial_is_tls(c->dial))
		loop_saw_ready(c->upstream->loop);
	if (c->state == CONN_LEASED) {
		if (c->events)
			c->events->on_readable(c->arg);
		return;
	}
	CHECK(c->state == CONN_IDLE);
	if (dial_is_tls(c->dial) && is_silent(c))
		return;
	c->upstream->counters.evicted++;
	log_debug("upstream %s: idle connection %llu closed or spoke: evicted", c->upstream->name, c->id);
	conn_close(c);
}

static void on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct upstream_conn *c = arg;

	(void)fd;
	(void)what;
	if (c->state == CONN_LEASED && c->events)
		c->events->on_writable(c->arg);
}

static void on_idle_expired(struct deadline *d)
{
	struct upstream_conn *c = CONTAINER_OF(d, struct upstream_conn, deadline);

	c->upstream->counters.idle_expired++;
	conn_close(c);
}

static int watch(struct upstream_conn *c)
{
	struct event_base *base = loop_base(c->upstream->loop);

	c->readable = event_new(base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	c->writable = event_new(base, c->fd, EV_WRITE | EV_PERSIST, on_writable, c);
	if (!c->readable || !c->writable || event_add(c->readable, NULL) < 0)
		return -ENOMEM;
	return 0;
}

/* --- dialling ---------------------------------------------------------------------------------------------------------- */

/* Takes a ticket out of the queue; its owner may be gone afterwards unless it holds something. */
static void ticket_done(struct upstream_ticket *t)
{
	struct upstream_owner *o = t->owner;

	list_remove(&t->link);
	deadline_clear(&t->deadline);
	t->upstream->nwaiting--;
	t->upstream->nurgent -= t->urgent;
	t->owner = NULL;
	o->nwaiting--;
	if (o->nwaiting == 0)
		list_remove(&o->turn);
	owner_maybe_free(t->upstream, o);
}

static void fail_ticket(struct upstream_ticket *t, enum upstream_failure failure, const char *why)
{
	ticket_done(t);
	t->on_failure(t, failure, why);
}

/* The one whose turn it is and who may hold one more; NULL when nobody can be served. */
static struct upstream_ticket *next_ticket(struct upstream *u)
{
	LIST_FOREACH (n, &u->turns) {
		struct upstream_owner *o = CONTAINER_OF(n, struct upstream_owner, turn);
		if (owner_room(u, o))
			return LIST_FIRST(&o->waiting, struct upstream_ticket, link);
	}
	return NULL;
}

static void fail_next(struct upstream *u, enum upstream_failure failure, const char *why)
{
	struct upstream_ticket *t = next_ticket(u);

	if (t)
		fail_ticket(t, failure, why);
}

/* --- the circuit -------------------------------------------------------------------------------------------------------- */

static void arm_retry(struct upstream *u)
{
	struct timeval tv = clock_span(clock_spread(u->circuit_ms));

	if (u->previews || u->quiet || u->abandoned || evtimer_pending(u->retry, NULL))
		return;
	/* Without memory for the timer the next request tries. */
	if (event_add(u->retry, &tv) < 0)
		u->circuit_open = false;
	u->circuit_ms = u->circuit_ms * 2 < CIRCUIT_MAX_MS ? u->circuit_ms * 2 : CIRCUIT_MAX_MS;
}

/* From now on it is tried again and again, whether anybody asks or not, so that it is known when it is back. */
static void dial_failed(struct upstream *u, const char *why, bool asked)
{
	u->counters.dial_failures++;
	if (u->trouble[0] == '\0' && !u->quiet) {
		log_warn("upstream %s: cannot connect: %s", u->name, why);
		u->circuit_ms = CIRCUIT_MIN_MS;
	}
	snprintf(u->trouble, sizeof(u->trouble), "%s", why);
	if (!u->previews && !u->quiet && !u->circuit_open && asked && ++u->failures >= CIRCUIT_FAILURES) {
		u->circuit_open = true;
		u->circuit_ms = CIRCUIT_MIN_MS;
		event_del(u->retry);
		u->counters.circuit_opened++;
		log_warn("upstream %s: %u dials failed in a row; requests are refused until one succeeds", u->name,
			 u->failures);
	}
	arm_retry(u);
}

static void circuit_close(struct upstream *u)
{
	if (u->trouble[0] && !u->quiet)
		log_info("upstream %s: connects again", u->name);
	u->trouble[0] = '\0';
	u->failures = 0;
	u->circuit_open = false;
	event_del(u->retry);
}

void upstream_recovered(struct upstream *u)
{
	if (!u->circuit_open)
		return;
	circuit_close(u);
	loop_defer(u->loop, &u->deliver);
}

#define NEAR_TEXT                                                                                                      \
	"the preview's name stands for an address of this machine or its links: if that is meant, write preview.url"

static void on_dialled(void *arg, enum dial_outcome outcome, int fd, const char *why)
{
	struct upstream_conn *c = arg;
	struct upstream *u = c->upstream;

	if (c->state == CONN_CLOSED)
		return;
	if (outcome == DIAL_OK) {
		circuit_close(u);
		c->fd = fd;
		c->born_ms = loop_now_ms(u->loop);
		if (watch(c) == 0) {
			conn_move(c, CONN_IDLE);
			return;
		}
		outcome = DIAL_FAILED;
		why = "out of memory";
	}
	if (outcome == DIAL_NEAR)
		why = NEAR_TEXT;
	upstream_ref(u);
	conn_close(c);
	dial_failed(u, why, c->asked);
	/* With the circuit open and nothing left that might be given back, the others would only wait for their time to end. */
	do
		fail_next(u, outcome == DIAL_TIMEOUT ? UPSTREAM_TIMEOUT : UPSTREAM_REFUSED, u->trouble);
	while (u->circuit_open && u->nidle == 0 && u->nleased == 0 && u->nwaiting);
	upstream_unref(u);
}

/* `asked`: for a request; otherwise to know whether it can be reached. */
static int conn_dial(struct upstream *u, bool asked)
{
	struct upstream_conn *c = calloc(1, sizeof(*c));
	const struct dial_target target = dial_place_target(&u->place, u->far, u->config.timeouts.connect_ms);

	if (!c)
		return -ENOMEM;
	c->dial = dial_start(u->dialer, &target, on_dialled, c);
	if (!c->dial) {
		free(c);
		return -ENOMEM;
	}
	c->upstream = upstream_ref(u);
	c->id = next_conn_id++;
	c->asked = asked;
	c->fd = -1;
	c->state = CONN_DIALLING;
	deadline_init(&c->deadline, on_idle_expired);
	deferred_init(&c->destroy, on_destroy);
	list_add_tail(&u->dialling, &c->link);
	u->ndialling++;
	u->counters.dials++;
	if (connections(u) > u->counters.peak)
		u->counters.peak = connections(u);
	return 0;
}

/* --- leasing ------------------------------------------------------------------------------------------------------------ */

/* Asks whether nothing has come on an idle connection. */
static bool is_silent(const struct upstream_conn *c)
{
	char byte;

	if (dial_is_tls(c->dial))
		return dial_recv(c->dial, &byte, 1) == -EAGAIN;
	return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

/*
 * Whether nothing had come on it when this turn began, or later. Then it need not be asked, which would be a system call
 * for every request. Before the turn is settled it must be: the loop may yet tell, behind the client whose request would
 * be answered with what came before it was sent.
 */
static bool is_known_silent(const struct upstream_conn *c)
{
	uint64_t turn = loop_turn(c->upstream->loop);

	return turn && !dial_is_buffered(c->dial) &&
	       (c->drained_turn == turn || (c->idle_turn != turn && loop_is_settled(c->upstream->loop)));
}

/* Too old ones are not used again (a lifetime of 0 is none), nor those that the server has closed or spoken on. */
static bool evict_unusable(struct upstream *u, struct upstream_conn *c)
{
	if (u->config.pool.lifetime_ms && loop_now_ms(u->loop) - c->born_ms > u->config.pool.lifetime_ms)
		u->counters.idle_expired++;
	else if (!is_known_silent(c) && !is_silent(c))
		u->counters.evicted++;
	else
		return false;
	conn_close(c);
	return true;
}

/* `fresh`: one that has served nobody; those that have are closed, as upstream_lease says. */
static struct upstream_conn *lease_idle(struct upstream *u, struct upstream_owner *owner, bool fresh)
{
	struct upstream_conn *c;

	while ((c = LIST_FIRST(&u->idle, struct upstream_conn, link))) {
		if (fresh && c->served)
			conn_close(c);
		else if (!evict_unusable(u, c))
			break;
	}
	if (!c)
		return NULL;
	conn_move(c, CONN_LEASED);
	c->owner = owner;
	owner->held++;
	u->counters.leases++;
	if (c->served++)
		u->counters.reused++;
	if (u->nidle < u->config.pool.min_idle)
		loop_defer(u->loop, &u->deliver);
	return c;
}

/* How many connections are wanted beside those that are leased. */
static size_t wanted(const struct upstream *u)
{
	size_t n = u->config.pool.min_idle;

	LIST_FOREACH (node, &u->turns)
		n += owner_room(u, CONTAINER_OF(node, struct upstream_owner, turn));
	return n;
}

/* How many connections there may be now. */
static size_t most_connections(const struct upstream *u)
{
	size_t extra = u->nurgent < UPSTREAM_URGENT_CONNECTIONS ? u->nurgent : UPSTREAM_URGENT_CONNECTIONS;

	return u->config.pool.max_connections + extra;
}

/* Dials as many as are wanted and allowed. */
static void dial_wanted(struct upstream *u)
{
	size_t want = u->circuit_open || u->abandoned ? 0 : wanted(u);

	while (u->ndialling + u->nidle < want && connections(u) < most_connections(u))
		if (conn_dial(u, true)) {
			fail_next(u, UPSTREAM_NO_MEMORY, "out of memory");
			return;
		}
}

/* Since the last dial failed: one more, whether anybody waits or not. */
static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct upstream *u = arg;

	(void)fd;
	(void)what;
	if (u->trouble[0] && u->ndialling == 0 && conn_dial(u, false))
		arm_retry(u);
}

bool upstream_is_known(struct upstream *u)
{
	if (connections(u) == 0 && !u->trouble[0] && !u->abandoned && conn_dial(u, false))
		log_debug("upstream %s: out of memory for a try", u->name);
	return u->counters.dials > u->ndialling;
}

static void serve(struct upstream *u, struct upstream_ticket *t)
{
	struct upstream_owner *o = t->owner;
	struct upstream_conn *c = lease_idle(u, o, t->fresh);

	if (!c)
		return;
	/* Behind the others whose turn has not come. */
	list_remove(&o->turn);
	if (t->urgent)
		list_add_head(&u->turns, &o->turn);
	else
		list_add_tail(&u->turns, &o->turn);
	u->counters.waited++;
	u->counters.waited_ms += clock_ms() - t->since_ms;
	ticket_done(t);
	t->on_lease(t, c);
}

/*
 * Of more than max_idle those go that have been unused for a while: many answers ending in one turn are no reason to dial
 * again in the next. max_idle 0 keeps none at all.
 */
static void close_surplus(struct upstream *u)
{
	uint64_t now = clock_ms();

	while (u->nidle > u->config.pool.max_idle) {
		struct upstream_conn *c = CONTAINER_OF(u->idle.prev, struct upstream_conn, link);
		if (u->config.pool.max_idle && now - c->idle_since_ms < SURPLUS_MS) {
			if (list_empty(&u->surplus.link))
				deadline_set(&u->surplus_deadlines, &u->surplus);
			return;
		}
		u->counters.idle_expired++;
		conn_close(c);
	}
}

static void on_surplus(struct deadline *d)
{
	close_surplus(CONTAINER_OF(d, struct upstream, surplus));
}

/* TLS connections that have been idle for a while need no buffers. */
static void on_rest(struct deadline *d)
{
	struct upstream *u = CONTAINER_OF(d, struct upstream, rest);
	uint64_t now = clock_ms();
	size_t rested = 0;

	LIST_FOREACH (n, &u->idle) {
		struct upstream_conn *c = CONTAINER_OF(n, struct upstream_conn, link);
		if (c->rested)
			continue;
		if (now - c->idle_since_ms < SURPLUS_MS) {
			if (list_empty(&u->rest.link))
				deadline_set(&u->surplus_deadlines, &u->rest);
			continue;
		}
		dial_rest(c->dial);
		c->rested = true;
		rested++;
	}
	if (rested >= RESTED_MANY)
		process_give_memory_back();
}

static void on_deliver(struct deferred *d)
{
	struct upstream *u = CONTAINER_OF(d, struct upstream, deliver);
	struct upstream_ticket *t;

	upstream_ref(u);
	while (u->nidle && (t = next_ticket(u)))
		serve(u, t);
	close_surplus(u);
	dial_wanted(u);
	upstream_unref(u);
}

/* One line when it begins, then at most one in FULL_PAUSE_MS. */
static void note_refused(struct upstream *u, const char *why)
{
	uint64_t now = clock_ms();

	u->counters.refused++;
	if (u->full_told_ms && now - u->full_told_ms < FULL_PAUSE_MS)
		return;
	log_warn("upstream %s: %s: %llu requests have been turned away since the last such line; %u of %u connections "
		 "are in use, "
		 "%u requests wait (pool.max_connections, max_per_identity, max_waiting, wait_timeout)",
		 u->name, why, (unsigned long long)(u->counters.refused - u->refused_told), (unsigned)u->nleased,
		 (unsigned)u->config.pool.max_connections, (unsigned)u->nwaiting);
	u->full_told_ms = now;
	u->refused_told = u->counters.refused;
}

static void on_waited(struct deadline *d)
{
	struct upstream_ticket *t = CONTAINER_OF(d, struct upstream_ticket, deadline);

	note_refused(t->upstream, "no connection became free in time");
	fail_ticket(t, UPSTREAM_WAITED, "no connection became free in time");
}

/*
 * Those for whom there is room to dial do not count as waiting. One identity takes at most a quarter of the queue's
 * places.
 */
static bool queue_is_full(const struct upstream *u, const struct upstream_owner *o)
{
	const struct config_pool *p = &u->config.pool;
	size_t own_room = p->max_per_identity > o->held ? p->max_per_identity - o->held : 0;

	return u->nwaiting + u->nleased >= p->max_connections + p->max_waiting ||
	       o->nwaiting >= own_room + (p->max_waiting + 3) / 4;
}

static void join_queue(struct upstream *u, struct upstream_ticket *t, struct upstream_owner *o)
{
	t->owner = o;
	t->since_ms = clock_ms();
	list_add_tail(&o->waiting, &t->link);
	if (o->nwaiting++ == 0 && t->urgent)
		list_add_head(&u->turns, &o->turn);
	else if (o->nwaiting == 1)
		list_add_tail(&u->turns, &o->turn);
	u->nwaiting++;
	u->nurgent += t->urgent;
	deadline_set(&u->wait_deadlines, &t->deadline);
	/* What was dialled to see whether it can be reached is waited for now. */
	LIST_FOREACH (n, &u->dialling)
		CONTAINER_OF(n, struct upstream_conn, link)->asked = true;
	loop_defer(u->loop, &u->deliver);
}

enum upstream_lease upstream_lease(struct upstream *u, struct upstream_ticket *t, bool fresh,
				   struct upstream_conn **out)
{
	struct upstream_owner *o = owner_of(u, t->identity);

	list_init(&t->link);
	deadline_init(&t->deadline, on_waited);
	t->upstream = u;
	t->owner = NULL;
	t->fresh = fresh;
	*out = NULL;
	if (!o)
		return UPSTREAM_LEASE_NO_MEMORY;
	if (!fresh && (u->nwaiting == 0 || t->urgent) && o->held < u->config.pool.max_per_identity) {
		*out = lease_idle(u, o, false);
		if (*out)
			return UPSTREAM_LEASE_NOW;
	}
	if (u->circuit_open && u->nidle == 0 && u->nleased == 0) {
		u->counters.circuit_refused++;
		owner_maybe_free(u, o);
		return UPSTREAM_LEASE_DOWN;
	}
	if (!t->urgent && queue_is_full(u, o)) {
		note_refused(u, "the pool is in use and its queue, or one owner's part of them, is full");
		owner_maybe_free(u, o);
		return UPSTREAM_LEASE_FULL;
	}
	/* A fresh one is asked for after a kept one failed: the others were kept by the same server, so they go too. */
	while (fresh && u->nidle)
		conn_close(LIST_FIRST(&u->idle, struct upstream_conn, link));
	join_queue(u, t, o);
	return UPSTREAM_LEASE_WAIT;
}

void upstream_ticket_cancel(struct upstream_ticket *t)
{
	if (!t->upstream || list_empty(&t->link))
		return;
	ticket_done(t);
}

void upstream_conn_listen(struct upstream_conn *c, const struct upstream_events *events, void *arg)
{
	CHECK(c->state == CONN_LEASED);
	c->events = events;
	c->arg = arg;
}

ssize_t upstream_conn_recv(struct upstream_conn *c, void *to, size_t n)
{
	ssize_t got = dial_recv(c->dial, to, n);

	if (dial_is_drained(c->dial))
		c->drained_turn = loop_turn(c->upstream->loop);
	return got;
}

ssize_t upstream_conn_send(struct upstream_conn *c, const void *from, size_t n)
{
	return dial_send(c->dial, from, n);
}

bool upstream_conn_is_buffered(const struct upstream_conn *c)
{
	return !c->read_paused && dial_is_buffered(c->dial);
}

void upstream_conn_read_again(struct upstream_conn *c)
{
	event_active(c->readable, EV_READ, 0);
}

void upstream_conn_shutdown(struct upstream_conn *c)
{
	shutdown(c->fd, SHUT_WR);
}

bool upstream_conn_is_gone(const struct upstream_conn *c)
{
	struct pollfd p = {.fd = c->fd};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

void upstream_conn_want_write(struct upstream_conn *c, bool want)
{
	/* Each call of libevent costs a few hundred instructions, and most change nothing. */
	if (c->wants_write == want)
		return;
	c->wants_write = want;
	if (want)
		event_add(c->writable, NULL);
	else
		event_del(c->writable);
}

void upstream_conn_pause_read(struct upstream_conn *c, bool paused)
{
	if (c->read_paused == paused)
		return;
	c->read_paused = paused;
	if (paused) {
		event_del(c->readable);
		return;
	}
	event_add(c->readable, NULL);
	if (c->state == CONN_LEASED && dial_is_buffered(c->dial))
		upstream_conn_read_again(c);
}

bool upstream_conn_reused(const struct upstream_conn *c)
{
	return c->served > 1;
}

void upstream_release(struct upstream_conn **conn, bool reusable)
{
	struct upstream_conn *c = *conn;

	*conn = NULL;
	if (!c)
		return;
	CHECK(c->state == CONN_LEASED);
	c->events = NULL;
	c->arg = NULL;
	/* What was made for an urgent one beyond the bound goes with it. */
	if (!reusable || c->upstream->previews || connections(c->upstream) > most_connections(c->upstream)) {
		conn_close(c);
		return;
	}
	upstream_conn_want_write(c, false);
	upstream_conn_pause_read(c, false);
	conn_move(c, CONN_IDLE);
}

/* --- life ---------------------------------------------------------------------------------------------------------------- */

struct upstream *upstream_new(struct loop *loop, struct dialer *dialer, const struct config_upstream *config,
			      const char *unix_path)
{
	struct upstream *u = calloc(1, sizeof(*u));

	if (!u)
		return NULL;
	u->refs = 1;
	u->serial = next_serial++;
	u->loop = loop;
	u->dialer = dialer;
	u->config = *config;
	list_init(&u->idle);
	list_init(&u->leased);
	list_init(&u->dialling);
	list_init(&u->turns);
	for (size_t i = 0; i < OWNER_BUCKETS; i++)
		list_init(&u->owners[i]);
	deferred_init(&u->deliver, on_deliver);
	deadline_queue_init(&u->idle_deadlines, loop, config->pool.idle_timeout_ms);
	deadline_queue_init(&u->wait_deadlines, loop, config->pool.wait_timeout_ms);
	deadline_queue_init(&u->surplus_deadlines, loop, SURPLUS_MS);
	deadline_init(&u->surplus, on_surplus);
	deadline_init(&u->rest, on_rest);
	const struct config_timeouts *t = &config->timeouts;
	const uint64_t waits[UPSTREAM_WAITS] = {t->response_ms, t->spawn_ms, t->exec_ms, t->body_idle_ms,
						t->stream_idle_ms};
	for (size_t i = 0; i < UPSTREAM_WAITS; i++)
		deadline_queue_init(&u->exchange_deadlines[i], loop, waits[i]);
	u->name = strdup(config->name);
	/* Only the values are kept; what is owned elsewhere is not to be reached from here. */
	u->config.name = u->name;
	u->config.url = strdup(config->url ? config->url : ""); /* a preview front has none */
	u->config.path = u->config.host = u->config.proxy = NULL;
	memset(&u->config.tls, 0, sizeof(u->config.tls));
	u->retry = evtimer_new(loop_base(loop), on_retry, u);
	if (!u->name || !u->config.url || dial_place_init(&u->place, config, unix_path) || !u->retry) {
		upstream_unref(u);
		return NULL;
	}
	loop_defer(loop, &u->deliver); /* pool.min_idle */
	return u;
}

void upstream_serve_previews(struct upstream *u, bool far)
{
	u->previews = true;
	u->far = far;
}

void upstream_stay_quiet(struct upstream *u)
{
	u->quiet = true;
}

struct upstream *upstream_ref(struct upstream *u)
{
	u->refs++;
	return u;
}

/*
 * Connections hold references, so the count alone does not end it: when only idle and dialling ones are left, nobody
 * can ask any more, and they are closed; the last one's destruction frees.
 */
static bool only_unleased_left(const struct upstream *u)
{
	return u->refs > 0 && u->refs == u->nidle + u->ndialling && u->nwaiting == 0;
}

void upstream_unref(struct upstream *u)
{
	if (!u)
		return;
	CHECK(u->refs > 0);
	u->refs--;
	if (u->refs == 0) {
		keep_owner(u, NULL);
		deferred_cancel(&u->deliver);
		deadline_queue_fini(&u->idle_deadlines);
		deadline_queue_fini(&u->wait_deadlines);
		deadline_queue_fini(&u->surplus_deadlines);
		for (size_t i = 0; i < UPSTREAM_WAITS; i++)
			deadline_queue_fini(&u->exchange_deadlines[i]);
		if (u->retry)
			event_free(u->retry);
		free(u->config.url);
		free(u->name);
		dial_place_fini(&u->place);
		free(u);
		return;
	}
	if (!only_unleased_left(u))
		return;
	u->abandoned = true;
	event_del(u->retry);
	while (u->nidle)
		conn_close(LIST_FIRST(&u->idle, struct upstream_conn, link));
	while (u->ndialling)
		conn_close(LIST_FIRST(&u->dialling, struct upstream_conn, link));
}

const char *upstream_name(const struct upstream *u)
{
	return u->name;
}

uint64_t upstream_serial(const struct upstream *u)
{
	return u->serial;
}

const char *upstream_place(const struct upstream *u)
{
	return u->place.unix_path ? u->place.unix_path : u->place.url;
}

const char *upstream_authority(const struct upstream *u)
{
	return u->place.authority;
}

const char *upstream_unix_path(const struct upstream *u)
{
	return u->place.unix_path;
}

const struct config_upstream *upstream_config(const struct upstream *u)
{
	return &u->config;
}

struct deadline_queue *upstream_deadlines(struct upstream *u, enum upstream_wait wait)
{
	return &u->exchange_deadlines[wait];
}

struct upstream_counters upstream_counters(const struct upstream *u)
{
	return u->counters;
}

struct upstream_gauges upstream_gauges(const struct upstream *u)
{
	return (struct upstream_gauges){connections(u), u->nidle, u->nleased, u->nwaiting, u->circuit_open};
}

const char *upstream_trouble(const struct upstream *u)
{
	return u->trouble[0] ? u->trouble : NULL;
}
