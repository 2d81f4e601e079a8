/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body goes out in the server's spelling. A POST that the server answers with 409 becomes a PUT of what the POST would
 * have stored. The answer to a PUT shows no time of creation, so the template is looked at for it. What is remembered of
 * templates is dropped when the write is sent and once more before its answer passes: a read that follows the answer sees it.
 *
 * When the client leaves, the write is waited for all the same: only its end says from when on reads are of what it left.
 */
#include "gateway/template_write.h"

#include <errno.h>
#include <stdlib.h>

#include "common/http_write.h"
#include "gateway/body.h"
#include "gateway/config.h"
#include "gateway/owner_query.h"
#include "gateway/policy.h"
#include "gateway/rewrite.h"
#include "gateway/route.h"
#include "gateway/target.h"
#include "gateway/template_cache.h"
#include "gateway/template_doc.h"
#include "gateway/upstream.h"

enum {
	ANSWER_MAX_BYTES = 4 * 1048576
};

struct template_write {
	struct call call;
	struct template_cache *templates; /* borrowed */
	struct template_orphan orphan;    /* when the client has left */
	bool left;
	struct upstream *upstream; /* owned reference */
	struct fetch *fetch;       /* owned; NULL between two */
	bool looks;                /* the fetch is a look at what was written */
	struct buf target;
	struct buf lines; /* of the client's head that go with the write */
	bool bad;         /* its Connection header names too much */
	struct buf body;  /* as the server stores it */
	/* The answer, while the template is looked at. */
	unsigned status;
	struct buf head;
	struct buf answer;
};

static void write_free(struct template_write *w)
{
	list_remove(&w->orphan.link);
	fetch_cancel(w->fetch);
	upstream_unref(w->upstream);
	buf_fini(&w->target);
	buf_fini(&w->lines);
	buf_fini(&w->body);
	buf_fini(&w->head);
	buf_fini(&w->answer);
	free(w);
}

static void on_abandon(struct template_orphan *o)
{
	write_free(CONTAINER_OF(o, struct template_write, orphan));
}

static void on_free(struct call *c)
{
	struct template_write *w = CONTAINER_OF(c, struct template_write, call);

	call_fini(c);
	if (!w->fetch || w->looks) {
		write_free(w);
		return;
	}
	w->left = true;
	template_cache_adopt(w->templates, &w->orphan);
}

/* --- the answer ------------------------------------------------------------------------------------------------------------ */

/* `head` are lines that may pass, `body` what the server said of the template. */
static void finish(struct template_write *w, unsigned status, struct str head, struct str body)
{
	struct buf lines = BUF_EMPTY;
	struct buf extra = BUF_EMPTY;
	struct buf ignored = BUF_EMPTY;
	struct buf shown = BUF_EMPTY;

	cache_http_keep_lines(head, false, &lines);
	if (status / 100 == 2 && w->call.c.method != METHOD_DELETE) {
		template_doc_ignored(w->call.body, body, &ignored);
		if (ignored.len)
			http_write_header(&extra, STR("Stacygate-Ignored"), buf_str(&ignored));
		if (template_doc_show(body, &shown))
			body = buf_str(&shown);
	}
	if (lines.failed || ignored.failed || extra.failed || shown.failed)
		call_refuse(&w->call, 503, "out of memory");
	else
		call_relay_kept(&w->call, status, buf_str(&lines), &extra, body);
	buf_fini(&lines);
	buf_fini(&extra);
	buf_fini(&ignored);
	buf_fini(&shown);
}

/* --- requests -------------------------------------------------------------------------------------------------------------- */

static void send_request(struct template_write *w, const char *method,
			 void (*on_done)(void *arg, const struct fetch_answer *a))
{
	const struct fetch_request request = {
		.caller = w->call.c.caller,
		.method = method,
		.target = buf_str(&w->target),
		.body = method[0] == 'P' ? buf_str(&w->body) : STR(""),
		.lines = buf_str(&w->lines),
		.max_bytes = ANSWER_MAX_BYTES,
		.keep_head = true,
		.on_done = on_done,
		.arg = w,
	};

	if (w->target.failed || w->body.failed || w->lines.failed || fetch_start(w->call.c.loop, &request, &w->fetch))
		call_refuse(&w->call, 503, "out of memory");
}

static void on_looked(void *arg, const struct fetch_answer *a)
{
	struct template_write *w = arg;
	struct buf whole = BUF_EMPTY;

	w->fetch = NULL;
	template_doc_set_created(buf_str(&w->answer), a->end == FETCH_DONE && a->status == 200 ? a->body : STR(""),
				 &whole);
	if (whole.failed)
		call_refuse(&w->call, 503, "out of memory");
	else
		finish(w, w->status, buf_str(&w->head), buf_str(&whole));
	buf_fini(&whole);
}

static void look(struct template_write *w, const struct fetch_answer *a)
{
	w->status = a->status;
	buf_add_str(&w->head, a->head);
	buf_add_str(&w->answer, a->body);
	w->looks = true;
	if (w->head.failed || w->answer.failed)
		call_refuse(&w->call, 503, "out of memory");
	else
		send_request(w, "GET", on_looked);
}

static void write_template(struct template_write *w, const char *method);

/*
 * Makes the write a PUT: 1, or 0 when the rule does not let the caller replace what the POST names, or there is nothing to
 * replace it by; -ENOMEM.
 */
static int make_replacement(struct template_write *w)
{
	struct buf path = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct policy_refusal refusal;
	struct route route;
	int rc = template_doc_path(buf_str(&w->body), &path);

	if (rc) {
		route = route_of(METHOD_PUT, buf_str(&path));
		rc = policy_allows(w->call.c.rule, w->call.c.caller.user_id, METHOD_PUT, &route, buf_str(&path),
				   &refusal) &&
		     template_doc_replacement(buf_str(&w->body), &body);
	}
	if (path.failed || body.failed)
		rc = -ENOMEM;
	if (rc > 0) {
		buf_fini(&w->target);
		buf_fini(&w->body);
		w->target = path;
		w->body = body;
		return rc;
	}
	buf_fini(&path);
	buf_fini(&body);
	return rc;
}

/* There is one of that name already. */
static void replace(struct template_write *w, const struct fetch_answer *a)
{
	int rc = make_replacement(w);

	if (rc > 0)
		write_template(w, "PUT");
	else if (rc)
		call_refuse(&w->call, 503, "out of memory");
	else
		finish(w, a->status, a->head, a->body);
}

static void on_written(struct template_write *w, const struct fetch_answer *a, bool is_post)
{
	bool stored = a->end == FETCH_DONE && a->status / 100 == 2;

	w->fetch = NULL;
	template_cache_purge(w->templates, w->upstream);
	if (w->left)
		write_free(w);
	else if (a->end != FETCH_DONE)
		call_refuse_upstream(&w->call, fetch_end_status(a->end), a->why);
	else if (is_post && a->status == 409)
		replace(w, a);
	else if (stored && w->call.c.method != METHOD_DELETE && template_doc_lacks_created(a->body))
		look(w, a);
	else
		finish(w, a->status, a->head, a->body);
}

static void on_posted(void *arg, const struct fetch_answer *a)
{
	on_written(arg, a, true);
}

static void on_changed(void *arg, const struct fetch_answer *a)
{
	on_written(arg, a, false);
}

static void write_template(struct template_write *w, const char *method)
{
	template_cache_purge(w->templates, w->upstream);
	w->call.acted = true;
	send_request(w, method, method[1] == 'O' ? on_posted : on_changed);
}

static void on_request(struct call *c, struct str body)
{
	struct template_write *w = CONTAINER_OF(c, struct template_write, call);
	const struct body_policy policy = {.owner = c->c.caller.user_id};
	struct body_verdict v = {0};
	struct buf judged = BUF_EMPTY;

	if (w->bad) {
		call_refuse(c, 400, "the Connection header names more than anybody means");
		return;
	}
	if (c->c.method == METHOD_DELETE) {
		write_template(w, "DELETE");
		return;
	}
	body_judge(BODY_TEMPLATE, &policy, body, &judged, &v);
	if (v.status == 0)
		template_doc_translate(buf_str(&judged), &w->body, &v);
	buf_fini(&judged);
	if (v.status)
		call_refuse(c, v.status, "%s", v.why);
	else
		write_template(w, c->c.method == METHOD_POST ? "POST" : "PUT");
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

int template_write_call_new(const struct call_case *what, struct call **out)
{
	struct template_write *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	w->templates = what->templates;
	list_init(&w->orphan.link);
	w->orphan.on_abandon = on_abandon;
	w->upstream = upstream_ref(what->caller.upstream);
	owner_query_target(what->target, what->rule->admin ? NULL : what->caller.user_id, &w->target);
	w->bad = rewrite_request_lines(what->head, what->caller.trace_lines != NULL, &w->lines) != 0;
	*out = &w->call;
	if (call_init(&w->call, &ops, what, STR("")) == 0)
		return 0;
	on_free(&w->call);
	*out = NULL;
	return -ENOMEM;
}
