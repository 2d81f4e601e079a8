/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A record is made with its sandbox and outlives it:
 *
 *     CREATING -> RUNNING -> EXPIRED -> DESTROYED
 *     CREATING, RUNNING -> DESTROYED          by request
 *     CREATING, RUNNING -> ERROR -> DESTROYED
 *
 * What could not be started is forgotten, since nobody was told its id. A sandbox that ended by itself stays visible
 * as an error until it is destroyed or its time is over. Destroyed ones are remembered, so that a later request is
 * told what became of them, but only the last REMEMBERED_MAX.
 *
 * What is known of a sandbox goes with it where the host keeps it for the next server: as JSON, whole with each change.
 *
 * Expiry is by a timer of each record; GRACE_MS later than its time, so that what was spawned with a tiny ttl can
 * still be used once, as with a server that looks for expired ones now and then.
 */
#include "local/records.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "local/go_json.h"
#include "local/keep.h"
#include "local/preview_host.h"
#include "local/sandbox.h"

enum {
	BUCKETS = 256,
	REMEMBERED_MAX = 4096,
	GRACE_MS = 700
};

#define NS_PER_S INT64_C(1000000000)
/* Beyond this a wall time cannot be written as RFC 3339 in nanoseconds. */
#define WALL_MAX_NS (INT64_MAX - 86400 * NS_PER_S)

struct records {
	struct loop *loop;         /* borrowed */
	struct sandbox_host *host; /* borrowed */
	struct list live;          /* struct record: not destroyed, newest first */
	struct list remembered;    /* struct record: destroyed, the last one first */
	size_t nremembered;
	struct list buckets[BUCKETS];
	const struct records_watch *watch; /* borrowed; NULL: nobody */
	void *watch_arg;                   /* borrowed */
};

/* --- states ----------------------------------------------------------------------------------------------------- */

#define EDGE(state) (1u << (state))

static const struct {
	const char *name;
	unsigned next;
} states[RECORD_STATES] = {
	[RECORD_CREATING] = {"creating", EDGE(RECORD_RUNNING) | EDGE(RECORD_DESTROYED) | EDGE(RECORD_ERROR)},
	[RECORD_RUNNING] = {"running", EDGE(RECORD_EXPIRED) | EDGE(RECORD_DESTROYED) | EDGE(RECORD_ERROR)},
	[RECORD_EXPIRED] = {"expired", EDGE(RECORD_DESTROYED)},
	[RECORD_ERROR] = {"error", EDGE(RECORD_DESTROYED)},
	[RECORD_DESTROYED] = {"destroyed", 0},
};

const char *record_state_name(enum record_state state)
{
	return states[state].name;
}

bool record_state_may_follow(enum record_state from, enum record_state to)
{
	return states[from].next & EDGE(to);
}

static void record_move(struct record *r, enum record_state to)
{
	CHECK(record_state_may_follow(r->state, to));
	log_debug("%s: %s -> %s", r->id, states[r->state].name, states[to].name);
	r->state = to;
	if (to == RECORD_DESTROYED) {
		event_del(r->expiry);
		list_remove(&r->link);
		list_add_head(&r->records->remembered, &r->link);
		r->records->nremembered++;
	}
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

/* What only a live record needs. */
static void drop_details(struct record *r)
{
	free(r->image);
	free(r->owner_id);
	json_decref(r->metadata);
	r->image = r->owner_id = NULL;
	r->metadata = NULL;
	if (r->expiry)
		event_free(r->expiry);
	r->expiry = NULL;
}

static void record_free(struct record *r)
{
	CHECK(!r->sandbox && list_empty(&r->waiters) && list_empty(&r->previews));
	list_remove(&r->link);
	list_remove(&r->hash_link);
	drop_details(r);
	free(r);
}

static void forget_oldest(struct records *rs)
{
	while (rs->nremembered > REMEMBERED_MAX) {
		struct record *r = CONTAINER_OF(rs->remembered.prev, struct record, link);
		if (r->sandbox)
			return; /* it is still going; the next one will find it gone */
		record_free(r);
		rs->nremembered--;
	}
}

static struct list *bucket_of(struct records *rs, struct str id)
{
	return &rs->buckets[str_hash(id) % BUCKETS];
}

struct record *records_find(struct records *rs, struct str id)
{
	struct list *bucket = bucket_of(rs, id);

	LIST_FOREACH (n, bucket) {
		struct record *r = CONTAINER_OF(n, struct record, hash_link);
		if (str_eq(str_from(r->id), id))
			return r;
	}
	return NULL;
}

/* --- expiry ------------------------------------------------------------------------------------------------------ */

static void on_expired(evutil_socket_t fd, short what, void *arg)
{
	struct record *r = arg;

	(void)fd;
	(void)what;
	if (r->state == RECORD_ERROR) {
		record_destroy(r, NULL);
		return;
	}
	if (r->state != RECORD_RUNNING)
		return; /* a spawn under way is ended by whoever waits for it */
	log_info("%s: expired", r->id);
	record_move(r, RECORD_EXPIRED);
	sandbox_destroy(r->sandbox);
}

static void arm_expiry(struct record *r)
{
	int64_t left_ms = (r->expires_ns - clock_wall_ns()) / 1000000;
	struct timeval tv;

	left_ms = (left_ms > 0 ? left_ms : 0) + GRACE_MS;
	tv = clock_span(left_ms);
	event_add(r->expiry, &tv);
}

/* --- from server to server -------------------------------------------------------------------------------------- */

static void record_keep(const struct record *r)
{
	struct buf note = BUF_EMPTY;
	struct json_writer w = json_writer(&note);

	if (!sandbox_host_keeps(r->records->host))
		return;
	json_object_begin(&w, NULL);
	json_cstr(&w, "image", r->image);
	if (r->owner_id)
		json_cstr(&w, "owner_id", r->owner_id);
	if (r->metadata)
		go_json_emit(&w, "metadata", r->metadata);
	json_int(&w, "memory_mb", r->memory_mb);
	json_int(&w, "vcpus", r->vcpus);
	json_int(&w, "created_ns", r->created_ns);
	json_int(&w, "expires_ns", r->expires_ns);
	json_object_end(&w);
	if (note.failed)
		log_error("%s: no memory: what is known of it is not kept", r->id);
	else
		sandbox_keep(r->sandbox, buf_str(&note));
	buf_fini(&note);
}

static int64_t wall_after(int64_t from_ns, int64_t span_ns)
{
	if (span_ns > WALL_MAX_NS - from_ns)
		return WALL_MAX_NS;
	if (span_ns < -from_ns)
		return 0;
	return from_ns + span_ns;
}

void record_extend(struct record *r, int64_t ttl_ns)
{
	r->expires_ns = wall_after(clock_wall_ns(), ttl_ns);
	arm_expiry(r);
	if (r->sandbox)
		record_keep(r);
}

/* --- the sandbox's own events ----------------------------------------------------------------------------------- */

static void tell_started(struct record *r, int error, const char *why)
{
	void (*on_started)(void *, struct record *, int, const char *) = r->on_started;

	r->on_started = NULL;
	if (on_started)
		on_started(r->on_started_arg, r, error, why);
}

static void on_started(void *arg, int error, const char *why)
{
	struct record *r = arg;

	if (r->state != RECORD_CREATING)
		return; /* destroyed meanwhile; on_gone follows */
	if (error) {
		record_move(r, RECORD_ERROR);
		log_warn("%s: could not be started: %s", r->id, why);
	} else {
		record_move(r, RECORD_RUNNING);
		r->announced = true;
		arm_expiry(r);
		record_keep(r);
	}
	tell_started(r, error, why);
}

static void tell_destroyed(const struct record *r)
{
	const struct records *rs = r->records;

	if (rs->watch && rs->watch->on_destroyed && r->announced && r->state == RECORD_DESTROYED)
		rs->watch->on_destroyed(rs->watch_arg, r);
}

static void tell_waiters(struct record *r)
{
	while (!list_empty(&r->waiters)) {
		struct record_waiter *w = LIST_FIRST(&r->waiters, struct record_waiter, link);
		list_remove(&w->link);
		w->on_gone(w);
	}
}

static void on_gone(void *arg)
{
	struct record *r = arg;
	struct records *rs = r->records;

	r->sandbox = NULL;
	if (rs->watch && rs->watch->on_gone)
		rs->watch->on_gone(rs->watch_arg, r);
	if (r->state == RECORD_CREATING || r->state == RECORD_RUNNING) {
		log_warn("%s: ended by itself", r->id);
		record_move(r, RECORD_ERROR);
	}
	tell_started(r, -ECHILD, "it ended while it was being started");
	if (r->state == RECORD_EXPIRED)
		record_move(r, RECORD_DESTROYED);
	tell_destroyed(r);
	tell_waiters(r);
	if (!r->announced) {
		if (r->state == RECORD_DESTROYED)
			rs->nremembered--;
		record_free(r);
		return;
	}
	if (r->state == RECORD_DESTROYED)
		drop_details(r);
	forget_oldest(rs);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

static void make_id(struct records *rs, char out[RECORD_ID_SIZE])
{
	uint32_t random;

	do {
		CHECK(getrandom(&random, sizeof(random), 0) == (ssize_t)sizeof(random));
		snprintf(out, RECORD_ID_SIZE, "sb-%08x", random);
	} while (records_find(rs, str_from(out)));
}

static struct record *record_new(struct records *rs, const char *id, const struct record_spec *spec)
{
	struct record *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	list_init(&r->link);
	list_init(&r->hash_link);
	list_init(&r->waiters);
	list_init(&r->previews);
	r->records = rs;
	if (id)
		snprintf(r->id, sizeof(r->id), "%s", id);
	else
		make_id(rs, r->id);
	r->memory_mb = spec->memory_mb;
	r->vcpus = spec->vcpus;
	r->created_ns = clock_wall_ns();
	r->expires_ns = wall_after(r->created_ns, spec->ttl_ns);
	r->image = str_dup(spec->image);
	if (spec->owner_id.n)
		r->owner_id = str_dup(spec->owner_id);
	if (spec->metadata)
		r->metadata = json_deep_copy(spec->metadata);
	r->expiry = event_new(loop_base(rs->loop), -1, 0, on_expired, r);
	if (!r->image || !r->expiry || (spec->owner_id.n && !r->owner_id) || (spec->metadata && !r->metadata)) {
		record_free(r);
		return NULL;
	}
	return r;
}

static const struct sandbox_events events = {.on_started = on_started, .on_gone = on_gone};

static void record_link(struct record *r)
{
	list_add_head(&r->records->live, &r->link);
	list_add_head(bucket_of(r->records, str_from(r->id)), &r->hash_link);
}

struct record *records_spawn(struct records *rs, const struct record_spec *spec,
			     void (*started)(void *arg, struct record *r, int error, const char *why), void *arg)
{
	struct record *r = record_new(rs, NULL, spec);

	if (!r)
		return NULL;
	struct sandbox_spec wanted = {
		.id = r->id,
		.memory_mb = spec->memory_mb > 0 ? (uint64_t)spec->memory_mb : 0,
		.vcpus = spec->vcpus > 0 && spec->vcpus < 4096 ? (unsigned)spec->vcpus : 1,
	};
	r->sandbox = sandbox_start(rs->host, &wanted, &events, r);
	if (!r->sandbox) {
		record_free(r);
		return NULL;
	}
	r->on_started = started;
	r->on_started_arg = arg;
	record_link(r);
	return r;
}

static struct str text_of(const json_t *note, const char *key)
{
	const json_t *v = json_object_get(note, key);

	return v ? str_of(json_string_value(v), json_string_length(v)) : STR("");
}

static int64_t int_of(const json_t *note, const char *key)
{
	return json_integer_value(json_object_get(note, key));
}

/* The record that the note tells of; NULL: it makes no sense, or there is no memory. */
static struct record *record_of_note(struct records *rs, const struct kept *kept)
{
	json_t *note = json_loadb(buf_data(&kept->note), kept->note.len, 0, NULL);
	const struct record_spec spec = {
		.image = text_of(note, "image"),
		.owner_id = text_of(note, "owner_id"),
		.metadata = json_object_get(note, "metadata"),
		.memory_mb = int_of(note, "memory_mb"),
		.vcpus = int_of(note, "vcpus"),
	};
	bool whole = json_is_string(json_object_get(note, "image")) && int_of(note, "created_ns") > 0 &&
		     strlen(kept->id) < RECORD_ID_SIZE;
	struct record *r = whole ? record_new(rs, kept->id, &spec) : NULL;

	if (r) {
		r->created_ns = int_of(note, "created_ns");
		r->expires_ns = int_of(note, "expires_ns");
		r->state = RECORD_RUNNING;
		r->announced = true;
	}
	json_decref(note);
	return r;
}

static void resume_one(struct records *rs, struct kept *kept)
{
	static const struct sandbox_events none = {0};
	struct record *r = record_of_note(rs, kept);
	struct sandbox *sb = sandbox_resume(rs->host, &kept, r ? &events : &none, r);

	if (r && sb) {
		r->sandbox = sb;
		record_link(r);
		arm_expiry(r);
		log_info("%s: taken up", r->id);
		return;
	}
	log_error("a sandbox of the server before cannot be taken up, and is destroyed");
	if (r)
		record_free(r);
	if (sb)
		sandbox_destroy(sb);
}

void records_resume(struct records *rs)
{
	struct kept *kept;

	while ((kept = sandbox_host_next_kept(rs->host)))
		resume_one(rs, kept);
}

void record_abandon(struct record *r)
{
	r->on_started = NULL;
	record_destroy(r, NULL);
}

void record_destroy(struct record *r, struct record_waiter *w)
{
	CHECK(!w || r->sandbox);
	if (w)
		list_add_tail(&r->waiters, &w->link);
	if (r->state == RECORD_CREATING || r->state == RECORD_RUNNING || r->state == RECORD_ERROR)
		record_move(r, RECORD_DESTROYED);
	if (r->sandbox) {
		sandbox_destroy(r->sandbox);
	} else {
		tell_destroyed(r);
		drop_details(r);
	}
}

void record_destroy_unless_kept(struct record *r)
{
	if (!r->sandbox || !sandbox_is_kept(r->sandbox))
		record_destroy(r, NULL);
}

void record_waiter_cancel(struct record_waiter *w)
{
	list_remove(&w->link);
}

/* --- all of them ------------------------------------------------------------------------------------------------ */

struct records *records_new(struct loop *loop, struct sandbox_host *host)
{
	struct records *rs = calloc(1, sizeof(*rs));

	if (!rs)
		return NULL;
	rs->loop = loop;
	rs->host = host;
	list_init(&rs->live);
	list_init(&rs->remembered);
	for (size_t i = 0; i < BUCKETS; i++)
		list_init(&rs->buckets[i]);
	return rs;
}

void records_watch(struct records *rs, const struct records_watch *watch, void *arg)
{
	rs->watch = watch;
	rs->watch_arg = arg;
}

static void free_list(struct list *head)
{
	LIST_FOREACH_SAFE (n, head) {
		struct record *r = CONTAINER_OF(n, struct record, link);
		if (r->sandbox)
			sandbox_leave(r->sandbox);
		r->sandbox = NULL;
		record_free(r);
	}
}

void records_free(struct records *rs)
{
	if (!rs)
		return;
	free_list(&rs->live);
	free_list(&rs->remembered);
	free(rs);
}

void records_each(struct records *rs, void (*each)(struct record *r, void *arg), void *arg)
{
	LIST_FOREACH_SAFE (n, &rs->live)
		each(CONTAINER_OF(n, struct record, link), arg);
}

size_t records_count(const struct records *rs, struct str owner_id)
{
	size_t count = 0;

	LIST_FOREACH (n, &rs->live) {
		const struct record *r = CONTAINER_OF(n, struct record, link);
		if (owner_id.n == 0 || str_eq(str_from(r->owner_id), owner_id))
			count++;
	}
	return count;
}

void record_write(const struct record *r, struct json_writer *w, const char *key)
{
	char time[40];

	json_object_begin(w, key);
	json_cstr(w, "id", r->id);
	json_cstr(w, "state", record_state_name(r->state));
	json_cstr(w, "provider", "local");
	json_cstr(w, "image", r->image);
	json_int(w, "memory_mb", r->memory_mb);
	json_int(w, "vcpus", r->vcpus);
	if (r->owner_id)
		json_cstr(w, "owner_id", r->owner_id);
	json_cstr(w, "worker_id", "local");
	clock_format_rfc3339(r->created_ns, time);
	json_cstr(w, "created_at", time);
	clock_format_rfc3339(r->expires_ns, time);
	json_cstr(w, "expires_at", time);
	if (r->metadata && json_object_size(r->metadata))
		go_json_emit(w, "metadata", r->metadata);
	json_cstr(w, "preview_domain", PREVIEW_DOMAIN);
	json_object_end(w);
}
