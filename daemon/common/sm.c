/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sm.h"

#include "common/check.h"
#include "common/log.h"

static bool allows(const struct sm *sm, unsigned from, unsigned to)
{
	CHECK(from < sm->nstates && to < sm->nstates);
	return sm->edges[from] & SM_TO(to);
}

bool sm_allows(const struct sm *sm, unsigned from, unsigned to)
{
	return allows(sm, from, to);
}

/* Kept out of the way: a request makes ten moves, and hardly anybody traces them. */
static __attribute__((noinline, cold)) void trace(const struct sm *sm, unsigned long long id, unsigned from,
						  unsigned to)
{
	log_debug("%s %llu: %s -> %s", sm->name, id, sm->states[from], sm->states[to]);
}

unsigned sm_move(const struct sm *sm, unsigned long long id, unsigned from, unsigned to)
{
	CHECK(allows(sm, from, to));
	if (log_enabled(LOG_LEVEL_DEBUG))
		trace(sm, id, from, to);
	return to;
}
