/* SPDX-License-Identifier: Apache-2.0 */
/* Tells from method and path what kind of request this is. */
#ifndef GATEWAY_ROUTE_H
#define GATEWAY_ROUTE_H

#include <stdbool.h>

#include "common/http_parse.h"
#include "common/str.h"

enum route_place {
	ROUTE_API,     /* below /api/v1 */
	ROUTE_GATEWAY, /* below /gateway/v1 */
	ROUTE_WORKER,  /* /api/v1/worker/...: the server's own machines, never a client's */
	ROUTE_OTHER,   /* nothing of ours */
};

/* Which timeout bounds the wait for a response head. */
enum route_class {
	ROUTE_CLASS_PLAIN,
	ROUTE_CLASS_SPAWN,
	ROUTE_CLASS_EXEC,
};

struct route {
	enum route_place place;
	enum route_class class;
	bool read_whole; /* a chunked body is collected and sent with a Content-Length */
	struct str rest; /* path behind /api/v1 or /gateway/v1, one trailing slash dropped; borrowed from the path */
};

/* `path` is canonical (target_parse). */
struct route route_of(enum http_method method, struct str path);

/* Whether a request with this method may be sent twice without harm (RFC 9110 9.2.1). */
bool route_is_safe(enum http_method method);

#endif
