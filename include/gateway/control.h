/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's own routes below /gateway/v1: health, whoami, status, the description of all routes. */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include <stdint.h>

#include "common/http_parse.h"
#include "gateway/exchange.h"

struct answer_to;
struct client_shared;
struct config_rule;
struct feed;
struct identity;
struct lease_shared;
struct logs;
struct route;
struct snapshot;
struct spawn_shared;
struct template_cache;
struct vm_watch;

/* What is counted for the daemon as a whole. */
struct control_stats {
	uint64_t started_ms;  /* clock_ms() */
	uint64_t accepted;    /* connections */
	uint64_t connections; /* open now */
	uint64_t requests;    /* all of them */
	uint64_t statuses[6]; /* answers by first digit; 0: never answered */
	uint64_t exchange_ends[EXCHANGE_ENDS];
	uint64_t repeated;   /* requests sent a second time */
	uint64_t generation; /* of the configuration, from 1 */
	uint64_t reloads_failed;
	const char *local_trouble;              /* borrowed; why the embedded server does not run, or NULL */
	const char *listener_trouble;           /* borrowed; a listener that could not be bound, or NULL */
	const struct spawn_shared *spawns;      /* borrowed */
	const struct vm_watch *vm_watch;        /* borrowed */
	const struct feed *feed;                /* borrowed */
	const struct lease_shared *leases;      /* borrowed */
	const struct template_cache *templates; /* borrowed */
	const struct logs *logs;                /* borrowed; NULL: there are none to speak of */
	bool draining;
};

struct control_caller {
	const struct identity *peer;
	const char *listener;
	const struct config_rule *rule; /* never NULL: who matches none gets no further */
	const char *user_id;
	uint64_t own_connections; /* of the same uid */
};

/* Answers a request to one of its routes, or 404 or 405; which status it was. */
unsigned control_answer(const struct answer_to *to, enum http_method method, struct str rest,
			const struct snapshot *snapshot, const struct control_stats *stats,
			const struct client_shared *clients, const struct control_caller *caller);

#endif
