/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/control.h"

#include "common/http_write.h"
#include "common/json_write.h"
#include "gateway/answer.h"
#include "gateway/config.h"
#include "gateway/control_stats.h"
#include "gateway/identity.h"
#include "gateway/keyring.h"
#include "gateway/metrics.h"
#include "gateway/openapi.h"
#include "gateway/prometheus.h"
#include "gateway/route.h"
#include "gateway/snapshot.h"
#include "gateway/status.h"
#include "gateway/status_page.h"
#include "gateway/upstream.h"

struct request {
	const struct answer_to *to;
	const struct status_view *view;
};

static bool is_in_order(const struct key *key)
{
	return !key || (key_state(key).loaded && !key_state(key).error);
}

/* Whether a request has what it is to carry, though it may be about to change. */
static bool is_loaded(const struct key *key)
{
	return !key || key_state(key).loaded;
}

/* Whether all credentials answer a question with yes. */
static bool all_keys(const struct request *r, bool (*question)(const struct key *key))
{
	for (size_t i = 0; i < snapshot_config(r->view->snapshot)->ncredentials; i++)
		if (!question(snapshot_credential(r->view->snapshot, i)) ||
		    !question(snapshot_admin_credential(r->view->snapshot, i)))
			return false;
	return true;
}

static unsigned answer_health(const struct request *r)
{
	size_t n = snapshot_config(r->view->snapshot)->nupstreams;
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);
	const struct control_reload *reload = &r->view->stats->last_reload;
	bool degraded = r->view->stats->listener_trouble || reload->failed || !all_keys(r, is_in_order);

	for (size_t i = 0; i < n; i++)
		degraded = degraded || status_upstream_error(r->view, i);
	json_object_begin(&w, NULL);
	json_cstr(&w, "status", degraded ? "degraded" : "ok");
	status_write_version(r->view, &w);
	json_array_begin(&w, "upstreams");
	for (size_t i = 0; i < n; i++) {
		json_object_begin(&w, NULL);
		status_write_upstream(r->view, &w, i);
		json_object_end(&w);
	}
	json_array_end(&w);
	status_write_credentials(r->view, &w);
	if (r->view->stats->listener_trouble)
		json_cstr(&w, "listener_error", r->view->stats->listener_trouble);
	/* Why is for operators: status and log. */
	if (reload->failed)
		json_bool(&w, "reload_failed", true);
	json_object_end(&w);
	answer_json(r->to, &out);
	return 200;
}

/* Whether a request would find all that it needs: for whoever sends traffic here. */
static unsigned answer_ready(const struct request *r)
{
	const struct config *c = snapshot_config(r->view->snapshot);
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	for (size_t i = 0; i < c->ncredentials; i++) {
		if (is_loaded(snapshot_credential(r->view->snapshot, i)) &&
		    is_loaded(snapshot_admin_credential(r->view->snapshot, i)))
			continue;
		answer_error(r->to, 503, "credential not loaded: \"%s\"", c->credentials[i].name);
		return 503;
	}
	for (size_t i = 0; i < c->nupstreams; i++) {
		struct upstream *u = snapshot_upstream(r->view->snapshot, i);
		bool known = upstream_is_known(u) || c->upstreams[i].scheme == CONFIG_LOCAL;
		const char *error = known ? status_upstream_error(r->view, i) : "being tried for the first time";
		if (!error)
			continue;
		answer_error(r->to, 503, "upstream %s: %s", c->upstreams[i].name, error);
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
	const struct status_caller *c = &r->view->caller;
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	json_object_begin(&w, NULL);
	json_uint(&w, "uid", c->peer->uid);
	write_process(c->peer, &w);
	json_cstr(&w, "listener", c->listener);
	json_cstr(&w, "rule", c->rule->name);
	json_cstr(&w, "user_id", c->user_id);
	json_cstr(&w, "upstream", upstream_name(snapshot_upstream(r->view->snapshot, c->rule->upstream)));
	status_write_shared_vm(r->view, &w, c->rule->upstream);
	json_bool(&w, "admin", c->rule->admin);
	write_routes(&w, "allow", &c->rule->allow);
	if (c->rule->deny.written)
		write_routes(&w, "deny", &c->rule->deny);
	json_cstr(&w, "isolation", c->rule->isolation == CONFIG_ISOLATION_OWNER ? "owner" : "none");
	json_object_end(&w);
	answer_json(r->to, &out);
	return 200;
}

static unsigned answer_status(const struct request *r)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	status_write(r->view, &w);
	answer_json(r->to, &out);
	return 200;
}

static void answer_text(const struct answer_to *to, const char *type, bool failed, struct str text)
{
	struct buf head = BUF_EMPTY;

	http_write_status_line(&head, 200);
	http_write_header(&head, STR("Content-Type"), str_from(type));
	http_write_header(&head, STR("Cache-Control"), STR("no-store"));
	head.failed = head.failed || failed;
	answer_send(to, 200, &head, text);
	buf_fini(&head);
}

static unsigned answer_metrics(const struct request *r)
{
	struct buf text = BUF_EMPTY;

	metrics_write(&text, r->view->snapshot, r->view->stats, r->view->clients);
	answer_text(r->to, PROMETHEUS_TYPE, text.failed, buf_str(&text));
	buf_fini(&text);
	return 200;
}

static unsigned answer_page(const struct request *r)
{
	struct answer_to to = *r->to;

	to.lines = status_page_lines();
	answer_text(&to, "text/html; charset=utf-8", false, status_page());
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
	{{"", 0}, answer_page},
};

unsigned control_answer(const struct answer_to *to, enum http_method method, struct str rest,
			const struct status_view *view)
{
	const struct request r = {to, view};
	const unsigned methods = route_own_methods(rest);

	if (methods && !(methods & 1u << method)) {
		answer_not_allowed(to, methods);
		return 405;
	}
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++)
		if (str_eq(rest, routes[i].path))
			return routes[i].answer(&r);
	answer_error(to, 404, "there is no such route below /gateway/v1");
	return 404;
}
