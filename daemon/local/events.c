/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An event is written once and shared by the queues that hold it. Nothing is replayed: what is told while nobody listens
 * takes a number and no memory.
 */
#include "local/events.h"

#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/json_write.h"
#include "local/spawn_spec.h"

struct events {
	struct list listeners; /* struct events_listener */
	size_t nlisteners;
	uint64_t last; /* number of the last event */
};

struct events_text {
	size_t refs; /* queues that hold it, and its maker */
	struct buf bytes;
};

static const char *const names[EVENTS_TYPES] = {
	[EVENTS_SANDBOX_CREATED] = "sandbox.created",
	[EVENTS_SANDBOX_RUNNING] = "sandbox.running",
	[EVENTS_SANDBOX_DESTROYED] = "sandbox.destroyed",
	[EVENTS_EXEC_STARTED] = "exec.started",
	[EVENTS_EXEC_COMPLETED] = "exec.completed",
	[EVENTS_EXEC_FAILED] = "exec.failed",
	[EVENTS_EXEC_TIMEOUT] = "exec.timeout",
	[EVENTS_FILE_WRITTEN] = "file.written",
	[EVENTS_FILE_READ] = "file.read",
	[EVENTS_OPERATION_FAILED] = "operation.failed",
	[EVENTS_RESOURCE_LIMIT] = "resource.limit",
};

struct events *events_new(void)
{
	struct events *es = calloc(1, sizeof(*es));

	if (es)
		list_init(&es->listeners);
	return es;
}

void events_free(struct events *es)
{
	CHECK(!es || list_empty(&es->listeners));
	free(es);
}

/* --- texts ------------------------------------------------------------------------------------------------------ */

static void text_unref(struct events_text *t)
{
	if (--t->refs)
		return;
	buf_fini(&t->bytes);
	free(t);
}

static void write_event(struct buf *out, uint64_t number, enum events_type type, struct str sandbox_id,
			const struct events_fault *fault)
{
	struct json_writer w;
	char text[40];

	buf_add_str(out, STR("data: "));
	w = json_writer(out);
	json_object_begin(&w, NULL);
	snprintf(text, sizeof(text), "evt-%llu", (unsigned long long)number);
	json_cstr(&w, "id", text);
	json_cstr(&w, "type", names[type]);
	if (sandbox_id.n)
		json_str(&w, "sandbox_id", sandbox_id);
	clock_format_rfc3339(clock_wall_ns(), text);
	json_cstr(&w, "timestamp", text);
	if (fault) {
		json_object_begin(&w, "data");
		json_str(&w, "error", fault->error);
		json_cstr(&w, "operation", fault->operation);
		json_cstr(&w, "provider", SPAWN_PROVIDER);
		json_object_end(&w);
	}
	json_object_end(&w);
	buf_add_str(out, STR("\n\n"));
}

/* --- listeners -------------------------------------------------------------------------------------------------- */

bool events_listen(struct events *es, struct events_listener *l, void (*on_event)(struct events_listener *l))
{
	if (es->nlisteners >= EVENTS_LISTENERS_MAX)
		return false;
	*l = (struct events_listener){.events = es, .on_event = on_event};
	list_add_tail(&es->listeners, &l->link);
	es->nlisteners++;
	return true;
}

void events_leave(struct events_listener *l)
{
	if (!l->events)
		return;
	while (l->n)
		events_drop(l);
	list_remove(&l->link);
	l->events->nlisteners--;
	l->events = NULL;
}

struct str events_first(const struct events_listener *l)
{
	return l->n ? buf_str(&l->ring[l->first]->bytes) : STR("");
}

void events_drop(struct events_listener *l)
{
	CHECK(l->n);
	text_unref(l->ring[l->first]);
	l->first = (l->first + 1) % EVENTS_QUEUE_MAX;
	l->n--;
}

void events_tell(struct events *es, enum events_type type, struct str sandbox_id, const struct events_fault *fault)
{
	uint64_t number = ++es->last;
	struct events_text *t;

	if (list_empty(&es->listeners))
		return;
	t = calloc(1, sizeof(*t));
	if (!t)
		return;
	t->refs = 1;
	write_event(&t->bytes, number, type, sandbox_id, fault);
	LIST_FOREACH (n, &es->listeners) {
		struct events_listener *l = CONTAINER_OF(n, struct events_listener, link);
		if (t->bytes.failed || l->n == EVENTS_QUEUE_MAX)
			continue;
		l->ring[(l->first + l->n++) % EVENTS_QUEUE_MAX] = t;
		t->refs++;
		l->on_event(l);
	}
	text_unref(t);
}
