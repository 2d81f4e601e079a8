/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server is asked when somebody needs to know and the last answer is older than half a minute; whoever comes before the
 * first answer waits for it, everybody else gets the last one. A server that does not say is one of which nothing is
 * known, which refuses nothing (design.md, ownership lives in the sandbox's metadata).
 */
#include "gateway/vm_watch.h"

#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/loop.h"
#include "gateway/fetch.h"
#include "gateway/upstream.h"

enum {
	AGAIN_MS = 30000,
	STATUS_MAX_BYTES = 65536,
	SERVERS_MAX = 64, /* remembered; reloads make new ones */
};

struct vm_server {
	struct list link; /* on vm_watch.servers, the one asked for last first */
	struct list waits;
	uint64_t serial; /* of the upstream */
	enum vm_state state;
	bool answered;       /* at least once, be it without a word */
	uint64_t asked_ms;   /* loop_now_ms() */
	struct fetch *fetch; /* owned; NULL when none is under way */
};

void vm_watch_init(struct vm_watch *v, struct loop *loop)
{
	v->loop = loop;
	list_init(&v->servers);
}

static void server_free(struct vm_server *s)
{
	list_remove(&s->link);
	fetch_cancel(s->fetch);
	free(s);
}

void vm_watch_fini(struct vm_watch *v)
{
	LIST_FOREACH_SAFE (n, &v->servers)
		server_free(CONTAINER_OF(n, struct vm_server, link));
}

static struct vm_server *find(const struct vm_watch *v, const struct upstream *u)
{
	LIST_FOREACH (n, &v->servers) {
		struct vm_server *s = CONTAINER_OF(n, struct vm_server, link);
		if (s->serial == upstream_serial(u))
			return s;
	}
	return NULL;
}

enum vm_state vm_watch_known(const struct vm_watch *v, const struct upstream *u)
{
	const struct vm_server *s = find(v, u);

	return s ? s->state : VM_UNKNOWN;
}

/* `{"enabled":true,...}` alone means a shared machine: a vm_id in a record may be a remote worker's. */
static enum vm_state read_status(struct str text)
{
	json_t *body = json_loadb(text.n ? text.p : "", text.n, 0, NULL);
	const json_t *enabled = json_object_get(body, "enabled");
	enum vm_state state = json_is_true(enabled) ? VM_SHARED : json_is_false(enabled) ? VM_OWN : VM_UNKNOWN;

	json_decref(body);
	return state;
}

static void tell(struct vm_server *s)
{
	while (!list_empty(&s->waits)) {
		struct vm_wait *w = LIST_FIRST(&s->waits, struct vm_wait, link);
		list_remove(&w->link);
		w->on_state(w, s->state);
	}
}

static void on_status(void *arg, const struct fetch_answer *a)
{
	struct vm_server *s = arg;

	s->fetch = NULL;
	s->answered = true;
	s->state = a->end == FETCH_DONE && a->status == 200 ? read_status(a->body) : VM_UNKNOWN;
	tell(s);
}

static struct vm_server *add(struct vm_watch *v, const struct upstream *u)
{
	struct vm_server *s = calloc(1, sizeof(*s));
	size_t n = 0;

	if (!s)
		return NULL;
	list_init(&s->waits);
	s->serial = upstream_serial(u);
	list_add_head(&v->servers, &s->link);
	LIST_FOREACH_SAFE (node, &v->servers) {
		struct vm_server *old = CONTAINER_OF(node, struct vm_server, link);
		if (++n > SERVERS_MAX && list_empty(&old->waits))
			server_free(old);
	}
	return s;
}

static void ask_server(struct vm_watch *v, struct vm_server *s, const struct fetch_caller *asker)
{
	const struct fetch_request request = {
		.caller = *asker,
		.method = "GET",
		.target = STR("/api/v1/pool/status"),
		.max_bytes = STATUS_MAX_BYTES,
		.on_done = on_status,
		.arg = s,
	};

	s->asked_ms = loop_now_ms(v->loop);
	if (fetch_start(v->loop, &request, &s->fetch))
		s->answered = true;
}

bool vm_watch_ask(struct vm_watch *v, const struct fetch_caller *asker, struct vm_wait *w, enum vm_state *state)
{
	struct vm_server *s = find(v, asker->upstream);

	list_init(&w->link);
	*state = VM_UNKNOWN;
	if (!s)
		s = add(v, asker->upstream);
	if (!s)
		return true;
	if (!s->fetch && (!s->answered || loop_now_ms(v->loop) - s->asked_ms >= AGAIN_MS))
		ask_server(v, s, asker);
	if (!s->answered) {
		list_add_tail(&s->waits, &w->link);
		return false;
	}
	*state = s->state;
	return true;
}

void vm_wait_cancel(struct vm_wait *w)
{
	list_remove(&w->link);
}
