/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/status.h"

#include "config.h"

#include "common/clock.h"
#include "common/json_write.h"
#include "common/log.h"
#include "common/units.h"
#include "gateway/client.h"
#include "gateway/config.h"
#include "gateway/control_stats.h"
#include "gateway/feed.h"
#include "gateway/keyring.h"
#include "gateway/lease.h"
#include "gateway/logs.h"
#include "gateway/meter.h"
#include "gateway/snapshot.h"
#include "gateway/spawn.h"
#include "gateway/template_cache.h"
#include "gateway/upstream.h"
#include "gateway/vm_watch.h"

void status_write_version(const struct status_view *v, struct json_writer *w)
{
	char uptime[40];

	duration_format((int64_t)(clock_ms() - v->stats->started_ms) * 1000000, uptime);
	json_cstr(w, "version", PACKAGE_VERSION);
	json_cstr(w, "uptime", uptime);
}

const char *status_upstream_error(const struct status_view *v, size_t index)
{
	const struct config *c = snapshot_config(v->snapshot);

	if (c->upstreams[index].scheme == CONFIG_LOCAL && v->stats->local_trouble)
		return v->stats->local_trouble;
	return upstream_trouble(snapshot_upstream(v->snapshot, index));
}

void status_write_shared_vm(const struct status_view *v, struct json_writer *w, size_t index)
{
	if (vm_watch_known(v->stats->vm_watch, snapshot_upstream(v->snapshot, index)) == VM_SHARED)
		json_bool(w, "shared_vm", true);
}

void status_write_upstream(const struct status_view *v, struct json_writer *w, size_t index)
{
	const char *error = status_upstream_error(v, index);

	json_cstr(w, "name", upstream_name(snapshot_upstream(v->snapshot, index)));
	json_bool(w, "healthy", !error);
	if (error)
		json_cstr(w, "error", error);
	status_write_shared_vm(v, w, index);
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

void status_write_credentials(const struct status_view *v, struct json_writer *w)
{
	const struct config *c = snapshot_config(v->snapshot);

	if (c->ncredentials == 0)
		return;
	json_array_begin(w, "credentials");
	for (size_t i = 0; i < c->ncredentials; i++) {
		const struct key *admin = snapshot_admin_credential(v->snapshot, i);
		json_object_begin(w, NULL);
		json_cstr(w, "name", c->credentials[i].name);
		write_key(w, "api_key", snapshot_credential(v->snapshot, i));
		if (admin)
			write_key(w, "admin_api_key", admin);
		json_object_end(w);
	}
	json_array_end(w);
}

static void write_clients(const struct status_view *v, struct json_writer *w)
{
	json_object_begin(w, "clients");
	json_uint(w, "connections", v->stats->connections);
	json_uint(w, "accepted", v->stats->accepted);
	json_object_begin(w, "ends");
	for (unsigned i = 0; i < CLIENT_ENDS; i++)
		json_uint(w, client_end_text((enum client_end)i), v->clients->ends[i]);
	json_object_end(w);
	if (v->stats->write_clients)
		v->stats->write_clients(v->stats->write_clients_arg, w);
	json_object_end(w);
}

static void write_requests(const struct status_view *v, struct json_writer *w)
{
	json_object_begin(w, "requests");
	json_uint(w, "total", v->stats->requests);
	json_uint(w, "repeated", v->stats->repeated);
	json_object_begin(w, "by_status");
	for (unsigned i = 0; i < METER_STATUSES; i++)
		json_uint(w, meter_status_text(i), v->stats->statuses[i]);
	json_object_end(w);
	json_object_begin(w, "ends");
	for (unsigned i = 0; i < EXCHANGE_ENDS; i++)
		json_uint(w, exchange_end_text((enum exchange_end)i), v->stats->exchange_ends[i]);
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

/* By which rule what was asked, and how it was answered; the last is of callers whom no rule admits. */
static void write_rules(const struct status_view *v, struct json_writer *w)
{
	const struct config *c = snapshot_config(v->snapshot);

	json_array_begin(w, "rules");
	for (size_t i = 0; i <= c->nrules; i++) {
		const struct config_rule *rule = i < c->nrules ? &c->rules[i] : NULL;
		const struct meter *m = snapshot_meter(v->snapshot, rule);
		json_object_begin(w, NULL);
		json_cstr(w, "name", rule ? rule->name : "");
		for (unsigned status = 0; status < METER_STATUSES; status++) {
			uint64_t n = 0;
			for (unsigned class = 0; class < ROUTE_CLASSES; class ++)
				n += m->requests[class][status];
			json_uint(w, meter_status_text(status), n);
		}
		json_object_end(w);
	}
	json_array_end(w);
}

static void write_last_reload(const struct control_reload *r, struct json_writer *w)
{
	char when[25];

	if (!r->wall_ns)
		return;
	clock_format_ms(r->wall_ns, when);
	json_object_begin(w, "last_reload");
	json_cstr(w, "time", when);
	json_bool(w, "ok", !r->failed);
	if (r->failed)
		json_cstr(w, "error", r->error);
	json_object_end(w);
}

static void write_config(const struct status_view *v, struct json_writer *w)
{
	const struct config *config = snapshot_config(v->snapshot);

	json_object_begin(w, "config");
	json_cstr(w, "file", config->file ? config->file : "");
	json_uint(w, "generation", v->stats->generation);
	json_uint(w, "reloads_failed", v->stats->reloads_failed);
	write_last_reload(&v->stats->last_reload, w);
	json_cstr(w, "log_level", log_level_word(log_get_level()));
	json_object_end(w);
}

static void write_upstreams(const struct status_view *v, struct json_writer *w)
{
	json_array_begin(w, "upstreams");
	for (size_t i = 0; i < snapshot_config(v->snapshot)->nupstreams; i++) {
		json_object_begin(w, NULL);
		status_write_upstream(v, w, i);
		write_pool(snapshot_upstream(v->snapshot, i), w);
		write_feed(v->stats->feed, snapshot_upstream(v->snapshot, i), w);
		json_object_end(w);
	}
	json_array_end(w);
}

/* What everybody hears of himself. */
static void write_own(const struct status_view *v, struct json_writer *w)
{
	const struct status_caller *c = &v->caller;

	json_object_begin(w, "own");
	json_uint(w, "connections", *c->own_connections);
	json_cstr(w, "user_id", c->user_id);
	if (!c->rule->admin)
		status_write_shared_vm(v, w, c->rule->upstream);
	spawn_write_list(v->stats->spawns, c->user_id, w, "spawns");
	lease_write_list(v->stats->leases, snapshot_upstream(v->snapshot, c->rule->upstream), c->user_id, w, "leases");
	json_object_end(w);
}

static void write_everything(const struct status_view *v, struct json_writer *w)
{
	json_bool(w, "draining", v->stats->draining);
	write_config(v, w);
	write_clients(v, w);
	write_requests(v, w);
	write_rules(v, w);
	write_unclaimed(v->stats->spawns, w);
	spawn_write_list(v->stats->spawns, NULL, w, "spawns");
	write_cache(v->stats->templates, w);
	write_leases(v->stats->leases, w);
	write_upstreams(v, w);
	status_write_credentials(v, w);
	if (!v->stats->logs)
		return;
	logs_status(v->stats->logs, w);
	logs_write_recent(v->stats->logs, w);
}

void status_write(const struct status_view *v, struct json_writer *w)
{
	char now[25];

	json_object_begin(w, NULL);
	status_write_version(v, w);
	clock_format_ms(clock_wall_ns(), now);
	json_cstr(w, "time", now);
	json_uint(w, "uptime_ms", clock_ms() - v->stats->started_ms);
	write_own(v, w);
	if (v->caller.rule->admin)
		write_everything(v, w);
	json_object_end(w);
}
