/* SPDX-License-Identifier: Apache-2.0 */
/* Every route of the API, as the contract lists them, with values for the parameters: what table tests walk. */
#ifndef LIB_API_ROUTES_H
#define LIB_API_ROUTES_H

#include <stddef.h>

#include "gateway/route.h"

struct api_route {
	enum http_method method;
	const char *method_text;
	const char *path;       /* a sandbox is sb-1, a template n-1, an owner alice, the rest is a letter and "-1" */
	enum route_class class; /* ROUTE_UNKNOWN for the routes of the server's own workers */
	enum route_owner owner;
	enum route_retry retry;
};

/* *n of them. */
const struct api_route *api_routes(size_t *n);

#endif
