/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's own routes below /gateway/v1: health, whoami, status, metrics, the description of all routes. */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include <stdint.h>

#include "common/http_parse.h"

struct answer_to;
struct client_shared;
struct config_rule;
struct control_stats;
struct identity;
struct snapshot;

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
