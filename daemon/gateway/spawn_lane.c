/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/spawn_lane.h"

#include <stdlib.h>

#include "common/clock.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/upstream.h"

enum {
	IDLE_MAX = 32 /* of upstreams that are gone after a reload, or not used now */
};

struct spawn_lane {
	struct list link;        /* on spawn_lanes.lanes */
	struct spawn_lanes *all; /* borrowed */
	uint64_t serial;         /* of the upstream */
	struct spawn_turns turns;
	struct deferred run; /* gives turns that have become free */
	bool running;        /* within that */
};

static void run(struct deferred *d)
{
	struct spawn_lane *lane = CONTAINER_OF(d, struct spawn_lane, run);

	lane->running = true;
	spawn_turns_run(&lane->turns, clock_ms());
	lane->running = false;
}

static void lane_free(struct spawn_lane *lane)
{
	list_remove(&lane->link);
	deferred_cancel(&lane->run);
	spawn_turns_fini(&lane->turns);
	free(lane);
}

static bool is_idle(const struct spawn_lane *lane)
{
	return !lane->running && spawn_turns_are_idle(&lane->turns);
}

/* Each reload that changes an upstream makes a lane: those that nobody waits in go, the oldest first. */
static void drop_idle(struct spawn_lanes *all)
{
	size_t idle = 0;

	LIST_FOREACH (n, &all->lanes)
		idle += is_idle(CONTAINER_OF(n, struct spawn_lane, link));
	LIST_FOREACH_SAFE (n, &all->lanes) {
		struct spawn_lane *lane = CONTAINER_OF(n, struct spawn_lane, link);
		if (idle <= IDLE_MAX)
			return;
		if (!is_idle(lane))
			continue;
		lane_free(lane);
		idle--;
	}
}

void spawn_lanes_init(struct spawn_lanes *all, struct loop *loop)
{
	all->loop = loop;
	list_init(&all->lanes);
}

void spawn_lanes_fini(struct spawn_lanes *all)
{
	LIST_FOREACH_SAFE (n, &all->lanes)
		lane_free(CONTAINER_OF(n, struct spawn_lane, link));
}

struct spawn_lane *spawn_lane_find(struct spawn_lanes *all, const struct upstream *u)
{
	const struct config_upstream *c = upstream_config(u);
	struct spawn_lane *lane;

	LIST_FOREACH (n, &all->lanes) {
		lane = CONTAINER_OF(n, struct spawn_lane, link);
		if (lane->serial == upstream_serial(u))
			return lane;
	}
	drop_idle(all);
	lane = calloc(1, sizeof(*lane));
	if (!lane)
		return NULL;
	lane->all = all;
	lane->serial = upstream_serial(u);
	deferred_init(&lane->run, run);
	spawn_turns_init(&lane->turns, c->scheme == CONFIG_LOCAL ? SPAWN_RUNNING_LOCAL_MAX : SPAWN_RUNNING_MAX,
			 c->pool.max_waiting);
	list_add_tail(&all->lanes, &lane->link);
	return lane;
}

int spawn_lane_ask(struct spawn_lane *lane, struct spawn_turn *t, const char *owner)
{
	int rc = spawn_turn_ask(&lane->turns, t, owner);

	if (rc == 0)
		loop_defer(lane->all->loop, &lane->run);
	return rc;
}

void spawn_lane_leave(struct spawn_lane *lane, struct spawn_turn *t)
{
	spawn_turn_end(t, clock_ms());
	loop_defer(lane->all->loop, &lane->run);
}
