/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One way leads to every preview of a server by preview.url or its socket; by name each preview has its own. They keep no
 * connections, so one that is forgotten costs only its making.
 */
#include "gateway/preview_ways.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/upstream.h"

enum {
	WAYS_MAX = 256
};

struct preview_way {
	struct list link;          /* on preview_ways.recent */
	struct upstream *upstream; /* owned reference */
	uint64_t serial;           /* of the server */
	char *to;                  /* owned; what tells it from the server's others */
};

void preview_ways_init(struct preview_ways *w, struct loop *loop, struct dialer *dialer)
{
	w->loop = loop;
	w->dialer = dialer;
	w->count = 0;
	list_init(&w->recent);
}

static void forget(struct preview_ways *w, struct preview_way *way)
{
	list_remove(&way->link);
	w->count--;
	upstream_unref(way->upstream);
	free(way->to);
	free(way);
}

void preview_ways_fini(struct preview_ways *w)
{
	LIST_FOREACH_SAFE (n, &w->recent)
		forget(w, CONTAINER_OF(n, struct preview_way, link));
}

/* What is dialled, and whether its name is the preview's own. */
static bool aim(const struct preview_target *t, struct config_upstream *c)
{
	c->scheme = CONFIG_HTTP;
	c->port = 80;
	if (t->front->url) {
		c->scheme = t->front->scheme;
		c->host = t->front->host;
		c->port = t->front->port;
		return false;
	}
	if (upstream_unix_path(t->server)) {
		c->scheme = CONFIG_UNIX;
		return false;
	}
	c->host = (char *)t->name; /* copied before this ends */
	if (t->port)
		c->port = (uint16_t)t->port;
	c->proxy = t->config->proxy;
	return true;
}

static struct upstream *make(const struct preview_ways *w, const struct preview_target *t)
{
	struct config_upstream c = {.pool = t->config->pool, .timeouts = t->config->timeouts};
	bool by_name = aim(t, &c);
	struct upstream *u;
	char *name;

	c.pool.min_idle = 0;
	c.pool.max_idle = 0;
	if (asprintf(&name, "%s preview", t->config->name) < 0)
		return NULL;
	c.name = name;
	u = upstream_new(w->loop, w->dialer, &c, c.scheme == CONFIG_UNIX ? upstream_unix_path(t->server) : NULL);
	free(name);
	/* Behind a proxy its own addresses are the near ones; it is the proxy that resolves the name, and it that is dialled. */
	if (u)
		upstream_serve_previews(u, by_name && !t->config->is_loopback && !c.proxy);
	return u;
}

static struct preview_way *find(struct preview_ways *w, uint64_t serial, const char *to)
{
	LIST_FOREACH (n, &w->recent) {
		struct preview_way *way = CONTAINER_OF(n, struct preview_way, link);
		if (way->serial == serial && strcmp(way->to, to) == 0)
			return way;
	}
	return NULL;
}

static struct preview_way *add(struct preview_ways *w, const struct preview_target *t, const char *to)
{
	struct preview_way *way = calloc(1, sizeof(*way));

	if (!way)
		return NULL;
	list_init(&way->link);
	way->serial = upstream_serial(t->server);
	way->to = strdup(to);
	way->upstream = way->to ? make(w, t) : NULL;
	w->count++;
	if (!way->upstream) {
		forget(w, way);
		return NULL;
	}
	if (w->count > WAYS_MAX)
		forget(w, CONTAINER_OF(w->recent.prev, struct preview_way, link));
	return way;
}

struct upstream *preview_ways_get(struct preview_ways *w, const struct preview_target *t)
{
	char to[1024];
	struct preview_way *way;

	if (t->front->url)
		snprintf(to, sizeof(to), "url %s://%s:%u", t->front->scheme == CONFIG_HTTPS ? "https" : "http",
			 t->front->host, t->front->port);
	else if (upstream_unix_path(t->server))
		snprintf(to, sizeof(to), "socket");
	else
		snprintf(to, sizeof(to), "name %s:%u", t->name, t->port);
	way = find(w, upstream_serial(t->server), to);
	if (!way)
		way = add(w, t, to);
	if (!way)
		return NULL;
	list_remove(&way->link);
	list_add_head(&w->recent, &way->link);
	return way->upstream;
}
