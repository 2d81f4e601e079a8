/* SPDX-License-Identifier: Apache-2.0 */
/* The real gateway between a raw client and a scripted upstream: what most integration tests begin with. */
#ifndef LIB_GATEWAY_H
#define LIB_GATEWAY_H

#include <jansson.h>

#include "lib/daemon.h"
#include "lib/raw.h"
#include "lib/scratch.h"
#include "lib/upstream.h"

/* The planted key of the rule's credential; no byte of it may reach a client, a log or a child. */
#define GW_KEY     PLANTED_SECRET "-team-0123456789abcdef"
#define GW_USER_ID "alice"

struct gw_options {
	const char *pool;       /* inside "pool: { }"; NULL leaves the defaults */
	const char *timeouts;   /* inside "timeouts: { }" */
	const char *clients;    /* whole flow list; NULL admits the uid of the test to everything, as alice */
	const char *top;        /* further top-level lines */
	const char *listen;     /* further lines of the list of listeners */
	const char *log;        /* inside "log: { }"; NULL is debug and access to stderr */
	const char *const *env; /* for the daemon */
	const struct up_step *const *scripts; /* of the upstream; NULL echoes */
	size_t nscripts;
	bool tcp;         /* upstream on loopback TCP instead of a Unix socket */
	bool no_upstream; /* the upstream's path leads nowhere */
	uid_t uid;        /* 0: as the test itself */
};

struct gw {
	struct scratch dir;
	struct upstream *up;   /* owned */
	struct daemon *daemon; /* owned */
	char socket[160];      /* of the gateway */
	char config[160];      /* its configuration file */
	char key_file[160];
	char upstream_path[160];
	const char *argv[4];
};

/* Starts upstream and gateway and waits until the gateway accepts. NULL options are the defaults. */
struct gw *gw_start(const struct gw_options *options);
/* The same without starting the gateway: directory, key file, upstream and configuration exist. */
struct gw *gw_prepare(const struct gw_options *options);
void gw_run(struct gw *gw, const struct gw_options *options);
/* Stops the gateway with SIGTERM, judges it (see lib/daemon.h), and removes everything. */
void gw_stop(struct gw *gw);
/* Writes the configuration anew, for a reload. */
void gw_configure(struct gw *gw, const struct gw_options *options);

struct raw gw_connect(struct gw *gw);
/* One request on a connection of its own, answered whole. `format` makes the bytes to send. */
struct answer gw_ask(struct gw *gw, const char *format, ...) PRINTF_LIKE(2, 3);

/* The body of an answer as JSON, owned by the caller; fails the test when it is none. */
json_t *answer_json(const struct answer *a);
/* GET path as JSON, owned by the caller; the status must be 200. */
json_t *gw_get(struct gw *gw, const char *path);
/*
 * The number at a dotted path ("pool.0.open") in an object or array; fails the test when there is none.
 */
json_int_t json_number_at(json_t *root, const char *path);
const char *json_text_at(json_t *root, const char *path);

/* Fails unless it is an error of the gateway: status, code in body and Stacygate-Error header, JSON in the API's shape. */
void expect_error(const struct answer *a, unsigned status, const char *code);
/* Fails unless the answer is complete with this status. */
void expect_status(const struct answer *a, unsigned status);

/* For .fini of a suite: nothing that a failed test started stays. */
void gw_fini(void);

#endif
