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
#include "common/spares.h"
#include "common/units.h"
#include "gateway/answer.h"
#include "gateway/audit.h"
#include "gateway/config.h"
#include "gateway/enforce.h"
#include "gateway/exchange.h"
#include "gateway/guard.h"
#include "gateway/identity.h"
#include "gateway/keyring.h"
#include "gateway/limiter.h"
#include "gateway/logs.h"
#include "gateway/names.h"
#include "gateway/owner_query.h"
#include "gateway/peer.h"
#include "gateway/policy.h"
#include "gateway/prune.h"
#include "gateway/request_id.h"
#include "gateway/route.h"
#include "gateway/sandbox_doc.h"
#include "gateway/snapshot.h"
#include "gateway/target.h"
#include "gateway/upstream.h"
#include "gateway/vm_watch.h"

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
	PENDING_DESTROYED, /* of a sandbox that the caller destroyed before */
	PENDING_PRUNE,
};

/* What is known of the owner that the rule makes of the peer. */
enum user_id_state {
	USER_ID_GOOD,
	USER_ID_BAD,     /* it comes out unusable for this peer */
	USER_ID_WAITING, /* for the name service; no request is begun */
	USER_ID_UNKNOWN, /* the name service does not answer */
};

/* The request that is under way; made when it begins and dropped with its end, so that an idle client costs little. */
struct request {
	enum pending pending;
	enum http_method method;
	char method_text[8];
	bool counted; /* in the limits of its owner */
	bool acted;   /* answered here, the upstream was asked to change something for it */
	unsigned refusal_status;
	unsigned retry_after_s; /* of a refusal */
	char *pending_text;     /* owned; why refused, or the path behind /gateway/v1; NULL also without memory */
	char *open_ended;       /* owned; the path of one for a tunnel or the events, which a reload may end */
	char *path;             /* owned; for the log, cut, never the query; NULL when it is not logged */
	const char *template;   /* literal; of the route; NULL until it is known */
	uint64_t started_ns;
	struct enforce *enforce;   /* owned; what shapes its exchange; NULL: nothing does */
	struct front *front;       /* borrowed */
	struct vm_wait vm_wait;    /* before a prune */
	uint64_t prune_timeout_ms; /* 0: none */
	struct prune *prune;       /* owned; while it runs */
	char request_id[REQUEST_ID_MAX_BYTES + 1];
	char sandbox[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* for the audit; empty when there is none, or no audit */
};

struct front {
	struct front_shared *shared; /* borrowed */
	struct list link;            /* on front_shared.fronts */
	struct client *client;       /* owned by itself; valid until on_closed */
	struct identity peer;
	struct front_uid *uid;          /* borrowed; the entry of peer.uid, which this connection keeps */
	const char *listener;           /* owned reference to a shared text */
	struct snapshot *snapshot;      /* owned reference; what rule and user_id belong to */
	const struct config_rule *rule; /* borrowed from the snapshot; NULL: none matches */
	const char *user_id;            /* owned reference to a shared text; NULL: none, or without memory */
	struct limiter_owner *limits;   /* owned reference; of user_id; NULL: unusable, or without memory */
	struct name_asker
		*name_asker; /* owned; with USER_ID_WAITING, or to know whether what is under way is still admitted */
	struct request *now; /* owned; NULL between requests */
	struct exchange *exchange; /* its, until its on_end; NULL otherwise */
	char *cors;                /* owned; head lines for a browser's origin; NULL: none */
	uint64_t requests;
	bool connection_counted; /* in limits */
	enum user_id_state user_id_state;
};

/* Waits for a name; few connections ever do. */
struct name_asker {
	struct front *front; /* borrowed */
	struct names_wait wait;
};

static struct spares spare_requests;

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

/* Counts one more connection of the uid; 0 and its entry, -EBUSY over a bound, or -ENOMEM. */
static int count_in(struct front_shared *s, uid_t uid, struct front_uid **out)
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
	*out = u;
	return 0;
}

static void count_out(struct front_shared *s, struct front_uid *u)
{
	s->stats.connections--;
	if (--u->connections)
		return;
	list_remove(&u->link);
	free(u);
}

/* --- texts that many connections have ------------------------------------------------------------------------------------ */

struct front_text {
	struct list link; /* on front_shared.texts */
	size_t refs;
	char text[]; /* terminated */
};

/* A reference to a shared copy; NULL without memory. */
static const char *text_ref(struct front_shared *s, const char *text)
{
	size_t n = strlen(text) + 1;
	struct front_text *t;

	LIST_FOREACH (node, &s->texts) {
		t = CONTAINER_OF(node, struct front_text, link);
		if (strcmp(t->text, text) == 0) {
			t->refs++;
			return t->text;
		}
	}
	t = malloc(sizeof(*t) + n);
	if (!t)
		return NULL;
	t->refs = 1;
	memcpy(t->text, text, n);
	list_add_head(&s->texts, &t->link);
	return t->text;
}

static void text_unref(const char *text)
{
	struct front_text *t = text ? CONTAINER_OF(text, struct front_text, text) : NULL;

	if (!t || --t->refs)
		return;
	list_remove(&t->link);
	free(t);
}

/* The turn's time, which is exact enough for limits and logs and costs nothing. */
static uint64_t now_ns(const struct front *f)
{
	return loop_now_ms(f->shared->loop) * 1000000;
}

/* --- which rule ------------------------------------------------------------------------------------------------------------ */

/* Lets go of what is counted for the owner that this connection had. */
static void leave_limits(struct front *f)
{
	if (!f->limits)
		return;
	if (f->connection_counted)
		limiter_connection_give(f->limits, now_ns(f));
	f->connection_counted = false;
	limiter_owner_unref(f->limits, now_ns(f));
	f->limits = NULL;
}

static void stop_asking(struct front *f)
{
	if (f->name_asker)
		names_cancel(&f->name_asker->wait);
	free(f->name_asker);
	f->name_asker = NULL;
}

static void leave_owner(struct front *f)
{
	stop_asking(f);
	leave_limits(f);
	text_unref(f->user_id);
	f->user_id = NULL;
}

static void on_name_known(struct names_wait *w);

/* NAMES_KNOWN and *name, also when the rule does not need it; otherwise the front waits, or nothing can be known. */
static enum names_result look_up(struct front *f, bool needed, enum names_kind kind, uint32_t id, const char **name)
{
	enum names_result rc;

	*name = NULL;
	if (!needed)
		return NAMES_KNOWN;
	if (!f->name_asker)
		f->name_asker = calloc(1, sizeof(*f->name_asker));
	if (!f->name_asker)
		return NAMES_FAILED;
	f->name_asker->front = f;
	list_init(&f->name_asker->wait.link);
	f->name_asker->wait.on_known = on_name_known;
	rc = names_look_up(f->shared->names, kind, id, &f->name_asker->wait, name);
	if (rc != NAMES_WAIT)
		stop_asking(f);
	return rc;
}

/* The user id that the rule makes of the peer, or begins to wait for the names in it. */
static enum user_id_state expand_user_id(struct front *f, const struct config *c, const struct config_rule *rule,
					 char out[POLICY_USER_ID_MAX_BYTES + 1])
{
	struct policy_names names;
	enum names_result rc;

	rc = look_up(f, policy_needs_user(rule), NAMES_USER, f->peer.uid, &names.user);
	if (rc == NAMES_KNOWN)
		rc = look_up(f, policy_needs_group(rule, &f->peer), NAMES_GROUP, f->peer.gid, &names.group);
	if (rc != NAMES_KNOWN)
		return rc == NAMES_WAIT ? USER_ID_WAITING : USER_ID_UNKNOWN;
	return policy_user_id(c, rule, &f->peer, &names, out) ? USER_ID_BAD : USER_ID_GOOD;
}

/* There is none yet. */
static void make_user_id(struct front *f)
{
	char user_id[POLICY_USER_ID_MAX_BYTES + 1];
	struct limiter_refusal why;

	f->user_id_state = expand_user_id(f, snapshot_config(f->snapshot), f->rule, user_id);
	if (f->user_id_state != USER_ID_GOOD)
		return;
	f->user_id = text_ref(f->shared, user_id);
	if (f->user_id)
		f->limits = limiter_owner_ref(f->shared->limiter, f->user_id, now_ns(f));
	/* Without a place its requests are refused until there is one. */
	if (f->limits)
		f->connection_counted = limiter_connection_take(f->limits, &f->rule->limits, &why);
}

static void end_if_revoked(struct front *f);

static void on_name_known(struct names_wait *w)
{
	struct front *f = CONTAINER_OF(w, struct name_asker, wait)->front;

	stop_asking(f);
	if (f->user_id_state != USER_ID_WAITING) {
		end_if_revoked(f);
		return;
	}
	make_user_id(f);
	if (f->user_id_state != USER_ID_WAITING)
		client_release(f->client);
}

static void read_traits(struct front *f, const struct config *c)
{
	if (config_asks_traits(c) && peer_read_traits(client_fd(f->client), &f->peer))
		log_warn("c%llu: out of memory: its executable and unit are not known", client_id(f->client));
}

/* Only between two requests: what an exchange borrows from the snapshot and the user id stays until its end. */
static void choose_rule(struct front *f)
{
	const struct config *c;

	if (f->snapshot == f->shared->snapshot)
		return;
	leave_owner(f);
	snapshot_unref(f->snapshot);
	f->snapshot = snapshot_ref(f->shared->snapshot);
	c = snapshot_config(f->snapshot);
	read_traits(f, c);
	f->rule = policy_match(c, &f->peer, f->listener);
	f->user_id_state = USER_ID_GOOD;
	if (f->rule)
		make_user_id(f);
}

/* A request begins when it is known whose it is. */
static bool may_begin(void *arg)
{
	struct front *f = arg;

	if (f->cors) {
		client_set_head_lines(f->client, GUARD_LINES);
		free(f->cors);
		f->cors = NULL;
	}
	choose_rule(f);
	if (f->user_id_state == USER_ID_UNKNOWN)
		make_user_id(f);
	return f->user_id_state != USER_ID_WAITING;
}

/* --- the end of a request ----------------------------------------------------------------------------------------------------- */

/* Texts of a request are kept only while it needs them: an idle client is to cost little. */
static void set_text(char **text, char *to)
{
	free(*text);
	*text = to;
}

/* What is known of the connection. */
static void add_caller(const struct front *f, struct audit_record *r)
{
	r->connection = client_id(f->client);
	r->has_peer = true;
	r->uid = f->peer.uid;
	r->gid = f->peer.gid;
	r->pid = f->peer.pid;
	r->rule = f->rule ? f->rule->name : NULL;
	r->user_id = f->user_id;
	r->listener = f->listener;
}

/* Whether the server may have acted on the request: only these ends say that it cannot have. */
static bool may_have_run(enum exchange_end end)
{
	return end != EXCHANGE_END_NO_UPSTREAM && end != EXCHANGE_END_DIAL_TIMEOUT && end != EXCHANGE_END_NO_PLACE &&
	       end != EXCHANGE_END_REFUSED;
}

static void log_request(const struct front *f, const struct exchange_report *r, bool own)
{
	const struct request *now = f->now;
	struct audit_record record = {
		.method = now->method,
		.status = r->status,
		.upstream_status = r->upstream_status,
		.reached = own ? now->acted : may_have_run(r->end),
		.code = r->status >= 400 && !r->upstream_status ? answer_code(r->status) : NULL,
	};

	/* Most requests only read, and read well. */
	if (!logs_want(f->shared->logs, &record))
		return;
	add_caller(f, &record);
	record.method_text = now->method_text;
	record.template = now->template;
	record.path = now->path;
	record.sandbox = now->sandbox[0] ? now->sandbox : NULL;
	record.latency_ms = (now_ns(f) - now->started_ns) / 1000000;
	record.bytes_up = r->bytes_up;
	record.bytes_down = r->bytes_down;
	record.repeated = r->repeated;
	record.request_id = now->request_id;
	if (!own || now->acted)
		record.upstream = upstream_name(snapshot_upstream(f->snapshot, f->rule->upstream));
	if (!own) {
		record.end = exchange_end_text(r->end);
		record.is_error = exchange_end_is_error(r->end);
	}
	logs_request(f->shared->logs, &record);
}

/* Gives the place in the limits back at once: who has his answer may ask again. */
static void give_request(struct front *f)
{
	if (f->now->counted)
		limiter_request_give(f->limits, now_ns(f));
	f->now->counted = false;
}

static void request_done(struct front *f, const struct exchange_report *r, bool own)
{
	struct control_stats *stats = &f->shared->stats;
	unsigned class = r->status / 100;

	give_request(f);
	stats->statuses[class < 6 ? class : 0]++;
	log_request(f, r, own);
}

/* A new one, in place of what is left of the last; false without memory. */
static bool begin_request(struct front *f)
{
	struct request *r = f->now;

	if (!r)
		r = spares_take(&spare_requests);
	if (!r)
		r = calloc(1, sizeof(*r));
	f->now = r;
	if (!r)
		return false;
	r->front = f;
	r->pending = PENDING_NOTHING;
	r->method = METHOD_GET;
	r->method_text[0] = r->sandbox[0] = '\0';
	r->template = NULL;
	r->acted = false;
	r->started_ns = now_ns(f);
	list_init(&r->vm_wait.link);
	return true;
}

/* It has ended, or its client has left. Harmless without one. */
static void drop_request(struct front *f)
{
	struct request *r = f->now;

	if (!r)
		return;
	give_request(f);
	vm_wait_cancel(&r->vm_wait);
	prune_cancel(r->prune);
	enforce_free(r->enforce);
	r->prune = NULL;
	r->enforce = NULL;
	set_text(&r->pending_text, NULL);
	set_text(&r->open_ended, NULL);
	set_text(&r->path, NULL);
	f->now = NULL;
	if (!spares_put(&spare_requests, r))
		free(r);
}

/* A request that was answered here. */
static void own_answer_done(struct front *f, unsigned status)
{
	const struct exchange_report report = {.end = EXCHANGE_END_DONE, .status = status};

	request_done(f, &report, true);
}

static void on_exchange_end(void *arg, const struct exchange_report *report)
{
	struct front *f = arg;

	f->exchange = NULL;
	f->shared->stats.exchange_ends[report->end]++;
	f->shared->stats.repeated += report->repeated;
	if (report->end == EXCHANGE_END_REQUEST_FAULT && report->status == 0) {
		/* on_fault answers, when the exchange has let go of the client. */
		struct exchange_report answered = *report;
		answered.status = f->now->refusal_status;
		request_done(f, &answered, false);
	} else {
		request_done(f, report, false);
	}
	drop_request(f);
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
	struct request *r = f->now;

	f->requests++;
	f->shared->stats.requests++;
	r->method = head->method;
	copy_text(r->method_text, sizeof(r->method_text), head->method_text);
	set_text(&r->path, logs_access_on(f->shared->logs) ? logged_path(head->target) : NULL);
	if (id && request_id_is_good(id->value))
		copy_text(r->request_id, sizeof(r->request_id), id->value);
	else
		request_id_make(r->request_id);
}

static struct answer_to answer_to(const struct front *f)
{
	return (struct answer_to){f->client, f->now->request_id, f->now->method == METHOD_HEAD};
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
	set_text(&f->now->pending_text, text);
	f->now->pending = PENDING_REFUSAL;
	f->now->refusal_status = status;
	f->now->retry_after_s = 1;
}

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
		.head = head,
		.route = route,
		.limits = f->limits,
	};

	return enforce_new(&f->shared->enforce, &c, request, &f->now->enforce);
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
		.orphanage = &f->shared->orphanage,
		.gather = &f->shared->gather,
		.uid_bodies_bytes = &f->uid->bodies_bytes,
	};
	static struct buf rewritten; /* used within this call only */
	struct exchange_request request = {
		.head = head,
		.target = own_target(f, target, &rewritten),
		.route = route,
		.request_id = f->now->request_id,
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
		refuse(f, 503, "credential not loaded: it could not be read yet (/gateway/v1/health says why)");
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
	if (head->upgrade_websocket || route->id == ROUTE_EVENTS_STREAM)
		set_text(&f->now->open_ended, str_dup(target->path));
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
	rc = exchange_new(f->shared->loop, f->client, &grant, &request, &exchange_events, f, &f->exchange);
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
		refuse(f, 400, "the Connection header names more than anybody means");
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
		set_text(&f->cors, cors_lines(&ruling, head));
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
	if (!logs_audit_on(f->shared->logs))
		return;
	f->now->template = route->template;
	if (route->sandbox.n && !route->sandbox_bad)
		copy_text(f->now->sandbox, sizeof(f->now->sandbox), route->sandbox);
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
		f->now->counted = limiter_request_take(f->limits, limits, now_ns(f), &why);
	if (f->now->counted)
		return true;
	refuse(f, 429, "rule \"%s\": %s is reached", f->rule->name, why.limit);
	f->now->retry_after_s = why.retry_after_s;
	return false;
}

/* It begins when the request has been read. */
static void plan_prune(struct front *f, const struct http_head *head)
{
	if (read_timeout(head, &f->now->prune_timeout_ms))
		f->now->pending = PENDING_PRUNE;
	else
		refuse(f, 400, BAD_TIMEOUT_TEXT);
}

/* Decides what becomes of a request. */
static void judge(struct front *f, const struct http_head *head)
{
	struct target target;
	struct route route;
	struct policy_refusal refusal;
	const char *why;
	unsigned status;

	if (!f->rule) {
		/* One text for everybody: it must not tell which rules there are. */
		refuse(f, 403, "no client rule admits this caller");
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
	if (head->method == METHOD_OPTIONS) {
		f->now->pending = PENDING_OPTIONS; /* the server would refuse it without a key (api-contract.md 1.1) */
	} else if (!policy_allows(f->rule, f->user_id ? f->user_id : "", head->method, &route, target.path, &refusal)) {
		refuse(f, 403, "%s", refusal.text);
	} else if (route.place == ROUTE_GATEWAY) {
		f->now->pending = PENDING_CONTROL;
		set_text(&f->now->pending_text, str_dup(route.rest));
	} else if (f->user_id_state == USER_ID_UNKNOWN) {
		refuse(f, 503, "the name service does not answer, so it is not known who is calling");
	} else if (f->user_id_state != USER_ID_GOOD) {
		refuse(f, 403, "rule \"%s\": user_id comes out empty, too long or unusable for this caller",
		       f->rule->name);
	} else if (!f->user_id) {
		refuse(f, 503, "out of memory");
	} else if (route.sandbox_bad) {
		refuse(f, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(route.sandbox));
	} else if (route.read_whole && head->framing == HTTP_BODY_LENGTH &&
		   head->content_length > GATHER_MAX_BYTES) {
		refuse(f, 413, GATHER_TOO_LARGE_TEXT);
	} else if (!take_request(f)) {
		return;
	} else if (route.id == ROUTE_PRUNE_ALL && f->rule->isolation == CONFIG_ISOLATION_OWNER) {
		plan_prune(f, head);
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

	if (!begin_request(f)) {
		client_cut(f->client, CLIENT_END_NO_MEMORY);
		return;
	}
	note_request(f, head);
	judge(f, head);
	if (f->now && f->now->pending != PENDING_NOTHING && !body_is_read_first(head)) {
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
	const struct control_caller caller = {&f->peer, f->listener, f->rule, f->user_id ? f->user_id : "",
					      f->uid->connections};

	return control_answer(&to, f->now->method, str_from(f->now->pending_text), f->snapshot, &f->shared->stats,
			      &f->shared->clients, &caller);
}

/* Says why a request is refused; without memory for the words, that. */
static void answer_refusal(struct front *f)
{
	const struct answer_to to = answer_to(f);
	unsigned status = f->now->pending_text ? f->now->refusal_status : 503;

	answer_error_later(&to, status, f->now->retry_after_s, "%s",
			   f->now->pending_text ? f->now->pending_text : "out of memory");
	own_answer_done(f, status);
}

/* The caller has destroyed it before: the same answer as the server's own to a repeated DELETE. */
static void answer_destroyed(struct front *f)
{
	const struct answer_to to = answer_to(f);
	struct buf json = BUF_EMPTY;

	buf_add_str(&json, STR("{\"status\":\"destroyed\"}"));
	answer_json(&to, &json);
	own_answer_done(f, 200);
}

static void on_pruned(void *arg, unsigned status, const char *why, size_t destroyed)
{
	struct front *f = arg;
	const struct answer_to to = answer_to(f);
	struct buf json = BUF_EMPTY;

	f->now->prune = NULL;
	if (status) {
		answer_error(&to, status, "upstream %s: %s",
			     upstream_name(snapshot_upstream(f->snapshot, f->rule->upstream)), why);
		own_answer_done(f, status);
		drop_request(f);
		return;
	}
	buf_addf(&json, "{\"pruned\":%zu}", destroyed);
	answer_json(&to, &json);
	own_answer_done(f, 200);
	drop_request(f);
}

static struct fetch_caller prune_asker(const struct front *f)
{
	return (struct fetch_caller){
		.upstream = snapshot_upstream(f->snapshot, f->rule->upstream),
		.key = snapshot_key(f->snapshot, f->rule),
		.user_id = f->user_id,
		.request_id = f->now->request_id,
	};
}

/* False when it has been answered already. */
static bool prune(struct front *f, enum vm_state state)
{
	const struct answer_to to = answer_to(f);
	const struct fetch_caller asker = prune_asker(f);

	if (state == VM_SHARED && !snapshot_config(f->snapshot)->upstreams[f->rule->upstream].shared_vm) {
		answer_error(&to, 503, VM_SHARED_TEXT, upstream_name(asker.upstream));
		own_answer_done(f, 503);
		return false;
	}
	if (prune_start(f->shared->loop, &f->shared->enforce.admit.ownership, &asker, f->now->prune_timeout_ms, on_pruned, f,
			&f->now->prune) == 0) {
		f->now->acted = true;
		return true;
	}
	answer_error(&to, 503, "out of memory");
	own_answer_done(f, 503);
	return false;
}

static void on_vm_state(struct vm_wait *w, enum vm_state state)
{
	struct front *f = CONTAINER_OF(w, struct request, vm_wait)->front;

	if (!prune(f, state))
		drop_request(f);
}

/* False when it has been answered already. */
static bool begin_prune(struct front *f)
{
	const struct fetch_caller asker = prune_asker(f);
	enum vm_state state;

	f->now->vm_wait.on_state = on_vm_state;
	if (vm_watch_ask(&f->shared->enforce.admit.vm_watch, &asker, &f->now->vm_wait, &state))
		return prune(f, state);
	return true;
}

static void on_body_end(void *arg)
{
	struct front *f = arg;
	enum pending pending;

	if (f->exchange) {
		exchange_body_end(f->exchange);
		return;
	}
	if (!f->now)
		return; /* answered before its end */
	pending = f->now->pending;
	f->now->pending = PENDING_NOTHING;
	const struct answer_to to = answer_to(f);
	if (pending == PENDING_CONTROL && !f->now->pending_text)
		pending = PENDING_REFUSAL;
	switch (pending) {
	case PENDING_NOTHING:
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
	case PENDING_DESTROYED:
		answer_destroyed(f);
		break;
	case PENDING_PRUNE:
		if (begin_prune(f))
			return;
		break;
	}
	drop_request(f);
}

/* A request that cannot be read, or not to its end; false when there is nobody left to answer. */
static bool note_fault(struct front *f, unsigned status)
{
	if (f->exchange) {
		/* Its own report is this request's line in the log. */
		f->now->refusal_status = status;
		return exchange_abort(f->exchange);
	}
	f->shared->stats.requests++;
	if (!f->now) {
		if (!begin_request(f)) {
			client_cut(f->client, CLIENT_END_NO_MEMORY);
			return false;
		}
		copy_text(f->now->method_text, sizeof(f->now->method_text), STR("?"));
		request_id_make(f->now->request_id);
	}
	own_answer_done(f, status);
	return true;
}

static void on_fault(void *arg, unsigned status, const char *why)
{
	struct front *f = arg;
	char id[REQUEST_ID_MAX_BYTES + 1] = ""; /* the request may end with its exchange */
	struct answer_to to = {.client = f->client, .request_id = id};

	if (f->now) {
		copy_text(id, sizeof(id), str_from(f->now->request_id));
		to.head_only = f->now->method == METHOD_HEAD;
	}
	if (!note_fault(f, status))
		return;
	if (f->now)
		copy_text(id, sizeof(id), str_from(f->now->request_id));
	log_debug("c%llu: refused with %u: %s", client_id(f->client), status, why);
	answer_error(&to, status, "%s", why);
	drop_request(f);
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
	drop_request(f);
}

/* --- life ---------------------------------------------------------------------------------------------------------------------- */

static void front_free(struct front *f)
{
	leave_owner(f);
	snapshot_unref(f->snapshot);
	identity_fini(&f->peer);
	free(f->cors);
	text_unref(f->listener);
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

static void log_closed(const struct front *f, enum client_end end)
{
	struct audit_record record = {0};
	char more[80];

	if (!logs_access_on(f->shared->logs))
		return;
	add_caller(f, &record);
	record.is_error = client_end_is_error(end);
	snprintf(more, sizeof(more), "%s after %llu requests", client_end_text(end), (unsigned long long)f->requests);
	logs_connection(f->shared->logs, &record, "closed", more);
}

static void log_connected(const struct front *f)
{
	struct audit_record record = {0};
	char more[512];

	if (!logs_access_on(f->shared->logs))
		return;
	add_caller(f, &record);
	snprintf(more, sizeof(more), "on %s: rule %s", f->listener, f->rule ? f->rule->name : "none");
	logs_connection(f->shared->logs, &record, "connected", more);
}

static void on_closed(void *arg, enum client_end end)
{
	struct front *f = arg;
	struct front_shared *s = f->shared;

	if (f->exchange)
		exchange_gone(f->exchange);
	drop_request(f);
	log_closed(f, end);
	list_remove(&f->link);
	count_out(s, f->uid);
	front_free(f);
	tell_if_idle(s);
}

static const struct client_events client_events = {
	.may_begin = may_begin,
	.on_request = on_request,
	.on_body = on_body,
	.on_body_end = on_body_end,
	.on_fault = on_fault,
	.on_drained = on_drained,
	.on_gone = on_gone,
	.on_closed = on_closed,
};

/* `peer` is NULL when it is not known. */
static void turn_away(struct front_shared *s, int fd, const struct identity *peer, const char *listener,
		      const char *why)
{
	struct audit_record record = {.listener = listener, .code = why};

	s->clients.ends[CLIENT_END_REFUSED]++;
	log_warn("a connection was turned away: %s", why);
	if (peer) {
		record.has_peer = true;
		record.uid = peer->uid;
		record.gid = peer->gid;
		record.pid = peer->pid;
	}
	logs_turned_away(s->logs, &record);
	close(fd);
}

void front_accept(struct front_shared *s, int fd, const char *listener, int diag)
{
	struct identity peer;
	struct front_uid *uid;
	struct front *f;
	int rc = diag < 0 ? peer_identify(fd, &peer) : peer_identify_tcp(fd, diag, &peer);

	s->stats.accepted++;
	if (rc) {
		turn_away(s, fd, NULL, listener,
			  rc == -ENOTCONN ? "its socket is closed, so nobody can tell whose it was"
					  : "the kernel does not say who it is");
		return;
	}
	rc = count_in(s, peer.uid, &uid);
	if (rc) {
		turn_away(s, fd, &peer, listener,
			  rc == -ENOMEM ? "out of memory" : "bounds.connections or bounds.connections_per_uid");
		identity_fini(&peer);
		return;
	}
	f = calloc(1, sizeof(*f));
	if (f) {
		f->shared = s;
		f->peer = peer;
		f->uid = uid;
		list_init(&f->link);
		f->listener = text_ref(s, listener);
		f->client = f->listener ? client_new(&s->clients, fd, ++s->next_id, &client_events, f) : NULL;
	}
	if (!f || !f->client) {
		if (!f || !f->listener)
			close(fd);
		s->clients.ends[CLIENT_END_NO_MEMORY]++;
		count_out(s, uid);
		identity_fini(&peer);
		if (f) {
			f->peer = (struct identity){0};
			front_free(f);
		}
		return;
	}
	list_add_tail(&s->fronts, &f->link);
	if (peer.over_tcp)
		client_set_head_lines(f->client, GUARD_LINES);
	choose_rule(f);
	log_connected(f);
}

int front_shared_init(struct front_shared *s, struct loop *loop, struct names *names)
{
	memset(s, 0, sizeof(*s));
	s->loop = loop;
	s->names = names;
	s->stats.started_ms = clock_ms();
	list_init(&s->fronts);
	list_init(&s->uids);
	list_init(&s->texts);
	client_shared_init(&s->clients, loop);
	gather_shared_init(&s->gather, loop);
	orphanage_init(&s->orphanage, loop);
	s->orphanage.on_empty = tell_if_idle;
	s->orphanage.arg = s;
	s->stats.orphanage = &s->orphanage;
	s->stats.vm_watch = &s->enforce.admit.vm_watch;
	s->limiter = limiter_new();
	return enforce_shared_init(&s->enforce, loop) || !s->limiter ? -ENOMEM : 0;
}

void front_shared_fini(struct front_shared *s)
{
	snapshot_unref(s->snapshot);
	client_shared_fini(&s->clients);
	gather_shared_fini(&s->gather);
	enforce_shared_fini(&s->enforce);
	limiter_free(s->limiter);
}

/*
 * Whether what this connection asked for without an end would be granted under the snapshot in force as well. Yes also while
 * a name is waited for that tells; then it is asked again.
 */
static bool is_still_admitted(struct front *f)
{
	const struct config *before = snapshot_config(f->snapshot);
	const struct config *c = snapshot_config(f->shared->snapshot);
	char user_id[POLICY_USER_ID_MAX_BYTES + 1];
	struct policy_refusal refusal;
	struct str path = str_from(f->now->open_ended);
	struct route route = route_of(METHOD_GET, path);
	const struct config_rule *rule;
	enum user_id_state state;

	read_traits(f, c);
	rule = policy_match(c, &f->peer, f->listener);
	if (!rule || rule->isolation != f->rule->isolation ||
	    strcmp(c->upstreams[rule->upstream].url, before->upstreams[f->rule->upstream].url) != 0 ||
	    !policy_allows(rule, f->user_id, METHOD_GET, &route, path, &refusal))
		return false;
	/* Made of the same: whether the name service answers just now does not matter. */
	if (strcmp(rule->user_id, f->rule->user_id) == 0 && strcmp(rule->name, f->rule->name) == 0 &&
	    strcmp(c->host, before->host) == 0)
		return true;
	state = expand_user_id(f, c, rule, user_id);
	return state == USER_ID_WAITING || (state == USER_ID_GOOD && strcmp(user_id, f->user_id) == 0);
}

/* Other requests end by themselves, and the next on their connection is judged anew. */
static void end_if_revoked(struct front *f)
{
	if (!f->exchange || !f->now || !f->now->open_ended)
		return;
	stop_asking(f);
	if (!is_still_admitted(f))
		client_cut(f->client, CLIENT_END_REVOKED);
}

static void end_what_is_revoked(struct front_shared *s)
{
	LIST_FOREACH_SAFE (n, &s->fronts)
		end_if_revoked(CONTAINER_OF(n, struct front, link));
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
	if (old)
		end_what_is_revoked(s);
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
