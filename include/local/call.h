/* SPDX-License-Identifier: Apache-2.0 */
/* One API request on its way through a handler: what was asked, and the ways to answer. */
#ifndef LOCAL_CALL_H
#define LOCAL_CALL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "local/api_keys.h"
#include "local/conn.h"
#include "local/events.h"
#include "local/go_json.h"
#include "local/route.h"
#include "local/sandbox.h"

struct loop;
struct previews;
struct record;
struct records;
struct templates;

/* What all handlers share. */
struct api {
	struct loop *loop;           /* borrowed */
	struct records *records;     /* borrowed */
	struct templates *templates; /* borrowed */
	struct events *events;       /* borrowed */
	struct previews *previews;   /* borrowed */
	struct api_keys keys;        /* borrowed references */
	const char *state_dir;       /* borrowed */
	uint64_t started_ns;         /* monotonic */
	unsigned beat_ms;            /* after so long without output a stream gets a blank line */
	bool stopping;               /* no more spawns */
};

struct call;

/* What a handler that answers later does about the client's doings; NULL members are fine. */
struct call_events {
	void (*on_drained)(struct call *call);
	void (*on_half_closed)(struct call *call);
	/* The client has gone, or the call was answered: frees what `state` holds. The job is cancelled already. */
	void (*on_over)(struct call *call);
};

struct call {
	struct api *api;   /* borrowed */
	struct conn *conn; /* borrowed */
	enum route route;
	struct buf param;                 /* the path parameter, decoded */
	json_t *body;                     /* owned; NULL until call_bind */
	struct sandbox_job *job;          /* the job under way; its on_end must set it to NULL first */
	const struct call_events *events; /* borrowed; NULL: none */
	void *state;                      /* the handler's own */
};

/* The error codes of the API. */
enum call_error {
	CALL_BAD_REQUEST,
	CALL_UNAUTHORIZED,
	CALL_FORBIDDEN,
	CALL_NOT_FOUND,
	CALL_CONFLICT,
	CALL_TIMEOUT,
	CALL_RESOURCE_LIMIT,
	CALL_INTERNAL_ERROR,
	CALL_PROVIDER_ERROR,
	CALL_UNAVAILABLE,
	CALL_ERRORS,
};

/* Writes an error answer for a request that has no call yet. */
void call_refuse(struct conn *c, enum call_error error, const char *message);

/* A call of this request, which it watches from now on; NULL without memory. */
struct call *call_new(struct api *api, struct conn *c, enum route route);

/* --- answering; the call is over and freed when one of these returns ------------------------------------------- */

/* JSON; a newline is added. `body` is emptied and freed. */
void call_json(struct call *call, unsigned status, struct buf *body);
/* {"status":"..."} with 200. */
void call_status(struct call *call, const char *status);
void call_error(struct call *call, enum call_error error, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same, and tells those who listen to events. */
void call_fail(struct call *call, enum call_error error, enum events_type type, const char *fmt, ...) PRINTF_LIKE(4, 5);
/* For a job that did not end well: 404 when the sandbox ended, else 500 "PREFIX: text". Tells of it as `type`. */
void call_job_failed(struct call *call, const struct job_result *result, enum events_type type, const char *prefix);
void call_no_memory(struct call *call);
/* After conn_end or conn_abort of an answer in pieces. */
void call_over(struct call *call);

/* --- asking; false or NULL means that it has been answered ------------------------------------------------------- */

/* Reads the body as JSON into a struct. 400 otherwise. */
bool call_bind(struct call *call, const struct go_field *fields, size_t nfields, void *target);
/* The record that the path names, in any state but destroyed. 404 otherwise. */
struct record *call_record(struct call *call);
/* The same, with a running sandbox. */
struct record *call_running(struct call *call);
/* Whether a job could be made; 503 otherwise. */
bool call_has_job(struct call *call);

/* Tells those who listen to events what was done to the sandbox that the path names. */
void call_tell(const struct call *call, enum events_type type);

/* The decoded value of a query parameter; false when it is not there. */
bool call_query(const struct call *call, const char *key, struct buf *out);

#endif
