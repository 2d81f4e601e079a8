/* SPDX-License-Identifier: Apache-2.0 */
#include "local/api_sandbox.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/json_write.h"
#include "local/call.h"
#include "local/records.h"
#include "local/spawn_spec.h"
#include "local/templates.h"

enum {
	LOG_LINES_DEFAULT = 100
};

static void answer_record(struct call *call, unsigned status, const struct record *r)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	record_write(r, &w, NULL);
	call_json(call, status, &body);
}

/* --- spawn -------------------------------------------------------------------------------------------------------- */

/* The client has gone, or was answered; a sandbox that nobody was told of is not kept. */
static void on_spawn_over(struct call *call)
{
	if (call->state)
		record_abandon(call->state);
}

static void on_spawned(void *arg, struct record *r, int error, const char *why)
{
	struct call *call = arg;

	call->state = NULL;
	if (error) {
		call_fail(call, CALL_INTERNAL_ERROR, EVENTS_OPERATION_FAILED, "spawning sandbox: %s", why);
		return;
	}
	events_tell(call->api->events, EVENTS_SANDBOX_CREATED, str_from(r->id), NULL);
	events_tell(call->api->events, EVENTS_SANDBOX_RUNNING, str_from(r->id), NULL);
	answer_record(call, 201, r);
}

static void start_spawn(struct call *call, const struct spawn_fields *f, const struct template *t, int64_t ttl_ns)
{
	static const struct call_events events = {.on_over = on_spawn_over};
	json_t *metadata = spawn_metadata(f, t);
	struct record_spec spec = {
		.image = f->image,
		.owner_id = f->owner_id,
		.metadata = metadata,
		.memory_mb = f->memory_mb,
		.vcpus = f->vcpus,
		.ttl_ns = ttl_ns,
	};

	call->events = &events;
	call->state = metadata ? records_spawn(call->api->records, &spec, on_spawned, call) : NULL;
	json_decref(metadata);
	if (!call->state)
		call_no_memory(call);
}

/* Judges what was asked for, completed by the template, and begins it. */
static void spawn(struct call *call, struct spawn_fields *f, const struct template *t)
{
	char fault_text[256];
	enum duration_fault fault;
	int64_t ttl_ns = 0;

	spawn_fields_complete(f, t);
	if (call->api->stopping) {
		call_error(call, CALL_UNAVAILABLE, "the server is stopping");
		return;
	}
	if (!spawn_provider_known(f->provider)) {
		call_fail(call, CALL_NOT_FOUND, EVENTS_OPERATION_FAILED, "getting provider: provider not found: %.*s",
			  STR_ARG(f->provider));
		return;
	}
	fault = spawn_ttl(f, t, &ttl_ns);
	if (fault != DURATION_OK) {
		duration_fault_text(fault, f->ttl, fault_text, sizeof(fault_text));
		call_error(call, CALL_INTERNAL_ERROR, "parsing TTL: %s", fault_text);
		return;
	}
	if (ttl_ns > SPAWN_MAX_TTL_NS) {
		call_error(call, CALL_RESOURCE_LIMIT, "resource limit exceeded: ttl exceeds max ttl 24h0m0s");
		return;
	}
	start_spawn(call, f, t, ttl_ns);
}

/* The owner that counts: the header before the body. False: answered. */
static bool read_owner(struct call *call, struct spawn_fields *f)
{
	struct str header = str_trim(conn_header(call->conn, STR("x-user-id")));
	const char *fault;

	f->owner_id = header.n ? header : str_trim(f->owner_id);
	fault = spawn_owner_fault(f->owner_id);
	if (!*fault)
		return true;
	call_error(call, CALL_BAD_REQUEST, "invalid input: %s", fault);
	return false;
}

/* The body of spawn and admission; false: answered. */
static bool read_spawn(struct call *call, struct spawn_fields *f)
{
	size_t n;
	const struct go_field *table = spawn_fields_table(&n);

	return call_bind(call, table, n, f) && read_owner(call, f);
}

void api_sandbox_spawn(struct call *call)
{
	struct spawn_fields f = {0};
	const struct template *t = NULL;

	if (!read_spawn(call, &f))
		return;
	if (f.template.n) {
		t = templates_find(call->api->templates, f.template);
		if (!t) {
			call_error(call, CALL_NOT_FOUND, "not found: template \"%.*s\"", STR_ARG(f.template));
			return;
		}
	}
	spawn(call, &f, t);
}

/* Image and owner come from elsewhere, and a body that cannot be read counts as none. */
void api_sandbox_spawn_template(struct call *call)
{
	static const struct go_field table[] = {
		{"provider", GO_STR, offsetof(struct spawn_fields, provider)},
		{"ttl", GO_STR, offsetof(struct spawn_fields, ttl)},
		{"memory_mb", GO_INT, offsetof(struct spawn_fields, memory_mb)},
		{"vcpus", GO_INT, offsetof(struct spawn_fields, vcpus)},
		{"metadata", GO_MAP, offsetof(struct spawn_fields, metadata)},
	};
	struct str name = buf_str(&call->param);
	const struct template *t = templates_find(call->api->templates, name);
	struct spawn_fields f = {0};

	if (!t) {
		call_error(call, CALL_NOT_FOUND, "not found: template \"%.*s\"", STR_ARG(name));
		return;
	}
	if (go_json_parse(conn_body(call->conn), &call->body) ||
	    go_json_bind(call->body, table, sizeof(table) / sizeof(table[0]), &f))
		f = (struct spawn_fields){0};
	if (read_owner(call, &f))
		spawn(call, &f, t);
}

/* --- admission ---------------------------------------------------------------------------------------------------- */

static void answer_decision(struct call *call, const char *reason, const struct spawn_fields *f)
{
	size_t active = *reason ? 0 : records_count(call->api->records, STR(""));
	size_t of_owner = *reason || f->owner_id.n == 0 ? 0 : records_count(call->api->records, f->owner_id);
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_bool(&w, "allowed", !*reason);
	json_bool(&w, "queueable", false);
	if (*reason)
		json_cstr(&w, "reason", reason);
	json_uint(&w, "active_sandboxes", active);
	json_uint(&w, "max_sandboxes", 0);
	if (of_owner)
		json_uint(&w, "active_owner_sandboxes", of_owner);
	json_cstr(&w, "max_ttl", "24h0m0s");
	json_object_end(&w);
	call_json(call, 200, &body);
}

void api_sandbox_admission(struct call *call)
{
	struct spawn_fields f = {0};
	char fault_text[256];
	enum duration_fault fault;
	int64_t ttl_ns = 0;

	if (!read_spawn(call, &f))
		return;
	fault = spawn_ttl(&f, NULL, &ttl_ns);
	if (fault != DURATION_OK) {
		duration_fault_text(fault, f.ttl, fault_text, sizeof(fault_text));
		call_error(call, CALL_BAD_REQUEST, "invalid input: parsing TTL: %s", fault_text);
	} else if (ttl_ns > SPAWN_MAX_TTL_NS) {
		answer_decision(call, "max_ttl", &f);
	} else {
		answer_decision(call, spawn_provider_known(f.provider) ? "" : "worker_unavailable", &f);
	}
}

/* --- list, get ---------------------------------------------------------------------------------------------------- */

static void write_each(struct record *r, void *arg)
{
	record_write(r, arg, NULL);
}

void api_sandbox_list(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_array_begin(&w, NULL);
	records_each(call->api->records, write_each, &w);
	json_array_end(&w);
	call_json(call, 200, &body);
}

void api_sandbox_get(struct call *call)
{
	struct record *r = call_record(call);

	if (r)
		answer_record(call, 200, r);
}

/* --- destroy, prune ----------------------------------------------------------------------------------------------- */

struct destroying {
	struct record_waiter waiter;
	struct call *call; /* borrowed */
};

static void on_destroy_over(struct call *call)
{
	struct destroying *d = call->state;

	if (!d)
		return;
	record_waiter_cancel(&d->waiter);
	free(d);
}

static void on_destroyed(struct record_waiter *w)
{
	call_status(CONTAINER_OF(w, struct destroying, waiter)->call, "destroyed");
}

/* Answered when everything of the sandbox is gone; at once when there is nothing. */
void api_sandbox_destroy(struct call *call)
{
	static const struct call_events events = {.on_over = on_destroy_over};
	struct record *r = records_find(call->api->records, buf_str(&call->param));
	struct destroying *d;

	if (!r || !r->sandbox) {
		/* Also of one that was destroyed before: that is told again. */
		if (r)
			record_destroy(r, NULL);
		call_status(call, "destroyed");
		return;
	}
	call->events = &events;
	call->state = d = calloc(1, sizeof(*d));
	if (!d) {
		call_no_memory(call);
		return;
	}
	d->waiter.on_gone = on_destroyed;
	d->call = call;
	record_destroy(r, &d->waiter);
}

struct pruning;

struct prune_waiter {
	struct record_waiter waiter;
	struct pruning *pruning; /* borrowed */
};

struct pruning {
	struct call *call; /* borrowed */
	int64_t now_ns;    /* what ended before is pruned */
	size_t room;       /* elements of `waiters` */
	size_t used;       /* of them, those that were put on a record */
	size_t pruned;     /* the answer's number */
	size_t waiting;    /* sandboxes that are still going */
	struct prune_waiter waiters[];
};

static void on_prune_over(struct call *call)
{
	struct pruning *p = call->state;

	for (size_t i = 0; p && i < p->used; i++)
		record_waiter_cancel(&p->waiters[i].waiter);
	free(p);
}

static void answer_prune(struct pruning *p)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_uint(&w, "pruned", p->pruned);
	json_object_end(&w);
	call_json(p->call, 200, &body);
}

static void on_pruned(struct record_waiter *w)
{
	struct pruning *p = CONTAINER_OF(w, struct prune_waiter, waiter)->pruning;

	if (--p->waiting == 0)
		answer_prune(p);
}

static void prune_one(struct record *r, void *arg)
{
	struct pruning *p = arg;
	struct prune_waiter *w = &p->waiters[p->used];

	if (r->state == RECORD_CREATING || r->expires_ns > p->now_ns || p->used == p->room)
		return;
	p->pruned++;
	if (!r->sandbox) {
		record_destroy(r, NULL);
		return;
	}
	w->waiter.on_gone = on_pruned;
	w->pruning = p;
	p->used++;
	p->waiting++;
	record_destroy(r, &w->waiter);
}

void api_sandbox_prune(struct call *call)
{
	static const struct call_events events = {.on_over = on_prune_over};
	size_t room = records_count(call->api->records, STR(""));
	struct pruning *p = calloc(1, sizeof(*p) + room * sizeof(p->waiters[0]));

	call->events = &events;
	call->state = p;
	if (!p) {
		call_no_memory(call);
		return;
	}
	*p = (struct pruning){.call = call, .now_ns = clock_wall_ns(), .room = room};
	records_each(call->api->records, prune_one, p);
	if (p->waiting == 0)
		answer_prune(p);
}

/* --- extend ------------------------------------------------------------------------------------------------------- */

void api_sandbox_extend(struct call *call)
{
	struct {
		struct str ttl;
	} body = {STR("")};
	static const struct go_field table[] = {{"ttl", GO_STR, 0}};
	enum duration_fault fault;
	char fault_text[256];
	struct record *r;
	int64_t ns = 0;

	if (!call_bind(call, table, 1, &body))
		return;
	if (body.ttl.n == 0) {
		call_error(call, CALL_BAD_REQUEST, "ttl is required");
		return;
	}
	fault = duration_parse(body.ttl, &ns);
	if (fault != DURATION_OK) {
		duration_fault_text(fault, body.ttl, fault_text, sizeof(fault_text));
		call_error(call, CALL_BAD_REQUEST, "invalid ttl format: %s", fault_text);
		return;
	}
	if (ns <= 0) {
		call_error(call, CALL_BAD_REQUEST, "ttl must be positive");
		return;
	}
	r = call_running(call);
	if (!r)
		return;
	record_extend(r, ns);
	answer_record(call, 200, r);
}

/* --- logs, stats -------------------------------------------------------------------------------------------------- */

static const struct str start_lines[] = {
	{"[INFO] sandbox created", 22},
	{"[INFO] init started", 19},
	{"[INFO] sandbox ready", 20},
};
enum {
	START_LINES = sizeof(start_lines) / sizeof(start_lines[0])
};

static size_t wanted_lines(const struct call *call)
{
	struct buf text = BUF_EMPTY;
	uint64_t n = 0;

	if (!call_query(call, "lines", &text) || str_parse_u64(buf_str(&text), &n) || n == 0 || n > SIZE_MAX)
		n = LOG_LINES_DEFAULT;
	buf_fini(&text);
	return (size_t)n;
}

static size_t count_lines(struct str text)
{
	size_t n = 0;

	for (size_t i = 0; i < text.n; i++)
		n += text.p[i] == '\n';
	return n + (text.n && text.p[text.n - 1] != '\n');
}

/* Our own lines, then what commands printed after their exec was answered; the last of all of them. */
void api_sandbox_logs(struct call *call)
{
	struct record *r = call_running(call);
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	if (!r)
		return;
	struct str output = sandbox_log(r->sandbox);
	size_t total = START_LINES + count_lines(output);
	size_t wanted = wanted_lines(call);
	size_t skip = total > wanted ? total - wanted : 0;
	json_array_begin(&w, NULL);
	for (size_t i = 0; i < total; i++) {
		struct str line = i < START_LINES ? start_lines[i] : str_cut(&output, '\n');
		if (i >= skip)
			json_str(&w, NULL, line);
	}
	json_array_end(&w);
	call_json(call, 200, &body);
}

void api_sandbox_stats(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	if (!call_record(call))
		return;
	json_object_begin(&w, NULL);
	json_bool(&w, "supported", false);
	json_object_end(&w);
	call_json(call, 200, &body);
}
