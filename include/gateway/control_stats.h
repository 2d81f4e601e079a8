/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon knows and counts of itself, for who answers for it: status, health, metrics. */
#ifndef GATEWAY_CONTROL_STATS_H
#define GATEWAY_CONTROL_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "gateway/exchange.h"
#include "gateway/meter.h"

struct feed;
struct gather_shared;
struct journal;
struct json_writer;
struct lease_shared;
struct limiter;
struct logs;
struct snapshot;
struct spawn_shared;
struct template_cache;
struct trace_export;
struct vm_watch;

/* Bounds of the configuration that turn a connection away. */
enum control_bound {
	CONTROL_BOUND_CONNECTIONS,
	CONTROL_BOUND_CONNECTIONS_PER_UID,
	CONTROL_BOUNDS,
};

/* How the last reload went. */
struct control_reload {
	int64_t wall_ns; /* 0: there was none */
	bool failed;
	char error[512]; /* of one that failed: the first line of its faults */
};

/* What is counted for the daemon as a whole. */
struct control_stats {
	uint64_t started_ms;  /* clock_ms() */
	uint64_t accepted;    /* connections */
	uint64_t connections; /* open now */
	uint64_t requests;    /* all of them */
	uint64_t statuses[6]; /* answers by first digit; 0: never answered */
	uint64_t exchange_ends[EXCHANGE_ENDS];
	uint64_t repeated;               /* requests sent a second time */
	uint64_t generation;             /* of the configuration, from 1 */
	const struct snapshot *in_force; /* borrowed; that configuration */
	uint64_t reloads_failed;
	struct control_reload last_reload;
	const char *local_trouble;              /* borrowed; why the embedded server does not run, or NULL */
	const char *listener_trouble;           /* borrowed; a listener that could not be bound, or NULL */
	const struct spawn_shared *spawns;      /* borrowed */
	const struct vm_watch *vm_watch;        /* borrowed */
	const struct feed *feed;                /* borrowed */
	const struct lease_shared *leases;      /* borrowed */
	const struct template_cache *templates; /* borrowed */
	const struct trace_export *traces;      /* borrowed */
	const struct logs *logs;                /* borrowed; NULL: there are none to speak of */
	const struct limiter *limiter;          /* borrowed */
	const struct gather_shared *gather;     /* borrowed */
	const struct journal *journal;          /* borrowed; NULL: there is none yet */
	struct meter_times times[ROUTE_CLASSES];
	uint64_t bound_hits[CONTROL_BOUNDS]; /* connections turned away */
	bool draining;
	/* Adds the members "owners" and "active" about open connections; NULL: there are none to speak of. */
	void (*write_clients)(const void *arg, struct json_writer *w);
	const void *write_clients_arg; /* borrowed */
};

#endif
