/* SPDX-License-Identifier: Apache-2.0 */
/* POST /gateway/v1/run: a sandbox, files into it, one command, and the sandbox is gone. */
#ifndef GATEWAY_RUN_H
#define GATEWAY_RUN_H

#include "common/err.h"
#include "common/sm.h"
#include "gateway/call.h"

struct lease_shared;
struct spawn_shared;

/* What it works with; borrowed. */
struct run_services {
	struct spawn_shared *spawns;
	struct lease_shared *leases;
};

/* Makes the call. 0 or -ENOMEM. */
MUST_CHECK int run_call_new(const struct run_services *s, const struct call_case *what, struct call **out);

/* The table of its states, for the test that walks it. */
const struct sm *run_sm(void);

#endif
