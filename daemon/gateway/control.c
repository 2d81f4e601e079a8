/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control.h"

#include "config.h"

#include "common/clock.h"
#include "common/http_write.h"
#include "common/json_write.h"
#include "common/units.h"
#include "gateway/answer.h"
#include "gateway/client.h"
#include "gateway/config.h"
#include "gateway/control_stats.h"
#include "gateway/feed.h"
#include "gateway/identity.h"
#include "gateway/keyring.h"
#include "gateway/lease.h"
#include "gateway/logs.h"
#include "gateway/metrics.h"
#include "gateway/openapi.h"
#include "gateway/prometheus.h"
#include "gateway/snapshot.h"
#include "gateway/spawn.h"
#include "gateway/template_cache.h"
#include "gateway/upstream.h"
#include "gateway/vm_watch.h"

struct request {
	const struct answer_to *to;
	const struct snapshot *snapshot;
	const struct control_stats *stats;
	const struct client_shared *clients;
	const struct control_caller *caller;
};

static void write_version(const struct request *r, struct json_writer *w)
{
	char uptime[40];

	duration_format((int64_t)(clock_ms() - r->stats->started_ms) * 1000000, uptime);
	json_cstr(w, "version", PACKAGE_VERSION);
	json_cstr(w, "uptime", uptime);
}

/* Why an upstream does not work, as far as is known; NULL when it does. */
static const char *upstream_error(const struct request *r, size_t index)
{
	const struct config *c = snapshot_config(r->snapshot);

	if (c->upstreams[index].scheme == CONFIG_LOCAL && r->stats->local_trouble)
		return r->stats->local_trouble;
	return upstream_trouble(snapshot_upstream(r->snapshot, index));
}

/* Said only where it is known that users share a machine. */
static void write_shared_vm(const struct request *r, struct json_writer *w, size_t index)
{
	if (vm_watch_known(r->stats->vm_watch, snapshot_upstream(r->snapshot, index)) == VM_SHARED)
		json_bool(w, "shared_vm", true);
}

static void write_upstream_health(const struct request *r, struct json_writer *w, size_t index)
{
	const char *error = upstream_error(r, index);

	json_cstr(w, "name", upstream_name(snapshot_upstream(r->snapshot, index)));
	json_bool(w, "healthy", !error);
	if (error)
		json_cstr(w, "error", error);
	write_shared_vm(r, w, index);
}

static bool is_in_order(const struct key *key)
{
	return !key || (key_state(key).loaded && !key_state(key).error);
}

/* Whether a request has what it is to carry, though it may be about to change. */
static bool is_loaded(const struct key *key)
{
	return !key || key_state(key).loaded;
}

static void write_key(struct json_writer *w, const char *name, const struct key *key)
{
	struct key_state s = key_state(key);
	char age[40];

	json_object_begin(w, name);
	json_bool(w, "loaded", s.loaded);
	if (s.loaded) {
		duration_format((int64_t)s.age_ms * 1000000, age);
		json_cstr(w, "age", age);
	}
	json_uint(w, "changes", s.changes);
	if (s.error)
		json_cstr(w, "error", s.error);
	json_object_end(w);
}

static void write_credentials(const struct request *r, struct json_writer *w)
{
	const struct config *c = snapshot_config(r->snapshot);

	if (c->ncredentials == 0)
		return;
	json_array_begin(w, "credentials");
	for (size_t i = 0; i < c->ncredentials; i++) {
		const struct key *admin = snapshot_admin_credential(r->snapshot, i);
		json_object_begin(w, NULL);
		json_cstr(w, "name", c->credentials[i].name);
		write_key(w, "api_key", snapshot_credential(r->snapshot, i));
		if (admin)
			write_key(w, "admin_api_key", admin);
		json_object_end(w);
	}
	json_array_end(w);
}

/* Whether all credentials answer a question with yes. */
static bool all_keys(const struct request *r, bool (*question)(const struct key *key))
{
	for (size_t i = 0; i < snapshot_config(r->snapshot)->ncredentials; i++)
		if (!question(snapshot_credential(r->snapshot, i)) ||
		    !question(snapshot_admin_credential(r->snapshot, i)))
			return false;
	return true;
}

static unsigned answer_health(const struct request *r)
{
	size_t n = snapshot_config(r->snapshot)->nupstreams;
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);
	bool degraded = r->stats->listener_trouble || !all_keys(r, is_in_order);

	for (size_t i = 0; i < n; i++)
		degraded = degraded || upstream_error(r, i);
	json_object_begin(&w, NULL);
	json_cstr(&w, "status", degraded ? "degraded" : "ok");
	write_version(r, &w);
	json_array_begin(&w, "upstreams");
	for (size_t i = 0; i < n; i++) {
		json_object_begin(&w, NULL);
		write_upstream_health(r, &w, i);
		json_object_end(&w);
	}
	json_array_end(&w);
	write_credentials(r, &w);
	if (r->stats->listener_trouble)
		json_cstr(&w, "listener_error", r->stats->listener_trouble);
	json_object_end(&w);
	answer_json(r->to, &out);
	return 200;
}

/* Whether a request would find all that it needs: for whoever sends traffic here. */
static unsigned answer_ready(const struct request *r)
{
	const struct config *c = snapshot_config(r->snapshot);
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	for (size_t i = 0; i < c->nupstreams; i++) {
		const char *error = upstream_error(r, i);
		if (!error)
			continue;
		answer_error(r->to, 503, "upstream %s: %s", c->upstreams[i].name, error);
		return 503;
	}
	for (size_t i = 0; i < c->ncredentials; i++) {
		if (is_loaded(snapshot_credential(r->snapshot, i)) &&
		    is_loaded(snapshot_admin_credential(r->snapshot, i)))
			continue;
		answer_error(r->to, 503, "credential not loaded: \"%s\"", c->credentials[i].name);
		return 503;
	}
	json_object_begin(&w, NULL);
	json_cstr(&w, "status", "ready");
	json_object_end(&w);
	answer_json(r->to, &out);
	return 200;
}

/* What is known of the peer beside its uid: over TCP nothing, executable and unit where a rule asks for one. */
static void write_process(const struct identity *peer, struct json_writer *w)
{
	if (peer->over_tcp)
		return;
	json_uint(w, "gid", peer->gid);
	json_array_begin(w, "groups");
	for (size_t i = 0; i < peer->ngroups; i++)
		json_uint(w, NULL, peer->groups[i]);
	json_array_end(w);
	json_int(w, "pid", peer->pid);
	if (peer->exe)
		json_cstr(w, "exe", peer->exe);
	if (peer->unit)
		json_cstr(w, "unit", peer->unit);
}

static void write_route(void *arg, const char *entry)
{
	json_cstr(arg, NULL, entry);
}

static void write_routes(struct json_writer *w, const char *key, const struct config_route_set *set)
{
	json_array_begin(w, key);
	config_route_set_each(set, write_route, w);
	json_array_end(w);
}

static unsigned answer_whoami(const struct request *r)
{
	const struct control_caller *c = r->caller;
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	json_object_begin(&w, NULL);
	json_uint(&w, "uid", c->peer->uid);
	write_process(c->peer, &w);
	json_cstr(&w, "listener", c->listener);
	json_cstr(&w, "rule", c->rule->name);
	json_cstr(&w, "user_id", c->user_id);
	json_cstr(&w, "upstream", upstream_name(snapshot_upstream(r->snapshot, c->rule->upstream)));
	write_shared_vm(r, &w, c->rule->upstream);
	json_bool(&w, "admin", c->rule->admin);
	write_routes(&w, "allow", &c->rule->allow);
	if (c->rule->deny.written)
		write_routes(&w, "deny", &c->rule->deny);
	json_cstr(&w, "isolation", c->rule->isolation == CONFIG_ISOLATION_OWNER ? "owner" : "none");
	json_object_end(&w);
	answer_json(r->to, &out);
	return 200;
}

static void write_clients(const struct request *r, struct json_writer *w)
{
	json_object_begin(w, "clients");
	json_uint(w, "connections", r->stats->connections);
	json_uint(w, "accepted", r->stats->accepted);
	json_object_begin(w, "ends");
	for (unsigned i = 0; i < CLIENT_ENDS; i++)
		json_uint(w, client_end_text((enum client_end)i), r->clients->ends[i]);
	json_object_end(w);
	json_object_end(w);
}

static void write_requests(const struct request *r, struct json_writer *w)
{
	static const char *const names[6] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

	json_object_begin(w, "requests");
	json_uint(w, "total", r->stats->requests);
	json_uint(w, "repeated", r->stats->repeated);
	json_object_begin(w, "by_status");
	for (unsigned i = 0; i < 6; i++)
		json_uint(w, names[i], r->stats->statuses[i]);
	json_object_end(w);
	json_object_begin(w, "ends");
	for (unsigned i = 0; i < EXCHANGE_ENDS; i++)
		json_uint(w, exchange_end_text((enum exchange_end)i), r->stats->exchange_ends[i]);
	json_object_end(w);
	json_object_end(w);
}

static void write_leases(const struct lease_shared *s, struct json_writer *w)
{
	struct lease_counters c = lease_counters(s);

	json_object_begin(w, "leases");
	json_uint(w, "present", lease_count(s));
	json_uint(w, "made", c.made);
	json_uint(w, "restored", c.restored);
	json_uint(w, "released", c.released);
	json_uint(w, "destroyed", c.destroyed);
	json_uint(w, "gone", c.gone);
	json_uint(w, "lost", c.lost);
	json_uint(w, "extends", c.extends);
	json_uint(w, "extends_failed", c.extends_failed);
	json_object_end(w);
}

static void write_unclaimed(const struct spawn_shared *s, struct json_writer *w)
{
	json_object_begin(w, "unclaimed_spawns");
	json_uint(w, "present", s->unclaimed);
	json_uint(w, "adopted", s->counters.adopted);
	json_uint(w, "destroyed", s->counters.destroyed);
	json_uint(w, "nothing_made", s->counters.nothing);
	json_uint(w, "found", s->counters.found);
	json_uint(w, "lost", s->counters.lost);
	json_uint(w, "restored", s->counters.restored);
	json_uint(w, "tombstones", s->tombstones);
	json_object_end(w);
}

static void write_cache(const struct template_cache *c, struct json_writer *w)
{
	struct template_cache_counters n = template_cache_counters(c);

	json_object_begin(w, "cache");
	json_uint(w, "hits", n.hits);
	json_uint(w, "stale", n.stale);
	json_uint(w, "misses", n.misses);
	json_uint(w, "fetches", n.fetches);
	json_uint(w, "evictions", n.evictions);
	json_uint(w, "entries", n.entries);
	json_uint(w, "bytes", n.bytes);
	json_object_end(w);
}

static void write_pool(const struct upstream *u, struct json_writer *w)
{
	struct upstream_gauges g = upstream_gauges(u);
	struct upstream_counters c = upstream_counters(u);

	json_object_begin(w, "pool");
	json_uint(w, "connections", g.connections);
	json_uint(w, "idle", g.idle);
	json_uint(w, "leased", g.leased);
	json_uint(w, "waiting", g.waiting);
	json_uint(w, "max_connections", upstream_config(u)->pool.max_connections);
	json_uint(w, "peak", c.peak);
	json_uint(w, "dials", c.dials);
	json_uint(w, "dial_failures", c.dial_failures);
	json_uint(w, "leases", c.leases);
	json_uint(w, "reused", c.reused);
	json_uint(w, "evicted", c.evicted);
	json_uint(w, "idle_expired", c.idle_expired);
	json_uint(w, "refused", c.refused);
	json_uint(w, "waited", c.waited);
	json_uint(w, "waited_ms", c.waited_ms);
	json_bool(w, "circuit_open", g.circuit_open);
	json_uint(w, "circuit_opened", c.circuit_opened);
	json_uint(w, "circuit_refused", c.circuit_refused);
	json_object_end(w);
}

static void write_feed(const struct feed *f, const struct upstream *u, struct json_writer *w)
{
	struct feed_status s = feed_status(f, u);

	json_object_begin(w, "events");
	json_bool(w, "connected", s.connected);
	json_uint(w, "reconnects", s.counts.reconnects);
	json_uint(w, "subscribers", s.subscribers);
	json_uint(w, "events", s.counts.events);
	json_uint(w, "dropped", s.counts.dropped);
	json_uint(w, "overflowed", s.counts.overflowed);
	json_object_end(w);
}

static unsigned answer_status(const struct request *r)
{
	const struct config *config = snapshot_config(r->snapshot);
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	json_object_begin(&w, NULL);
	write_version(r, &w);
	json_object_begin(&w, "own");
	json_uint(&w, "connections", r->caller->own_connections);
	json_cstr(&w, "user_id", r->caller->user_id);
	if (!r->caller->rule->admin)
		write_shared_vm(r, &w, r->caller->rule->upstream);
	spawn_write_list(r->stats->spawns, r->caller->user_id, &w, "spawns");
	lease_write_list(r->stats->leases, snapshot_upstream(r->snapshot, r->caller->rule->upstream),
			 r->caller->user_id, &w, "leases");
	json_object_end(&w);
	if (r->caller->rule->admin) {
		json_bool(&w, "draining", r->stats->draining);
		json_object_begin(&w, "config");
		json_cstr(&w, "file", config->file ? config->file : "");
		json_uint(&w, "generation", r->stats->generation);
		json_uint(&w, "reloads_failed", r->stats->reloads_failed);
		json_object_end(&w);
		write_clients(r, &w);
		write_requests(r, &w);
		write_unclaimed(r->stats->spawns, &w);
		spawn_write_list(r->stats->spawns, NULL, &w, "spawns");
		write_cache(r->stats->templates, &w);
		write_leases(r->stats->leases, &w);
		json_array_begin(&w, "upstreams");
		for (size_t i = 0; i < config->nupstreams; i++) {
			json_object_begin(&w, NULL);
			write_upstream_health(r, &w, i);
			write_pool(snapshot_upstream(r->snapshot, i), &w);
			write_feed(r->stats->feed, snapshot_upstream(r->snapshot, i), &w);
			json_object_end(&w);
		}
		json_array_end(&w);
		write_credentials(r, &w);
		if (r->stats->logs)
			logs_status(r->stats->logs, &w);
	}
	json_object_end(&w);
	answer_json(r->to, &out);
	return 200;
}

static unsigned answer_metrics(const struct request *r)
{
	struct buf text = BUF_EMPTY;
	struct buf head = BUF_EMPTY;

	metrics_write(&text, r->snapshot, r->stats, r->clients);
	http_write_status_line(&head, 200);
	http_write_header(&head, STR("Content-Type"), STR(PROMETHEUS_TYPE));
	http_write_header(&head, STR("Cache-Control"), STR("no-store"));
	head.failed = head.failed || text.failed;
	answer_send(r->to, 200, &head, buf_str(&text));
	buf_fini(&head);
	buf_fini(&text);
	return 200;
}

static unsigned answer_openapi(const struct request *r)
{
	struct buf out = BUF_EMPTY;

	buf_add_str(&out, openapi_document());
	answer_json(r->to, &out);
	return 200;
}

static const struct {
	struct str path;
	unsigned (*answer)(const struct request *r); /* the status */
} routes[] = {
	{{"/health", 7}, answer_health}, {{"/ready", 6}, answer_ready},           {{"/whoami", 7}, answer_whoami},
	{{"/status", 7}, answer_status}, {{"/openapi.json", 13}, answer_openapi}, {{"/metrics", 8}, answer_metrics},
};

unsigned control_answer(const struct answer_to *to, enum http_method method, struct str rest,
			const struct snapshot *snapshot, const struct control_stats *stats,
			const struct client_shared *clients, const struct control_caller *caller)
{
	const struct request r = {to, snapshot, stats, clients, caller};

	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		if (!str_eq(rest, routes[i].path))
			continue;
		if (method != METHOD_GET && method != METHOD_HEAD) {
			answer_error(to, 405, "%.*s is for GET only", STR_ARG(routes[i].path));
			return 405;
		}
		return routes[i].answer(&r);
	}
	answer_error(to, 404, "there is no such route below /gateway/v1");
	return 404;
}
