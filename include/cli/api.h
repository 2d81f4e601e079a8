/* SPDX-License-Identifier: Apache-2.0 */
/* Sends one request at a time over the gateway's socket and tells answers, refusals and lost connections
 * apart. */
#ifndef CLI_API_H
#define CLI_API_H

#include <stdbool.h>

#include "cli/fault.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

struct api;
struct progress;

/* Receives a 2xx answer's body as it comes. 0, or -1 after having set the fault, which ends the request. */
typedef int (*api_sink_fn)(void *user, struct str bytes);

/* What a request waits for besides its answer. */
enum {
	API_WATCHED = 2
};
struct api_watch {
	int fds[API_WATCHED]; /* borrowed; -1: none */
	/* Called when the wait has ended, by one of them, by the answer or by time, at least once a second. 0, or -1 to end the request. */
	int (*on_turn)(void *user);
};

struct api_request {
	const char *method;
	const char *path;              /* below http://localhost, escaped already */
	struct str body;               /* borrowed; sent as JSON if p is not NULL */
	const char *lease;             /* Stacygate-Lease; NULL: none. The caller vouches for the bytes */
	const char *accept;            /* NULL: anything */
	api_sink_fn sink;              /* NULL: the body is collected in `answer` */
	void *user;                    /* for the sink and the watch */
	const struct api_watch *watch; /* borrowed; may be NULL */
	struct buf *answer;            /* borrowed; may be NULL when nobody wants the body */
	long timeout_ms;               /* for all of it; 0: none, the gateway has its own */
	long linger_ms;                /* how long a signal is put off: 0 ends the request at once */
};

/* How long an ordinary request may take, a little more than the gateway gives the server. */
enum {
	API_TIMEOUT_MS = 150000
};

/* NULL without memory. Nothing is connected yet. `socket_path` is copied; `progress` is borrowed and shown in every wait. */
struct api *api_new(const char *socket_path, struct progress *progress);
void api_free(struct api *a);

/* Where the gateway is, and how far things are; borrowed. */
const char *api_socket_path(const struct api *a);
struct progress *api_progress(const struct api *a);

/*
 * What the gateway did not do as it was asked, in words for people, line by line and escaped: values that it lowered, fields that
 * the server cannot store. Of all calls so far; empty when there was nothing.
 */
struct str api_notes(const struct api *a);

/*
 * Sends the request and waits. 0 for a 2xx answer that ended cleanly; otherwise -1 and the fault: the
 * answer's code and message for a refusal, CONNECTION_ERROR when there was no whole answer,
 * FAULT_INTERRUPTED.
 */
MUST_CHECK int api_call(struct api *a, const struct api_request *request, struct fault *f);

#endif
