/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sm.h"

#include "common/check.h"
#include "common/log.h"

bool sm_allows(const struct sm *sm, unsigned from, unsigned to)
{
	CHECK(from < sm->nstates && to < sm->nstates);
	return sm->edges[from] & SM_TO(to);
}

unsigned sm_move(const struct sm *sm, unsigned long long id, unsigned from, unsigned to)
{
	CHECK(sm_allows(sm, from, to));
	log_debug("%s %llu: %s -> %s", sm->name, id, sm->states[from], sm->states[to]);
	return to;
}
