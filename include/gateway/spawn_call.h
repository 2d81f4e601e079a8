/* SPDX-License-Identifier: Apache-2.0 */
/* POST /sandboxes and POST /templates/{name}/spawn: one sandbox for the caller, repeatable with Idempotency-Key, tied to a life by Stacygate-Lease. */
#ifndef GATEWAY_SPAWN_CALL_H
#define GATEWAY_SPAWN_CALL_H

#include "common/err.h"
#include "gateway/call.h"

struct lease_shared;
struct spawn_keys;
struct spawn_shared;

/* What it works with; borrowed. */
struct spawn_services {
	struct spawn_shared *spawns;
	struct spawn_keys *keys;
	struct lease_shared *leases;
};

/* Makes the call. 0 or -ENOMEM. */
MUST_CHECK int spawn_call_new(const struct spawn_services *s, const struct call_case *what, struct call **out);

#endif
