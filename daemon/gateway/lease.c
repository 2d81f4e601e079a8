/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   UNBOUND --> HELD --> GRACE --> ENDING
 *      |         |                   ^
 *      |         +-------------------+
 *      +--> GRACE, ENDING (the life ended before there was a sandbox)
 *
 * UNBOUND  holds on to a connection or a process for a sandbox that is being made
 * HELD     the sandbox gets a short ttl again and again
 * GRACE    the same, for leases.grace: we closed the connection, or after a restart nobody can tell what became of the life
 * ENDING   the sandbox is destroyed, a few at a time at each server, again and again until it is known to be gone
 *
 * A renewed lease is a new one that takes the place of the old. The journal has a record of each bound lease, written when it is
 * bound and when its state changes; how the next start takes it up is in take_up(). A sandbox that is not found any more ends its
 * lease in every state.
 */
#include "gateway/lease.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/list.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/destroy.h"
#include "gateway/extend.h"
#include "gateway/identity.h"
#include "gateway/journal.h"
#include "gateway/lease_record.h"
#include "gateway/ownership.h"
#include "gateway/process_watch.h"
#include "gateway/sandbox_doc.h"
#include "gateway/snapshot.h"
#include "gateway/upstream.h"

enum {
	BUCKETS = 256,
	DESTROYS_MAX = 16,      /* at one server at a time */
	DESTROY_MORE_MS = 60000 /* beyond the ttl, for the server's reaper */
};

static const char *const state_names[LEASE_STATES] = {"unbound", "held", "grace", "ending"};

static const uint32_t state_edges[LEASE_STATES] = {
	[LEASE_UNBOUND] = SM_TO(LEASE_HELD) | SM_TO(LEASE_GRACE) | SM_TO(LEASE_ENDING),
	[LEASE_HELD] = SM_TO(LEASE_GRACE) | SM_TO(LEASE_ENDING),
	[LEASE_GRACE] = SM_TO(LEASE_ENDING),
	[LEASE_ENDING] = 0,
};

static const struct sm sm = {"lease", state_names, state_edges, LEASE_STATES};

/* What is destroyed at one server. */
struct lease_lane {
	struct list link;    /* on lease_shared.lanes */
	struct list waiting; /* struct lease, by lane_link */
	size_t running;
	char url[]; /* terminated */
};

struct recalled {
	struct list link; /* on lease_shared.recalled */
	unsigned long long number;
	struct lease_record record;
};

struct lease_shared {
	struct loop *loop;           /* borrowed */
	struct journal *journal;     /* borrowed; NULL: nothing survives */
	struct ownership *ownership; /* borrowed */
	struct config_leases spans;
	struct process_watch processes;
	struct list unbound;            /* struct lease, by link */
	struct list bound[BUCKETS];     /* struct lease, by link and hash of the sandbox's id */
	struct list on_connections;     /* struct lease, by connection_link */
	struct list lanes;              /* struct lease_lane */
	struct list recalled;           /* struct recalled */
	size_t count;                   /* bound and unbound */
	size_t ending;                  /* of them */
	unsigned long long next_number; /* of a record in the journal */
	struct lease_counters counters;
};

struct lease {
	struct list link;            /* on shared.unbound, or in a bucket */
	struct list connection_link; /* on shared.on_connections, unless the connection has ended */
	struct list lane_link;       /* on its lane's list while it waits for its turn to be destroyed */
	struct lease_shared *shared; /* borrowed */
	struct fetch_caller caller;  /* texts owned, references held */
	char *credential;            /* owned; its name; NULL: none */
	struct lease_spec spec;
	enum lease_state state;
	unsigned long long connection; /* LEASE_CONNECTION, LEASE_RUN */
	struct process_wait process;   /* LEASE_PROCESS */
	struct event *timer;           /* owned; the end of a clock, or of the grace */
	uint64_t until_ms;             /* clock_ms() of that end; 0: none */
	bool dead;                     /* unbound: the life has ended */
	bool cut;                      /* unbound: by us */
	struct extend extend;
	struct destroy *destroy; /* owned; while it runs */
	struct lease_lane *lane; /* borrowed; while it runs there */
	uint64_t asked_ttl_ms;
	uint64_t max_ttl_ms;
	unsigned long long number;
	char sandbox[SANDBOX_DOC_ID_MAX_BYTES + 1];
};

const struct sm *lease_sm(void)
{
	return &sm;
}

/* --- the journal ----------------------------------------------------------------------------------------------------- */

static struct str key_of(const struct lease *l, char out[40])
{
	int n = snprintf(out, 40, LEASE_JOURNAL_PREFIX "%llu", l->number);

	return str_of(out, (size_t)n);
}

/* When the time that runs ends, since 1970. */
static int64_t until_wall_ms(const struct lease *l)
{
	return clock_wall_ms() + (int64_t)(l->until_ms - clock_ms());
}

static void remember(const struct lease *l)
{
	const struct lease_shared *s = l->shared;
	struct lease_record r = {
		.sandbox = l->sandbox,
		.upstream = upstream_name(l->caller.upstream),
		.url = upstream_config(l->caller.upstream)->url,
		.credential = l->credential,
		.user_id = l->caller.user_id,
		.place = s->processes.place,
		.spec = l->spec,
		.start = process_wait_start(&l->process),
		.ending = l->state == LEASE_ENDING,
		.grace = l->state == LEASE_GRACE,
		.asked_ttl_ms = l->asked_ttl_ms,
		.max_ttl_ms = l->max_ttl_ms,
	};
	struct buf text = BUF_EMPTY;
	char key[40];

	if (!s->journal)
		return;
	if (l->spec.kind == LEASE_CLOCK) {
		r.until_mono_ms = l->until_ms;
		r.until_wall_ms = until_wall_ms(l);
	}
	lease_record_write(&r, &text);
	/* The journal says itself what it cannot write. */
	if (text.failed || journal_put(s->journal, key_of(l, key), buf_str(&text)) == -ENOMEM)
		log_warn("lease of sandbox %s: out of memory: it would not survive a restart", l->sandbox);
	buf_fini(&text);
}

static void forget(const struct lease *l)
{
	char key[40];

	if (l->shared->journal && l->number)
		journal_drop(l->shared->journal, key_of(l, key));
}

/* --- the end of one --------------------------------------------------------------------------------------------------- */

static void run_lane(struct lease_shared *s, struct lease_lane *lane);

/* Leaves the server's turn; the next one's begins. */
static void leave_lane(struct lease *l)
{
	struct lease_lane *lane = l->lane;

	list_remove(&l->lane_link);
	l->lane = NULL;
	if (!lane)
		return;
	lane->running--;
	run_lane(l->shared, lane);
}

static void lease_delete(struct lease *l)
{
	struct lease_shared *s = l->shared;

	list_remove(&l->link);
	list_remove(&l->connection_link);
	process_wait_cancel(&l->process);
	extend_fini(&l->extend);
	destroy_cancel(l->destroy);
	l->destroy = NULL;
	if (l->timer)
		event_free(l->timer);
	s->count--;
	s->ending -= l->state == LEASE_ENDING;
	leave_lane(l);
	fetch_caller_fini(&l->caller);
	free(l->credential);
	free(l);
}

void lease_free(struct lease *l)
{
	if (l)
		lease_delete(l);
}

/* There is nothing left to see to. */
static void finish(struct lease *l)
{
	forget(l);
	lease_delete(l);
}

/* Whoever asks for it again is answered from memory. Not by ownership_gone, which would tell us. */
static void note_gone(const struct lease *l)
{
	owner_gone(l->shared->ownership->table, upstream_serial(l->caller.upstream), str_from(l->sandbox));
}

/* --- destroying the sandbox ------------------------------------------------------------------------------------------- */

static void on_destroyed(void *arg, bool gone, const char *why)
{
	struct lease *l = arg;
	struct lease_shared *s = l->shared;

	l->destroy = NULL;
	if (gone) {
		s->counters.destroyed++;
		note_gone(l);
		log_info("upstream %s: sandbox %s is destroyed: its lease (%s) has ended",
			 upstream_name(l->caller.upstream), l->sandbox, lease_kind_name(l->spec.kind));
	} else {
		s->counters.lost++;
		log_warn("upstream %s: sandbox %s, whose lease has ended, cannot be destroyed: %s; its ttl has passed",
			 upstream_name(l->caller.upstream), l->sandbox, why);
	}
	finish(l);
}

static int begin_destroy(struct lease *l)
{
	const struct destroy_case c = {
		.caller = l->caller,
		.id = l->sandbox,
		.span_ms = l->shared->spans.ttl_ms + DESTROY_MORE_MS,
		.on_done = on_destroyed,
		.arg = l,
	};

	return destroy_start(l->shared->loop, &c, &l->destroy);
}

/* Without memory for one its ttl ends the sandbox; it is not in the way of others. */
static void run_lane(struct lease_shared *s, struct lease_lane *lane)
{
	while (lane->running < DESTROYS_MAX && !list_empty(&lane->waiting)) {
		struct lease *l = LIST_FIRST(&lane->waiting, struct lease, lane_link);
		list_remove(&l->lane_link);
		if (begin_destroy(l)) {
			log_warn("sandbox %s, whose lease has ended, is left to its ttl: out of memory", l->sandbox);
			s->counters.lost++;
			finish(l);
			continue;
		}
		l->lane = lane;
		lane->running++;
	}
}

static struct lease_lane *lane_of(struct lease_shared *s, const struct upstream *u)
{
	const char *url = upstream_config(u)->url;
	size_t n = strlen(url) + 1;
	struct lease_lane *lane;

	LIST_FOREACH (node, &s->lanes) {
		lane = CONTAINER_OF(node, struct lease_lane, link);
		if (strcmp(lane->url, url) == 0)
			return lane;
	}
	lane = calloc(1, sizeof(*lane) + n);
	if (!lane)
		return NULL;
	memcpy(lane->url, url, n);
	list_init(&lane->waiting);
	list_add_tail(&s->lanes, &lane->link);
	return lane;
}

/* --- states ------------------------------------------------------------------------------------------------------------ */

/* 0 or -ENOMEM. */
static int set_timer(struct lease *l, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	l->until_ms = clock_ms() + ms;
	return event_add(l->timer, &tv) < 0 ? -ENOMEM : 0;
}

/* Its life has ended: nothing tells of it any more. */
static void let_go(struct lease *l)
{
	list_remove(&l->connection_link);
	process_wait_cancel(&l->process);
	event_del(l->timer);
}

/* May free it, without memory. */
static void begin_ending(struct lease *l)
{
	struct lease_shared *s = l->shared;
	struct lease_lane *lane = lane_of(s, l->caller.upstream);

	let_go(l);
	extend_stop(&l->extend);
	l->until_ms = 0;
	l->state = sm_move(&sm, l->number, l->state, LEASE_ENDING);
	s->ending++;
	remember(l);
	if (!lane) {
		log_warn("sandbox %s, whose lease has ended, is left to its ttl: out of memory", l->sandbox);
		s->counters.lost++;
		finish(l);
		return;
	}
	list_add_tail(&lane->waiting, &l->lane_link);
	run_lane(s, lane);
}

static void begin_grace(struct lease *l)
{
	let_go(l);
	l->state = sm_move(&sm, l->number, l->state, LEASE_GRACE);
	if (set_timer(l, l->shared->spans.grace_ms)) {
		lease_end(l);
		return;
	}
	remember(l);
	log_info("upstream %s: sandbox %s: its lease (%s) must be renewed within %llu s, or it is destroyed",
		 upstream_name(l->caller.upstream), l->sandbox, lease_kind_name(l->spec.kind),
		 (unsigned long long)l->shared->spans.grace_ms / 1000);
}

void lease_end(struct lease *l)
{
	if (l->state != LEASE_ENDING)
		begin_ending(l);
}

/* Of a life that has ended; an unbound one only notes it. */
static void end_life(struct lease *l, bool by_us)
{
	if (l->state == LEASE_UNBOUND) {
		let_go(l);
		l->dead = true;
		l->cut = by_us;
	} else if (l->state == LEASE_HELD && by_us && l->spec.kind != LEASE_RUN) {
		begin_grace(l);
	} else {
		lease_end(l);
	}
}

static void on_process_end(struct process_wait *w)
{
	end_life(CONTAINER_OF(w, struct lease, process), false);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	end_life(arg, false);
}

static void on_extended(struct extend *e, bool well)
{
	struct lease *l = CONTAINER_OF(e, struct lease, extend);

	if (well)
		l->shared->counters.extends++;
	else
		l->shared->counters.extends_failed++;
}

static void on_gone(struct extend *e, bool refused)
{
	struct lease *l = CONTAINER_OF(e, struct lease, extend);
	struct lease_shared *s = l->shared;

	if (refused) {
		s->counters.lost++;
		log_warn("upstream %s: sandbox %s: the server has refused to extend it since its ttl passed: its lease "
			 "is "
			 "given up",
			 upstream_name(l->caller.upstream), l->sandbox);
	} else {
		s->counters.gone++;
		note_gone(l);
	}
	finish(l);
}

/* --- finding ------------------------------------------------------------------------------------------------------------ */

static bool is_server(const struct lease *l, const struct upstream *u)
{
	return l->caller.upstream == u ||
	       strcmp(upstream_config(l->caller.upstream)->url, upstream_config(u)->url) == 0;
}

static struct list *bucket_of(struct lease_shared *s, struct str id)
{
	return &s->bound[str_hash(id) % BUCKETS];
}

struct lease *lease_find(struct lease_shared *s, const struct upstream *u, struct str sandbox)
{
	if (s->count == 0) /* asked for each request that names a sandbox */
		return NULL;
	LIST_FOREACH (n, bucket_of(s, sandbox)) {
		struct lease *l = CONTAINER_OF(n, struct lease, link);
		if (str_eq(str_from(l->sandbox), sandbox) && is_server(l, u))
			return l;
	}
	return NULL;
}

static size_t count_on(const struct list *leases, const char *owner)
{
	size_t count = 0;

	LIST_FOREACH (n, leases)
		count += strcmp(CONTAINER_OF(n, struct lease, link)->caller.user_id, owner) == 0;
	return count;
}

static size_t count_of(const struct lease_shared *s, const char *owner)
{
	size_t count = count_on(&s->unbound, owner);

	for (size_t i = 0; i < BUCKETS; i++)
		count += count_on(&s->bound[i], owner);
	return count;
}

/* --- making one ----------------------------------------------------------------------------------------------------------- */

static int refuse(struct lease_refusal *r, unsigned status, const char *why)
{
	r->status = status;
	snprintf(r->why, sizeof(r->why), "%s", why);
	return -1;
}

/* Unbound, without a life. NULL without memory. */
static struct lease *make(struct lease_shared *s, const struct fetch_caller *caller, const char *credential)
{
	struct lease *l = calloc(1, sizeof(*l));
	struct fetch_caller kept = *caller;

	if (!l)
		return NULL;
	kept.request_id = kept.trace_lines = NULL;
	l->shared = s;
	list_init(&l->link);
	list_init(&l->connection_link);
	list_init(&l->lane_link);
	process_wait_init(&l->process, on_process_end);
	list_add_tail(&s->unbound, &l->link);
	s->count++;
	l->credential = credential ? strdup(credential) : NULL;
	l->timer = evtimer_new(loop_base(s->loop), on_timer, l);
	if (extend_init(&l->extend, s->loop) || fetch_caller_copy(&l->caller, &kept) || !l->timer ||
	    (credential && !l->credential)) {
		lease_delete(l);
		return NULL;
	}
	l->extend.caller = &l->caller;
	l->extend.id = l->sandbox;
	l->extend.on_extended = on_extended;
	l->extend.on_gone = on_gone;
	return l;
}

/* Takes hold of the life. 0 or -1. */
static int take_life(struct lease *l, const struct lease_asker *asker, struct lease_refusal *refusal)
{
	const char *why = "";
	int rc;

	switch (l->spec.kind) {
	case LEASE_CONNECTION:
	case LEASE_RUN:
		l->connection = asker->connection;
		list_add_tail(&l->shared->on_connections, &l->connection_link);
		return 0;
	case LEASE_PROCESS:
		rc = process_wait_peer(&l->shared->processes, asker->fd, asker->peer, l->spec.pid, &l->process, &why);
		l->spec.pid = process_wait_pid(&l->process);
		if (rc == 0)
			return 0;
		return refuse(refusal, rc == -EACCES || rc == -EPERM ? 403 : rc == -ESRCH ? 400 : 503, why);
	case LEASE_CLOCK:
		if (set_timer(l, l->spec.span_ms))
			return refuse(refusal, 503, "out of memory");
		return 0;
	case LEASE_KINDS:
		break;
	}
	return refuse(refusal, 400, "no such kind of lease");
}

int lease_new(struct lease_shared *s, const struct lease_spec *spec, const struct lease_asker *asker,
	      struct lease **out, struct lease_refusal *refusal)
{
	struct lease *l;

	if (s->count >= LEASE_MAX)
		return refuse(refusal, 429, "there are too many leases on this gateway");
	if (count_of(s, asker->caller.user_id) >= LEASE_PER_OWNER_MAX)
		return refuse(refusal, 429, "you have 256 leases, which is as many as one owner may have");
	if (spec->kind == LEASE_CLOCK && asker->max_ttl_ms && spec->span_ms > asker->max_ttl_ms)
		return refuse(refusal, 400, "Stacygate-Lease: longer than limits.max_ttl of your rule");
	l = make(s, &asker->caller, asker->credential);
	if (!l)
		return refuse(refusal, 503, "out of memory");
	l->spec = *spec;
	l->max_ttl_ms = asker->max_ttl_ms;
	if (take_life(l, asker, refusal)) {
		lease_delete(l);
		return -1;
	}
	*out = l;
	return 0;
}

/* Puts it into the table, in place of the one that the sandbox had. False when that one is being ended: then it is freed. */
static bool enter(struct lease *l, struct str sandbox)
{
	struct lease_shared *s = l->shared;
	struct lease *old = lease_find(s, l->caller.upstream, sandbox);

	if (old && old->state == LEASE_ENDING) {
		lease_delete(l);
		return false;
	}
	if (old && !l->asked_ttl_ms)
		l->asked_ttl_ms = old->asked_ttl_ms;
	if (old)
		finish(old);
	memcpy(l->sandbox, sandbox.p, sandbox.n);
	l->sandbox[sandbox.n] = '\0';
	list_remove(&l->link);
	list_add_tail(bucket_of(s, sandbox), &l->link);
	return true;
}

static void begin_extending(struct lease *l, bool now)
{
	l->extend.ttl_ms = l->shared->spans.ttl_ms;
	l->extend.period_ms = l->shared->spans.extend_ms;
	if (now)
		extend_start_now(&l->extend);
	else
		extend_start(&l->extend);
}

void lease_bind(struct lease **lease, struct str sandbox, uint64_t asked_ttl_ms)
{
	struct lease *l = *lease;
	struct lease_shared *s = l->shared;

	*lease = NULL;
	l->asked_ttl_ms = asked_ttl_ms;
	if (!enter(l, sandbox))
		return;
	l->number = ++s->next_number;
	s->counters.made++;
	if (l->dead && !(l->cut && l->spec.kind != LEASE_RUN)) {
		begin_ending(l);
		return;
	}
	begin_extending(l, false);
	if (l->dead) {
		begin_grace(l);
		return;
	}
	l->state = sm_move(&sm, l->number, l->state, LEASE_HELD);
	remember(l);
}

/* --- events ----------------------------------------------------------------------------------------------------------------- */

void lease_connection_closed(struct lease_shared *s, unsigned long long connection, bool by_us)
{
	LIST_FOREACH_SAFE (n, &s->on_connections) {
		struct lease *l = CONTAINER_OF(n, struct lease, connection_link);
		if (l->connection == connection)
			end_life(l, by_us);
	}
}

bool lease_holds_connection(const struct lease_shared *s, unsigned long long connection)
{
	LIST_FOREACH (n, &s->on_connections)
		if (CONTAINER_OF(n, struct lease, connection_link)->connection == connection)
			return true;
	return false;
}

void lease_sandbox_gone(struct lease_shared *s, const struct upstream *u, struct str sandbox)
{
	struct lease *l = lease_find(s, u, sandbox);

	if (!l)
		return;
	if (l->state == LEASE_ENDING)
		s->counters.destroyed++;
	else
		s->counters.gone++;
	finish(l);
}

void lease_disturbed(struct lease *l)
{
	if (l->state == LEASE_HELD || l->state == LEASE_GRACE)
		extend_hurry(&l->extend);
}

void lease_pause(struct lease *l, bool paused)
{
	if (l->state != LEASE_HELD && l->state != LEASE_GRACE)
		return;
	if (paused)
		extend_stop(&l->extend);
	else
		begin_extending(l, true);
}

void lease_released(struct lease *l)
{
	l->shared->counters.released++;
	finish(l);
}

/* --- restoring ------------------------------------------------------------------------------------------------------------- */

void lease_recall(struct lease_shared *s, struct str key, struct str value)
{
	struct str digits = str_of(key.p + strlen(LEASE_JOURNAL_PREFIX), key.n - strlen(LEASE_JOURNAL_PREFIX));
	struct recalled *r = calloc(1, sizeof(*r));
	uint64_t number = 0;

	if (!r || str_parse_u64(digits, &number) || number == 0 || lease_record_read(value, &r->record)) {
		log_warn("a lease in the journal (%.*s) cannot be read: its sandbox is left to its ttl", STR_ARG(key));
		if (r)
			lease_record_fini(&r->record);
		free(r);
		return;
	}
	r->number = number;
	if (s->next_number < number)
		s->next_number = number;
	list_add_tail(&s->recalled, &r->link);
}

static void take_up_clock(struct lease *l, const struct lease_record *r)
{
	bool same_boot = r->place[0] && strcmp(r->place, l->shared->processes.place) == 0;
	uint64_t now = same_boot ? clock_ms() : (uint64_t)clock_wall_ms();
	uint64_t until = same_boot ? r->until_mono_ms : (uint64_t)r->until_wall_ms;

	if (until <= now || set_timer(l, until - now)) {
		begin_ending(l);
		return;
	}
	l->state = sm_move(&sm, l->number, l->state, LEASE_HELD);
	begin_extending(l, true);
	remember(l);
}

static void take_up_process(struct lease *l, const struct lease_record *r)
{
	int rc = process_wait_again(&l->shared->processes, r->spec.pid, r->start, r->place, &l->process);

	if (rc == -ESRCH) {
		begin_ending(l);
		return;
	}
	begin_extending(l, true);
	if (rc) {
		begin_grace(l);
		return;
	}
	l->state = sm_move(&sm, l->number, l->state, LEASE_HELD);
	remember(l);
}

static void take_up(struct lease *l, const struct lease_record *r)
{
	l->shared->counters.restored++;
	if (r->ending || r->spec.kind == LEASE_RUN) {
		begin_ending(l);
	} else if (r->spec.kind == LEASE_CLOCK) {
		take_up_clock(l, r);
	} else if (r->spec.kind == LEASE_PROCESS && !r->grace) {
		take_up_process(l, r);
	} else {
		begin_extending(l, true);
		begin_grace(l);
	}
}

static void restore(struct lease_shared *s, const struct recalled *recalled, const struct snapshot *snapshot)
{
	const struct lease_record *r = &recalled->record;
	struct fetch_caller caller = {.user_id = r->user_id};
	struct lease *l = NULL;
	char key[40];

	if (snapshot_find(snapshot, r->upstream, r->url, r->credential, &caller.upstream, &caller.key))
		l = s->count < LEASE_MAX ? make(s, &caller, r->credential) : NULL;
	else
		log_warn("the lease of sandbox %s cannot be taken up: its upstream or credential is no longer "
			 "configured",
			 r->sandbox);
	if (!l) {
		s->counters.lost++;
		snprintf(key, sizeof(key), LEASE_JOURNAL_PREFIX "%llu", recalled->number);
		if (s->journal)
			journal_drop(s->journal, str_from(key));
		return;
	}
	l->spec = r->spec;
	l->asked_ttl_ms = r->asked_ttl_ms;
	l->max_ttl_ms = r->max_ttl_ms;
	l->number = recalled->number;
	if (enter(l, str_from(r->sandbox)))
		take_up(l, r);
}

void lease_restore(struct lease_shared *s, struct journal *journal, const struct snapshot *snapshot)
{
	s->journal = journal;
	LIST_FOREACH_SAFE (n, &s->recalled) {
		struct recalled *r = CONTAINER_OF(n, struct recalled, link);
		restore(s, r, snapshot);
		list_remove(&r->link);
		lease_record_fini(&r->record);
		free(r);
	}
}

/* --- questions ------------------------------------------------------------------------------------------------------------- */

uint64_t lease_ttl_ms(const struct lease_shared *s)
{
	return s->spans.ttl_ms;
}

const char *lease_owner(const struct lease *l)
{
	return l->caller.user_id;
}

enum lease_state lease_state(const struct lease *l)
{
	return l->state;
}

enum lease_kind lease_kind(const struct lease *l)
{
	return l->spec.kind;
}

struct lease_spec lease_spec(const struct lease *l)
{
	return l->spec;
}

uint64_t lease_asked_ttl_ms(const struct lease *l)
{
	uint64_t ms = l->asked_ttl_ms ? l->asked_ttl_ms : LEASE_RELEASE_TTL_MS;

	return l->max_ttl_ms && ms > l->max_ttl_ms ? l->max_ttl_ms : ms;
}

size_t lease_count(const struct lease_shared *s)
{
	return s->count;
}

struct lease_counters lease_counters(const struct lease_shared *s)
{
	return s->counters;
}

void lease_write(const struct lease *l, struct json_writer *w, const char *key)
{
	char until[25];

	json_object_begin(w, key);
	json_cstr(w, "sandbox", l->sandbox);
	json_cstr(w, "kind", lease_kind_name(l->spec.kind));
	if (l->spec.kind == LEASE_PROCESS)
		json_int(w, "pid", l->spec.pid);
	if (l->until_ms) {
		clock_format_ms(until_wall_ms(l) * 1000000, until);
		json_cstr(w, "expires_at", until);
	}
	json_cstr(w, "owner", l->caller.user_id);
	json_cstr(w, "state", state_names[l->state]);
	json_object_end(w);
}

void lease_write_list(const struct lease_shared *s, const struct upstream *u, const char *owner, struct json_writer *w,
		      const char *key)
{
	json_array_begin(w, key);
	for (size_t i = 0; i < BUCKETS; i++) {
		LIST_FOREACH (n, &s->bound[i]) {
			const struct lease *l = CONTAINER_OF(n, struct lease, link);
			if (!owner || (is_server(l, u) && strcmp(l->caller.user_id, owner) == 0))
				lease_write(l, w, NULL);
		}
	}
	json_array_end(w);
}

/* --- the whole ------------------------------------------------------------------------------------------------------------- */

int lease_shared_new(struct loop *loop, struct ownership *ownership, struct lease_shared **out)
{
	struct lease_shared *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->loop = loop;
	s->ownership = ownership;
	s->spans = (struct config_leases){CONFIG_LEASES_TTL_MS, CONFIG_LEASES_EXTEND_MS, CONFIG_LEASES_GRACE_MS};
	list_init(&s->unbound);
	list_init(&s->on_connections);
	list_init(&s->lanes);
	list_init(&s->recalled);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&s->bound[i]);
	process_watch_init(&s->processes, loop);
	*out = s;
	return 0;
}

void lease_use_config(struct lease_shared *s, const struct config_leases *c)
{
	s->spans = *c;
}

void lease_shared_free(struct lease_shared *s)
{
	if (!s)
		return;
	/* Nothing begins to be destroyed because something else no longer is. */
	LIST_FOREACH (n, &s->lanes)
		CONTAINER_OF(n, struct lease_lane, link)->running = DESTROYS_MAX * 2;
	LIST_FOREACH_SAFE (n, &s->unbound)
		lease_delete(CONTAINER_OF(n, struct lease, link));
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_FOREACH_SAFE (n, &s->bound[i])
			lease_delete(CONTAINER_OF(n, struct lease, link));
	LIST_FOREACH_SAFE (n, &s->lanes)
		free(CONTAINER_OF(n, struct lease_lane, link));
	LIST_FOREACH_SAFE (n, &s->recalled) {
		struct recalled *r = CONTAINER_OF(n, struct recalled, link);
		lease_record_fini(&r->record);
		free(r);
	}
	process_watch_fini(&s->processes);
	free(s);
}
