/* SPDX-License-Identifier: Apache-2.0 */
/* The ways to previews: by preview.url, by the server's own Unix socket, or by the preview's name. */
#ifndef GATEWAY_PREVIEW_WAYS_H
#define GATEWAY_PREVIEW_WAYS_H

#include <stddef.h>

#include "common/err.h"
#include "common/list.h"
#include "common/str.h"

struct config_preview;
struct config_upstream;
struct dialer;
struct loop;
struct upstream;

struct preview_ways {
	struct loop *loop;     /* borrowed */
	struct dialer *dialer; /* borrowed */
	struct list recent;    /* struct preview_way, the one asked for last first */
	size_t count;
};

void preview_ways_init(struct preview_ways *w, struct loop *loop, struct dialer *dialer);
void preview_ways_fini(struct preview_ways *w);

/* What leads to a preview. */
struct preview_target {
	const struct upstream *server;        /* that runs the sandbox */
	const struct config_upstream *config; /* its entry */
	const struct config_preview *front;   /* from the configuration */
	const char *name;                     /* {port}-{id}.{domain}, without a port */
	unsigned port;                        /* that the domain names; 0: none */
};

/*
 * Where its requests are sent, each on a connection of its own; borrowed until the next call. The pool's bounds and the timeouts
 * are the server's. NULL without memory.
 */
struct upstream *preview_ways_get(struct preview_ways *w, const struct preview_target *t);

#endif
