/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE /sandboxes for one owner: destroys those of his that have expired, one by one. */
#ifndef GATEWAY_PRUNE_H
#define GATEWAY_PRUNE_H

#include "common/err.h"
#include "gateway/call.h"

/* Makes the call; what it has destroyed when its client leaves or its time is over stays so. 0 or -ENOMEM. */
MUST_CHECK int prune_call_new(const struct call_case *what, struct call **out);

#endif
