/* SPDX-License-Identifier: Apache-2.0 */
/* What all client connections share. */
#ifndef GATEWAY_FRONT_SHARED_H
#define GATEWAY_FRONT_SHARED_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "gateway/call.h"
#include "gateway/client.h"
#include "gateway/control_stats.h"
#include "gateway/enforce.h"
#include "gateway/gather.h"
#include "gateway/operate.h"
#include "gateway/preview_ways.h"
#include "gateway/spawn.h"

struct config_tracing;
struct dialer;
struct keep_alive;
struct lease_shared;
struct limiter;
struct logs;
struct names;
struct snapshot;
struct spawn_keys;
struct template_cache;
struct trace_export;

/* How what front_judge begins comes back to the request that it was begun for; `arg` is the front. */
struct front_ends {
	struct exchange_events exchange;
	void (*on_call_end)(void *arg, const struct call_end *end);
	void (*on_slow_body)(struct gather *g);
};

/* Open connections of one uid. */
struct front_uid {
	struct list link; /* on front_shared.uids */
	uid_t uid;
	uint64_t connections;  /* never 0 */
	uint64_t bodies_bytes; /* of request bodies that are read whole now */
};

/* What all fronts share; owned by the gateway. */
struct front_shared {
	struct loop *loop;         /* borrowed */
	struct names *names;       /* borrowed */
	struct snapshot *snapshot; /* owned reference; the one in force */
	struct logs *logs;         /* borrowed; NULL: nothing is written of requests */
	struct client_shared clients;
	const struct front_ends *ends; /* literal */
	struct spawn_shared spawns;
	struct spawn_keys *keys;     /* owned */
	struct lease_shared *leases; /* owned */
	struct keep_alive *uses;     /* owned; sandboxes that keep_alive keeps */
	struct gather_shared gather; /* of bodies that are read whole */
	struct enforce_shared enforce;
	struct template_cache *templates; /* owned */
	struct preview_ways previews;
	struct limiter *limiter;              /* owned */
	struct trace_export *traces;          /* owned */
	const struct config_tracing *tracing; /* borrowed from `snapshot`; NULL: no traces are made */
	struct control_stats stats;
	struct operate_hooks operate; /* set by the gateway */
	struct list fronts;           /* every open connection */
	struct deferred watchers;     /* while draining: whether anything is waited for */
	struct list uids;             /* struct front_uid */
	struct list texts;            /* struct front_text: names that many connections share */
	unsigned long long next_id;
	void (*on_idle)(void *arg); /* called when the last connection has gone and no spawn is to be waited for */
	void *arg;
};

#endif
