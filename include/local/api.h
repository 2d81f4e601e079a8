/* SPDX-License-Identifier: Apache-2.0 */
/* The StacyVM API: lets requests in, finds their route and calls its handler. */
#ifndef LOCAL_API_H
#define LOCAL_API_H

#include "local/call.h"
#include "local/conn.h"

/* What httpd calls, with a struct api as its argument. */
const struct conn_handler *api_handler(void);

#endif
