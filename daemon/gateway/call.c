/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/call.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/http_write.h"
#include "common/loop.h"
#include "gateway/answer.h"
#include "gateway/client.h"
#include "gateway/config.h"
#include "gateway/upstream.h"

/* A usual head fits, so that it is allocated once. */
enum {
	ROOM_BYTES = 1024
};

/* --- life --------------------------------------------------------------------------------------------------------------- */

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	struct call *c = arg;

	(void)fd;
	(void)what;
	if (c->ops->on_timeout && c->started)
		c->ops->on_timeout(c);
	else if (c->begun)
		call_stream_cut(c);
	else
		call_refuse(c, 504, "it was not done within Stacygate-Timeout");
}

static int set_timeout(struct call *c, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	if (ms == 0)
		return 0;
	c->timeout = evtimer_new(loop_base(c->c.loop), on_timeout, c);
	return c->timeout && event_add(c->timeout, &tv) == 0 ? 0 : -ENOMEM;
}

static void on_admitted(struct admit *a)
{
	struct call *c = CONTAINER_OF(a, struct call, admit);

	c->started = true;
	c->ops->on_request(c, c->body);
}

static void on_refused(struct admit *a)
{
	call_refuse(CONTAINER_OF(a, struct call, admit), a->status, "%s", a->why);
}

int call_init(struct call *c, const struct call_ops *ops, const struct call_case *what, struct str sandbox)
{
	/* Field by field: it is large, and most of it is texts that are written before they are read. */
	c->ops = ops;
	c->body = STR("");
	c->started = c->begun = c->chunked = c->acted = false;
	c->bytes_down = 0;
	c->timeout = NULL;
	c->on_end = NULL;
	c->arg = NULL;
	c->c = *what;
	c->c.head = NULL;
	c->c.target = NULL;
	c->c.route = NULL;
	admit_init(&c->admit, what->admit);
	c->admit.asker = what->caller;
	c->admit.shared_vm_accepted = what->upstream->shared_vm;
	c->admit.on_admitted = on_admitted;
	c->admit.on_refused = on_refused;
	if (sandbox.n)
		memcpy(c->admit.sandbox, sandbox.p, sandbox.n);
	c->admit.sandbox[sandbox.n] = '\0';
	return set_timeout(c, what->timeout_ms);
}

void call_fini(struct call *c)
{
	admit_cancel(&c->admit);
	if (c->timeout)
		event_free(c->timeout);
	if (c->heartbeat)
		event_free(c->heartbeat);
}

void call_start(struct call *c, struct str body, bool isolated)
{
	enum admit_verdict verdict = ADMIT_YES;

	c->body = body;
	if (isolated)
		verdict = admit_ask(&c->admit);
	if (verdict == ADMIT_YES)
		on_admitted(&c->admit);
	else if (verdict == ADMIT_NO)
		on_refused(&c->admit);
}

void call_drained(struct call *c)
{
	c->stalled = false;
	if (c->ops->on_drained)
		c->ops->on_drained(c);
}

void call_free(struct call *c)
{
	if (c)
		c->ops->on_free(c);
}

/* --- answering ----------------------------------------------------------------------------------------------------------- */

static struct answer_to answer_to(const struct call *c)
{
	return (struct answer_to){c->c.client, c->c.caller.request_id, c->c.method == METHOD_HEAD, NULL};
}

static void end_as(struct call *c, struct call_end how)
{
	how.acted = c->acted;
	how.bytes_down = c->bytes_down;
	c->started = true;
	c->on_end(c->arg, &how);
}

static void end(struct call *c, unsigned status, unsigned upstream_status)
{
	end_as(c, (struct call_end){.status = status, .upstream_status = upstream_status});
}

void call_refuse(struct call *c, unsigned status, const char *fmt, ...)
{
	const struct answer_to to = answer_to(c);
	char message[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	answer_error(&to, status, "%s", message);
	end(c, status, 0);
}

void call_refuse_upstream(struct call *c, unsigned status, const char *why)
{
	call_refuse(c, status, "upstream %s: %s", upstream_name(c->c.caller.upstream), why);
}

/* Sends head and body; `head` lacks framing and what every answer has. */
static void send_whole(struct call *c, struct buf *head, struct str body, unsigned status, unsigned upstream_status)
{
	const struct answer_to to = answer_to(c);

	c->bytes_down = body.n;
	c->unheard = !answer_send(&to, status, head, body);
	end(c, status, upstream_status);
}

void call_text(struct call *c, unsigned status, const char *type, const struct buf *extra, struct buf *body)
{
	struct buf head = BUF_EMPTY;

	http_write_status_line(&head, status);
	http_write_header(&head, STR("Content-Type"), str_from(type));
	if (extra)
		buf_add_str(&head, buf_str(extra));
	head.failed = head.failed || body->failed || (extra && extra->failed);
	send_whole(c, &head, buf_str(body), status, 0);
	buf_fini(&head);
	buf_fini(body);
}

void call_json(struct call *c, unsigned status, const struct buf *extra, struct buf *json)
{
	buf_add_char(json, '\n');
	call_text(c, status, "application/json", extra, json);
}

static void send_kept(struct call *c, unsigned status, unsigned upstream_status, struct str head,
		      const struct buf *extra, struct str body)
{
	static struct buf out; /* used within this call only; what is remembered is to cost no memory each time */

	buf_reset(&out);
	(void)buf_reserve(&out, ROOM_BYTES); /* without memory the additions say so */
	buf_add_str(&out, head);
	if (extra)
		buf_add_str(&out, buf_str(extra));
	out.failed = out.failed || (extra && extra->failed);
	send_whole(c, &out, body, status, upstream_status);
}

void call_relay_kept(struct call *c, unsigned status, struct str head, const struct buf *extra, struct str body)
{
	send_kept(c, status, status, head, extra, body);
}

void call_give_kept(struct call *c, unsigned status, struct str head, const struct buf *extra, struct str body)
{
	send_kept(c, status, 0, head, extra, body);
}

void call_relay(struct call *c, const struct fetch_answer *a, const struct buf *extra)
{
	call_relay_kept(c, a->status, a->head, extra, a->body);
}

/* --- streams ----------------------------------------------------------------------------------------------------------------- */

static void arm_heartbeat(struct call *c)
{
	uint64_t ms = c->c.rule->heartbeat_ms;
	struct timeval tv = clock_span(ms);

	if (c->heartbeat)
		event_add(c->heartbeat, &tv);
}

/* A silent stream is kept alive for clients with a read timeout, where a line has ended and the client reads. */
static void on_heartbeat(evutil_socket_t fd, short what, void *arg)
{
	struct call *c = arg;

	(void)fd;
	(void)what;
	if (c->whole_line && !c->stalled)
		call_stream_send(c, c->beat);
	else
		arm_heartbeat(c);
}

/* False without memory. */
static bool begin_heartbeat(struct call *c, const char *type)
{
	c->whole_line = true;
	c->beat = strcmp(type, "text/event-stream") == 0 ? STR(":\n") : STR("\n");
	if (c->c.rule->heartbeat_ms == 0 || !c->chunked || c->c.method == METHOD_HEAD)
		return true;
	c->heartbeat = evtimer_new(loop_base(c->c.loop), on_heartbeat, c);
	arm_heartbeat(c);
	return c->heartbeat != NULL;
}

bool call_stream_begin(struct call *c, const char *type, const struct buf *extra)
{
	struct buf head = BUF_EMPTY;
	bool keep = client_may_keep_alive(c->c.client) && client_minor(c->c.client) == 1;

	c->begun = true;
	c->chunked = client_minor(c->c.client) == 1;
	client_end_means_gone(c->c.client);
	http_write_status_line(&head, 200);
	http_write_header(&head, STR("Content-Type"), str_from(type));
	http_write_header(&head, STR("Cache-Control"), STR("no-cache"));
	if (extra)
		buf_add_str(&head, buf_str(extra));
	if (c->chunked)
		http_write_header(&head, STR("Transfer-Encoding"), STR("chunked"));
	answer_add_common(&head, c->c.client, c->c.caller.request_id, keep);
	http_write_end(&head);
	if (head.failed || (extra && extra->failed) || !begin_heartbeat(c, type)) {
		buf_fini(&head);
		call_stream_cut(c);
		return false;
	}
	client_send(c->c.client, buf_str(&head), str_of(NULL, 0));
	buf_fini(&head);
	return true;
}

bool call_stream_send(struct call *c, struct str data)
{
	char size[24];
	struct buf piece = BUF_EMPTY;
	bool more;

	if (data.n == 0 || c->c.method == METHOD_HEAD)
		return true;
	c->bytes_down += data.n;
	c->whole_line = data.p[data.n - 1] == '\n';
	arm_heartbeat(c);
	if (!c->chunked)
		return client_send(c->c.client, data, str_of(NULL, 0));
	snprintf(size, sizeof(size), "%zx\r\n", data.n);
	buf_add_cstr(&piece, size);
	buf_add_str(&piece, data);
	buf_add_str(&piece, STR("\r\n"));
	if (piece.failed) {
		/* What is lost must not look like the end: the client sees the connection break, and tells us so. */
		client_cut(c->c.client, CLIENT_END_NO_MEMORY);
		return false;
	}
	more = client_send(c->c.client, buf_str(&piece), str_of(NULL, 0));
	c->stalled = !more;
	buf_fini(&piece);
	return more;
}

void call_draining(struct call *c)
{
	if (c->begun && c->whole_line && !c->stalled)
		call_stream_send(c, c->beat.p[0] == ':' ? STR(":stopping\n") : c->beat);
}

void call_stream_end(struct call *c)
{
	bool chunked = c->chunked && c->c.method != METHOD_HEAD;

	if (chunked)
		client_send(c->c.client, STR("0\r\n\r\n"), str_of(NULL, 0));
	client_finish(c->c.client, c->chunked && client_may_keep_alive(c->c.client));
	end(c, 200, 0);
}

void call_stream_cut(struct call *c)
{
	client_cut(c->c.client, CLIENT_END_CUT);
	end_as(c, (struct call_end){.status = c->begun ? 200 : 0, .cut = true});
}
