/* SPDX-License-Identifier: Apache-2.0 */
/* GET /events: a caller's stream of the server's events; under isolation of those of his own sandboxes. */
#ifndef GATEWAY_FEED_CALL_H
#define GATEWAY_FEED_CALL_H

#include "common/err.h"
#include "gateway/call.h"

/* Makes the call, which ends with its client or when the server stays away. 0 or -ENOMEM. */
MUST_CHECK int feed_call_new(const struct call_case *what, struct call **out);

#endif
