/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plain exec collects the output and answers at the end. A streamed one sends a record per piece as it comes:
 *
 *     WAITING -> STREAMING -> over
 *
 * While WAITING the command may still fail to start, which is an ordinary error; the head goes out with the first
 * output, or HEAD_MS after the start when there is none. Then a blank line, which every client skips, is sent when
 * nothing else was for the API's beat_ms.
 *
 * Of a stream nothing but its end says that it is whole, and nothing the exit code. A client that asks for it by
 * "Accept: application/x-ndjson; exit=1" gets a last record of its own.
 *
 * The client's close, also of its sending side alone, kills the command's process group; the timeout does too, and is
 * answered on time whatever the command does.
 */
#include "local/api_exec.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "common/clock.h"
#include "common/json_write.h"
#include "common/loop.h"
#include "common/units.h"
#include "local/call.h"
#include "local/exec_spec.h"
#include "local/records.h"
#include "local/utf8_tail.h"

enum {
	OUTPUT_MAX_BYTES = 16 << 20, /* of a plain exec, each stream */
	HEAD_MS = 50,
};

#define MAX_TIMEOUT_NS (INT64_C(10) * 60 * 1000000000)

enum exec_state {
	EXEC_COLLECTING, /* plain */
	EXEC_WAITING,    /* streamed, no head sent yet */
	EXEC_STREAMING,
};

struct exec {
	struct call *call; /* borrowed */
	enum exec_state state;
	bool wants_exit; /* streamed: the last record tells the exit code */
	bool told;       /* plain: those who listen to events know of its start, and not of its end */
	uint64_t began_ns;
	struct event *timeout;    /* owned; NULL without one */
	struct event *beat;       /* owned; the head's timer, then the blank lines' */
	struct buf output[2];     /* plain: stdout, stderr */
	struct utf8_tail tail[2]; /* streamed */
};

/* To those who listen to events, of a plain exec's end. */
static void tell_fault(struct exec *x, enum events_type type, const char *text)
{
	const struct events_fault fault = {"exec", str_from(text)};

	x->told = false;
	events_tell(x->call->api->events, type, buf_str(&x->call->param), &fault);
}

static void on_exec_over(struct call *call)
{
	struct exec *x = call->state;

	if (!x)
		return;
	if (x->told)
		tell_fault(x, EVENTS_EXEC_FAILED, "exec: the answer was given up");
	if (x->timeout)
		event_free(x->timeout);
	if (x->beat)
		event_free(x->beat);
	buf_fini(&x->output[0]);
	buf_fini(&x->output[1]);
	free(x);
}

/* --- plain -------------------------------------------------------------------------------------------------------- */

static void answer_result(struct exec *x, int exit_code)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);
	char duration[40];

	x->told = false;
	call_tell(x->call, EVENTS_EXEC_COMPLETED);
	duration_format((int64_t)(clock_ns() - x->began_ns), duration);
	json_object_begin(&w, NULL);
	json_int(&w, "exit_code", exit_code);
	json_str(&w, "stdout", buf_str(&x->output[0]));
	json_str(&w, "stderr", buf_str(&x->output[1]));
	json_cstr(&w, "duration", duration);
	json_object_end(&w);
	call_json(x->call, 200, &body);
}

static void collect(struct exec *x, unsigned stream, struct str piece)
{
	struct buf *out = &x->output[stream];

	if (out->len + piece.n > OUTPUT_MAX_BYTES) {
		x->told = false;
		call_fail(x->call, CALL_INTERNAL_ERROR, EVENTS_EXEC_FAILED,
			  "exec: the output is larger than 16 MiB; use \"stream\": true");
		return;
	}
	buf_add_str(out, piece);
	if (out->failed)
		call_no_memory(x->call);
}

/* --- streamed ----------------------------------------------------------------------------------------------------- */

static void arm_beat(struct exec *x)
{
	unsigned ms = x->call->api->beat_ms;
	const struct timeval tv = clock_span(ms);

	event_add(x->beat, &tv);
}

static void begin_stream(struct exec *x)
{
	if (x->state != EXEC_WAITING)
		return;
	x->state = EXEC_STREAMING;
	conn_begin(x->call->conn, 200, "application/x-ndjson",
		   x->wants_exit ? STR("Cache-Control: no-cache\r\nStacygate-Exit: 1\r\n")
				 : STR("Cache-Control: no-cache\r\n"),
		   -1);
	arm_beat(x);
}

/* Sends a record and frees it. False: it was too much for the memory, and the call is over. */
static bool send_line(struct exec *x, struct buf *line)
{
	struct call *call = x->call;
	bool failed;

	buf_add_char(line, '\n');
	failed = line->failed;
	if (failed) {
		conn_abort(call->conn);
		call_over(call);
	} else if (conn_send(call->conn, buf_str(line)) && call->job) {
		sandbox_job_pause(call->job, true);
	}
	buf_fini(line);
	return !failed;
}

static bool send_record(struct exec *x, unsigned stream, struct str data)
{
	struct buf line = BUF_EMPTY;
	struct json_writer w = json_writer(&line);

	json_object_begin(&w, NULL);
	json_cstr(&w, "stream", stream == 0 ? "stdout" : "stderr");
	json_str(&w, "data", data);
	json_object_end(&w);
	return send_line(x, &line);
}

/* The last record: the exit code, or why there is none. */
static bool send_exit(struct exec *x, const struct job_result *result)
{
	struct buf line = BUF_EMPTY;
	struct json_writer w = json_writer(&line);
	char duration[40];

	duration_format((int64_t)(clock_ns() - x->began_ns), duration);
	json_object_begin(&w, NULL);
	if (result->outcome == JOB_OK) {
		json_int(&w, "exit_code", result->exit_code);
	} else {
		json_nothing(&w, "exit_code");
		json_cstr(&w, "error", result->text ? result->text : "the sandbox is gone");
	}
	json_cstr(&w, "duration", duration);
	json_object_end(&w);
	return send_line(x, &line);
}

static bool send_piece(struct exec *x, unsigned stream, struct str piece)
{
	struct buf whole = BUF_EMPTY;
	bool ok = true;

	utf8_tail_pass(&x->tail[stream], piece, &whole);
	if (whole.len)
		ok = send_record(x, stream, buf_str(&whole));
	buf_fini(&whole);
	if (ok)
		arm_beat(x);
	return ok;
}

static bool send_tails(struct exec *x)
{
	for (unsigned i = 0; i < 2; i++) {
		struct str rest = str_of(x->tail[i].held, x->tail[i].n);
		if (rest.n && !send_record(x, i, rest))
			return false;
	}
	return true;
}

static void end_stream(struct exec *x, const char *last_line, const struct job_result *result)
{
	struct call *call = x->call;

	begin_stream(x);
	if (!send_tails(x))
		return;
	if (*last_line && !send_record(x, 1, str_from(last_line)))
		return;
	if (x->wants_exit && !send_exit(x, result))
		return;
	conn_end(call->conn);
	call_over(call);
}

/* --- events ------------------------------------------------------------------------------------------------------- */

static void on_data(void *arg, unsigned stream, const char *p, size_t n)
{
	struct exec *x = arg;
	unsigned index = stream == 2 ? 1 : 0;

	if (x->state == EXEC_COLLECTING) {
		collect(x, index, str_of(p, n));
		return;
	}
	begin_stream(x);
	(void)send_piece(x, index, str_of(p, n));
}

static void fail_to_run(struct exec *x, const struct job_result *result)
{
	bool plain = x->state == EXEC_COLLECTING;

	x->told = false;
	call_job_failed(x->call, result, plain ? EVENTS_EXEC_FAILED : EVENTS_OPERATION_FAILED, "exec");
}

static void on_end(void *arg, const struct job_result *result)
{
	struct exec *x = arg;
	struct call *call = x->call;

	call->job = NULL;
	if (x->state == EXEC_STREAMING)
		end_stream(x, result->outcome == JOB_FAILED && result->text ? result->text : "", result);
	else if (result->outcome == JOB_OK && x->state == EXEC_WAITING)
		end_stream(x, "", result);
	else if (result->outcome == JOB_OK)
		answer_result(x, result->exit_code);
	else
		fail_to_run(x, result);
}

/* The command had its time. Its job is dropped, which kills it; what it printed in a plain exec is discarded. */
static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct exec *x = arg;
	struct call *call = x->call;
	const struct job_result killed = {.outcome = JOB_OK, .exit_code = -1};
	struct buf line = BUF_EMPTY;

	(void)fd;
	(void)what;
	sandbox_job_cancel(call->job);
	call->job = NULL;
	if (x->state == EXEC_COLLECTING) {
		x->told = false;
		call_fail(call, CALL_TIMEOUT, EVENTS_EXEC_TIMEOUT, "exec timeout: %.*s",
			  STR_ARG(buf_str(&call->param)));
		return;
	}
	buf_addf(&line, "exec timeout: %.*s", STR_ARG(buf_str(&call->param)));
	buf_add_char(&line, '\0');
	end_stream(x, line.failed ? "exec timeout" : buf_data(&line), &killed);
	buf_fini(&line);
}

static void on_beat(evutil_socket_t fd, short what, void *arg)
{
	struct exec *x = arg;

	(void)fd;
	(void)what;
	if (x->state == EXEC_WAITING) {
		begin_stream(x);
		return;
	}
	if (!conn_has_backlog(x->call->conn))
		conn_send(x->call->conn, STR("\n"));
	arm_beat(x);
}

static void on_drained(struct call *call)
{
	if (call->job)
		sandbox_job_pause(call->job, false);
}

/* What is left of the output is let through, so that the job can end; that is bounded by its window and the pipes. */
static void on_half_closed(struct call *call)
{
	if (!call->job)
		return;
	sandbox_job_kill(call->job);
	sandbox_job_pause(call->job, false);
}

/* --- the request -------------------------------------------------------------------------------------------------- */

/* False: answered. *ns is 0 without a timeout. */
static bool read_timeout(struct call *call, struct str text, int64_t *ns)
{
	char fault_text[256];
	enum duration_fault fault;
	char given[40];

	*ns = 0;
	if (text.n == 0)
		return true;
	fault = duration_parse(text, ns);
	if (fault != DURATION_OK) {
		duration_fault_text(fault, text, fault_text, sizeof(fault_text));
		call_error(call, CALL_INTERNAL_ERROR, "parsing exec timeout: %s", fault_text);
		return false;
	}
	if (*ns < 0) {
		call_error(call, CALL_RESOURCE_LIMIT, "resource limit exceeded: exec timeout cannot be negative");
		return false;
	}
	if (*ns > MAX_TIMEOUT_NS) {
		duration_format(*ns, given);
		call_error(call, CALL_RESOURCE_LIMIT,
			   "resource limit exceeded: exec timeout %s exceeds max exec timeout 10m0s", given);
		return false;
	}
	return true;
}

static bool make_timers(struct exec *x, int64_t timeout_ns)
{
	struct event_base *base = loop_base(x->call->api->loop);
	const struct timeval head = {.tv_usec = HEAD_MS * 1000};
	struct timeval tv = {
		.tv_sec = (time_t)(timeout_ns / 1000000000),
		.tv_usec = (suseconds_t)(timeout_ns % 1000000000 / 1000),
	};

	if (timeout_ns) {
		x->timeout = event_new(base, -1, 0, on_timeout, x);
		if (!x->timeout || event_add(x->timeout, &tv))
			return false;
	}
	if (x->state == EXEC_WAITING) {
		x->beat = event_new(base, -1, 0, on_beat, x);
		if (!x->beat || event_add(x->beat, &head))
			return false;
	}
	return true;
}

static void start(struct call *call, struct record *r, const struct exec_command *cmd, bool stream, int64_t timeout_ns)
{
	static const struct call_events events = {
		.on_drained = on_drained,
		.on_half_closed = on_half_closed,
		.on_over = on_exec_over,
	};
	static const struct job_events job_events = {.on_data = on_data, .on_end = on_end};
	struct exec *x = calloc(1, sizeof(*x));

	call->events = &events;
	call->state = x;
	if (!x) {
		call_no_memory(call);
		return;
	}
	x->call = call;
	x->state = stream ? EXEC_WAITING : EXEC_COLLECTING;
	x->wants_exit = stream && exec_wants_exit(conn_header(call->conn, STR("accept")));
	x->began_ns = clock_ns();
	if (!make_timers(x, timeout_ns)) {
		call_no_memory(call);
		return;
	}
	call->job = sandbox_exec(r->sandbox, &cmd->spec, &job_events, x);
	if (!call_has_job(call) || stream)
		return;
	x->told = true;
	call_tell(call, EVENTS_EXEC_STARTED);
}

/* False: answered. */
static bool check_mode(struct call *call, const struct exec_fields *f, enum exec_mode mode)
{
	if (mode == EXEC_UNKNOWN) {
		call_error(call, CALL_BAD_REQUEST, "invalid input: unsupported exec mode \"%.*s\"", STR_ARG(f->mode));
		return false;
	}
	if (mode == EXEC_ARGV && exec_is_blank(f->command)) {
		call_error(call, CALL_BAD_REQUEST, "invalid input: argv exec mode requires command");
		return false;
	}
	return true;
}

void api_exec_run(struct call *call)
{
	struct exec_fields f = {0};
	struct exec_command cmd = {0};
	enum exec_mode mode;
	struct record *r;
	int64_t timeout_ns;
	size_t n;
	const struct go_field *table = exec_fields_table(&n);
	int rc;

	if (!call_bind(call, table, n, &f))
		return;
	mode = exec_mode_of(f.mode);
	if (!check_mode(call, &f, mode))
		return;
	r = call_running(call);
	if (!r || !read_timeout(call, f.timeout, &timeout_ns))
		return;
	rc = exec_command_init(&cmd, &f, mode);
	if (rc == -ENOMEM)
		call_no_memory(call);
	else if (rc)
		call_error(call, CALL_BAD_REQUEST,
			   "invalid input: a NUL byte, or an environment name that is empty or holds \"=\"");
	else
		start(call, r, &cmd, f.stream, timeout_ns);
	exec_command_fini(&cmd);
}

/* As a server whose WebSocket does not work: a later one speaks it. */
void api_exec_ws(struct call *call)
{
	bool upgrade = str_eq_nocase(conn_header(call->conn, STR("upgrade")), STR("websocket"));

	if (upgrade)
		conn_respond(call->conn, 501, "text/plain; charset=utf-8", STR(""), STR("Not Implemented\n"));
	else
		conn_respond(call->conn, 426, "text/plain; charset=utf-8", STR("Upgrade: websocket\r\n"),
			     STR("WebSocket upgrade required\n"));
	call_over(call);
}
