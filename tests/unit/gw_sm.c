/* SPDX-License-Identifier: Apache-2.0 */
/* Every state machine of the gateway: its table is sound, and a move that is not in it stops the program. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>

#include "common/log.h"
#include "common/sm.h"
#include "gateway/client.h"
#include "gateway/exchange.h"
#include "gateway/local_server.h"
#include "gateway/upstream.h"

static const struct sm *const *machines(unsigned *n)
{
	static const struct sm *all[4];

	all[0] = client_sm();
	all[1] = exchange_sm();
	all[2] = local_server_sm();
	all[3] = upstream_conn_sm();
	*n = 4;
	return all;
}

static uint32_t reachable_from(const struct sm *sm, unsigned start)
{
	uint32_t seen = SM_TO(start), before = 0;

	while (seen != before) {
		before = seen;
		for (unsigned s = 0; s < sm->nstates; s++)
			if (seen & SM_TO(s))
				seen |= sm->edges[s];
	}
	return seen;
}

/* Names for all, edges to states that exist, every state reachable from the first, an end reachable from every state. */
Test(gw_sm, tables)
{
	unsigned n;
	const struct sm *const *all = machines(&n);

	for (unsigned i = 0; i < n; i++) {
		const struct sm *sm = all[i];
		uint32_t valid = (uint32_t)((UINT64_C(1) << sm->nstates) - 1), ends = 0;

		cr_assert(sm->nstates > 1 && sm->nstates <= 32);
		for (unsigned s = 0; s < sm->nstates; s++) {
			cr_assert_not_null(sm->states[s], "%s: state %u has no name", sm->name, s);
			cr_expect_eq(sm->edges[s] & ~valid, 0, "%s: %s leads nowhere", sm->name, sm->states[s]);
			if (!sm->edges[s])
				ends |= SM_TO(s);
		}
		cr_expect_eq(reachable_from(sm, 0), valid, "%s: a state cannot be reached", sm->name);
		for (unsigned s = 0; ends && s < sm->nstates; s++)
			cr_expect(reachable_from(sm, s) & ends, "%s: no way out of %s", sm->name, sm->states[s]);
	}
}

/* Each move of each table is made or refused exactly as the table says. */
Test(gw_sm, allowed_moves)
{
	unsigned n;
	const struct sm *const *all = machines(&n);

	log_set_level(LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < n; i++) {
		for (unsigned from = 0; from < all[i]->nstates; from++) {
			for (unsigned to = 0; to < all[i]->nstates; to++) {
				bool edge = (all[i]->edges[from] & SM_TO(to)) != 0;

				cr_expect_eq(sm_allows(all[i], from, to), edge);
				if (edge)
					cr_expect_eq(sm_move(all[i], 1, from, to), to);
			}
		}
	}
}

static const char *const names[] = {"one", "two"};
static const uint32_t edges[] = {SM_TO(1), 0};
static const struct sm small = {"small", names, edges, 2};

/* A move that is not in the table is a bug of ours and stops the program. */
Test(gw_sm, forbidden_move, .signal = SIGABRT)
{
	/* The wrapper would take the assert's words for a real one. */
	cr_assert_not_null(freopen("/dev/null", "w", stderr));
	(void)sm_move(&small, 1, 1, 0);
}
