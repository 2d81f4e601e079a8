/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For each request: which rule is the caller's (asked once per connection and again after a reload), is the target one
 * that everybody reads alike, what kind of route is it; then it becomes an exchange, or is answered here. A request that
 * is refused, or is for the gateway itself, is answered when its body has been read, so that the connection can be kept.
 */
#include "gateway/front.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/units.h"
#include "gateway/answer.h"
#include "gateway/config.h"
#include "gateway/exchange.h"
#include "gateway/identity.h"
#include "gateway/keyring.h"
#include "gateway/peer.h"
#include "gateway/policy.h"
#include "gateway/request_id.h"
#include "gateway/route.h"
#include "gateway/snapshot.h"
#include "gateway/target.h"
#include "gateway/upstream.h"

enum {
	LOGGED_PATH_MAX_BYTES = 255,
	OWN_BODY_MAX_BYTES = 65536, /* read of a request that is answered here */
	TIMEOUT_MAX_MS = 86400000,
};

/* What is to be answered by ourselves when the request has been read. */
enum pending {
	PENDING_NOTHING,
	PENDING_CONTROL,
	PENDING_OPTIONS,
	PENDING_REFUSAL,
};

struct front {
	struct front_shared *shared; /* borrowed */
	struct list link;            /* on front_shared.fronts */
	struct client *client;       /* owned by itself; valid until on_closed */
	struct identity peer;
	char *listener;                 /* owned */
	struct snapshot *snapshot;      /* owned reference; what rule and user_id belong to */
	const struct config_rule *rule; /* borrowed from the snapshot; NULL: none matches */
	bool user_id_bad;               /* the rule's user_id comes out unusable for this peer */
	char user_id[POLICY_USER_ID_MAX_BYTES + 1];
	struct exchange *exchange; /* the present one, until its on_end; NULL otherwise */
	uint64_t requests;
	/* of the present request */
	enum pending pending;
	unsigned refusal_status;
	enum http_method method;
	char *pending_text; /* owned; why refused, or the path behind /gateway/v1; NULL also without memory */
	char method_text[8];
	char *path; /* owned; for the log, cut, never the query; NULL when it is not logged */
	char request_id[REQUEST_ID_MAX_BYTES + 1];
	uint64_t started_ns;
};

static const struct client_events client_events;

/* --- connections per uid ---------------------------------------------------------------------------------------------- */

static struct front_uid *find_uid(struct front_shared *s, uid_t uid)
{
	LIST_FOREACH (n, &s->uids) {
		struct front_uid *u = CONTAINER_OF(n, struct front_uid, link);
		if (u->uid == uid)
			return u;
	}
	return NULL;
}

static int count_in(struct front_shared *s, uid_t uid)
{
	struct front_uid *u = find_uid(s, uid);
	const struct config_bounds *b = &snapshot_config(s->snapshot)->bounds;

	if (s->stats.connections >= b->connections || (u && u->connections >= b->connections_per_uid))
		return -EBUSY;
	if (!u) {
		u = calloc(1, sizeof(*u));
		if (!u)
			return -ENOMEM;
		u->uid = uid;
		list_add_head(&s->uids, &u->link);
	}
	u->connections++;
	s->stats.connections++;
	return 0;
}

static void count_out(struct front_shared *s, uid_t uid)
{
	struct front_uid *u = find_uid(s, uid);

	s->stats.connections--;
	if (--u->connections)
		return;
	list_remove(&u->link);
	free(u);
}

/* --- which rule ------------------------------------------------------------------------------------------------------------ */

static void choose_rule(struct front *f)
{
	const struct config *c;

	if (f->snapshot == f->shared->snapshot)
		return;
	snapshot_unref(f->snapshot);
	f->snapshot = snapshot_ref(f->shared->snapshot);
	c = snapshot_config(f->snapshot);
	f->rule = policy_match(c, &f->peer, f->listener);
	f->user_id_bad = f->rule && policy_user_id(c, f->rule, &f->peer, f->user_id) != 0;
}

/* --- the end of a request ----------------------------------------------------------------------------------------------------- */

static bool access_is_logged(const struct front *f)
{
	return snapshot_config(f->shared->snapshot)->access == CONFIG_OUTPUT_STDERR;
}

static void log_request(const struct front *f, const struct exchange_report *r)
{
	if (!access_is_logged(f))
		return;
	log_info("c%llu uid=%u pid=%d \"%s %s\" status=%u upstream_status=%u up=%llu down=%llu ms=%llu end=%s%s id=%s",
		 client_id(f->client), (unsigned)f->peer.uid, (int)f->peer.pid, f->method_text, f->path ? f->path : "?",
		 r->status, r->upstream_status, (unsigned long long)r->bytes_up, (unsigned long long)r->bytes_down,
		 (unsigned long long)((clock_ns() - f->started_ns) / 1000000), exchange_end_text(r->end),
		 r->repeated ? " repeated" : "", f->request_id);
}

/* Texts of a request are kept only while it needs them: an idle client is to cost little. */
static void set_text(char **text, char *to)
{
	free(*text);
	*text = to;
}

static void request_done(struct front *f, const struct exchange_report *r)
{
	struct control_stats *stats = &f->shared->stats;
	unsigned class = r->status / 100;

	stats->statuses[class < 6 ? class : 0]++;
	log_request(f, r);
	set_text(&f->path, NULL);
}

/* A request that was answered here. */
static void own_answer_done(struct front *f, unsigned status)
{
	const struct exchange_report report = {.end = EXCHANGE_END_DONE, .status = status};

	request_done(f, &report);
}

static void on_exchange_end(void *arg, const struct exchange_report *report)
{
	struct front *f = arg;

	f->exchange = NULL;
	f->shared->stats.exchange_ends[report->end]++;
	f->shared->stats.repeated += report->repeated;
	request_done(f, report);
}

static const struct exchange_events exchange_events = {.on_end = on_exchange_end};

/* --- the beginning of one ---------------------------------------------------------------------------------------------------- */

/* Without printf: this is done for every request. */
static void copy_text(char *to, size_t size, struct str s)
{
	size_t n = s.n < size ? s.n : size - 1;

	if (n)
		memcpy(to, s.p, n);
	to[n] = '\0';
}

static char *logged_path(struct str target)
{
	struct str path = str_cut(&target, '?');

	return str_dup(str_of(path.p, path.n < LOGGED_PATH_MAX_BYTES ? path.n : LOGGED_PATH_MAX_BYTES));
}

static void note_request(struct front *f, const struct http_head *head)
{
	const struct http_header *id = http_head_find(head, STR("x-request-id"));

	f->started_ns = clock_ns();
	f->requests++;
	f->shared->stats.requests++;
	f->pending = PENDING_NOTHING;
	f->method = head->method;
	copy_text(f->method_text, sizeof(f->method_text), head->method_text);
	set_text(&f->path, access_is_logged(f) ? logged_path(head->target) : NULL);
	if (id && request_id_is_good(id->value))
		copy_text(f->request_id, sizeof(f->request_id), id->value);
	else
		request_id_make(f->request_id);
}

static struct answer_to answer_to(const struct front *f)
{
	return (struct answer_to){f->client, f->request_id[0] ? f->request_id : NULL, f->method == METHOD_HEAD};
}

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
	set_text(&f->pending_text, text);
	f->pending = PENDING_REFUSAL;
	f->refusal_status = status;
}

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

static bool is_admin_route(const struct route *route)
{
	return route->rest.n >= 7 && memcmp(route->rest.p, "/admin/", 7) == 0;
}

/* A key that no rule needs, or that has a value. */
static bool is_loaded(const struct key *key)
{
	return !key || key_secret(key);
}

static void begin_exchange(struct front *f, const struct http_head *head, const struct target *target,
			   const struct route *route)
{
	const struct exchange_grant grant = {
		.upstream = snapshot_upstream(f->snapshot, f->rule->upstream),
		.key = snapshot_key(f->snapshot, f->rule),
		.admin_key = is_admin_route(route) ? snapshot_admin_key(f->snapshot, f->rule) : NULL,
		.user_id = f->user_id,
		.heartbeat_ms = f->rule->heartbeat_ms,
		.orphanage = &f->shared->orphanage,
	};
	struct exchange_request request = {head, target, route, f->request_id, 0};
	int rc;

	if (!is_loaded(grant.key) || !is_loaded(grant.admin_key)) {
		refuse(f, 503, "credential not loaded: it could not be read yet (/gateway/v1/health says why)");
		return;
	}
	if (!read_timeout(head, &request.timeout_ms)) {
		refuse(f, 400, "Stacygate-Timeout must be a duration from 1ms to 24h, such as 60s");
		return;
	}

	rc = exchange_new(f->shared->loop, f->client, &grant, &request, &exchange_events, f, &f->exchange);
	if (rc == 0)
		exchange_start(f->exchange);
	else if (rc == -E2BIG)
		refuse(f, 400, "the Connection header names more than anybody means");
	else
		refuse(f, 503, "out of memory");
}

/* Decides what becomes of a request. */
static void judge(struct front *f, const struct http_head *head)
{
	struct target target;
	struct route route;
	const char *why;
	unsigned status;

	if (!f->rule) {
		/* One text for everybody: it must not tell which rules there are. */
		refuse(f, 403, "no client rule admits this caller");
		return;
	}
	status = target_parse(head->target, head->host, &target, &why);
	if (status) {
		refuse(f, status, "%s", why);
		return;
	}
	route = route_of(head->method, target.path);
	if (route.place == ROUTE_GATEWAY) {
		f->pending = PENDING_CONTROL;
		set_text(&f->pending_text, str_dup(route.rest));
	} else if (head->method == METHOD_OPTIONS) {
		f->pending = PENDING_OPTIONS; /* the server would refuse it without a key (api-contract.md 1.1) */
	} else if (route.place != ROUTE_API) {
		refuse(f, 403, "rule \"%s\" allows what is below /api/v1 and /gateway/v1%s", f->rule->name,
		       route.place == ROUTE_WORKER ? ", except /api/v1/worker" : "");
	} else if (f->user_id_bad) {
		refuse(f, 403, "rule \"%s\": user_id comes out empty, too long or unusable for this caller",
		       f->rule->name);
	} else {
		begin_exchange(f, head, &target, &route);
	}
}

/*
 * Whether the body of a request that is answered here is read first, which lets the connection be kept. A client that
 * waits for leave to send it is not given any, and nobody has us read what is large or of unknown length for nothing.
 */
static bool body_is_read_first(const struct http_head *head)
{
	return head->framing == HTTP_BODY_NONE ||
	       (head->framing == HTTP_BODY_LENGTH && head->content_length <= OWN_BODY_MAX_BYTES &&
		!head->expect_continue);
}

static void on_body_end(void *arg);

static void on_request(void *arg, const struct http_head *head)
{
	struct front *f = arg;

	choose_rule(f);
	note_request(f, head);
	judge(f, head);
	if (f->pending != PENDING_NOTHING && !body_is_read_first(head)) {
		client_skip_body(f->client);
		on_body_end(f);
	}
}

static void on_body(void *arg, const char *p, size_t n)
{
	struct front *f = arg;

	if (f->exchange)
		exchange_body(f->exchange, p, n);
}

static unsigned answer_control(struct front *f)
{
	const struct answer_to to = answer_to(f);
	const struct front_uid *own = find_uid(f->shared, f->peer.uid);
	const struct control_caller caller = {&f->peer, f->listener, f->rule, f->user_id, own ? own->connections : 0};

	return control_answer(&to, f->method, str_from(f->pending_text), f->snapshot, &f->shared->stats,
			      &f->shared->clients, &caller);
}

/* Says why a request is refused; without memory for the words, that. */
static void answer_refusal(struct front *f)
{
	const struct answer_to to = answer_to(f);
	unsigned status = f->pending_text ? f->refusal_status : 503;

	answer_error(&to, status, "%s", f->pending_text ? f->pending_text : "out of memory");
	own_answer_done(f, status);
}

static void on_body_end(void *arg)
{
	struct front *f = arg;
	enum pending pending = f->pending;
	const struct answer_to to = answer_to(f);

	f->pending = PENDING_NOTHING;
	if (pending == PENDING_CONTROL && !f->pending_text)
		pending = PENDING_REFUSAL;
	switch (pending) {
	case PENDING_NOTHING:
		if (f->exchange)
			exchange_body_end(f->exchange);
		return;
	case PENDING_CONTROL:
		own_answer_done(f, answer_control(f));
		break;
	case PENDING_OPTIONS:
		answer_options(&to);
		own_answer_done(f, 204);
		break;
	case PENDING_REFUSAL:
		answer_refusal(f);
		break;
	}
	set_text(&f->pending_text, NULL);
}

static void on_fault(void *arg, unsigned status, const char *why)
{
	struct front *f = arg;
	struct answer_to to;

	if (f->exchange) {
		/* Its own report is this request's line in the log. */
		if (!exchange_abort(f->exchange))
			return;
	} else {
		f->started_ns = clock_ns();
		f->shared->stats.requests++;
		if (f->pending == PENDING_NOTHING) {
			snprintf(f->method_text, sizeof(f->method_text), "?");
			set_text(&f->path, NULL);
			request_id_make(f->request_id);
		}
		own_answer_done(f, status);
	}
	f->pending = PENDING_NOTHING;
	log_debug("c%llu: refused with %u: %s", client_id(f->client), status, why);
	to = answer_to(f);
	answer_error(&to, status, "%s", why);
}

static void on_drained(void *arg)
{
	struct front *f = arg;

	if (f->exchange)
		exchange_drained(f->exchange);
}

static void on_gone(void *arg)
{
	struct front *f = arg;

	if (f->exchange)
		exchange_gone(f->exchange);
	f->pending = PENDING_NOTHING;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

static void front_free(struct front *f)
{
	snapshot_unref(f->snapshot);
	identity_fini(&f->peer);
	free(f->pending_text);
	free(f->path);
	free(f->listener);
	free(f);
}

bool front_is_idle(const struct front_shared *s)
{
	return list_empty(&s->fronts) && s->orphanage.count == 0;
}

static void tell_if_idle(void *arg)
{
	struct front_shared *s = arg;

	if (front_is_idle(s) && s->on_idle)
		s->on_idle(s->arg);
}

static void on_closed(void *arg, enum client_end end)
{
	struct front *f = arg;
	struct front_shared *s = f->shared;

	if (f->exchange)
		exchange_gone(f->exchange);
	if (access_is_logged(f))
		log_info("c%llu uid=%u pid=%d closed: %s after %llu requests", client_id(f->client),
			 (unsigned)f->peer.uid, (int)f->peer.pid, client_end_text(end),
			 (unsigned long long)f->requests);
	list_remove(&f->link);
	count_out(s, f->peer.uid);
	front_free(f);
	tell_if_idle(s);
}

static const struct client_events client_events = {
	.on_request = on_request,
	.on_body = on_body,
	.on_body_end = on_body_end,
	.on_fault = on_fault,
	.on_drained = on_drained,
	.on_gone = on_gone,
	.on_closed = on_closed,
};

static void turn_away(struct front_shared *s, int fd, const char *why)
{
	s->clients.ends[CLIENT_END_REFUSED]++;
	log_warn("a connection was turned away: %s", why);
	close(fd);
}

void front_accept(struct front_shared *s, int fd, const char *listener)
{
	struct identity peer;
	struct front *f;
	int rc = peer_identify(fd, &peer);

	s->stats.accepted++;
	if (rc) {
		turn_away(s, fd, "the kernel does not say who it is");
		return;
	}
	rc = count_in(s, peer.uid);
	if (rc) {
		turn_away(s, fd, rc == -ENOMEM ? "out of memory" : "bounds.connections or bounds.connections_per_uid");
		identity_fini(&peer);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (f) {
		f->shared = s;
		f->peer = peer;
		list_init(&f->link);
		f->listener = strdup(listener);
		f->client = f->listener ? client_new(&s->clients, fd, ++s->next_id, &client_events, f) : NULL;
	}
	if (!f || !f->client) {
		if (!f || !f->listener)
			close(fd);
		s->clients.ends[CLIENT_END_NO_MEMORY]++;
		count_out(s, peer.uid);
		identity_fini(&peer);
		if (f) {
			f->peer = (struct identity){0};
			front_free(f);
		}
		return;
	}
	list_add_tail(&s->fronts, &f->link);
	choose_rule(f);
	if (access_is_logged(f))
		log_info("c%llu uid=%u pid=%d connected on %s: rule %s", client_id(f->client), (unsigned)f->peer.uid,
			 (int)f->peer.pid, listener, f->rule ? f->rule->name : "none");
}

void front_shared_init(struct front_shared *s, struct loop *loop)
{
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	s->stats.started_ms = clock_ms();
	list_init(&s->fronts);
	list_init(&s->uids);
	client_shared_init(&s->clients, loop);
	orphanage_init(&s->orphanage, loop);
	s->orphanage.on_empty = tell_if_idle;
	s->orphanage.arg = s;
	s->stats.orphanage = &s->orphanage;
}

void front_shared_fini(struct front_shared *s)
{
	snapshot_unref(s->snapshot);
	client_shared_fini(&s->clients);
}

void front_use_snapshot(struct front_shared *s, struct snapshot *snapshot)
{
	const struct config_bounds *b = &snapshot_config(snapshot)->bounds;
	struct snapshot *old = s->snapshot;

	s->snapshot = snapshot_ref(snapshot);
	snapshot_unref(old);
	s->stats.generation++;
	/* A deadline that is set keeps its time; the next one has the new length. */
	s->clients.head_deadlines.span_ms = b->client_head_ms;
	s->clients.body_deadlines.span_ms = b->client_body_idle_ms;
	s->clients.idle_deadlines.span_ms = b->idle_client_ms;
	s->clients.body_max_bytes = b->body_bytes;
}

void front_drain_all(struct front_shared *s)
{
	s->stats.draining = true;
	LIST_FOREACH_SAFE (n, &s->fronts)
		client_drain(CONTAINER_OF(n, struct front, link)->client);
}

void front_cut_all(struct front_shared *s)
{
	LIST_FOREACH_SAFE (n, &s->fronts)
		client_cut(CONTAINER_OF(n, struct front, link)->client, CLIENT_END_DRAIN);
	orphanage_abandon(&s->orphanage);
}
