/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is the target one that everybody reads alike, what kind of route is it, does the rule allow it? Then it becomes an exchange or
 * a call, or is answered at its end. A request that is refused, or is for the gateway itself, is answered when its body has been
 * read, so that the connection can be kept.
 */
#include "gateway/front_judge.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/units.h"
#include "gateway/cache_drop.h"
#include "gateway/config.h"
#include "gateway/enforce.h"
#include "gateway/exchange.h"
#include "gateway/feed_call.h"
#include "gateway/front_state.h"
#include "gateway/guard.h"
#include "gateway/keep_alive.h"
#include "gateway/keyring.h"
#include "gateway/lease.h"
#include "gateway/lease_call.h"
#include "gateway/limiter.h"
#include "gateway/logs.h"
#include "gateway/operate.h"
#include "gateway/owner_query.h"
#include "gateway/policy.h"
#include "gateway/preview.h"
#include "gateway/preview_host.h"
#include "gateway/preview_url.h"
#include "gateway/prune.h"
#include "gateway/route.h"
#include "gateway/run.h"
#include "gateway/snapshot.h"
#include "gateway/spawn_call.h"
#include "gateway/status_watch.h"
#include "gateway/target.h"
#include "gateway/template_read.h"
#include "gateway/template_write.h"
#include "gateway/upstream.h"

enum {
	TIMEOUT_MAX_MS = 86400000,
};

/* Refuses when the body has been read, or at once if it is not going to be. */
static void refuse(struct front *f, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void refuse(struct front *f, unsigned status, const char *fmt, ...)
{
	char *text;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	front_set_text(&f->now->pending_text, text);
	f->now->pending = PENDING_REFUSAL;
	f->now->refusal_status = status;
	f->now->retry_after_s = 1;
}

#define NOT_LOADED_TEXT  "credential not loaded: it could not be read yet (/gateway/v1/health says why)"
#define MANY_HOPS_TEXT   "the Connection header names more than anybody means"
#define BAD_TIMEOUT_TEXT "Stacygate-Timeout must be a duration from 1ms to 24h, such as 60s"

/* Stacygate-Timeout in milliseconds, 0 without one. False when it is none that can be kept. */
static bool read_timeout(const struct http_head *head, uint64_t *ms)
{
	const struct http_header *h = http_head_find(head, STR("stacygate-timeout"));
	int64_t ns;

	*ms = 0;
	if (!h)
		return true;
	if (duration_parse(h->value, &ns) != DURATION_OK || ns < 1000000 || ns / 1000000 > TIMEOUT_MAX_MS)
		return false;
	*ms = (uint64_t)ns / 1000000;
	return true;
}

/* A key that no rule needs, or that has a value. */
static bool is_loaded(const struct key *key)
{
	return !key || key_secret(key);
}

/* An admin route without its key would be answered by the server as to anybody. A rule without a credential sends no key. */
static bool lacks_admin_key(const struct front *f, const struct route *route)
{
	return route->class == ROUTE_ADMIN && f->rule->has_credential && !snapshot_admin_key(f->snapshot, f->rule);
}

/* The target with the caller as owner in its query, whoever it names; admin rules may ask for anybody's things. */
static struct str own_target(const struct front *f, const struct target *target, struct buf *out)
{
	if (!target->query.n || f->rule->admin)
		return target->origin;
	buf_reset(out);
	buf_add_str(out, target->path);
	buf_add_char(out, '?');
	if (!owner_query_rewrite(target->query, f->user_id, out))
		return target->origin;
	return buf_str(out);
}

/* What the rule makes of the request beyond letting it pass. */
static enum enforce_verdict begin_enforce(struct front *f, const struct http_head *head, const struct route *route,
					  struct exchange_request *request)
{
	const struct enforce_case c = {
		.rule = f->rule,
		.shared_vm_accepted = snapshot_config(f->snapshot)->upstreams[f->rule->upstream].shared_vm,
		.upstream = snapshot_upstream(f->snapshot, f->rule->upstream),
		.key = snapshot_key(f->snapshot, f->rule),
		.user_id = f->user_id,
		.request_id = f->now->request_id,
		.trace_lines = front_trace_lines(f->now),
		.head = head,
		.route = route,
	};

	return enforce_new(&f->shared->enforce, &c, request, &f->now->enforce);
}

/* A request for a sandbox uses it; one that extends or destroys it has his way. Leased ones are kept by their leases. */
static void note_use(struct front *f, const struct route *route)
{
	struct upstream *u = snapshot_upstream(f->snapshot, f->rule->upstream);
	bool isolated = f->rule->isolation == CONFIG_ISOLATION_OWNER;
	uint64_t keep_ms = f->rule->keep_alive_ms;
	struct lease *lease;

	if (route->owner != ROUTE_OWNER_ID || (keep_ms == 0 && route->id != ROUTE_EXTEND))
		return;
	lease = lease_find(f->shared->leases, u, route->sandbox);
	if (lease && route->id == ROUTE_EXTEND)
		lease_disturbed(lease);
	if (lease || !keep_ms)
		return;
	const struct fetch_caller caller = {u, snapshot_key(f->snapshot, f->rule), f->user_id, NULL, NULL};
	/* One that is not known to be his is not looked at for this: he can make up any id. */
	if (isolated && ownership_known(&f->shared->enforce.admit.ownership, &caller, route->sandbox) != OWNER_SAME)
		return;
	if (route->id == ROUTE_EXTEND || route->id == ROUTE_DESTROY)
		keep_alive_yield(f->shared->uses, u, route->sandbox, keep_ms);
	else
		keep_alive_touch(f->shared->uses, &caller, route->sandbox, isolated, keep_ms);
}

static void begin_exchange(struct front *f, const struct http_head *head, const struct target *target,
			   const struct route *route)
{
	const struct exchange_grant grant = {
		.upstream = snapshot_upstream(f->snapshot, f->rule->upstream),
		.key = snapshot_key(f->snapshot, f->rule),
		.admin_key = route->class == ROUTE_ADMIN ? snapshot_admin_key(f->snapshot, f->rule) : NULL,
		.user_id = f->user_id,
		.heartbeat_ms = f->rule->heartbeat_ms,
		.gather = &f->shared->gather,
		.uid_bodies_bytes = &f->uid->bodies_bytes,
	};
	static struct buf rewritten; /* used within this call only */
	struct exchange_request request = {
		.head = head,
		.target = own_target(f, target, &rewritten),
		.route = route,
		.request_id = f->now->request_id,
		.trace_lines = front_trace_lines(f->now),
		/* Where owners are kept apart nothing passes unread but what runs in one's own sandbox. */
		.no_upgrade = f->rule->isolation == CONFIG_ISOLATION_OWNER && route->id != ROUTE_EXEC_WS,
	};
	int rc;

	if (lacks_admin_key(f, route)) {
		refuse(f, 403,
		       "rule \"%s\": this route (class admin) needs an admin_api_key in the rule's credential, which "
		       "has none",
		       f->rule->name);
		return;
	}
	if (!is_loaded(grant.key) || !is_loaded(grant.admin_key)) {
		refuse(f, 503, NOT_LOADED_TEXT);
		return;
	}
	if (!read_timeout(head, &request.timeout_ms)) {
		refuse(f, 400, BAD_TIMEOUT_TEXT);
		return;
	}
	if (rewritten.failed) {
		refuse(f, 503, "out of memory");
		return;
	}
	if (head->upgrade_websocket)
		front_set_text(&f->now->open_ended, str_dup(target->path));
	switch (begin_enforce(f, head, route, &request)) {
	case ENFORCE_PLAIN:
	case ENFORCE_SHAPED:
		break;
	case ENFORCE_NOT_FOUND:
		refuse(f, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(route->sandbox));
		return;
	case ENFORCE_DESTROYED:
		f->now->pending = PENDING_DESTROYED;
		return;
	case ENFORCE_NO_MEMORY:
		refuse(f, 503, "out of memory");
		return;
	}
	note_use(f, route);
	rc = exchange_new(f->shared->loop, f->client, &grant, &request, &f->shared->ends->exchange, f, &f->exchange);
	if (rc == 0) {
		if (f->now->enforce)
			enforce_start(f->now->enforce, f->exchange);
		else
			exchange_start(f->exchange);
		return;
	}
	enforce_free(f->now->enforce);
	f->now->enforce = NULL;
	if (rc == -E2BIG)
		refuse(f, 400, MANY_HOPS_TEXT);
	else
		refuse(f, 503, "out of memory");
}

/* Owned by the caller; NULL without memory. */
static char *cors_lines(const struct guard_ruling *ruling, const struct http_head *head)
{
	struct buf lines = BUF_EMPTY;
	char *text;

	buf_add_cstr(&lines, GUARD_LINES);
	guard_add_cors(ruling, head, &lines);
	text = lines.failed ? NULL : str_dup(buf_str(&lines));
	buf_fini(&lines);
	return text;
}

/*
 * On loopback TCP: whether the request is let in, although a browser could have sent it. An answer to one of a configured
 * origin, or to none, carries what the browser must be told.
 */
static bool pass_guard(struct front *f, const struct http_head *head)
{
	const struct config *c = snapshot_config(f->snapshot);
	struct guard_ruling ruling = guard_judge(config_find_listener(c, f->listener), head);

	if (ruling.status) {
		refuse(f, ruling.status, "%s", ruling.why);
		return false;
	}
	if (ruling.origin.n) {
		front_set_text(&f->cors, cors_lines(&ruling, head));
		if (!f->cors) {
			refuse(f, 503, "out of memory");
			return false;
		}
		client_set_head_lines(f->client, f->cors);
	}
	if (ruling.preflight)
		f->now->pending = PENDING_OPTIONS;
	return !ruling.preflight;
}

static void note_route(struct front *f, const struct route *route)
{
	f->now->class = route->class;
	f->now->template = route->template;
	if (route->sandbox.n && !route->sandbox_bad)
		front_copy_text(f->now->sandbox, sizeof(f->now->sandbox), route->sandbox);
}

/* Whether the owner's limits leave room for this request; refuses it otherwise. */
static bool take_request(struct front *f)
{
	const struct config_limits *limits = &f->rule->limits;
	struct limiter_refusal why;

	if (!f->limits) {
		refuse(f, 503, "out of memory");
		return false;
	}
	if (!f->connection_counted)
		f->connection_counted = limiter_connection_take(f->limits, limits, &why);
	if (f->connection_counted)
		f->now->counted = limiter_request_take(f->limits, limits, front_now_ns(f), &why);
	if (f->now->counted)
		return true;
	refuse(f, 429, "rule \"%s\": %s is reached", f->rule->name, why.limit);
	f->now->retry_after_s = why.retry_after_s;
	return false;
}

/* --- calls ----------------------------------------------------------------------------------------------------------------- */

static struct call_case case_of(const struct front *f, const struct http_head *head, const struct target *target,
				const struct route *route, uint64_t timeout_ms)
{
	const struct config *c = snapshot_config(f->snapshot);

	return (struct call_case){
		.loop = f->shared->loop,
		.client = f->client,
		.admit = &f->shared->enforce.admit,
		.templates = f->shared->templates,
		.config = c,
		.rule = f->rule,
		.upstream = &c->upstreams[f->rule->upstream],
		.caller = {snapshot_upstream(f->snapshot, f->rule->upstream), snapshot_key(f->snapshot, f->rule),
			   f->user_id, f->now->request_id, front_trace_lines(f->now)},
		.credential = f->rule->has_credential ? c->credentials[f->rule->credential].name : NULL,
		.peer = &f->peer,
		.limits = f->limits,
		.method = head->method,
		.timeout_ms = timeout_ms,
		.head = head,
		.target = target,
		.route = route,
	};
}

/* A kind of call: makes one of the request; 0, or -ENOMEM. */
typedef int new_call(struct front *f, const struct call_case *c, struct call **out);

static int new_prune(struct front *f, const struct call_case *c, struct call **out)
{
	(void)f;
	return prune_call_new(c, out);
}

static int new_template_read(struct front *f, const struct call_case *c, struct call **out)
{
	(void)f;
	return template_read_call_new(c, out);
}

static int new_template_write(struct front *f, const struct call_case *c, struct call **out)
{
	(void)f;
	return template_write_call_new(c, out);
}

static int new_cache_drop(struct front *f, const struct call_case *c, struct call **out)
{
	(void)f;
	return cache_drop_call_new(c, out);
}

static int new_feed(struct front *f, const struct call_case *c, struct call **out)
{
	front_set_text(&f->now->open_ended, str_dup(c->target->path));
	return f->now->open_ended ? feed_call_new(c, out) : -ENOMEM;
}

static int new_preview_url(struct front *f, const struct call_case *c, struct call **out)
{
	(void)f;
	return preview_url_call_new(c, out);
}

static int new_spawn(struct front *f, const struct call_case *c, struct call **out)
{
	const struct spawn_services services = {&f->shared->spawns, f->shared->keys, f->shared->leases};

	return spawn_call_new(&services, c, out);
}

static int new_lease(struct front *f, const struct call_case *c, struct call **out)
{
	return lease_call_new(f->shared->leases, c, out);
}

static int new_run(struct front *f, const struct call_case *c, struct call **out)
{
	const struct run_services services = {&f->shared->spawns, f->shared->leases};

	return run_call_new(&services, c, out);
}

static int new_operate(struct front *f, const struct call_case *c, struct call **out)
{
	return operate_call_new(&f->shared->operate, c, out);
}

static int new_status_watch(struct front *f, const struct call_case *c, struct call **out)
{
	const struct status_view view = front_view(f);

	front_set_text(&f->now->open_ended, str_dup(c->target->path));
	return f->now->open_ended ? status_watch_call_new(&view, c, out) : -ENOMEM;
}

/* Which routes are answered by a call; NULL: this one is not. */
static new_call *call_of(const struct front *f, const struct http_head *head, const struct route *route)
{
	switch ((int)route->id) {
	case ROUTE_RUN_ONCE:
		return new_run;
	case ROUTE_PREVIEW_URL:
		return new_preview_url;
	case ROUTE_SPAWN:
	case ROUTE_TEMPLATE_SPAWN:
		return new_spawn;
	case ROUTE_LEASES:
	case ROUTE_LEASE_RENEW:
	case ROUTE_LEASE_RELEASE:
		return new_lease;
	case ROUTE_PRUNE_ALL:
		return f->rule->isolation == CONFIG_ISOLATION_OWNER ? new_prune : NULL;
	case ROUTE_TEMPLATE_LIST:
	case ROUTE_TEMPLATE_GET:
		return new_template_read;
	case ROUTE_TEMPLATE_SAVE:
	case ROUTE_TEMPLATE_REPLACE:
	case ROUTE_TEMPLATE_DELETE:
		return new_template_write;
	case ROUTE_CACHE_DROP:
		return new_cache_drop;
	case ROUTE_RELOAD:
	case ROUTE_LOG_LEVEL:
		return new_operate;
	case ROUTE_EVENTS_STREAM:
		return f->now->method == METHOD_GET ? new_feed : NULL;
	case ROUTE_STATUS:
		return f->now->method == METHOD_GET && status_watch_is_asked_for(head) ? new_status_watch : NULL;
	default:
		return NULL;
	}
}

/* Whether it is about the gateway itself, so that no server is needed. */
static bool asks_no_server(const struct route *route)
{
	return route->class == ROUTE_OPERATE || route->id == ROUTE_STATUS;
}

/* Whether it touches sandboxes, so that under isolation it is asked first whose: templates are everybody's. */
static bool touches_sandboxes(const struct route *route)
{
	return route->class != ROUTE_TEMPLATES_READ && route->class != ROUTE_TEMPLATES_WRITE && !asks_no_server(route);
}

/* It begins when the request has been read. */
static void begin_call(struct front *f, const struct http_head *head, const struct target *target,
		       const struct route *route, new_call *make)
{
	struct request *r = f->now;
	uint64_t timeout_ms;

	if (!asks_no_server(route) && !is_loaded(snapshot_key(f->snapshot, f->rule))) {
		refuse(f, 503, NOT_LOADED_TEXT);
		return;
	}
	if (!read_timeout(head, &timeout_ms)) {
		refuse(f, 400, BAD_TIMEOUT_TEXT);
		return;
	}
	const struct call_case c = case_of(f, head, target, route, timeout_ms);
	if (make(f, &c, &r->call)) {
		refuse(f, 503, "out of memory");
		return;
	}
	r->call->on_end = f->shared->ends->on_call_end;
	r->call->arg = f;
	r->pending = PENDING_CALL;
	r->admit_call = f->rule->isolation == CONFIG_ISOLATION_OWNER && touches_sandboxes(route);
	if (route->read_whole)
		gather_init(&r->gather, &f->shared->gather, &f->uid->bodies_bytes, f->shared->ends->on_slow_body);
}

/* Whether it is known whose requests these are; refuses it otherwise. */
static bool know_caller(struct front *f)
{
	if (f->user_id_state == USER_ID_UNKNOWN)
		refuse(f, 503, "the name service does not answer, so it is not known who is calling");
	else if (f->user_id_state != USER_ID_GOOD)
		refuse(f, 403, "rule \"%s\": user_id comes out empty, too long or unusable for this caller",
		       f->rule->name);
	else if (!f->user_id)
		refuse(f, 503, "out of memory");
	return f->user_id_state == USER_ID_GOOD && f->user_id;
}

/* --- previews ---------------------------------------------------------------------------------------------------------------- */

/* It goes by the pool of its way, in nobody's name; the server's own is what it is made with. */
static void begin_preview(struct front *f, const struct http_head *head, struct str target, const struct route *route,
			  const struct preview_host *host)
{
	const struct config *c = snapshot_config(f->snapshot);
	const struct preview_case what = {
		.admit = &f->shared->enforce.admit,
		.ways = &f->shared->previews,
		.config = c,
		.rule = f->rule,
		.caller = {snapshot_upstream(f->snapshot, f->rule->upstream), snapshot_key(f->snapshot, f->rule),
			   f->user_id, f->now->request_id, front_trace_lines(f->now)},
		.host = host,
	};
	const struct exchange_grant grant = {.upstream = what.caller.upstream, .user_id = f->user_id};
	struct exchange_request request = {
		.head = head,
		.target = target,
		.route = route,
		.request_id = f->now->request_id,
		.preview = true,
	};
	int rc;

	if (!read_timeout(head, &request.timeout_ms)) {
		refuse(f, 400, BAD_TIMEOUT_TEXT);
		return;
	}
	f->now->preview = preview_new(&what);
	if (!f->now->preview) {
		refuse(f, 503, "out of memory");
		return;
	}
	if (head->upgrade_websocket)
		front_set_text(&f->now->open_ended, strdup(host->id));
	note_use(f, route);
	rc = exchange_new(f->shared->loop, f->client, &grant, &request, &f->shared->ends->exchange, f, &f->exchange);
	if (rc == 0)
		preview_start(f->now->preview, f->exchange);
	else if (rc == -E2BIG)
		refuse(f, 400, MANY_HOPS_TEXT);
	else
		refuse(f, 503, "out of memory");
}

/* Path, method and headers are the sandbox program's own: nothing is judged but who asks for whose sandbox, and from where. */
static void judge_preview(struct front *f, const struct http_head *head, const struct preview_host *host)
{
	struct route route = route_of_preview(str_from(host->id));
	struct policy_refusal refusal;
	struct guard_ruling ruling = {0};
	struct target target;
	const char *why;
	unsigned status;

	note_route(f, &route);
	if (f->peer.over_tcp)
		ruling = guard_judge_preview(config_find_listener(snapshot_config(f->snapshot), f->listener), head,
					     host->id);
	status = target_parse_foreign(head->target, head->host, &target, &why);
	if (ruling.status)
		refuse(f, ruling.status, "%s", ruling.why);
	else if (status)
		refuse(f, status, "%s", why);
	else if (!policy_allows(f->rule, f->user_id ? f->user_id : "", head->method, &route, STR("/"), &refusal))
		refuse(f, 403, "%s", refusal.text);
	else if (!know_caller(f))
		return;
	else if (host->port == 0)
		refuse(f, 400, "the port in the name of a preview is a number from 1 to 65535");
	else if (route.sandbox_bad)
		refuse(f, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(head->host));
	else if (take_request(f))
		begin_preview(f, head, target.origin, &route, host);
}

/* Decides what becomes of a request. */
void front_judge(struct front *f, const struct http_head *head)
{
	struct target target;
	struct route route;
	struct policy_refusal refusal;
	struct preview_host preview;
	new_call *make;
	const char *why;
	unsigned status;

	if (!f->rule) {
		/* One text for everybody: it must not tell which rules there are. */
		refuse(f, 403, "no client rule admits this caller");
		return;
	}
	if (preview_host_parse(head->host, &preview)) {
		judge_preview(f, head, &preview);
		return;
	}
	if (f->peer.over_tcp && !pass_guard(f, head))
		return;
	status = target_parse(head->target, head->host, &target, &why);
	if (status) {
		refuse(f, status, "%s", why);
		return;
	}
	route = route_of(head->method, target.path);
	note_route(f, &route);
	make = call_of(f, head, &route);
	if (head->method == METHOD_OPTIONS) {
		f->now->pending = PENDING_OPTIONS; /* the server would refuse it without a key (api-contract.md 1.1) */
	} else if (!policy_allows(f->rule, f->user_id ? f->user_id : "", head->method, &route, target.path, &refusal)) {
		refuse(f, 403, "%s", refusal.text);
	} else if (route.place == ROUTE_GATEWAY && !make) {
		f->now->pending = PENDING_CONTROL;
		front_set_text(&f->now->pending_text, str_dup(route.rest));
	} else if (!know_caller(f)) {
		return;
	} else if (route.sandbox_bad) {
		refuse(f, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(route.sandbox));
	} else if (route.read_whole && head->framing == HTTP_BODY_LENGTH && head->content_length > GATHER_MAX_BYTES) {
		refuse(f, 413, GATHER_TOO_LARGE_TEXT);
	} else if (!take_request(f)) {
		return;
	} else if (make) {
		begin_call(f, head, &target, &route, make);
	} else {
		begin_exchange(f, head, &target, &route);
	}
}
