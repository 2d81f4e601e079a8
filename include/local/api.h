/* SPDX-License-Identifier: Apache-2.0 */
/* The StacyVM API: lets requests in, finds their route and calls its handler. */
#ifndef LOCAL_API_H
#define LOCAL_API_H

#include "local/call.h"
#include "local/httpd.h"

/* For httpd_new, with a struct api as its argument. */
const struct httpd_handler *api_handler(void);

#endif
