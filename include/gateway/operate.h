/* SPDX-License-Identifier: Apache-2.0 */
/* POST /gateway/v1/reload and PUT /gateway/v1/log: what an operator does to the daemon as a whole. */
#ifndef GATEWAY_OPERATE_H
#define GATEWAY_OPERATE_H

#include <stdint.h>

#include "common/err.h"
#include "gateway/call.h"

struct buf;

/* What only the owner of everything can do. */
struct operate_hooks {
	/*
	 * Reads the configuration anew and puts it in force, or changes nothing. 0 and its *generation, or a negative errno:
	 * -ESHUTDOWN when the daemon stops, -ENOMEM. Either way `said` gets lines for people, each with newline: warnings, or
	 * the faults. Not from within a callback of anything that it may take down.
	 */
	int (*reload)(void *arg, struct buf *said, uint64_t *generation);
	void *arg;
};

/* Makes the call of one of the two routes; the hooks are borrowed. 0 or -ENOMEM. */
MUST_CHECK int operate_call_new(const struct operate_hooks *hooks, const struct call_case *what, struct call **out);

#endif
