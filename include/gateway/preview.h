/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request to a port of a sandbox: lets it go when the sandbox is the caller's and its name the record's, to where that port
 * is reached.
 */
#ifndef GATEWAY_PREVIEW_H
#define GATEWAY_PREVIEW_H

#include <stdbool.h>

#include "common/err.h"
#include "gateway/admit.h"
#include "gateway/preview_ways.h"

struct config;
struct config_rule;
struct exchange;
struct preview;
struct preview_host;

/* Borrowed for the call of preview_new but where it says otherwise. */
struct preview_case {
	struct admit_shared *admit;  /* outlives it */
	struct preview_ways *ways;   /* outlives it */
	const struct config *config; /* until preview_free, as the next two */
	const struct config_rule *rule;
	struct fetch_caller caller;      /* in whose name the server is asked */
	const struct preview_host *host; /* with a port and an id */
};

/* NULL without memory. */
struct preview *preview_new(const struct preview_case *c);
/*
 * Asks what must be known, and starts or refuses the exchange, a preview's, now or later. The exchange's on_end may be called from
 * within.
 */
void preview_start(struct preview *p, struct exchange *e);
/* Whatever it waits for is given up. NULL is fine. */
void preview_free(struct preview *p);

#endif
