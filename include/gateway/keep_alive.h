/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps sandboxes that are in use: while requests come for one, its ttl is never less than the rule's keep_alive for long. */
#ifndef GATEWAY_KEEP_ALIVE_H
#define GATEWAY_KEEP_ALIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"
#include "gateway/fetch.h"

struct keep_alive;
struct loop;

enum {
	KEEP_ALIVE_MAX = 4096, /* sandboxes that are remembered; the one used longest ago is forgotten first */
	KEEP_ALIVE_RUNNING_MAX =
		32, /* of them, looked at or extended at the same time; others wait for their next request */
	KEEP_ALIVE_RETRY_MS = 1000, /* after a failure */
};

/* 0 or -ENOMEM. */
MUST_CHECK int keep_alive_new(struct loop *loop, struct keep_alive **out);
/* NULL is fine. */
void keep_alive_free(struct keep_alive *k);

/*
 * A request comes for a sandbox (well-formed id) that may be the caller's: when it may have less than keep_ms left, its record is
 * looked at after this turn, in the caller's name, and it is extended to keep_ms if the record says so; at most once in a quarter of
 * keep_ms. With `isolated` only if the record names the caller as its owner. Never shortens what the record shows. Texts are
 * copied, references taken; without memory nothing is done.
 */
void keep_alive_touch(struct keep_alive *k, const struct fetch_caller *caller, struct str sandbox, bool isolated,
		      uint64_t keep_ms);

/*
 * A client extends or destroys it himself: what is under way is cancelled, since it could shorten what he asks for, and nothing is
 * done for a quarter of keep_ms.
 */
void keep_alive_yield(struct keep_alive *k, const struct upstream *u, struct str sandbox, uint64_t keep_ms);

#endif
