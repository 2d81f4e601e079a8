/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sm.h"

bool sm_allows(const struct sm *sm, unsigned from, unsigned to)
{
	CHECK(from < sm->nstates && to < sm->nstates);
	return sm->edges[from] & SM_TO(to);
}

void sm_trace(const struct sm *sm, unsigned long long id, unsigned from, unsigned to)
{
	log_debug("%s %llu: %s -> %s", sm->name, id, sm->states[from], sm->states[to]);
}
