/* SPDX-License-Identifier: Apache-2.0 */
/* Tells from method and path what kind of request this is. */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/http_parse.h"
#include "common/str.h"
#include "gateway/route_class.h"

enum route_place {
	ROUTE_API,     /* below /api/v1 */
	ROUTE_GATEWAY, /* below /gateway/v1 */
	ROUTE_WORKER,  /* /api/v1/worker/...: the server's own machines, never a client's */
	ROUTE_OTHER,   /* nothing of ours */
};

/* Which timeout bounds the wait for a response head. */
enum route_wait {
	ROUTE_WAIT_RESPONSE,
	ROUTE_WAIT_SPAWN,
	ROUTE_WAIT_EXEC,
};

/* Whose things a route shows or touches. */
enum route_owner {
	ROUTE_OWNER_NONE,
	ROUTE_OWNER_ID,    /* one sandbox's: route.sandbox names it */
	ROUTE_OWNER_NEW,   /* it makes a sandbox for the caller */
	ROUTE_OWNER_ALL,   /* everybody's */
	ROUTE_OWNER_NAMED, /* those of an owner, or the thing, that route.name or the query names */
};

/* Whether the same request may be sent twice (the API's own routes; exchange has its own, stricter question). */
enum route_retry {
	ROUTE_RETRY_NO,
	ROUTE_RETRY_IDEM, /* harmless with the same body */
	ROUTE_RETRY_YES,
};

/* Routes that somebody must tell apart. */
enum route_id {
	ROUTE_ID_UNKNOWN, /* in no table */
	ROUTE_ID_OTHER,   /* known, and like others of its class */
	ROUTE_SPAWN,
	ROUTE_ADMISSION,
	ROUTE_LIST,
	ROUTE_PRUNE_ALL,
	ROUTE_LEASES,
	ROUTE_LEASE_RENEW,
	ROUTE_LEASE_RELEASE,
	ROUTE_GET,
	ROUTE_DESTROY,
	ROUTE_EXTEND,
	ROUTE_LOGS,
	ROUTE_STATS,
	ROUTE_EXEC,
	ROUTE_EXEC_WS,
	ROUTE_FILES_READ,
	ROUTE_FILES_WRITE,
	ROUTE_FILES_DELETE,
	ROUTE_FILES_LIST,
	ROUTE_FILES_STAT,
	ROUTE_FILES_GLOB,
	ROUTE_FILES_MOVE,
	ROUTE_FILES_CHMOD,
	ROUTE_EVENTS_STREAM,
	ROUTE_TEMPLATE_LIST,
	ROUTE_TEMPLATE_GET,
	ROUTE_TEMPLATE_SAVE,
	ROUTE_TEMPLATE_REPLACE,
	ROUTE_TEMPLATE_DELETE,
	ROUTE_TEMPLATE_SPAWN,
	ROUTE_POOL_STATUS,
	ROUTE_QUOTA_GET,
	ROUTE_QUOTA_USAGE,
	ROUTE_PREVIEW_URL,
	ROUTE_RUN_ONCE,
	ROUTE_CACHE_DROP,
	ROUTE_RELOAD,
	ROUTE_LOG_LEVEL,
	ROUTE_STATUS,
	ROUTE_IDS,
};

struct route {
	enum route_place place;
	enum route_id id;
	enum route_class class;
	enum route_owner owner;
	enum route_wait wait;
	enum route_retry retry;
	bool read_whole;      /* the gateway reads the body whole and sends it with a Content-Length */
	bool unchunk;         /* a chunked body is collected and sent with a Content-Length, any other one streams */
	bool sandbox_bad;     /* `sandbox` is outside [A-Za-z0-9._-]{1,128}, so no sandbox has that id */
	const char *template; /* literal; "/api/v1/sandboxes/{id}/exec"; what is in no table: "/api/v1/" and a star */
	/* All borrowed from the path. */
	struct str sandbox; /* the segment of {id} as sent; only with ROUTE_OWNER_ID, else empty */
	struct str name;    /* the first other parameter as sent: a template, an owner of quotas, ...; else empty */
	struct str rest;    /* path behind /api/v1 or /gateway/v1, one trailing slash dropped */
};

/* One row of the table, for those who ask about all of them. */
struct route_row {
	uint8_t methods; /* 1 << enum http_method; HEAD goes with GET */
	uint8_t segments;
	bool exact; /* with a trailing slash it is another route: the next one that fits */
	bool read_whole;
	bool unchunk;
	enum route_class class;
	enum route_owner owner;
	enum route_id id;
	enum route_retry retry;
	enum route_wait wait;
	const char *path; /* "{name}" is a parameter: any one segment */
};

/* `path` is canonical (target_parse). HEAD is judged as the GET that it stands for. */
struct route route_of(enum http_method method, struct str path);

/* What a request to a preview is to rules, limits and logs: its own path says nothing to them. */
struct route route_of_preview(struct str sandbox);

/* The table of the routes that place has (ROUTE_API and ROUTE_GATEWAY), *n of them. */
const struct route_row *route_rows(enum route_place place, size_t *n);

/* Methods (1 << enum http_method) with which that path below /gateway/v1 is a route, 0: it is none. `rest` as in struct route. */
unsigned route_own_methods(struct str rest);

/* Whether a request with this method may be sent twice without harm (RFC 9110 9.2.1). */
bool route_is_safe(enum http_method method);

#endif
