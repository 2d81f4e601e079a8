/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/front_clients.h"

#include <string.h>

#include "common/json_write.h"
#include "gateway/config.h"
#include "gateway/front_state.h"

enum {
	ROWS_MAX = 100
};

/* Connections of the same uid, owner and rule. */
struct group {
	const struct front *any; /* one of them */
	uint64_t connections;
	uint64_t active;
	uint64_t requests;
};

static bool is_active(const struct front *f)
{
	return f->now && !f->now->ended;
}

/* Owners are shared texts, so that equal ones are the same one. */
static bool is_of(const struct group *g, const struct front *f)
{
	const struct config_rule *rule = g->any->rule;

	return g->any->peer.uid == f->peer.uid && g->any->user_id == f->user_id &&
	       (rule == f->rule || (rule && f->rule && strcmp(rule->name, f->rule->name) == 0));
}

/* The group of a connection among n; a new one when there is room, otherwise NULL. */
static struct group *find_group(struct group *groups, size_t *n, const struct front *f)
{
	for (size_t i = 0; i < *n; i++)
		if (is_of(&groups[i], f))
			return &groups[i];
	if (*n == ROWS_MAX)
		return NULL;
	groups[*n] = (struct group){.any = f};
	return &groups[(*n)++];
}

static void write_who(const struct front *f, struct json_writer *w)
{
	json_uint(w, "uid", f->peer.uid);
	json_cstr(w, "user_id", f->user_id ? f->user_id : "");
	json_cstr(w, "rule", f->rule ? f->rule->name : "");
}

static void write_group(const struct group *g, struct json_writer *w)
{
	json_object_begin(w, NULL);
	write_who(g->any, w);
	json_uint(w, "connections", g->connections);
	json_uint(w, "active", g->active);
	json_uint(w, "requests", g->requests);
	json_object_end(w);
}

static void write_owners(const struct front_shared *s, struct json_writer *w)
{
	struct group groups[ROWS_MAX];
	size_t n = 0;
	uint64_t left_out = 0;

	LIST_FOREACH (at, &s->fronts) {
		const struct front *f = CONTAINER_OF(at, struct front, link);
		struct group *g = find_group(groups, &n, f);
		if (!g) {
			left_out++;
			continue;
		}
		g->connections++;
		g->active += is_active(f);
		g->requests += f->requests;
	}
	json_array_begin(w, "owners");
	for (size_t i = 0; i < n; i++)
		write_group(&groups[i], w);
	json_array_end(w);
	json_uint(w, "owners_left_out", left_out);
}

static void write_active(const struct front *f, struct json_writer *w)
{
	const struct request *r = f->now;

	json_object_begin(w, NULL);
	json_uint(w, "connection", client_id(f->client));
	write_who(f, w);
	if (!f->peer.over_tcp)
		json_int(w, "pid", f->peer.pid);
	json_cstr(w, "listener", f->listener);
	json_cstr(w, "method", r->method_text);
	json_cstr(w, "route", r->template ? r->template : "");
	if (r->sandbox[0])
		json_cstr(w, "sandbox", r->sandbox);
	json_uint(w, "for_ms", (front_now_ns(f) - r->started_ns) / 1000000);
	json_object_end(w);
}

static void write_requests(const struct front_shared *s, struct json_writer *w)
{
	size_t n = 0;

	json_array_begin(w, "active");
	LIST_FOREACH (at, &s->fronts) {
		const struct front *f = CONTAINER_OF(at, struct front, link);
		if (is_active(f) && n++ < ROWS_MAX)
			write_active(f, w);
	}
	json_array_end(w);
	json_uint(w, "active_left_out", n > ROWS_MAX ? n - ROWS_MAX : 0);
}

void front_clients_write(const void *arg, struct json_writer *w)
{
	const struct front_shared *s = arg;

	write_owners(s, w);
	write_requests(s, w);
}
