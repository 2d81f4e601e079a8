/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preview traffic, told by its Host, passes without a key: it carries none. Then in the server's own order: the key,
 * then OPTIONS, then the route. What fails here is answered at the head, before any of the body is read.
 */
#include "local/api.h"

#include <errno.h>

#include "common/check.h"
#include "local/api_events.h"
#include "local/api_exec.h"
#include "local/api_files.h"
#include "local/api_sandbox.h"
#include "local/api_system.h"
#include "local/api_templates.h"
#include "local/preview.h"
#include "local/preview_host.h"
#include "local/records.h"
#include "local/templates.h"

static const struct {
	void (*handle)(struct call *call);
	struct conn_body_limit limit;
} handlers[ROUTE_COUNT] = {
	[ROUTE_HEALTH] = {api_system_health, {2 << 20, 413}},
	[ROUTE_LIVE] = {api_system_live, {2 << 20, 413}},
	[ROUTE_READY] = {api_system_ready, {2 << 20, 413}},
	[ROUTE_POOL_STATUS] = {api_system_pool_status, {2 << 20, 413}},
	[ROUTE_SNAPSHOTS] = {api_system_snapshots, {2 << 20, 413}},
	[ROUTE_SYSTEM_STATS] = {api_system_stats, {2 << 20, 413}},
	[ROUTE_QUOTA_SUMMARY] = {api_system_quota_summary, {2 << 20, 413}},
	[ROUTE_EVENTS] = {api_events_stream, {2 << 20, 413}},
	[ROUTE_PROVIDERS] = {api_system_providers, {2 << 20, 413}},
	[ROUTE_PROVIDERS_TEST] = {api_system_providers_test, {2 << 20, 413}},
	[ROUTE_PROVIDER] = {api_system_provider, {2 << 20, 413}},
	[ROUTE_TEMPLATES] = {api_templates_list, {2 << 20, 413}},
	[ROUTE_TEMPLATE_CREATE] = {api_templates_create, {TEMPLATE_MAX_BYTES, 413}},
	[ROUTE_TEMPLATE] = {api_templates_get, {2 << 20, 413}},
	[ROUTE_TEMPLATE_REPLACE] = {api_templates_replace, {TEMPLATE_MAX_BYTES, 413}},
	[ROUTE_TEMPLATE_DELETE] = {api_templates_delete, {2 << 20, 413}},
	[ROUTE_TEMPLATE_SPAWN] = {api_sandbox_spawn_template, {2 << 20, 413}},
	[ROUTE_ADMISSION] = {api_sandbox_admission, {2 << 20, 413}},
	/* The server cuts the body of a spawn at this size, and then it is not JSON any more. */
	[ROUTE_SPAWN] = {api_sandbox_spawn, {2 << 20, 400}},
	[ROUTE_SANDBOXES] = {api_sandbox_list, {2 << 20, 413}},
	[ROUTE_PRUNE] = {api_sandbox_prune, {2 << 20, 413}},
	[ROUTE_SANDBOX] = {api_sandbox_get, {2 << 20, 413}},
	[ROUTE_DESTROY] = {api_sandbox_destroy, {2 << 20, 413}},
	[ROUTE_EXTEND] = {api_sandbox_extend, {2 << 20, 413}},
	[ROUTE_EXEC] = {api_exec_run, {2 << 20, 413}},
	[ROUTE_EXEC_WS] = {api_exec_ws, {2 << 20, 413}},
	[ROUTE_FILE_WRITE] = {api_files_write, {64 << 20, 413}},
	[ROUTE_FILE_READ] = {api_files_read, {2 << 20, 413}},
	[ROUTE_FILE_DELETE] = {api_files_delete, {2 << 20, 413}},
	[ROUTE_FILE_LIST] = {api_files_list, {2 << 20, 413}},
	[ROUTE_FILE_STAT] = {api_files_stat, {2 << 20, 413}},
	[ROUTE_FILE_GLOB] = {api_files_glob, {2 << 20, 413}},
	[ROUTE_FILE_MOVE] = {api_files_move, {2 << 20, 413}},
	[ROUTE_FILE_CHMOD] = {api_files_chmod, {2 << 20, 413}},
	[ROUTE_LOGS] = {api_sandbox_logs, {2 << 20, 413}},
	[ROUTE_STATS] = {api_sandbox_stats, {2 << 20, 413}},
};

static const struct conn_body_limit answered = {0, 413};

/* One Allow line per method (RFC 9110 10.2.1 allows it; the server does so). */
static void refuse_method(struct conn *c, unsigned allowed)
{
	static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
	struct buf lines = BUF_EMPTY;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (allowed & (1u << i))
			buf_addf(&lines, "Allow: %s\r\n", names[i]);
	conn_respond(c, 405, NULL, buf_str(&lines), STR(""));
	buf_fini(&lines);
}

/* "localhost", "127.0.0.1" or "[::1]", with any port. */
static bool is_loopback_host(struct str host)
{
	static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct str rest = host;
		struct str name = str_from(names[i]);
		if (rest.n < name.n || !str_eq_nocase(str_of(rest.p, name.n), name))
			continue;
		if (rest.n == name.n || rest.p[name.n] == ':')
			return true;
	}
	return false;
}

/*
 * Without a key anybody who reaches the port may use it, and a web page in a browser on this machine reaches it. Its
 * requests carry an Origin, or a Host that it made to resolve to loopback.
 */
static bool is_from_a_web_page(const struct api *api, const struct conn *c)
{
	struct str host = conn_header(c, STR("host"));

	if (!conn_is_tcp(c) || api->keys.ordinary || api->keys.admin)
		return false;
	return conn_header(c, STR("origin")).p || (host.p && !is_loopback_host(host));
}

/* False: answered. */
static bool take_param(struct call *call, struct str param)
{
	char *to = buf_reserve(&call->param, param.n + 1);
	ssize_t n = to ? route_decode_param(param, to) : -ENOMEM;

	if (n == -ENOMEM)
		call_no_memory(call);
	else if (n < 0)
		call_error(call, CALL_BAD_REQUEST, "invalid escape in the path");
	else
		buf_commit(&call->param, (size_t)n);
	return n >= 0;
}

static struct conn_body_limit begin_call(struct api *api, struct conn *c, const struct route_match *match)
{
	struct call *call = call_new(api, c, match->route);

	if (!call) {
		call_refuse(c, CALL_UNAVAILABLE, "out of memory");
		return answered;
	}
	if (!take_param(call, match->param))
		return answered;
	return handlers[match->route].limit;
}

/* Whether the request is for a program in a sandbox, and no business of the API's; then it is under way or answered. */
static bool is_preview(struct api *api, struct conn *c)
{
	struct preview_host host;

	/* A TCP port is reached by every local user and every web page; whose sandbox it is, a gateway must say. */
	if (conn_is_tcp(c))
		return false;
	switch (preview_host_parse(conn_header(c, STR("host")), &host)) {
	case PREVIEW_HOST_NONE:
		return false;
	case PREVIEW_HOST_BAD_PORT:
		call_refuse(c, CALL_BAD_REQUEST, "invalid preview port");
		return true;
	case PREVIEW_HOST_OK:
		if (api->stopping)
			call_refuse(c, CALL_UNAVAILABLE, "the server is stopping");
		else
			preview_begin(api->previews, api->records, c, &host);
		return true;
	}
	return false;
}

static struct conn_body_limit on_head(void *arg, struct conn *c)
{
	struct api *api = arg;
	struct route_match match;

	if (is_preview(api, c))
		return answered;

	if (!api_keys_admit(&api->keys, conn_header(c, STR("x-admin-api-key")), conn_header(c, STR("x-api-key")))) {
		call_refuse(c, CALL_UNAUTHORIZED, "invalid or missing API key");
		return answered;
	}
	if (is_from_a_web_page(api, c)) {
		call_refuse(c, CALL_FORBIDDEN, "requests of web pages are refused while no API key is set");
		return answered;
	}
	if (conn_method(c) == METHOD_OPTIONS && route_in_api(conn_path(c))) {
		conn_respond(c, 200, NULL, STR(""), STR(""));
		return answered;
	}
	switch (route_find(conn_method(c), conn_path(c), &match)) {
	case ROUTE_FOUND:
		return begin_call(api, c, &match);
	case ROUTE_WRONG_METHOD:
		refuse_method(c, match.allowed);
		return answered;
	case ROUTE_UNKNOWN:
		call_refuse(c, CALL_NOT_FOUND, "no such route");
		return answered;
	}
	return answered;
}

static void on_request(void *arg, struct conn *c)
{
	struct call *call = conn_watcher(c);

	(void)arg;
	CHECK(call && handlers[call->route].handle);
	handlers[call->route].handle(call);
}

static void on_destroyed(void *arg, const struct record *r)
{
	const struct api *api = arg;

	events_tell(api->events, EVENTS_SANDBOX_DESTROYED, str_from(r->id), NULL);
}

static void on_gone(void *arg, struct record *r)
{
	(void)arg;
	preview_drop_all(r);
}

void api_watch_records(struct api *api)
{
	static const struct records_watch watch = {.on_destroyed = on_destroyed, .on_gone = on_gone};

	records_watch(api->records, &watch, api);
}

const struct conn_handler *api_handler(void)
{
	static const struct conn_handler handler = {.on_head = on_head, .on_request = on_request};

	return &handler;
}
