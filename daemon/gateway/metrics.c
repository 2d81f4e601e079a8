/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of rules, upstreams and credentials there are as many as the configuration has; nothing that a client chooses is a label. What
 * has never been counted of a rule and a class has no sample, as with the client libraries.
 */
#include "gateway/metrics.h"

#include "config.h"

#include "common/clock.h"
#include "gateway/client.h"
#include "gateway/config.h"
#include "gateway/control_stats.h"
#include "gateway/feed.h"
#include "gateway/gather.h"
#include "gateway/journal.h"
#include "gateway/keyring.h"
#include "gateway/lease.h"
#include "gateway/limiter.h"
#include "gateway/logs.h"
#include "gateway/prometheus.h"
#include "gateway/snapshot.h"
#include "gateway/spawn.h"
#include "gateway/template_cache.h"
#include "gateway/trace_export.h"
#include "gateway/upstream.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct metrics {
	struct buf *out;
	const struct snapshot *snapshot;
	const struct config *config;
	const struct control_stats *stats;
	const struct client_shared *clients;
};

/* A family of one sample without labels. */
static void write_one(const struct metrics *m, const char *name, const char *type, const char *help, uint64_t value)
{
	prometheus_family(m->out, name, type, help);
	prometheus_sample(m->out, name, "", NULL, value);
}

/* One sample of a family whose samples differ in one label. */
static void write_by(const struct metrics *m, const char *name, const char *label, const char *text, uint64_t value)
{
	prometheus_sample(m->out, name, "", PROMETHEUS_LABELS({label, text}), value);
}

/* --- the daemon -------------------------------------------------------------------------------------------------------------- */

static void write_daemon(const struct metrics *m)
{
	const struct control_stats *s = m->stats;

	prometheus_family(m->out, "build_info", "gauge", "The version that runs; always 1.");
	write_by(m, "build_info", "version", PACKAGE_VERSION, 1);
	prometheus_family(m->out, "uptime_seconds", "gauge", "Since the start.");
	prometheus_seconds(m->out, "uptime_seconds", "", NULL, clock_ms() - s->started_ms);
	write_one(m, "config_generation", "gauge", "How many configurations have been in force, this one included.",
		  s->generation);
	write_one(m, "config_reloads_failed_total", "counter", "Reloads that changed nothing.", s->reloads_failed);
	write_one(m, "config_last_reload_successful", "gauge", "0 when the last reload failed.",
		  !s->last_reload.failed);
	prometheus_family(m->out, "config_last_reload_timestamp_seconds", "gauge",
			  "When that was, in seconds since 1970; 0: there was none.");
	prometheus_seconds(m->out, "config_last_reload_timestamp_seconds", "", NULL,
			   (uint64_t)s->last_reload.wall_ns / 1000000);
	write_one(m, "draining", "gauge", "1 while the daemon finishes what is under way before it stops.",
		  s->draining);
}

static void write_clients(const struct metrics *m)
{
	static const char *const bounds[CONTROL_BOUNDS] = {"connections", "connections_per_uid"};

	write_one(m, "connections", "gauge", "Open client connections.", m->stats->connections);
	write_one(m, "connections_accepted_total", "counter", "Client connections.", m->stats->accepted);
	prometheus_family(m->out, "connection_ends_total", "counter", "Why client connections ended.");
	for (unsigned i = 0; i < CLIENT_ENDS; i++)
		write_by(m, "connection_ends_total", "reason", client_end_text((enum client_end)i),
			 m->clients->ends[i]);
	prometheus_family(m->out, "bound_hits_total", "counter",
			  "What was turned away because of a bound: connections, and bodies that are read whole.");
	for (unsigned i = 0; i < CONTROL_BOUNDS; i++)
		write_by(m, "bound_hits_total", "bound", bounds[i], m->stats->bound_hits[i]);
	write_by(m, "bound_hits_total", "bound", "whole_bodies", m->stats->gather->refused);
	write_one(m, "whole_bodies_bytes", "gauge", "Request bodies that are read whole, in memory now.",
		  m->stats->gather->bytes);
}

/* --- requests ---------------------------------------------------------------------------------------------------------------- */

static void write_meter(const struct metrics *m, const struct config_rule *rule)
{
	const struct meter *of = snapshot_meter(m->snapshot, rule);

	for (unsigned class = 0; class < ROUTE_CLASSES; class ++)
		for (unsigned status = 0; status < METER_STATUSES; status++)
			if (of->requests[class][status])
				prometheus_sample(
					m->out, "requests_total", "",
					PROMETHEUS_LABELS({"rule", rule ? rule->name : ""},
							  {"class", route_class_text((enum route_class) class)},
							  {"status", meter_status_text(status)}),
					of->requests[class][status]);
}

static void write_times(const struct metrics *m, const char *name, enum route_class class)
{
	const struct meter_times *t = &m->stats->times[class];
	const char *text = route_class_text(class);
	uint64_t n = 0;
	char le[24];

	for (unsigned i = 0; i <= METER_BOUNDS; i++)
		n += t->counts[i];
	if (n == 0)
		return;
	n = 0;
	for (unsigned i = 0; i < METER_BOUNDS; i++) {
		n += t->counts[i];
		prometheus_le(meter_bounds_ms[i], le);
		prometheus_sample(m->out, name, "_bucket", PROMETHEUS_LABELS({"class", text}, {"le", le}), n);
	}
	n += t->counts[METER_BOUNDS];
	prometheus_sample(m->out, name, "_bucket", PROMETHEUS_LABELS({"class", text}, {"le", "+Inf"}), n);
	prometheus_seconds(m->out, name, "_sum", PROMETHEUS_LABELS({"class", text}), t->sum_ms);
	prometheus_sample(m->out, name, "_count", PROMETHEUS_LABELS({"class", text}), n);
}

static void write_requests(const struct metrics *m)
{
	prometheus_family(
		m->out, "requests_total", "counter",
		"Requests that have ended, by the rule of the caller (empty: no rule admits him), class of the route "
		"and first digit of the status.");
	for (size_t i = 0; i < m->config->nrules; i++)
		write_meter(m, &m->config->rules[i]);
	write_meter(m, NULL);
	prometheus_family(m->out, "request_duration_seconds", "histogram",
			  "From a request's head to the end of its answer, streams and tunnels included.");
	for (unsigned i = 0; i < ROUTE_CLASSES; i++)
		write_times(m, "request_duration_seconds", (enum route_class)i);
	write_one(m, "requests_repeated_total", "counter", "Requests that were sent to a server a second time.",
		  m->stats->repeated);
	prometheus_family(m->out, "exchange_ends_total", "counter", "How requests that were passed on ended.");
	for (unsigned i = 0; i < EXCHANGE_ENDS; i++)
		write_by(m, "exchange_ends_total", "reason", exchange_end_text((enum exchange_end)i),
			 m->stats->exchange_ends[i]);
	prometheus_family(m->out, "limit_refusals_total", "counter", "Refused because of limits of a rule.");
	for (unsigned i = 0; i < LIMITER_LIMITS; i++)
		write_by(m, "limit_refusals_total", "limit", limiter_limit_text((enum limiter_limit)i),
			 limiter_refused(m->stats->limiter, (enum limiter_limit)i));
}

/* --- leases, spawns, cache --------------------------------------------------------------------------------------------------- */

/* A word and a number of a family with one label. */
struct count {
	const char *text;
	uint64_t value;
};

static void write_counts(const struct metrics *m, const char *name, const char *help, const char *label,
			 const struct count *counts, size_t n)
{
	prometheus_family(m->out, name, "counter", help);
	for (size_t i = 0; i < n; i++)
		write_by(m, name, label, counts[i].text, counts[i].value);
}

static void write_leases(const struct metrics *m)
{
	const struct lease_counters c = lease_counters(m->stats->leases);
	const struct count events[] = {{"made", c.made},           {"restored", c.restored}, {"released", c.released},
				       {"destroyed", c.destroyed}, {"gone", c.gone},         {"lost", c.lost}};
	const struct count extends[] = {{"done", c.extends}, {"failed", c.extends_failed}};

	write_one(m, "leases", "gauge", "Sandboxes under a lease.", lease_count(m->stats->leases));
	write_counts(m, "lease_events_total", "What became of leases.", "event", events, COUNT(events));
	write_counts(m, "lease_extends_total", "Sandboxes under a lease that were given their ttl again.", "result",
		     extends, COUNT(extends));
}

static void write_spawns(const struct metrics *m)
{
	const struct spawn_shared *s = m->stats->spawns;
	const struct spawn_counters c = s->counters;
	const struct count events[] = {{"adopted", c.adopted}, {"destroyed", c.destroyed}, {"nothing_made", c.nothing},
				       {"found", c.found},     {"lost", c.lost},           {"restored", c.restored}};

	write_one(m, "spawns_sent_total", "counter", "Spawns that were sent to a server.", c.sent);
	write_counts(m, "spawn_events_total", "What became of spawns whose clients left or whose answers were lost.",
		     "event", events, COUNT(events));
	write_one(m, "spawns_unclaimed", "gauge", "Spawns that no client waits for.", s->unclaimed);
	write_one(m, "spawn_tombstones", "gauge", "Lost spawns whose sandboxes are still watched for.", s->tombstones);
}

static void write_cache(const struct metrics *m)
{
	const struct template_cache_counters c = template_cache_counters(m->stats->templates);
	const struct count results[] = {{"hit", c.hits}, {"stale", c.stale}, {"miss", c.misses}};

	write_counts(m, "cache_requests_total", "Reads of templates, by how they were answered.", "result", results,
		     COUNT(results));
	write_one(m, "cache_fetches_total", "counter", "Reads of templates from a server.", c.fetches);
	write_one(m, "cache_evictions_total", "counter", "Answers forgotten for want of room.", c.evictions);
	write_one(m, "cache_entries", "gauge", "Answers that are remembered.", c.entries);
	write_one(m, "cache_bytes", "gauge", "Memory that they take.", c.bytes);
}

/* --- upstreams ---------------------------------------------------------------------------------------------------------------- */

/* Of one upstream. */
struct sight {
	const char *name;
	bool up;
	uint64_t max_connections;
	struct upstream_gauges gauges;
	struct upstream_counters counters;
	struct feed_status feed;
};

static struct sight see(const struct metrics *m, size_t index)
{
	const struct upstream *u = snapshot_upstream(m->snapshot, index);
	const bool local = m->config->upstreams[index].scheme == CONFIG_LOCAL;

	return (struct sight){
		.name = upstream_name(u),
		.up = !(local && m->stats->local_trouble) && !upstream_trouble(u),
		.max_connections = upstream_config(u)->pool.max_connections,
		.gauges = upstream_gauges(u),
		.counters = upstream_counters(u),
		.feed = feed_status(m->stats->feed, u),
	};
}

static uint64_t up(const struct sight *s)
{
	return s->up;
}

#define VALUE(function, field)                                                                                         \
	static uint64_t function(const struct sight *s)                                                                \
	{                                                                                                              \
		return s->field;                                                                                       \
	}

VALUE(connections, gauges.connections)
VALUE(idle, gauges.idle)
VALUE(leased, gauges.leased)
VALUE(max_connections, max_connections)
VALUE(peak, counters.peak)
VALUE(waiting, gauges.waiting)
VALUE(waited, counters.waited)
VALUE(refused, counters.refused)
VALUE(dials, counters.dials)
VALUE(dial_failures, counters.dial_failures)
VALUE(leases, counters.leases)
VALUE(reused, counters.reused)
VALUE(evicted, counters.evicted)
VALUE(idle_expired, counters.idle_expired)
VALUE(circuit_open, gauges.circuit_open)
VALUE(circuit_opened, counters.circuit_opened)
VALUE(circuit_refused, counters.circuit_refused)
VALUE(feed_connected, feed.connected)
VALUE(feed_subscribers, feed.subscribers)
VALUE(feed_reconnects, feed.counts.reconnects)
VALUE(feed_events, feed.counts.events)
VALUE(feed_dropped, feed.counts.dropped)
VALUE(feed_overflowed, feed.counts.overflowed)

static const struct {
	const char *name;
	const char *type;
	const char *help;
	uint64_t (*value)(const struct sight *s);
} sights[] = {
	{"upstream_up", "gauge", "1 unless the last dial failed or the embedded server does not run.", up},
	{"upstream_connections", "gauge", "Connections of the pool: dialling, idle and leased.", connections},
	{"upstream_connections_idle", "gauge", "Connections that wait for a request.", idle},
	{"upstream_connections_leased", "gauge", "Connections that carry a request.", leased},
	{"upstream_connections_max", "gauge", "How many there may be: pool.max_connections.", max_connections},
	{"upstream_connections_peak", "gauge", "Most connections at once so far.", peak},
	{"upstream_dials_total", "counter", "Connections that were tried.", dials},
	{"upstream_dial_failures_total", "counter", "Connections that could not be made.", dial_failures},
	{"upstream_leases_total", "counter", "Requests that were given a connection.", leases},
	{"upstream_reused_total", "counter", "Of those, by one that had served before.", reused},
	{"upstream_evicted_total", "counter", "Idle connections that the server closed.", evicted},
	{"upstream_idle_expired_total", "counter", "Idle connections that were closed here.", idle_expired},
	{"upstream_queue", "gauge", "Requests that wait for a connection.", waiting},
	{"upstream_queue_served_total", "counter", "Requests that had to wait and were served.", waited},
	{"upstream_queue_refused_total", "counter", "Requests turned away: queue full, or waited too long.", refused},
	{"upstream_circuit_open", "gauge", "1 while dials are given up because the last ones failed.", circuit_open},
	{"upstream_circuit_opened_total", "counter", "Times that this began.", circuit_opened},
	{"upstream_circuit_refused_total", "counter", "Requests turned away meanwhile.", circuit_refused},
	{"events_connected", "gauge", "1 when every subscription to the server's events stands.", feed_connected},
	{"events_subscribers", "gauge", "Who reads them.", feed_subscribers},
	{"events_reconnects_total", "counter", "Times that the stream began anew.", feed_reconnects},
	{"events_received_total", "counter", "Events that came.", feed_events},
	{"events_dropped_total", "counter", "Not passed to a reader: not his, or too long.", feed_dropped},
	{"events_overflowed_total", "counter", "Readers that were cut for not taking theirs.", feed_overflowed},
};

static void write_upstreams(const struct metrics *m)
{
	static const char waits[] = "upstream_queue_wait_seconds_total";

	for (size_t f = 0; f < COUNT(sights); f++) {
		prometheus_family(m->out, sights[f].name, sights[f].type, sights[f].help);
		for (size_t i = 0; i < m->config->nupstreams; i++) {
			const struct sight s = see(m, i);
			write_by(m, sights[f].name, "upstream", s.name, sights[f].value(&s));
		}
	}
	prometheus_family(m->out, waits, "counter", "How long those waited that were served.");
	for (size_t i = 0; i < m->config->nupstreams; i++) {
		const struct sight s = see(m, i);
		prometheus_seconds(m->out, waits, "", PROMETHEUS_LABELS({"upstream", s.name}), s.counters.waited_ms);
	}
}

/* --- credentials -------------------------------------------------------------------------------------------------------------- */

enum key_value {
	KEY_LOADED,
	KEY_FAILING,
	KEY_CHANGES,
	KEY_AGE,
	KEY_VALUES,
};

static const struct {
	const char *name;
	const char *type;
	const char *help;
} keys[KEY_VALUES] = {
	[KEY_LOADED] = {"credential_loaded", "gauge", "1 when there is a key to send."},
	[KEY_FAILING] = {"credential_failing", "gauge", "1 when the key could not be read the last time."},
	[KEY_CHANGES] = {"credential_changes_total", "counter", "How often another key came."},
	[KEY_AGE] = {"credential_age_seconds", "gauge", "Since the present key was first read by this process."},
};

static void write_key(const struct metrics *m, enum key_value what, const char *credential, const char *which,
		      const struct key *key)
{
	const struct prometheus_label *labels = PROMETHEUS_LABELS({"credential", credential}, {"key", which});
	const struct key_state s = key_state(key);

	switch (what) {
	case KEY_LOADED:
		prometheus_sample(m->out, keys[what].name, "", labels, s.loaded);
		return;
	case KEY_FAILING:
		prometheus_sample(m->out, keys[what].name, "", labels, s.error ? 1 : 0);
		return;
	case KEY_CHANGES:
		prometheus_sample(m->out, keys[what].name, "", labels, s.changes);
		return;
	case KEY_AGE:
		if (s.loaded)
			prometheus_seconds(m->out, keys[what].name, "", labels, s.age_ms);
		return;
	case KEY_VALUES:
		return;
	}
}

static void write_credentials(const struct metrics *m)
{
	for (unsigned f = 0; f < KEY_VALUES; f++) {
		prometheus_family(m->out, keys[f].name, keys[f].type, keys[f].help);
		for (size_t i = 0; i < m->config->ncredentials; i++) {
			const char *name = m->config->credentials[i].name;
			const struct key *admin = snapshot_admin_credential(m->snapshot, i);
			write_key(m, (enum key_value)f, name, "api_key", snapshot_credential(m->snapshot, i));
			if (admin)
				write_key(m, (enum key_value)f, name, "admin_api_key", admin);
		}
	}
}

/* --- what is written ---------------------------------------------------------------------------------------------------------- */

static void write_files(const struct metrics *m)
{
	const struct journal *j = m->stats->journal;

	if (j) {
		write_one(m, "journal_records", "gauge", "Leases and spawns that a new start would take up.",
			  journal_count(j));
		write_one(m, "journal_damaged_total", "counter", "Lines that could not be read at the start.",
			  journal_damaged(j));
		write_one(m, "journal_owed", "gauge", "1 while the file cannot be written.", journal_owes(j));
	}
	if (!m->stats->logs)
		return;
	prometheus_family(m->out, "log_lines_total", "counter", "Lines that were written.");
	for (unsigned i = 0; i < LOGS_OUTPUTS; i++)
		write_by(m, "log_lines_total", "output", logs_output_text((enum logs_output)i),
			 logs_count(m->stats->logs, (enum logs_output)i).written);
	prometheus_family(m->out, "log_lines_dropped_total", "counter", "Lines that were lost.");
	for (unsigned i = 0; i < LOGS_OUTPUTS; i++)
		write_by(m, "log_lines_dropped_total", "output", logs_output_text((enum logs_output)i),
			 logs_count(m->stats->logs, (enum logs_output)i).dropped);
}

static void write_traces(const struct metrics *m)
{
	prometheus_family(m->out, "trace_spans_total", "counter", "What became of the spans of sampled requests.");
	for (unsigned i = 0; i < TRACE_EXPORT_RESULTS; i++)
		write_by(m, "trace_spans_total", "result", trace_export_result_text((enum trace_export_result)i),
			 trace_export_count(m->stats->traces, (enum trace_export_result)i));
	write_one(m, "trace_spans_waiting", "gauge", "Spans that are not delivered yet.",
		  trace_export_waiting(m->stats->traces));
}

void metrics_write(struct buf *out, const struct snapshot *snapshot, const struct control_stats *stats,
		   const struct client_shared *clients)
{
	const struct metrics m = {out, snapshot, snapshot_config(snapshot), stats, clients};

	write_daemon(&m);
	write_clients(&m);
	write_requests(&m);
	write_leases(&m);
	write_spawns(&m);
	write_cache(&m);
	write_upstreams(&m);
	write_credentials(&m);
	write_files(&m);
	write_traces(&m);
}
