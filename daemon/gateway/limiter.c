/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry that nobody references waits in a list, oldest first, until its allowance is full again, which takes a
 * second whatever the rate is; each look-up lets go of those that have waited so long.
 *
 * The rate is kept as one number: the time until which the requests let through so far are paid for. A request costs
 * 1/rate of a second, and passes when that time is not further ahead than one second less that cost. Requests by rules
 * of different rates add up in it.
 */
#include "gateway/limiter.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/list.h"
#include "gateway/config.h"

enum {
	BUCKETS = 4096, /* a power of two */
	RETRY_SOON_S = 1,
	RETRY_SANDBOX_S = 30, /* the server's reaper runs that often */
};

#define SECOND_NS UINT64_C(1000000000)

struct limiter_owner {
	struct limiter *limiter;     /* borrowed */
	struct limiter_owner *next;  /* in its bucket */
	struct list idle;            /* on limiter.idle while refs is 0 */
	uint64_t idle_since_ns;      /* while refs is 0 */
	uint64_t refs;               /* references, and one for each thing taken */
	uint64_t paid_until_ns;      /* see above */
	struct limiter_counts taken; /* now */
	char name[];                 /* the user id, terminated */
};

struct limiter {
	struct limiter_owner *buckets[BUCKETS]; /* owned */
	struct list idle;                       /* limiter_owner.idle, oldest first */
	uint64_t owners;
	uint64_t refused[LIMITER_LIMITS];
};

/* --- entries ------------------------------------------------------------------------------------------------------ */

/* FNV-1a. Names are made by the rules from uids, not chosen by clients. */
static struct limiter_owner **bucket_of(struct limiter *l, const char *name)
{
	uint64_t h = UINT64_C(14695981039346656037);

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * UINT64_C(1099511628211);
	return &l->buckets[(h ^ h >> 32) % BUCKETS];
}

static void forget(struct limiter_owner *o)
{
	struct limiter_owner **at = bucket_of(o->limiter, o->name);

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	list_remove(&o->idle);
	o->limiter->owners--;
	free(o);
}

static void forget_idle(struct limiter *l, uint64_t now_ns)
{
	struct limiter_owner *o;

	while ((o = LIST_FIRST(&l->idle, struct limiter_owner, idle)) && now_ns - o->idle_since_ns >= SECOND_NS)
		forget(o);
}

static struct limiter_owner *find(struct limiter *l, const char *name)
{
	struct limiter_owner *o = *bucket_of(l, name);

	while (o && strcmp(o->name, name) != 0)
		o = o->next;
	return o;
}

static struct limiter_owner *add(struct limiter *l, const char *name)
{
	size_t n = strlen(name) + 1;
	struct limiter_owner **bucket = bucket_of(l, name);
	struct limiter_owner *o;

	if (l->owners == LIMITER_OWNERS_MAX)
		return NULL;
	o = calloc(1, sizeof(*o) + n);
	if (!o)
		return NULL;
	memcpy(o->name, name, n);
	o->limiter = l;
	o->next = *bucket;
	*bucket = o;
	list_init(&o->idle);
	l->owners++;
	return o;
}

struct limiter *limiter_new(void)
{
	struct limiter *l = calloc(1, sizeof(*l));

	if (l)
		list_init(&l->idle);
	return l;
}

void limiter_free(struct limiter *l)
{
	if (!l)
		return;
	LIST_FOREACH_SAFE (n, &l->idle)
		forget(CONTAINER_OF(n, struct limiter_owner, idle));
	CHECK(l->owners == 0);
	free(l);
}

static void hold(struct limiter_owner *o)
{
	if (o->refs++ == 0)
		list_remove(&o->idle);
}

static void let_go(struct limiter_owner *o, uint64_t now_ns)
{
	CHECK(o->refs);
	if (--o->refs)
		return;
	o->idle_since_ns = now_ns;
	list_add_tail(&o->limiter->idle, &o->idle);
}

struct limiter_owner *limiter_owner_ref(struct limiter *l, const char *owner, uint64_t now_ns)
{
	struct limiter_owner *o;

	forget_idle(l, now_ns);
	o = find(l, owner);
	if (!o)
		o = add(l, owner);
	if (o)
		hold(o);
	return o;
}

void limiter_owner_unref(struct limiter_owner *o, uint64_t now_ns)
{
	let_go(o, now_ns);
}

/* --- taking ------------------------------------------------------------------------------------------------------- */

#define KEY "limits."

static const char *const limit_keys[LIMITER_LIMITS] = {
	[LIMITER_CONNECTIONS] = KEY "connections",
	[LIMITER_CONCURRENT_REQUESTS] = KEY "concurrent_requests",
	[LIMITER_REQUESTS_PER_SECOND] = KEY "requests_per_second",
	[LIMITER_SANDBOXES] = KEY "sandboxes",
};

const char *limiter_limit_text(enum limiter_limit limit)
{
	return limit_keys[limit] + sizeof(KEY) - 1;
}

void limiter_note_refused(struct limiter_owner *o, enum limiter_limit limit)
{
	o->limiter->refused[limit]++;
}

static bool refuse(struct limiter_owner *o, struct limiter_refusal *why, enum limiter_limit limit,
		   unsigned retry_after_s)
{
	limiter_note_refused(o, limit);
	*why = (struct limiter_refusal){limit_keys[limit], retry_after_s};
	return false;
}

static void take(struct limiter_owner *o, uint64_t *count)
{
	hold(o);
	++*count;
}

static void give(struct limiter_owner *o, uint64_t *count, uint64_t now_ns)
{
	CHECK(*count);
	--*count;
	let_go(o, now_ns);
}

bool limiter_connection_take(struct limiter_owner *o, const struct config_limits *limits, struct limiter_refusal *why)
{
	if (limits->connections && o->taken.connections >= limits->connections)
		return refuse(o, why, LIMITER_CONNECTIONS, RETRY_SOON_S);
	take(o, &o->taken.connections);
	return true;
}

void limiter_connection_give(struct limiter_owner *o, uint64_t now_ns)
{
	give(o, &o->taken.connections, now_ns);
}

/* Pays for one request; 0, or in how many nanoseconds it may come again. */
static uint64_t pay(struct limiter_owner *o, uint64_t rate, uint64_t now_ns)
{
	uint64_t cost = SECOND_NS / rate;
	uint64_t from = o->paid_until_ns > now_ns ? o->paid_until_ns : now_ns;

	if (from - now_ns > SECOND_NS - cost)
		return from - now_ns - (SECOND_NS - cost);
	o->paid_until_ns = from + cost;
	return 0;
}

bool limiter_request_take(struct limiter_owner *o, const struct config_limits *limits, uint64_t now_ns,
			  struct limiter_refusal *why)
{
	if (limits->concurrent_requests && o->taken.requests >= limits->concurrent_requests)
		return refuse(o, why, LIMITER_CONCURRENT_REQUESTS, RETRY_SOON_S);
	if (limits->requests_per_second) {
		uint64_t wait_ns = pay(o, limits->requests_per_second, now_ns);
		if (wait_ns)
			return refuse(o, why, LIMITER_REQUESTS_PER_SECOND,
				      (unsigned)((wait_ns + SECOND_NS - 1) / SECOND_NS));
	}
	take(o, &o->taken.requests);
	return true;
}

void limiter_request_give(struct limiter_owner *o, uint64_t now_ns)
{
	give(o, &o->taken.requests, now_ns);
}

bool limiter_spawn_take(struct limiter_owner *o, const struct config_limits *limits, uint64_t present,
			struct limiter_refusal *why)
{
	if (limits->sandboxes && (present >= limits->sandboxes || o->taken.spawns >= limits->sandboxes - present))
		return refuse(o, why, LIMITER_SANDBOXES, RETRY_SANDBOX_S);
	take(o, &o->taken.spawns);
	return true;
}

void limiter_spawn_give(struct limiter_owner *o, uint64_t now_ns)
{
	give(o, &o->taken.spawns, now_ns);
}

struct limiter_counts limiter_owner_counts(const struct limiter_owner *o)
{
	return o->taken;
}

uint64_t limiter_refused(const struct limiter *l, enum limiter_limit limit)
{
	return l->refused[limit];
}

uint64_t limiter_owners(const struct limiter *l)
{
	return l->owners;
}
