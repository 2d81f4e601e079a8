/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A call lives from the request's head to its answer, or until the client has gone. There is one way out, call_over:
 * it cancels the job, lets the handler free its state, and frees the call.
 */
#include "local/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/json_write.h"
#include "local/query.h"
#include "local/records.h"

static const struct {
	unsigned status;
	const char *code;
} errors[CALL_ERRORS] = {
	[CALL_BAD_REQUEST] = {400, "BAD_REQUEST"},
	[CALL_UNAUTHORIZED] = {401, "UNAUTHORIZED"},
	[CALL_FORBIDDEN] = {403, "FORBIDDEN"},
	[CALL_NOT_FOUND] = {404, "NOT_FOUND"},
	[CALL_CONFLICT] = {409, "CONFLICT"},
	[CALL_TIMEOUT] = {408, "TIMEOUT"},
	[CALL_RESOURCE_LIMIT] = {429, "RESOURCE_LIMIT"},
	[CALL_INTERNAL_ERROR] = {500, "INTERNAL_ERROR"},
	[CALL_PROVIDER_ERROR] = {502, "PROVIDER_ERROR"},
	[CALL_UNAVAILABLE] = {503, "UNAVAILABLE"},
};

/* --- life --------------------------------------------------------------------------------------------------------- */

static void on_drained(void *arg)
{
	struct call *call = arg;

	if (call->events && call->events->on_drained)
		call->events->on_drained(call);
}

static void on_half_closed(void *arg)
{
	struct call *call = arg;

	if (call->events && call->events->on_half_closed)
		call->events->on_half_closed(call);
}

static void on_gone(void *arg)
{
	call_over(arg);
}

struct call *call_new(struct api *api, struct conn *c, enum route route)
{
	static const struct conn_watch watch = {
		.on_drained = on_drained,
		.on_half_closed = on_half_closed,
		.on_gone = on_gone,
	};
	struct call *call = calloc(1, sizeof(*call));

	if (!call)
		return NULL;
	call->api = api;
	call->conn = c;
	call->route = route;
	conn_watch(c, &watch, call);
	return call;
}

void call_over(struct call *call)
{
	if (call->job)
		sandbox_job_cancel(call->job);
	call->job = NULL;
	if (call->events && call->events->on_over)
		call->events->on_over(call);
	json_decref(call->body);
	buf_fini(&call->param);
	free(call);
}

/* --- answering ---------------------------------------------------------------------------------------------------- */

static void write_error(struct buf *out, enum call_error error, struct str message)
{
	struct json_writer w = json_writer(out);

	json_object_begin(&w, NULL);
	json_cstr(&w, "code", errors[error].code);
	json_str(&w, "message", message);
	json_object_end(&w);
	buf_add_char(out, '\n');
}

static void send_error(struct conn *c, enum call_error error, struct str message)
{
	struct buf body = BUF_EMPTY;

	write_error(&body, error, message);
	conn_respond(c, errors[error].status, "application/json",
		     error == CALL_UNAVAILABLE ? STR("Retry-After: 1\r\n") : STR(""), buf_str(&body));
	buf_fini(&body);
}

void call_refuse(struct conn *c, enum call_error error, const char *message)
{
	send_error(c, error, str_from(message));
}

void call_no_memory(struct call *call)
{
	send_error(call->conn, CALL_UNAVAILABLE, STR("out of memory"));
	call_over(call);
}

/* What a call's fault is told to have been done; NULL: it is told to nobody. */
static const char *operation_of(enum route route)
{
	static const char *const names[ROUTE_COUNT] = {
		[ROUTE_SPAWN] = "spawn",
		[ROUTE_TEMPLATE_SPAWN] = "spawn",
		[ROUTE_EXEC] = "exec",
		[ROUTE_FILE_WRITE] = "write_file",
		[ROUTE_FILE_READ] = "read_file",
		[ROUTE_FILE_DELETE] = "delete_file",
		[ROUTE_FILE_LIST] = "list_files",
		[ROUTE_FILE_STAT] = "stat_file",
		[ROUTE_FILE_GLOB] = "glob_files",
		[ROUTE_FILE_MOVE] = "move_file",
		[ROUTE_FILE_CHMOD] = "chmod_file",
	};

	return names[route];
}

/* The sandbox that the path names; empty when it names none. */
static struct str sandbox_of(const struct call *call)
{
	return call->route == ROUTE_TEMPLATE_SPAWN ? STR("") : buf_str(&call->param);
}

/* With EVENTS_TYPES nobody is told. */
static void answer_fault(struct call *call, enum call_error error, enum events_type type, const char *fmt, va_list args)
{
	struct events_fault fault = {.operation = operation_of(call->route)};
	char *text = NULL;
	int n = vasprintf(&text, fmt, args);

	if (n < 0) {
		call_no_memory(call);
		return;
	}
	fault.error = str_of(text, (size_t)n);
	if (type != EVENTS_TYPES && fault.operation)
		events_tell(call->api->events, type, sandbox_of(call), &fault);
	send_error(call->conn, error, fault.error);
	free(text);
	call_over(call);
}

void call_error(struct call *call, enum call_error error, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	answer_fault(call, error, error == CALL_RESOURCE_LIMIT ? EVENTS_RESOURCE_LIMIT : EVENTS_TYPES, fmt, args);
	va_end(args);
}

void call_fail(struct call *call, enum call_error error, enum events_type type, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	answer_fault(call, error, type, fmt, args);
	va_end(args);
}

void call_tell(const struct call *call, enum events_type type)
{
	events_tell(call->api->events, type, sandbox_of(call), NULL);
}

void call_json(struct call *call, unsigned status, struct buf *body)
{
	buf_add_char(body, '\n');
	if (body->failed) {
		buf_fini(body);
		call_no_memory(call);
		return;
	}
	conn_respond(call->conn, status, "application/json", STR(""), buf_str(body));
	buf_fini(body);
	call_over(call);
}

void call_status(struct call *call, const char *status)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_cstr(&w, "status", status);
	json_object_end(&w);
	call_json(call, 200, &body);
}

void call_job_failed(struct call *call, const struct job_result *result, enum events_type type, const char *prefix)
{
	if (result->outcome == JOB_GONE)
		call_fail(call, CALL_NOT_FOUND, type, "sandbox destroyed: %.*s", STR_ARG(buf_str(&call->param)));
	else
		call_fail(call, CALL_INTERNAL_ERROR, type, "%s: %s", prefix,
			  result->text ? result->text : strerror(result->error));
}

/* --- asking ------------------------------------------------------------------------------------------------------- */

bool call_bind(struct call *call, const struct go_field *fields, size_t nfields, void *target)
{
	int rc = go_json_parse(conn_body(call->conn), &call->body);

	if (rc == 0)
		rc = go_json_bind(call->body, fields, nfields, target);
	if (rc == 0)
		return true;
	if (rc == -ENOMEM)
		call_no_memory(call);
	else
		call_error(call, CALL_BAD_REQUEST, "invalid request body");
	return false;
}

struct record *call_record(struct call *call)
{
	struct str id = buf_str(&call->param);
	struct record *r = records_find(call->api->records, id);

	if (r && r->state != RECORD_DESTROYED)
		return r;
	call_error(call, CALL_NOT_FOUND, "sandbox %s: %.*s", r ? "destroyed" : "not found", STR_ARG(id));
	return NULL;
}

struct record *call_running(struct call *call)
{
	struct record *r = call_record(call);

	if (!r)
		return NULL;
	switch (r->state) {
	case RECORD_RUNNING:
		return r;
	case RECORD_CREATING:
		call_error(call, CALL_CONFLICT, "conflict: sandbox is being created: %s", r->id);
		return NULL;
	case RECORD_EXPIRED:
	case RECORD_DESTROYED:
	case RECORD_STATES:
		call_error(call, CALL_NOT_FOUND, "sandbox destroyed: %s", r->id);
		return NULL;
	case RECORD_ERROR:
		/* The back end lost it; the record alone is left. */
		call_error(call, CALL_NOT_FOUND, "sandbox not found: %s", r->id);
		return NULL;
	}
	return NULL;
}

bool call_has_job(struct call *call)
{
	if (call->job)
		return true;
	call_no_memory(call);
	return false;
}

bool call_query(const struct call *call, const char *key, struct buf *out)
{
	return query_get(conn_query(call->conn), str_from(key), out);
}
