/* SPDX-License-Identifier: Apache-2.0 */
/* GET /gateway/v1/sandboxes/{id}/preview/{port}: the URL under which a port of a sandbox is reached. */
#ifndef GATEWAY_PREVIEW_URL_H
#define GATEWAY_PREVIEW_URL_H

#include "common/err.h"
#include "gateway/call.h"

/* 0 and *out, to be started with call_start; or -ENOMEM. */
MUST_CHECK int preview_url_call_new(const struct call_case *what, struct call **out);

#endif
