/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gather.h"

#include <string.h>

void gather_shared_init(struct gather_shared *s, struct loop *loop)
{
	s->bytes = 0;
	deadline_queue_init(&s->windows, loop, GATHER_WINDOW_MS);
}

void gather_shared_fini(struct gather_shared *s)
{
	deadline_queue_fini(&s->windows);
}

/* A window has passed: a body that hardly came takes memory and makes nobody happy. */
static void on_window(struct deadline *d)
{
	struct gather *g = CONTAINER_OF(d, struct gather, window);

	if (!g->held && g->body.len - g->window_bytes < GATHER_WINDOW_MIN_BYTES) {
		g->on_slow(g);
		return;
	}
	g->window_bytes = g->body.len;
	deadline_set(&g->shared->windows, d);
}

void gather_init(struct gather *g, struct gather_shared *shared, uint64_t *uid_bytes, void (*on_slow)(struct gather *g))
{
	memset(g, 0, sizeof(*g));
	g->shared = shared;
	g->uid_bytes = uid_bytes;
	g->on_slow = on_slow;
	deadline_init(&g->window, on_window);
	deadline_set(&shared->windows, &g->window);
}

enum gather_result gather_add(struct gather *g, const char *p, size_t n)
{
	if (n > GATHER_MAX_BYTES || g->body.len > GATHER_MAX_BYTES - n)
		return GATHER_TOO_LARGE;
	if (*g->uid_bytes + n > GATHER_UID_MAX_BYTES || g->shared->bytes + n > GATHER_ALL_MAX_BYTES) {
		g->shared->refused++;
		return GATHER_NO_SHARE;
	}
	*g->uid_bytes += n;
	g->shared->bytes += n;
	g->counted += n;
	buf_add(&g->body, p, n);
	return g->body.failed ? GATHER_NO_MEMORY : GATHER_OK;
}

void gather_end(struct gather *g)
{
	deadline_clear(&g->window);
}

void gather_fini(struct gather *g)
{
	if (!g->shared)
		return;
	deadline_clear(&g->window);
	*g->uid_bytes -= g->counted;
	g->shared->bytes -= g->counted;
	buf_fini(&g->body);
	g->shared = NULL;
}
