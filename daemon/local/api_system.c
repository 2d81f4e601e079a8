/* SPDX-License-Identifier: Apache-2.0 */
#include "local/api_system.h"

#include <time.h>

#include "common/clock.h"
#include "common/json_write.h"
#include "common/units.h"
#include "config.h"
#include "local/call.h"
#include "local/host_load.h"
#include "local/records.h"
#include "local/spawn_spec.h"

/* --- health ------------------------------------------------------------------------------------------------------- */

static void write_provider(struct call *call, struct json_writer *w, const char *key)
{
	static const char *const capabilities[] = {"spawn",   "exec",   "exec_stream",        "files",
						   "console", "health", "userspace_isolation"};
	time_t now = (time_t)(clock_wall_ns() / 1000000000);
	struct tm tm;
	char text[40];

	gmtime_r(&now, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_object_begin(w, key);
	json_cstr(w, "name", SPAWN_PROVIDER);
	json_bool(w, "healthy", true);
	json_bool(w, "default", true);
	json_int(w, "latency_ms", 0);
	json_cstr(w, "last_checked", text);
	json_array_begin(w, "capabilities");
	for (size_t i = 0; i < sizeof(capabilities) / sizeof(capabilities[0]); i++)
		json_cstr(w, NULL, capabilities[i]);
	json_array_end(w);
	json_uint(w, "runtime_count", records_count(call->api->records, STR("")));
	json_object_end(w);
}

static void write_uptime(struct call *call, struct json_writer *w)
{
	char text[40];

	duration_format((int64_t)(clock_ns() - call->api->started_ns), text);
	json_cstr(w, "uptime", text);
	json_cstr(w, "version", PACKAGE_VERSION);
}

static void answer_health(struct call *call, const char *status)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_cstr(&w, "status", status);
	write_uptime(call, &w);
	json_object_end(&w);
	call_json(call, 200, &body);
}

void api_system_health(struct call *call)
{
	answer_health(call, "ok");
}

void api_system_live(struct call *call)
{
	answer_health(call, "alive");
}

/* The one provider was tried at the start; it is ready until the server stops. */
void api_system_ready(struct call *call)
{
	bool ready = !call->api->stopping;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_cstr(&w, "status", ready ? "ready" : "not_ready");
	json_array_begin(&w, "providers");
	write_provider(call, &w, NULL);
	json_array_end(&w);
	json_int(&w, "ready_providers", ready ? 1 : 0);
	json_int(&w, "total_providers", 1);
	write_uptime(call, &w);
	json_object_end(&w);
	call_json(call, ready ? 200 : 503, &body);
}

/* --- providers ---------------------------------------------------------------------------------------------------- */

void api_system_providers(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_array_begin(&w, NULL);
	write_provider(call, &w, NULL);
	json_array_end(&w);
	call_json(call, 200, &body);
}

void api_system_providers_test(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_bool(&w, SPAWN_PROVIDER, true);
	json_object_end(&w);
	call_json(call, 200, &body);
}

void api_system_provider(struct call *call)
{
	struct str name = buf_str(&call->param);
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	if (!str_eq(name, STR(SPAWN_PROVIDER))) {
		call_error(call, CALL_NOT_FOUND, "provider not found: %.*s", STR_ARG(name));
		return;
	}
	json_object_begin(&w, NULL);
	json_str(&w, "name", name);
	json_bool(&w, "healthy", true);
	json_bool(&w, "default", true);
	json_uint(&w, "sandbox_count", records_count(call->api->records, STR("")));
	write_provider(call, &w, "health");
	json_object_begin(&w, "config");
	json_cstr(&w, "type", SPAWN_PROVIDER);
	json_cstr(&w, "network", "none");
	json_object_end(&w);
	json_object_end(&w);
	call_json(call, 200, &body);
}

/* --- the rest ----------------------------------------------------------------------------------------------------- */

void api_system_pool_status(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_bool(&w, "enabled", false);
	json_object_end(&w);
	call_json(call, 200, &body);
}

void api_system_snapshots(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_array_begin(&w, NULL);
	json_array_end(&w);
	call_json(call, 200, &body);
}

/* This server keeps no quotas, so none is set. */
void api_system_quota_summary(struct call *call)
{
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_int(&w, "total", 0);
	json_int(&w, "with_max_sandboxes", 0);
	json_int(&w, "with_max_ttl", 0);
	json_int(&w, "with_max_exec_timeout", 0);
	json_object_end(&w);
	call_json(call, 200, &body);
}

void api_system_stats(struct call *call)
{
	struct host_load load = host_load_read(call->api->state_dir);
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_double(&w, "cpu_pct", load.cpu_pct);
	json_double(&w, "mem_pct", load.mem_pct);
	json_double(&w, "disk_pct", load.disk_pct);
	json_double(&w, "net_rx_bps", load.net_rx_bps);
	json_double(&w, "net_tx_bps", load.net_tx_bps);
	json_double(&w, "load1", load.load1);
	json_object_end(&w);
	call_json(call, 200, &body);
}
