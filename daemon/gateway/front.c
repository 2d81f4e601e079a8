/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection is accepted when the kernel says who it is and there is room for it; then it has one request after another
 * (front_request.c), each judged (front_judge.c) by the rule that is the caller's (front_rule.c).
 */
#include "gateway/front.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/audit.h"
#include "gateway/config.h"
#include "gateway/exchange.h"
#include "gateway/front_clients.h"
#include "gateway/front_request.h"
#include "gateway/front_rule.h"
#include "gateway/front_state.h"
#include "gateway/front_text.h"
#include "gateway/guard.h"
#include "gateway/identity.h"
#include "gateway/keep_alive.h"
#include "gateway/lease.h"
#include "gateway/limiter.h"
#include "gateway/logs.h"
#include "gateway/names.h"
#include "gateway/peer.h"
#include "gateway/policy.h"
#include "gateway/snapshot.h"
#include "gateway/spawn_keys.h"
#include "gateway/spawn_restore.h"
#include "gateway/template_cache.h"
#include "gateway/trace_export.h"
#include "gateway/vm_watch.h"

/* --- connections per uid ---------------------------------------------------------------------------------------------- */

static struct front_uid *find_uid(struct front_shared *s, uid_t uid)
{
	LIST_FOREACH (n, &s->uids) {
		struct front_uid *u = CONTAINER_OF(n, struct front_uid, link);
		if (u->uid == uid)
			return u;
	}
	return NULL;
}

/* Counts one more connection of the uid; 0 and its entry, -EBUSY over a bound, or -ENOMEM. */
static int count_in(struct front_shared *s, uid_t uid, struct front_uid **out)
{
	struct front_uid *u = find_uid(s, uid);
	const struct config_bounds *b = &snapshot_config(s->snapshot)->bounds;

	if (s->stats.connections >= b->connections) {
		s->stats.bound_hits[CONTROL_BOUND_CONNECTIONS]++;
		return -EBUSY;
	}
	if (u && u->connections >= b->connections_per_uid) {
		s->stats.bound_hits[CONTROL_BOUND_CONNECTIONS_PER_UID]++;
		return -EBUSY;
	}
	if (!u) {
		u = calloc(1, sizeof(*u));
		if (!u)
			return -ENOMEM;
		u->uid = uid;
		list_add_head(&s->uids, &u->link);
	}
	u->connections++;
	s->stats.connections++;
	*out = u;
	return 0;
}

static void count_out(struct front_shared *s, struct front_uid *u)
{
	s->stats.connections--;
	if (--u->connections)
		return;
	list_remove(&u->link);
	free(u);
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

static void front_free(struct front *f)
{
	front_leave_owner(f);
	snapshot_unref(f->snapshot);
	identity_fini(&f->peer);
	free(f->cors);
	front_text_unref(f->listener);
	front_text_unref(f->next_listener);
	free(f);
}

bool front_is_idle(const struct front_shared *s)
{
	return list_empty(&s->fronts) && s->spawns.busy == 0;
}

static void tell_if_idle(void *arg)
{
	struct front_shared *s = arg;

	if (front_is_idle(s) && s->on_idle)
		s->on_idle(s->arg);
}

static void log_closed(const struct front *f, enum client_end end)
{
	struct audit_record record = {0};
	char more[80];

	if (!logs_access_on(f->shared->logs))
		return;
	front_add_caller(f, &record);
	record.is_error = client_end_is_error(end);
	snprintf(more, sizeof(more), "%s after %llu requests", client_end_text(end), (unsigned long long)f->requests);
	logs_connection(f->shared->logs, &record, "closed", more);
}

static void log_connected(const struct front *f)
{
	struct audit_record record = {0};
	char more[512];

	if (!logs_access_on(f->shared->logs))
		return;
	front_add_caller(f, &record);
	snprintf(more, sizeof(more), "on %s: rule %s", f->listener, f->rule ? f->rule->name : "none");
	logs_connection(f->shared->logs, &record, "connected", more);
}

static void on_closed(void *arg, enum client_end end)
{
	struct front *f = arg;
	struct front_shared *s = f->shared;

	if (f->exchange)
		exchange_gone(f->exchange, f->cut_as);
	front_drop_request(f);
	log_closed(f, end);
	list_remove(&f->link);
	lease_connection_closed(s->leases, client_id(f->client), end != CLIENT_END_DONE && end != CLIENT_END_GONE);
	count_out(s, f->uid);
	front_free(f);
	if (s->stats.draining)
		loop_defer(s->loop, &s->watchers);
	tell_if_idle(s);
}

/* A connection that a lease hangs on may be silent as long as its client likes. */
static bool may_stay_idle(void *arg)
{
	const struct front *f = arg;

	return lease_holds_connection(f->shared->leases, client_id(f->client));
}

static const struct client_events client_events = {
	.may_stay_idle = may_stay_idle,
	.may_begin = front_may_begin,
	.on_request = front_on_request,
	.on_body = front_on_body,
	.on_body_end = front_on_body_end,
	.on_fault = front_on_fault,
	.on_drained = front_on_drained,
	.on_gone = front_on_gone,
	.on_closed = on_closed,
};

/* `peer` is NULL when it is not known. */
static void turn_away(struct front_shared *s, int fd, const struct identity *peer, const char *listener,
		      const char *why)
{
	struct audit_record record = {.listener = listener, .code = why};

	s->clients.ends[CLIENT_END_REFUSED]++;
	log_warn("a connection was turned away: %s", why);
	if (peer) {
		record.has_peer = true;
		record.uid = peer->uid;
		record.gid = peer->gid;
		record.pid = peer->pid;
	}
	logs_turned_away(s->logs, &record);
	close(fd);
}

void front_accept(struct front_shared *s, int fd, const char *listener, int diag)
{
	struct identity peer;
	struct front_uid *uid;
	struct front *f;
	int rc = diag < 0 ? peer_identify(fd, &peer) : peer_identify_tcp(fd, diag, &peer);

	s->stats.accepted++;
	if (rc) {
		turn_away(s, fd, NULL, listener,
			  rc == -ENOTCONN ? "its socket is closed, so nobody can tell whose it was"
					  : "the kernel does not say who it is");
		return;
	}
	rc = count_in(s, peer.uid, &uid);
	if (rc) {
		turn_away(s, fd, &peer, listener,
			  rc == -ENOMEM ? "out of memory" : "bounds.connections or bounds.connections_per_uid");
		identity_fini(&peer);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (f) {
		f->shared = s;
		f->peer = peer;
		f->uid = uid;
		f->cut_as = EXCHANGE_END_CLIENT_GONE;
		list_init(&f->link);
		f->listener = front_text_ref(s, listener);
		f->client = f->listener ? client_new(&s->clients, fd, ++s->next_id, &client_events, f) : NULL;
	}
	if (!f || !f->client) {
		if (!f || !f->listener)
			close(fd);
		s->clients.ends[CLIENT_END_NO_MEMORY]++;
		count_out(s, uid);
		identity_fini(&peer);
		if (f) {
			f->peer = (struct identity){0};
			front_free(f);
		}
		return;
	}
	list_add_tail(&s->fronts, &f->link);
	if (peer.over_tcp)
		client_set_head_lines(f->client, GUARD_LINES);
	front_choose_rule(f);
	log_connected(f);
}

static void cut_for_drain(struct front *f)
{
	f->cut_as = EXCHANGE_END_DRAIN;
	client_cut(f->client, CLIENT_END_DRAIN);
}

/* Whether it waits for nothing but what never ends by itself. */
static bool only_watches(const struct front *f)
{
	return f->now && f->now->call && f->now->call->ops->endless;
}

/* When nothing else is under way any more, who only looks on is no reason to go on. */
static void on_watchers(struct deferred *d)
{
	struct front_shared *s = CONTAINER_OF(d, struct front_shared, watchers);

	LIST_FOREACH (n, &s->fronts)
		if (!only_watches(CONTAINER_OF(n, struct front, link)))
			return;
	LIST_FOREACH_SAFE (n, &s->fronts)
		cut_for_drain(CONTAINER_OF(n, struct front, link));
}

static void on_sandbox_gone(void *arg, const struct upstream *u, struct str id)
{
	struct front_shared *s = arg;

	lease_sandbox_gone(s->leases, u, id);
}

int front_shared_init(struct front_shared *s, struct loop *loop, struct dialer *dialer, struct names *names)
{
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	s->names = names;
	s->stats.started_ms = clock_ms();
	deferred_init(&s->watchers, on_watchers);
	list_init(&s->fronts);
	list_init(&s->uids);
	list_init(&s->texts);
	client_shared_init(&s->clients, loop);
	gather_shared_init(&s->gather, loop);
	preview_ways_init(&s->previews, loop, dialer);
	s->stats.spawns = &s->spawns;
	s->stats.write_clients = front_clients_write;
	s->stats.write_clients_arg = s;
	s->stats.vm_watch = &s->enforce.admit.vm_watch;
	s->stats.feed = &s->enforce.admit.feed;
	s->ends = front_request_ends();
	s->limiter = limiter_new();
	s->stats.limiter = s->limiter;
	s->stats.gather = &s->gather;
	if (template_cache_new(loop, &s->templates))
		return -ENOMEM;
	s->stats.templates = s->templates;
	s->traces = trace_export_new(loop);
	s->stats.traces = s->traces;
	spawn_shared_init(&s->spawns, loop, s->limiter, &s->enforce.admit.ownership);
	s->spawns.on_quiet = tell_if_idle;
	s->spawns.arg = s;
	s->keys = spawn_keys_new(loop, &s->spawns);
	if (enforce_shared_init(&s->enforce, loop) || !s->limiter || !s->keys || !s->traces)
		return -ENOMEM;
	if (lease_shared_new(loop, &s->enforce.admit.ownership, &s->leases))
		return -ENOMEM;
	s->stats.leases = s->leases;
	s->enforce.admit.ownership.on_gone = on_sandbox_gone;
	s->enforce.admit.ownership.arg = s;
	return keep_alive_new(loop, &s->uses);
}

void front_shared_fini(struct front_shared *s)
{
	deferred_cancel(&s->watchers);
	s->enforce.admit.ownership.on_gone = NULL;
	keep_alive_free(s->uses);
	lease_shared_free(s->leases);
	spawn_keys_free(s->keys);
	spawn_shared_fini(&s->spawns);
	snapshot_unref(s->snapshot);
	client_shared_fini(&s->clients);
	gather_shared_fini(&s->gather);
	enforce_shared_fini(&s->enforce);
	template_cache_free(s->templates);
	preview_ways_fini(&s->previews);
	limiter_free(s->limiter);
	trace_export_free(s->traces);
}

static void end_what_is_revoked(struct front_shared *s)
{
	LIST_FOREACH_SAFE (n, &s->fronts)
		front_end_if_revoked(CONTAINER_OF(n, struct front, link));
}

void front_use_snapshot(struct front_shared *s, struct snapshot *snapshot)
{
	const struct config_bounds *b = &snapshot_config(snapshot)->bounds;
	struct snapshot *old = s->snapshot;

	s->snapshot = snapshot_ref(snapshot);
	snapshot_unref(old);
	s->stats.generation++;
	s->stats.in_force = snapshot;
	template_cache_use(s->templates, snapshot);
	trace_export_use(s->traces, snapshot);
	s->tracing = trace_export_settings(s->traces);
	/* A deadline that is set keeps its time; the next one has the new length. */
	s->clients.head_deadlines.span_ms = b->client_head_ms;
	s->clients.body_deadlines.span_ms = b->client_body_idle_ms;
	s->clients.idle_deadlines.span_ms = b->idle_client_ms;
	s->clients.body_max_bytes = b->body_bytes;
	lease_use_config(s->leases, &snapshot_config(snapshot)->leases);
	if (old)
		end_what_is_revoked(s);
	feed_use_snapshot(&s->enforce.admit.feed, snapshot);
}

void front_recall(struct front_shared *s, struct str key, struct str value)
{
	if (str_starts(key, STR(SPAWN_JOURNAL_PREFIX)))
		spawn_restore_recall(&s->spawns, key, value);
	else if (str_starts(key, STR(SPAWN_KEYS_JOURNAL_PREFIX)))
		spawn_keys_recall(s->keys, key, value);
	else if (str_starts(key, STR(LEASE_JOURNAL_PREFIX)))
		lease_recall(s->leases, key, value);
	else
		log_warn("the journal has a record that nobody knows: %.*s", STR_ARG(key));
}

void front_restore(struct front_shared *s, struct journal *journal)
{
	s->spawns.journal = journal;
	s->stats.journal = journal;
	spawn_keys_use_journal(s->keys, journal);
	spawn_keys_restore(s->keys, s->snapshot);
	spawn_restore(&s->spawns, s->snapshot);
	lease_restore(s->leases, journal, s->snapshot);
}

void front_local_restarted(struct front_shared *s)
{
	spawn_local_restarted(&s->spawns);
}

void front_rename_listeners(struct front_shared *s, const char *(*new_name)(void *arg, const char *name), void *arg)
{
	LIST_FOREACH_SAFE (n, &s->fronts) {
		struct front *f = CONTAINER_OF(n, struct front, link);
		const char *name = new_name(arg, front_listener_now(f));
		if (!name)
			continue;
		front_text_unref(f->next_listener);
		f->next_listener = front_text_ref(s, name);
		/* By the old name it might be judged by a rule that is another listener's now. */
		if (!f->next_listener)
			client_cut(f->client, CLIENT_END_NO_MEMORY);
	}
}

void front_store_idle(struct front_shared *s, bool (*store)(void *arg, const int *fds, size_t n), void *arg)
{
	int fds[FRONT_STORE_MAX];
	size_t n = 0;

	LIST_FOREACH (at, &s->fronts) {
		int fd = client_idle_fd(CONTAINER_OF(at, struct front, link)->client);
		if (fd < 0)
			continue;
		fds[n++] = fd;
		if (n < FRONT_STORE_MAX)
			continue;
		if (!store(arg, fds, n))
			return;
		n = 0;
	}
	if (n)
		store(arg, fds, n);
}

void front_drain_all(struct front_shared *s)
{
	s->stats.draining = true;
	LIST_FOREACH_SAFE (n, &s->fronts) {
		struct front *f = CONTAINER_OF(n, struct front, link);
		if (f->exchange)
			exchange_draining(f->exchange);
		else if (f->now && f->now->call)
			call_draining(f->now->call);
		client_drain(f->client);
	}
	loop_defer(s->loop, &s->watchers);
}

void front_cut_all(struct front_shared *s)
{
	LIST_FOREACH_SAFE (n, &s->fronts)
		cut_for_drain(CONTAINER_OF(n, struct front, link));
	spawn_abandon(&s->spawns);
}
