/* SPDX-License-Identifier: Apache-2.0 */
/* The StacyVM API: lets requests in, finds their route and calls its handler. */
#ifndef LOCAL_API_H
#define LOCAL_API_H

#include "local/call.h"
#include "local/conn.h"

/* What httpd calls, with a struct api as its argument. */
const struct conn_handler *api_handler(void);

/* Hears from now on what becomes of the sandboxes; once, when api->records and api->events are there. */
void api_watch_records(struct api *api);

#endif
