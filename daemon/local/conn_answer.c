/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The answer of a connection: NONE -> OPEN -> DONE. Everything goes into `out`; the connection sends it at the end of
 * the turn, so nothing here calls back.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/http_write.h"
#include "common/log.h"
#include "local/conn_private.h"

static void make_uuid(char out[37])
{
	unsigned char r[16];

	if (getrandom(r, sizeof(r), 0) != (ssize_t)sizeof(r))
		memset(r, 0, sizeof(r)); /* not possible once the pool is seeded; an id is not a secret */
	r[6] = (unsigned char)((r[6] & 0x0f) | 0x40);
	r[8] = (unsigned char)((r[8] & 0x3f) | 0x80);
	snprintf(out, 37, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", r[0], r[1], r[2],
		 r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15]);
}

static void add_date(struct buf *out)
{
	static time_t cached_at;
	static char cached[40];
	time_t now = (time_t)(clock_wall_ns() / 1000000000);
	struct tm tm;

	if (now != cached_at || !cached[0]) {
		gmtime_r(&now, &tm);
		strftime(cached, sizeof(cached), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		cached_at = now;
	}
	http_write_header(out, STR("Date"), str_from(cached));
}

/* A body that is still on its way is swallowed only if it is short; otherwise the connection ends with the answer. */
static bool body_is_in_the_way(const struct conn *c)
{
	return (c->state == CONN_HEAD || c->state == CONN_BODY) && c->req.body_left > DISCARD_MAX_BYTES;
}

static void add_framing(struct conn *c, int64_t length)
{
	if (length >= 0) {
		c->ans.framing = FRAME_LENGTH;
		c->ans.left = (uint64_t)length;
		if (length > 0 || c->req.method != METHOD_HEAD)
			http_write_header_u64(&c->out, STR("Content-Length"), (uint64_t)length);
	} else if (c->req.minor == 0) {
		c->ans.framing = FRAME_CLOSE;
		c->req.keep_alive = false;
	} else {
		c->ans.framing = FRAME_CHUNKED;
		http_write_header(&c->out, STR("Transfer-Encoding"), STR("chunked"));
	}
}

void conn_begin(struct conn *c, unsigned status, const char *type, struct str headers, int64_t length)
{
	CHECK(c->ans.state == ANSWER_NONE);
	c->ans.state = ANSWER_OPEN;
	c->ans.status = status;
	if (c->shared->draining || body_is_in_the_way(c))
		c->req.keep_alive = false;
	if (c->req.id.n == 0) {
		make_uuid(c->req.uuid);
		c->req.id = str_of(c->req.uuid, 36);
	}
	http_write_status_line(&c->out, status);
	if (type)
		http_write_header(&c->out, STR("Content-Type"), str_from(type));
	buf_add_str(&c->out, headers);
	http_write_header(&c->out, STR("X-Request-Id"), c->req.id);
	add_date(&c->out);
	add_framing(c, length);
	if (!c->req.keep_alive)
		http_write_header(&c->out, STR("Connection"), STR("close"));
	else if (c->req.minor == 0)
		http_write_header(&c->out, STR("Connection"), STR("keep-alive"));
	http_write_end(&c->out);
	loop_defer(c->shared->loop, &c->work);
}

bool conn_send(struct conn *c, struct str piece)
{
	CHECK(c->ans.state == ANSWER_OPEN);
	if (piece.n == 0)
		return c->ans.paused;
	if (c->ans.framing == FRAME_LENGTH) {
		CHECK(piece.n <= c->ans.left);
		c->ans.left -= piece.n;
	}
	if (c->req.method == METHOD_HEAD)
		return false;
	if (c->ans.framing == FRAME_CHUNKED)
		buf_addf(&c->out, "%zx\r\n", piece.n);
	buf_add_str(&c->out, piece);
	if (c->ans.framing == FRAME_CHUNKED)
		buf_add_str(&c->out, STR("\r\n"));
	loop_defer(c->shared->loop, &c->work);
	if (c->out.len > OUT_HIGH_BYTES)
		c->ans.paused = true;
	return c->ans.paused;
}

static void log_answer(const struct conn *c)
{
	static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
	struct str path = conn_path(c);
	uint64_t us = c->req.began_ns ? (clock_ns() - c->req.began_ns) / 1000 : 0;

	log_info("%s %.*s %u %llu.%03llums", names[c->req.method], (int)(path.n < 300 ? path.n : 300),
		 path.p ? path.p : "", c->ans.status, (unsigned long long)(us / 1000), (unsigned long long)(us % 1000));
}

static void finish_answer(struct conn *c)
{
	c->ans.state = ANSWER_DONE;
	c->req.watch = NULL;
	log_answer(c);
	loop_defer(c->shared->loop, &c->work);
}

void conn_end(struct conn *c)
{
	CHECK(c->ans.state == ANSWER_OPEN);
	if (c->ans.framing == FRAME_LENGTH && c->ans.left && c->req.method != METHOD_HEAD)
		c->req.keep_alive = false;
	if (c->ans.framing == FRAME_CHUNKED && c->req.method != METHOD_HEAD)
		buf_add_str(&c->out, STR("0\r\n\r\n"));
	finish_answer(c);
}

void conn_abort(struct conn *c)
{
	CHECK(c->ans.state == ANSWER_OPEN);
	c->req.keep_alive = false;
	finish_answer(c);
}

void conn_respond(struct conn *c, unsigned status, const char *type, struct str headers, struct str body)
{
	conn_begin(c, status, type, headers, (int64_t)body.n);
	conn_send(c, body);
	conn_end(c);
}
