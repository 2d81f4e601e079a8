/* SPDX-License-Identifier: Apache-2.0 */
/* A request begins with its head and ends with its answer, or with its client; here is what it counts for and what is said of it. */
#include "gateway/front_request.h"

#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/spares.h"
#include "gateway/audit.h"
#include "gateway/config.h"
#include "gateway/control.h"
#include "gateway/enforce.h"
#include "gateway/exchange.h"
#include "gateway/front_judge.h"
#include "gateway/front_state.h"
#include "gateway/limiter.h"
#include "gateway/logs.h"
#include "gateway/meter.h"
#include "gateway/preview.h"
#include "gateway/snapshot.h"
#include "gateway/trace_export.h"
#include "gateway/trace_json.h"
#include "gateway/upstream.h"

enum {
	LOGGED_PATH_MAX_BYTES = 255,
	OWN_BODY_MAX_BYTES = 65536, /* read of a request that is answered here */
};

static struct spares spare_requests;

/* --- the end of a request ----------------------------------------------------------------------------------------------------- */

/* What is known of the connection. */
void front_add_caller(const struct front *f, struct audit_record *r)
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

/* What tells whether anybody wants to know more. */
static struct audit_record outline(const struct front *f, const struct exchange_report *r, bool own)
{
	return (struct audit_record){
		.method = f->now->method,
		.status = r->status,
		.upstream_status = r->upstream_status,
		.reached = own ? f->now->acted : may_have_run(r->end),
		.is_error = exchange_end_is_error(r->end),
		.code = r->status >= 400 && !r->upstream_status ? answer_code(r->status) : NULL,
	};
}

static void complete(const struct front *f, const struct exchange_report *r, bool own, struct audit_record *record)
{
	const struct request *now = f->now;

	front_add_caller(f, record);
	record->method_text = now->method_text;
	record->template = now->template;
	record->path = now->path;
	record->sandbox = now->sandbox[0] ? now->sandbox : NULL;
	record->latency_ms = (front_now_ns(f) - now->started_ns) / 1000000;
	record->bytes_up = r->bytes_up;
	record->bytes_down = r->bytes_down;
	record->repeated = r->repeated;
	record->request_id = now->request_id;
	if (!own || (now->acted && now->class != ROUTE_OPERATE))
		record->upstream = upstream_name(snapshot_upstream(f->snapshot, f->rule->upstream));
	if (!own || r->upstream_status || (now->acted && !record->code) || r->end != EXCHANGE_END_DONE)
		record->end = exchange_end_text(r->end);
}

static void add_span(const struct front *f, const struct audit_record *record)
{
	const struct request *now = f->now;
	const uint64_t start_ns = (uint64_t)now->trace_wall_ns;
	const struct trace_span span = {&now->trace, start_ns, start_ns + (clock_ns() - now->trace_start_ns), record};

	trace_export_add(f->shared->traces, &span);
}

static void log_request(const struct front *f, const struct exchange_report *r, bool own)
{
	struct audit_record record = outline(f, r, own);
	/* Most requests only read, and read well. */
	bool wanted = logs_want(f->shared->logs, &record);
	bool sampled = f->now->traced && f->now->trace.sampled;

	if (!wanted && !sampled)
		return;
	complete(f, r, own, &record);
	if (wanted)
		logs_request(f->shared->logs, &record);
	if (sampled)
		add_span(f, &record);
}

/* Gives the place in the limits back at once: who has his answer may ask again. */
static void give_request(struct front *f)
{
	if (f->now->counted)
		limiter_request_give(f->limits, front_now_ns(f));
	f->now->counted = false;
}

static void count_request(struct front *f, unsigned status)
{
	struct control_stats *stats = &f->shared->stats;
	struct request *now = f->now;
	unsigned class = status / 100;

	now->ended = true;
	stats->statuses[class < 6 ? class : 0]++;
	meter_count(snapshot_meter(f->snapshot, f->rule), &stats->times[now->class], now->class, status,
		    (front_now_ns(f) - now->started_ns) / 1000000);
}

static void request_done(struct front *f, const struct exchange_report *r, bool own)
{
	give_request(f);
	count_request(f, r->status);
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
	if (r->traced)
		front_set_text(&r->trace_lines, NULL);
	r->front = f;
	r->pending = PENDING_NOTHING;
	r->method = METHOD_GET;
	r->class = ROUTE_UNKNOWN;
	r->method_text[0] = r->sandbox[0] = '\0';
	r->template = NULL;
	r->acted = r->ended = r->traced = false;
	r->started_ns = front_now_ns(f);
	return true;
}

/* Its client has left, or was cut off, before it was answered to the end. */
static void note_left(struct front *f)
{
	const struct call *c = f->now->call;
	const struct exchange_report report = {
		.end = f->cut_as,
		.status = c && c->begun ? 200 : 0,
		.bytes_up = f->now->gather.counted,
		.bytes_down = c ? c->bytes_down : 0,
	};

	count_request(f, report.status);
	if (!c)
		return;
	f->now->acted = c->acted;
	log_request(f, &report, true);
}

/* It has ended, or its client has left. Harmless without one. */
void front_drop_request(struct front *f)
{
	struct request *r = f->now;

	if (!r)
		return;
	if (!r->ended)
		note_left(f);
	give_request(f);
	call_free(r->call);
	gather_fini(&r->gather);
	enforce_free(r->enforce);
	preview_free(r->preview);
	r->call = NULL;
	r->enforce = NULL;
	r->preview = NULL;
	front_set_text(&r->pending_text, NULL);
	front_set_text(&r->open_ended, NULL);
	front_set_text(&r->path, NULL);
	if (r->traced)
		front_set_text(&r->trace_lines, NULL);
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
		/* front_on_fault answers, when the exchange has let go of the client. */
		struct exchange_report answered = *report;
		answered.status = f->now->refusal_status;
		request_done(f, &answered, false);
	} else {
		request_done(f, report, false);
	}
	front_drop_request(f);
}

/* --- the beginning of one ---------------------------------------------------------------------------------------------------- */

static char *logged_path(struct str target)
{
	struct str path = str_cut(&target, '?');

	return str_dup(str_of(path.p, path.n < LOGGED_PATH_MAX_BYTES ? path.n : LOGGED_PATH_MAX_BYTES));
}

static void begin_trace(struct request *r, const struct http_head *head, const struct config_tracing *t)
{
	r->traced = true;
	trace_context_of(&r->trace, head, t->sample_ppb);
	front_set_text(&r->trace_lines, trace_context_lines(&r->trace, head));
	if (!r->trace.sampled)
		return;
	r->trace_wall_ns = clock_wall_ns();
	r->trace_start_ns = clock_ns();
}

static void note_request(struct front *f, const struct http_head *head)
{
	const struct http_header *id = http_head_find(head, STR("x-request-id"));
	struct request *r = f->now;

	f->requests++;
	f->shared->stats.requests++;
	r->method = head->method;
	front_copy_text(r->method_text, sizeof(r->method_text), head->method_text);
	front_set_text(&r->path, logs_access_on(f->shared->logs) ? logged_path(head->target) : NULL);
	if (id && request_id_is_good(id->value))
		front_copy_text(r->request_id, sizeof(r->request_id), id->value);
	else
		request_id_make(r->request_id);
	if (f->shared->tracing)
		begin_trace(r, head, f->shared->tracing);
}

/* --- calls ---------------------------------------------------------------------------------------------------------------------- */

static void on_call_end(void *arg, const struct call_end *end)
{
	struct front *f = arg;
	const struct exchange_report report = {
		.end = end->cut ? EXCHANGE_END_CUT : EXCHANGE_END_DONE,
		.status = end->status,
		.upstream_status = end->upstream_status,
		.bytes_up = f->now->gather.counted,
		.bytes_down = end->bytes_down,
	};

	f->now->acted = end->acted;
	request_done(f, &report, true);
	front_drop_request(f);
}

static void on_slow_body(struct gather *g)
{
	call_refuse(CONTAINER_OF(g, struct request, gather)->call, 408, GATHER_SLOW_TEXT);
}

static const struct front_ends ends = {
	.exchange = {.on_end = on_exchange_end},
	.on_call_end = on_call_end,
	.on_slow_body = on_slow_body,
};

const struct front_ends *front_request_ends(void)
{
	return &ends;
}

static void gather_body(struct front *f, const char *p, size_t n)
{
	struct request *r = f->now;

	switch (gather_add(&r->gather, p, n)) {
	case GATHER_OK:
		return;
	case GATHER_TOO_LARGE:
		call_refuse(r->call, 413, GATHER_TOO_LARGE_TEXT);
		return;
	case GATHER_NO_SHARE:
		call_refuse(r->call, 503, GATHER_NO_SHARE_TEXT);
		return;
	case GATHER_NO_MEMORY:
		call_refuse(r->call, 503, "out of memory");
		return;
	}
}

static void begin_call(struct front *f)
{
	struct request *r = f->now;

	if (r->gather.shared)
		gather_end(&r->gather);
	call_start(r->call, buf_str(&r->gather.body), r->admit_call);
}

/* --- its parts -------------------------------------------------------------------------------------------------------- */

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

void front_on_request(void *arg, const struct http_head *head)
{
	struct front *f = arg;

	if (!begin_request(f)) {
		client_cut(f->client, CLIENT_END_NO_MEMORY);
		return;
	}
	note_request(f, head);
	front_judge(f, head);
	if (f->now && f->now->pending != PENDING_NOTHING && !f->now->gather.shared && !body_is_read_first(head)) {
		client_skip_body(f->client);
		front_on_body_end(f);
	}
}

void front_on_body(void *arg, const char *p, size_t n)
{
	struct front *f = arg;

	if (f->exchange)
		exchange_body(f->exchange, p, n);
	else if (f->now && f->now->gather.shared)
		gather_body(f, p, n);
}

static unsigned answer_control(struct front *f)
{
	const struct answer_to to = front_answer_to(f);
	const struct status_view view = front_view(f);

	return control_answer(&to, f->now->method, str_from(f->now->pending_text), &view);
}

/* Says why a request is refused; without memory for the words, that. */
static void answer_refusal(struct front *f)
{
	const struct answer_to to = front_answer_to(f);
	unsigned status = f->now->pending_text ? f->now->refusal_status : 503;

	answer_error_later(&to, status, f->now->retry_after_s, "%s",
			   f->now->pending_text ? f->now->pending_text : "out of memory");
	own_answer_done(f, status);
}

/* The caller has destroyed it before: the same answer as the server's own to a repeated DELETE. */
static void answer_destroyed(struct front *f)
{
	const struct answer_to to = front_answer_to(f);
	struct buf json = BUF_EMPTY;

	buf_add_str(&json, STR("{\"status\":\"destroyed\"}"));
	answer_json(&to, &json);
	own_answer_done(f, 200);
}

void front_on_body_end(void *arg)
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
	const struct answer_to to = front_answer_to(f);
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
	case PENDING_CALL:
		begin_call(f);
		return;
	}
	front_drop_request(f);
}

/* A request that cannot be read, or not to its end; false when there is nobody left to answer. */
static bool note_fault(struct front *f, unsigned status)
{
	if (f->exchange) {
		/* Its own report is this request's line in the log. */
		f->now->refusal_status = status;
		return exchange_abort(f->exchange);
	}
	if (!f->now) {
		f->shared->stats.requests++;
		if (!begin_request(f)) {
			client_cut(f->client, CLIENT_END_NO_MEMORY);
			return false;
		}
		front_copy_text(f->now->method_text, sizeof(f->now->method_text), STR("?"));
		request_id_make(f->now->request_id);
	}
	own_answer_done(f, status);
	return true;
}

void front_on_fault(void *arg, unsigned status, const char *why)
{
	struct front *f = arg;
	char id[REQUEST_ID_MAX_BYTES + 1] = ""; /* the request may end with its exchange */
	struct answer_to to = {.client = f->client, .request_id = id};

	if (f->now) {
		front_copy_text(id, sizeof(id), str_from(f->now->request_id));
		to.head_only = f->now->method == METHOD_HEAD;
	}
	if (!note_fault(f, status))
		return;
	if (f->now)
		front_copy_text(id, sizeof(id), str_from(f->now->request_id));
	log_debug("c%llu: refused with %u: %s", client_id(f->client), status, why);
	answer_error(&to, status, "%s", why);
	front_drop_request(f);
}

void front_on_drained(void *arg)
{
	struct front *f = arg;

	if (f->exchange)
		exchange_drained(f->exchange);
	else if (f->now && f->now->call)
		call_drained(f->now->call);
}

void front_on_gone(void *arg)
{
	struct front *f = arg;

	if (f->exchange)
		exchange_gone(f->exchange, f->cut_as);
	front_drop_request(f);
}
