/* SPDX-License-Identifier: Apache-2.0 */
/* State machines: one table of allowed moves per machine, and one function that makes a move. */
#ifndef COMMON_SM_H
#define COMMON_SM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/check.h"
#include "common/log.h"

struct sm {
	const char *name;          /* of the machine, for the trace */
	const char *const *states; /* names, indexed by state */
	const uint32_t *edges;     /* indexed by state: bit N is set when a move to state N is allowed */
	unsigned nstates;          /* at most 32 */
};

#define SM_TO(state) (UINT32_C(1) << (state))

bool sm_allows(const struct sm *sm, unsigned from, unsigned to);

/* Writes a move to the log, at debug level. */
void sm_trace(const struct sm *sm, unsigned long long id, unsigned from, unsigned to);

/*
 * Asserts that the move is allowed, traces it at debug level, and returns `to`. `id` names the object. In the header
 * because a request makes ten moves, most of them between constants.
 */
static inline unsigned sm_move(const struct sm *sm, unsigned long long id, unsigned from, unsigned to)
{
	CHECK(from < sm->nstates && to < sm->nstates && (sm->edges[from] & SM_TO(to)));
	if (log_enabled(LOG_LEVEL_DEBUG))
		sm_trace(sm, id, from, to);
	return to;
}

#endif
