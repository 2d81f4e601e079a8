/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE /gateway/v1/cache: forgets templates and whose sandboxes are, so that the servers are asked again. */
#ifndef GATEWAY_CACHE_DROP_H
#define GATEWAY_CACHE_DROP_H

#include "common/err.h"
#include "gateway/call.h"

/* Makes the call. 0 or -ENOMEM. */
MUST_CHECK int cache_drop_call_new(const struct call_case *what, struct call **out);

#endif
