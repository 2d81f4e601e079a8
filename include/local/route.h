/* SPDX-License-Identifier: Apache-2.0 */
/* The routes of the StacyVM API that this server has, and how a request finds its one. */
#ifndef LOCAL_ROUTE_H
#define LOCAL_ROUTE_H

#include <stddef.h>

#include "common/http_parse.h"
#include "common/str.h"

enum route {
	ROUTE_HEALTH,
	ROUTE_LIVE,
	ROUTE_READY,
	ROUTE_POOL_STATUS,
	ROUTE_SNAPSHOTS,
	ROUTE_SYSTEM_STATS,
	ROUTE_QUOTA_SUMMARY,
	ROUTE_EVENTS,
	ROUTE_PROVIDERS,
	ROUTE_PROVIDERS_TEST,
	ROUTE_PROVIDER,
	ROUTE_TEMPLATES,
	ROUTE_TEMPLATE_CREATE,
	ROUTE_TEMPLATE,
	ROUTE_TEMPLATE_REPLACE,
	ROUTE_TEMPLATE_DELETE,
	ROUTE_TEMPLATE_SPAWN,
	ROUTE_ADMISSION,
	ROUTE_SPAWN,
	ROUTE_SANDBOXES,
	ROUTE_PRUNE,
	ROUTE_SANDBOX,
	ROUTE_DESTROY,
	ROUTE_EXTEND,
	ROUTE_EXEC,
	ROUTE_EXEC_WS,
	ROUTE_FILE_WRITE,
	ROUTE_FILE_READ,
	ROUTE_FILE_DELETE,
	ROUTE_FILE_LIST,
	ROUTE_FILE_STAT,
	ROUTE_FILE_GLOB,
	ROUTE_FILE_MOVE,
	ROUTE_FILE_CHMOD,
	ROUTE_LOGS,
	ROUTE_STATS,
	ROUTE_COUNT,
};

enum route_result {
	ROUTE_FOUND,
	ROUTE_UNKNOWN,      /* 404 */
	ROUTE_WRONG_METHOD, /* 405: `allowed` has a bit for each method of the path */
};

struct route_match {
	enum route route; /* with ROUTE_FOUND */
	struct str param; /* the {} segment as sent; empty for a route without one */
	unsigned allowed; /* with ROUTE_WRONG_METHOD: bits 1 << enum http_method */
};

/* Finds the route of a raw path (everything before '?'). Spans point into `path`. */
enum route_result route_find(enum http_method method, struct str path, struct route_match *out);

/* Whether the path lies below the API's base path. */
bool route_in_api(struct str path);

/*
 * Decodes a path parameter: percent escapes once, but an encoded slash stays as it is written, so that a decoded
 * name never gains a segment. `out` has room for param.n bytes. The length, or -EINVAL for a bad escape.
 */
ssize_t route_decode_param(struct str param, char *out);

#endif
