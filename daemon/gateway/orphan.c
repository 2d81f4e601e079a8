/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An orphan is one fetch after another: the answer to the spawn, read on where the exchange left it, and, when there is
 * a sandbox in it, a DELETE, tried a few times.
 *
 * The server cancels a spawn whose request is closed, and can then leave a container that no list shows; so the connection
 * stays open although nobody waits (design.md, repeat only what did not run). An answer that never comes is lost here.
 */
#include "gateway/orphan.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/fetch.h"
#include "gateway/keyring.h"
#include "gateway/limiter.h"
#include "gateway/sandbox_doc.h"
#include "gateway/upstream.h"

enum {
	BODY_MAX_BYTES = 65536,
	TRIES = 5,
	PAUSE_MS = 500
};

struct orphan {
	struct list link;                      /* on the orphanage's list */
	struct orphanage *orphanage;           /* borrowed */
	struct upstream *upstream;             /* owned reference */
	struct fetch *fetch;                   /* owned; NULL between two tries */
	struct key *key;                       /* owned reference; NULL: none */
	char *user_id;                         /* owned */
	char *request_id;                      /* owned */
	struct limiter_owner *limits;          /* a spawn of his is taken; NULL: none */
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* of the sandbox; empty until the answer has come */
	unsigned tries;
	struct event *pause; /* owned; before another try */
};

/* --- the end -------------------------------------------------------------------------------------------------------- */

static void give_back(struct limiter_owner *limits)
{
	if (limits)
		limiter_spawn_give(limits, clock_ns());
}

static void orphan_free(struct orphan *p)
{
	struct orphanage *o = p->orphanage;

	list_remove(&p->link);
	fetch_cancel(p->fetch);
	if (p->pause)
		event_free(p->pause);
	give_back(p->limits);
	upstream_unref(p->upstream);
	key_unref(p->key);
	free(p->user_id);
	free(p->request_id);
	free(p);
	if (--o->count == 0 && o->on_empty)
		o->on_empty(o->arg);
}

static void finish(struct orphan *p, uint64_t *counter)
{
	(*counter)++;
	orphan_free(p);
}

static void lose(struct orphan *p, const char *why)
{
	log_warn("upstream %s: a spawn whose client had left (id=%s) %s: a sandbox may live on to its ttl",
		 upstream_name(p->upstream), p->request_id, why);
	finish(p, &p->orphanage->lost);
}

/* --- destroying the sandbox ------------------------------------------------------------------------------------------ */

static void try_again(struct orphan *p)
{
	struct timeval tv = {.tv_usec = PAUSE_MS * 1000};

	if (p->tries >= TRIES)
		lose(p, "left a sandbox that cannot be destroyed");
	else
		event_add(p->pause, &tv);
}

static void on_deleted(void *arg, const struct fetch_answer *a)
{
	struct orphan *p = arg;

	p->fetch = NULL;
	if (a->end != FETCH_DONE || a->status >= 500 || a->status == 429) {
		try_again(p);
		return;
	}
	log_info("upstream %s: sandbox %s of a client that left (id=%s) is destroyed", upstream_name(p->upstream),
		 p->id, p->request_id);
	finish(p, &p->orphanage->destroyed);
}

static void begin_delete(struct orphan *p)
{
	char target[SANDBOX_DOC_ID_MAX_BYTES + 32];
	int n = snprintf(target, sizeof(target), "/api/v1/sandboxes/%s", p->id);
	const struct fetch_request request = {
		.caller = {p->upstream, p->key, p->user_id, p->request_id},
		.method = "DELETE",
		.target = str_of(target, (size_t)n),
		.max_bytes = BODY_MAX_BYTES,
		.fresh = p->tries > 0,
		.on_done = on_deleted,
		.arg = p,
	};

	p->tries++;
	if (fetch_start(p->orphanage->loop, &request, &p->fetch))
		try_again(p);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	begin_delete(arg);
}

/* --- the answer ------------------------------------------------------------------------------------------------------- */

static void on_answered(void *arg, const struct fetch_answer *a)
{
	struct orphan *p = arg;
	struct sandbox_doc doc;

	p->fetch = NULL;
	if (a->end != FETCH_DONE) {
		lose(p, "was not answered to the end");
	} else if (a->status != 201) {
		finish(p, &p->orphanage->nothing);
	} else if (sandbox_doc_parse(a->body, &doc)) {
		lose(p, "was answered without a sandbox");
	} else {
		memcpy(p->id, doc.id, sizeof(p->id));
		begin_delete(p);
	}
}

/* --- adopting --------------------------------------------------------------------------------------------------------- */

void orphanage_init(struct orphanage *o, struct loop *loop)
{
	memset(o, 0, sizeof(*o));
	o->loop = loop;
	list_init(&o->orphans);
}

static int orphan_begin(struct orphan *p, const struct orphan_case *c, struct upstream_conn **conn)
{
	const struct fetch_request request = {
		.caller.upstream = c->upstream,
		.max_bytes = BODY_MAX_BYTES,
		.on_done = on_answered,
		.arg = p,
	};
	const struct fetch_begun begun = {c->parser, c->status, c->received, UPSTREAM_WAIT_SPAWN};

	p->user_id = strdup(c->user_id);
	p->request_id = strdup(c->request_id);
	p->pause = evtimer_new(loop_base(p->orphanage->loop), on_pause_over, p);
	if (!p->user_id || !p->request_id || !p->pause)
		return -ENOMEM;
	return fetch_adopt(p->orphanage->loop, &request, &begun, conn, &p->fetch);
}

void orphanage_adopt(struct orphanage *o, const struct orphan_case *c, struct upstream_conn **conn)
{
	struct orphan *p = calloc(1, sizeof(*p));

	o->adopted++;
	if (!p) {
		o->lost++;
		give_back(c->limits);
		upstream_release(conn, false);
		return;
	}
	p->orphanage = o;
	p->upstream = upstream_ref(c->upstream);
	p->key = c->key ? key_ref(c->key) : NULL;
	p->limits = c->limits;
	list_init(&p->link);
	list_add_tail(&o->orphans, &p->link);
	o->count++;
	if (orphan_begin(p, c, conn)) {
		upstream_release(conn, false);
		finish(p, &o->lost);
		return;
	}
	log_info("upstream %s: the client of a spawn has left (id=%s): its sandbox will be destroyed",
		 upstream_name(p->upstream), p->request_id);
}

void orphanage_abandon(struct orphanage *o)
{
	LIST_FOREACH_SAFE (n, &o->orphans)
		lose(CONTAINER_OF(n, struct orphan, link), "was given up at the stop of the daemon");
}
