/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   MAKING --> FILES --> EXEC --> STATUS --> DESTROYING --> OVER
 *      |         |        |         |             ^          ^
 *      |         +--------+---------+-------------+          |
 *      +-----------------------------------------------------+
 *
 * MAKING      the sandbox is spawned, with a ttl that a lease extends
 * FILES       one after another is written
 * EXEC        the command runs; its output is collected, or passed on as it comes
 * STATUS      the exit status is read from the file where the wrapped command left it
 * DESTROYING  whatever came of it; only then the client gets the end of his answer
 *
 * The lease is what makes the promise good that the sandbox ends with the run: it is in the journal before the client, or anybody,
 * knows of the sandbox, and ends it when the client leaves, or when this daemon does.
 */
#include "gateway/run.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/http_write.h"
#include "common/json_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/units.h"
#include "gateway/body.h"
#include "gateway/client.h"
#include "gateway/config.h"
#include "gateway/destroy.h"
#include "gateway/exit_record.h"
#include "gateway/lease.h"
#include "gateway/lease_call.h"
#include "gateway/maker.h"
#include "gateway/rewrite.h"
#include "gateway/run_body.h"
#include "gateway/upstream.h"

enum run_state {
	RUN_MAKING,
	RUN_FILES,
	RUN_EXEC,
	RUN_STATUS,
	RUN_DESTROYING,
	RUN_OVER,
	RUN_STATES,
};

static const char *const state_names[RUN_STATES] = {"making", "files", "exec", "status", "destroying", "over"};

static const uint32_t state_edges[RUN_STATES] = {
	[RUN_MAKING] = SM_TO(RUN_FILES) | SM_TO(RUN_OVER),
	[RUN_FILES] = SM_TO(RUN_EXEC) | SM_TO(RUN_DESTROYING),
	[RUN_EXEC] = SM_TO(RUN_STATUS) | SM_TO(RUN_DESTROYING),
	[RUN_STATUS] = SM_TO(RUN_DESTROYING),
	[RUN_DESTROYING] = SM_TO(RUN_OVER),
	[RUN_OVER] = 0,
};

static const struct sm sm = {"run", state_names, state_edges, RUN_STATES};

enum {
	FILE_ANSWER_MAX_BYTES = 65536,
	STATUS_MAX_BYTES = 16,
	/* After so long the client gets his answer, which then says so, and the lease goes on trying. */
	DESTROY_WAIT_MS = 15000,
};

struct run {
	struct call call;
	struct run_services services;
	struct maker maker;
	struct run_body body;
	struct buf lines;    /* the client's header lines that pass */
	struct lease *lease; /* owned until it is bound; NULL then */
	enum run_state state;
	struct fetch *fetch;                   /* owned; the present step's */
	struct destroy *destroy;               /* owned; DESTROYING */
	struct event *ttl;                     /* owned; the ttl that was asked for; NULL: none was */
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* of the sandbox; empty before there is one, and after */
	size_t file;                           /* FILES: the present one */
	struct buf decode;                     /* FILES: what makes it of its base64; empty: nothing is to be done */
	char exit_file[80];    /* where the wrapped command leaves its status; empty: it is not wrapped */
	uint64_t began_ns;     /* EXEC */
	char took[40];         /* how long the command took */
	bool paused;           /* the client is slow */
	uint64_t output_bytes; /* passed on so far */
	struct exit_record exit_record;
	/* What the client is answered when the sandbox is gone. */
	unsigned status; /* with why or kept; 0: nothing is known yet */
	bool kept;       /* head and answer are the server's */
	struct buf head;
	struct buf answer; /* kept: the body; of a stream: its last record */
	bool cut;          /* of a stream: it breaks off behind the record */
	bool undestroyed;
	char why[320];
};

static void step(struct run *r);

const struct sm *run_sm(void)
{
	return &sm;
}

static void move(struct run *r, enum run_state to)
{
	r->state = sm_move(&sm, client_id(r->call.c.client), r->state, to);
}

/* --- the end --------------------------------------------------------------------------------------------------------------------- */

static void add_extra(const struct run *r, struct buf *extra)
{
	body_add_clamped(r->maker.clamped, extra);
	if (r->undestroyed)
		http_write_header(extra, STR("Stacygate-Undestroyed"), str_from(r->id));
}

static void answer(struct run *r)
{
	struct buf extra = BUF_EMPTY;

	move(r, RUN_OVER);
	if (r->call.begun) {
		buf_add_char(&r->answer, '\n');
		call_stream_send(&r->call, buf_str(&r->answer));
		if (r->cut || r->answer.failed)
			call_stream_cut(&r->call);
		else
			call_stream_end(&r->call);
		return;
	}
	if (!r->kept) {
		call_refuse(&r->call, r->status, "%s", r->why);
		return;
	}
	add_extra(r, &extra);
	call_relay_kept(&r->call, r->status, buf_str(&r->head), &extra, buf_str(&r->answer));
	buf_fini(&extra);
}

static void on_destroyed(void *arg, bool gone, const char *why)
{
	struct run *r = arg;

	r->destroy = NULL;
	if (gone) {
		ownership_gone(&r->call.c.admit->ownership, r->call.c.caller.upstream, str_from(r->id));
		lease_sandbox_gone(r->services.leases, r->call.c.caller.upstream, str_from(r->id));
		r->id[0] = '\0';
	} else {
		log_warn("upstream %s: the sandbox %s of a run is not destroyed yet: %s",
			 upstream_name(r->call.c.caller.upstream), r->id, why);
		r->undestroyed = true;
	}
	answer(r);
}

/* The last record of a stream. */
static void set_record(struct run *r, const char *status, const char *error)
{
	buf_reset(&r->answer);
	buf_addf(&r->answer, "{\"exit_code\":%s", status);
	if (error) {
		buf_add_cstr(&r->answer, ",\"error\":");
		json_add_quoted(&r->answer, str_from(error));
	}
	if (r->took[0]) {
		buf_add_cstr(&r->answer, ",\"duration\":");
		json_add_quoted(&r->answer, str_from(r->took));
	}
	buf_add_char(&r->answer, '}');
}

static void begin_destroying(struct run *r)
{
	const struct destroy_case c = {
		.caller = r->call.c.caller,
		.id = r->id,
		.span_ms = DESTROY_WAIT_MS,
		.on_done = on_destroyed,
		.arg = r,
	};

	fetch_cancel(r->fetch);
	r->fetch = NULL;
	if (r->ttl)
		event_del(r->ttl);
	move(r, RUN_DESTROYING);
	if (destroy_start(r->call.c.loop, &c, &r->destroy) == 0)
		return;
	r->undestroyed = true;
	answer(r);
}

/* What is passed on of the stream ends with a whole line. */
static void end_line(struct run *r)
{
	struct buf out = BUF_EMPTY;

	exit_record_end(&r->exit_record, &out);
	call_stream_send(&r->call, buf_str(&out));
	buf_fini(&out);
}

/* It cannot go on. */
static void fail(struct run *r, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void fail(struct run *r, unsigned status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(r->why, sizeof(r->why), fmt, ap);
	va_end(ap);
	r->status = status;
	r->kept = false;
	if (r->call.begun) {
		end_line(r);
		set_record(r, "null", r->why);
		r->cut = true;
	}
	if (r->state == RUN_MAKING)
		answer(r);
	else if (r->state < RUN_DESTROYING)
		begin_destroying(r);
}

static void fail_upstream(struct run *r, const struct fetch_answer *a, const char *what)
{
	const char *name = upstream_name(r->call.c.caller.upstream);

	if (a->end == FETCH_TOO_LARGE)
		fail(r, 413, "the command's output is larger than max_output");
	else
		fail(r, fetch_end_status(a->end), "upstream %s: %s: %s", name, what, a->why);
}

/* The server's own answer is the client's. */
static void keep(struct run *r, const struct fetch_answer *a)
{
	r->status = a->status;
	r->kept = true;
	buf_reset(&r->head);
	buf_reset(&r->answer);
	buf_add_str(&r->head, a->head);
	buf_add_str(&r->answer, a->body);
	if (r->head.failed || r->answer.failed)
		fail(r, 503, "out of memory");
	else
		begin_destroying(r);
}

/* --- asking the sandbox -------------------------------------------------------------------------------------------------------------- */

static int ask(struct run *r, const char *method, const char *path, struct fetch_request *request)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];

	request->caller = r->call.c.caller;
	request->method = method;
	request->target = sandbox_doc_target(target, r->id, path);
	request->keep_head = true;
	request->arg = r;
	return fetch_start(r->call.c.loop, request, &r->fetch);
}

/* --- files ------------------------------------------------------------------------------------------------------------------------------ */

static void on_decoded(void *arg, const struct fetch_answer *a)
{
	struct run *r = arg;
	json_t *json;
	json_int_t code;

	r->fetch = NULL;
	buf_fini(&r->decode);
	if (a->end != FETCH_DONE) {
		fail_upstream(r, a, "writing a file");
		return;
	}
	if (a->status != 200) {
		keep(r, a);
		return;
	}
	json = json_loadb(a->body.p, a->body.n, 0, NULL);
	code = json_is_integer(json_object_get(json, "exit_code"))
		       ? json_integer_value(json_object_get(json, "exit_code"))
		       : -1;
	json_decref(json);
	if (code) {
		fail(r, 502, "files[%zu] could not be written: base64 in the sandbox ended with %d", r->file,
		     (int)code);
		return;
	}
	r->file++;
	step(r);
}

static void on_written(void *arg, const struct fetch_answer *a)
{
	struct run *r = arg;
	struct fetch_request decode = {
		.wait = UPSTREAM_WAIT_EXEC,
		.body = buf_str(&r->decode),
		.max_bytes = FILE_ANSWER_MAX_BYTES,
		.on_done = on_decoded,
	};

	r->fetch = NULL;
	if (a->end != FETCH_DONE) {
		fail_upstream(r, a, "writing a file");
	} else if (a->status != 200) {
		keep(r, a);
	} else if (r->decode.len == 0) {
		r->file++;
		step(r);
	} else if (ask(r, "POST", "/exec", &decode)) {
		fail(r, 503, "out of memory");
	}
}

static void write_file(struct run *r)
{
	struct buf body = BUF_EMPTY;

	buf_fini(&r->decode);
	run_body_file(&r->body, r->file, r->maker.token, &body, &r->decode);
	struct fetch_request request = {
		.body = buf_str(&body),
		.max_bytes = FILE_ANSWER_MAX_BYTES,
		.on_done = on_written,
	};
	if (body.failed || r->decode.failed || ask(r, "POST", "/files", &request))
		fail(r, 503, "out of memory");
	buf_fini(&body);
}

/* --- the command --------------------------------------------------------------------------------------------------------------------------- */

static void note_time(struct run *r)
{
	if (!r->took[0])
		duration_format((int64_t)(clock_ns() - r->began_ns), r->took);
}

/* The sandbox's program has left its status, or not. */
static void on_status(void *arg, const struct fetch_answer *a)
{
	struct run *r = arg;
	char text[STATUS_MAX_BYTES + 1] = "";
	uint64_t code = 0;

	r->fetch = NULL;
	if (a->end == FETCH_DONE && a->status == 200 && str_parse_u64(a->body, &code) == 0 && code < 256) {
		snprintf(text, sizeof(text), "%u", (unsigned)code);
		set_record(r, text, NULL);
	} else {
		set_record(r, "null", "the exit status cannot be read: the command's shell did not live to write it");
	}
	begin_destroying(r);
}

static void read_status(struct run *r)
{
	char path[128];
	struct fetch_request request = {.max_bytes = STATUS_MAX_BYTES, .on_done = on_status};

	snprintf(path, sizeof(path), "/files?path=%s", r->exit_file);
	move(r, RUN_STATUS);
	if (ask(r, "GET", path, &request))
		fail(r, 503, "out of memory");
}

static void on_collected(void *arg, const struct fetch_answer *a)
{
	struct run *r = arg;

	r->fetch = NULL;
	if (a->end != FETCH_DONE)
		fail_upstream(r, a, "running the command");
	else
		keep(r, a);
}

/* The stream has ended as the server meant it to. */
static void end_stream(struct run *r)
{
	note_time(r);
	end_line(r);
	if (r->exit_record.found) {
		buf_reset(&r->answer);
		buf_add_str(&r->answer, buf_str(&r->exit_record.line));
		begin_destroying(r);
	} else if (r->exit_file[0]) {
		read_status(r);
	} else {
		set_record(r, "null", "the server's stream ended without an exit record");
		begin_destroying(r);
	}
}

static void on_streamed(void *arg, const struct fetch_answer *a)
{
	struct run *r = arg;

	r->fetch = NULL;
	if (a->end == FETCH_DONE && !r->call.begun) {
		keep(r, a);
	} else if (a->end == FETCH_DONE) {
		end_stream(r);
	} else {
		note_time(r);
		fail_upstream(r, a, "running the command");
	}
}

static void on_stream_head(void *arg, const struct http_head *head)
{
	struct run *r = arg;
	struct buf extra = BUF_EMPTY;

	if (head->status != 200)
		return;
	add_extra(r, &extra);
	/* Without memory the call is gone afterwards. */
	if (!call_stream_begin(&r->call, "application/x-ndjson", &extra))
		log_debug("a run's answer could not be begun: out of memory");
	buf_fini(&extra);
}

static void on_stream_data(void *arg, const char *p, size_t n)
{
	struct run *r = arg;
	struct buf out = BUF_EMPTY;
	bool more;

	exit_record_feed(&r->exit_record, str_of(p, n), &out);
	if (out.failed) {
		fail(r, 503, "out of memory");
		buf_fini(&out);
		return;
	}
	r->output_bytes += out.len;
	more = call_stream_send(&r->call, buf_str(&out));
	buf_fini(&out);
	if (r->body.max_output_bytes && r->output_bytes > r->body.max_output_bytes) {
		note_time(r);
		fail(r, 413, "the command's output is larger than max_output");
	} else if (!more && !r->paused) {
		r->paused = true;
		fetch_pause(r->fetch, true);
	}
}

static void on_drained(struct call *c)
{
	struct run *r = CONTAINER_OF(c, struct run, call);

	if (!r->paused)
		return;
	r->paused = false;
	if (r->fetch)
		fetch_pause(r->fetch, false);
}

static void begin_exec(struct run *r)
{
	const struct config_upstream *u = r->call.c.upstream;
	struct buf body = BUF_EMPTY;
	struct fetch_request request = {
		.wait = UPSTREAM_WAIT_EXEC,
		.max_bytes = (size_t)r->body.max_output_bytes,
		.on_done = on_collected,
	};

	/* The embedded server says the exit status itself. */
	if (r->body.stream && u->scheme != CONFIG_LOCAL)
		snprintf(r->exit_file, sizeof(r->exit_file), "/workspace/.stacygate-%s", r->maker.token);
	run_body_exec(&r->body, r->exit_file[0] ? r->exit_file : NULL, &body);
	request.body = buf_str(&body);
	if (r->body.stream) {
		request.accept = STR("application/x-ndjson; exit=1");
		request.on_done = on_streamed;
		request.on_head = on_stream_head;
		request.on_data = on_stream_data;
	}
	move(r, RUN_EXEC);
	r->began_ns = clock_ns();
	if (body.failed || ask(r, "POST", "/exec", &request))
		fail(r, 503, "out of memory");
	buf_fini(&body);
}

static void step(struct run *r)
{
	if (r->file < run_body_files(&r->body))
		write_file(r);
	else
		begin_exec(r);
}

/* --- making it --------------------------------------------------------------------------------------------------------------------------------- */

static void on_ttl(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	fail(arg, 504, "the run took longer than the ttl that was asked for");
}

/* The lease extends the sandbox as long as the run goes on, so the ttl that was asked for is watched here. */
static int watch_ttl(struct run *r)
{
	uint64_t ms = r->maker.ttl_ms;
	struct timeval tv = clock_span(ms);

	if (ms == 0)
		return 0;
	r->ttl = evtimer_new(loop_base(r->call.c.loop), on_ttl, r);
	return r->ttl && event_add(r->ttl, &tv) == 0 ? 0 : -ENOMEM;
}

static void on_made(struct maker *m, const struct spawn_result *result)
{
	struct run *r = CONTAINER_OF(m, struct run, maker);

	memcpy(r->id, result->doc.id, sizeof(r->id));
	lease_bind(&r->lease, str_from(r->id), m->ttl_ms);
	maker_taken(m);
	move(r, RUN_FILES);
	if (watch_ttl(r))
		fail(r, 503, "out of memory");
	else
		step(r);
}

static void on_refused(struct maker *m, unsigned status, const char *why)
{
	fail(CONTAINER_OF(m, struct run, maker), status, "%s", why);
}

static void on_answered(struct maker *m, const struct spawn_result *result)
{
	struct run *r = CONTAINER_OF(m, struct run, maker);

	r->status = result->status;
	r->kept = true;
	buf_add_str(&r->head, result->head);
	buf_add_str(&r->answer, result->body);
	answer(r);
}

static bool take_lease(struct run *r)
{
	const struct lease_spec spec = {.kind = LEASE_RUN};
	struct lease_refusal refusal;

	if (lease_call_take(r->services.leases, &r->call.c, &spec, &r->lease, &refusal) == 0)
		return true;
	call_refuse(&r->call, refusal.status, "%s", refusal.why);
	return false;
}

static void on_request(struct call *c, struct str text)
{
	struct run *r = CONTAINER_OF(c, struct run, call);
	struct buf body = BUF_EMPTY;
	struct maker_ask ask = {.lease_ttl_ms = lease_ttl_ms(r->services.leases)};
	char why[160] = "";
	int rc = run_body_parse(&r->body, text, why, sizeof(why));

	if (rc) {
		call_refuse(c, rc == -ENOMEM ? 503 : 400, "%s", rc == -ENOMEM ? "out of memory" : why);
		return;
	}
	client_end_means_gone(c->c.client);
	if (!take_lease(r))
		return;
	run_body_spawn(&r->body, &body);
	if (body.failed) {
		buf_fini(&body);
		call_refuse(c, 503, "out of memory");
		return;
	}
	c->acted = true;
	ask.body = buf_str(&body);
	ask.lines = buf_str(&r->lines);
	maker_start(&r->maker, &ask);
	buf_fini(&body);
}

static void on_timeout(struct call *c)
{
	fail(CONTAINER_OF(c, struct run, call), 504, "the run was not done within Stacygate-Timeout");
}

/* What is left of the sandbox is the lease's: it goes on until it is known to be gone. */
static void on_free(struct call *c)
{
	struct run *r = CONTAINER_OF(c, struct run, call);
	struct lease *lease;

	call_fini(c);
	fetch_cancel(r->fetch);
	destroy_cancel(r->destroy);
	maker_cancel(&r->maker);
	lease = r->id[0] ? lease_find(r->services.leases, c->c.caller.upstream, str_from(r->id)) : NULL;
	if (lease)
		lease_end(lease);
	lease_free(r->lease);
	if (r->ttl)
		event_free(r->ttl);
	run_body_fini(&r->body);
	exit_record_fini(&r->exit_record);
	buf_fini(&r->lines);
	buf_fini(&r->decode);
	buf_fini(&r->head);
	buf_fini(&r->answer);
	free(r);
}

static const struct call_ops ops = {
	.on_request = on_request,
	.on_drained = on_drained,
	.on_timeout = on_timeout,
	.on_free = on_free,
};

int run_call_new(const struct run_services *services, const struct call_case *what, struct call **out)
{
	struct run *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return -ENOMEM;
	r->services = *services;
	rc = call_init(&r->call, &ops, what, STR(""));
	maker_init(&r->maker, services->spawns, &r->call.c);
	r->maker.on_made = on_made;
	r->maker.on_refused = on_refused;
	r->maker.on_answered = on_answered;
	/* More hop-by-hop names than anybody means: none of the client's lines passes then. */
	if (rewrite_request_lines(what->head, what->caller.trace_lines != NULL, &r->lines))
		buf_reset(&r->lines);
	if (rc || r->lines.failed) {
		on_free(&r->call);
		return -ENOMEM;
	}
	*out = &r->call;
	return 0;
}
