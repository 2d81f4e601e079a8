/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A message is a head of 12 bytes and a payload of fixed fields, little endian, the last of them reaching to the end.
 * The reader keeps a `bad` flag instead of a result per field; a payload with too few or too many bytes is bad.
 */
#include "local/init_wire.h"

#include <errno.h>

#include "common/check.h"

struct reader {
	const unsigned char *p; /* borrowed: what is left */
	size_t n;
	bool bad; /* something did not fit */
};

static uint64_t take_int(struct reader *r, size_t bytes)
{
	uint64_t v = 0;

	if (r->n < bytes) {
		r->bad = true;
		return 0;
	}
	for (size_t i = 0; i < bytes; i++)
		v |= (uint64_t)r->p[i] << (8 * i);
	r->p += bytes;
	r->n -= bytes;
	return v;
}

static struct str take_bytes(struct reader *r, size_t n)
{
	struct str s = {NULL, 0};

	if (r->n < n) {
		r->bad = true;
		return s;
	}
	s = str_of((const char *)r->p, n);
	r->p += n;
	r->n -= n;
	return s;
}

static struct str take_rest(struct reader *r)
{
	return take_bytes(r, r->n);
}

static bool take_bool(struct reader *r)
{
	uint64_t v = take_int(r, 1);

	r->bad |= v > 1;
	return v == 1;
}

static bool has_nul(struct str s)
{
	return s.n && memchr(s.p, 0, s.n);
}

/* 1 and the payload's reader, 0 or -EPROTO. */
static int take_head(struct str in, struct reader *payload, unsigned *type, uint32_t *job, size_t *used)
{
	struct reader r = {(const unsigned char *)in.p, in.n, false};

	if (in.n < WIRE_HEAD_BYTES)
		return 0;
	size_t length = (size_t)take_int(&r, 4);
	*job = (uint32_t)take_int(&r, 4);
	*type = (unsigned)take_int(&r, 1);
	if (length > WIRE_PAYLOAD_MAX || take_int(&r, 3) != 0)
		return -EPROTO;
	if (r.n < length)
		return 0;
	*payload = (struct reader){r.p, length, false};
	*used = WIRE_HEAD_BYTES + length;
	return 1;
}

static void take_request(struct reader *r, struct wire_request *m)
{
	switch (m->type) {
	case WIRE_EXEC_MORE:
	case WIRE_EXEC:
	case WIRE_CONTENT:
		m->bytes = take_rest(r);
		break;
	case WIRE_READ:
	case WIRE_LIST:
	case WIRE_STAT:
	case WIRE_GLOB:
		m->path = take_rest(r);
		break;
	case WIRE_WRITE:
		m->mode = (uint32_t)take_int(r, 4);
		m->size = take_int(r, 8);
		m->path = take_rest(r);
		break;
	case WIRE_DELETE:
		m->recursive = take_bool(r);
		m->path = take_rest(r);
		break;
	case WIRE_MOVE:
		m->path = take_bytes(r, (size_t)take_int(r, 4));
		m->to = take_rest(r);
		break;
	case WIRE_CHMOD:
		m->mode = (uint32_t)take_int(r, 4);
		m->path = take_rest(r);
		break;
	case WIRE_CREDIT:
		m->credit = (uint32_t)take_int(r, 4);
		break;
	case WIRE_CONNECT:
		m->port = (uint16_t)take_int(r, 2);
		r->bad |= m->port == 0;
		break;
	case WIRE_KILL:
	case WIRE_CANCEL:
		break;
	}
	r->bad |= r->n != 0 || has_nul(m->path) || has_nul(m->to);
}

int wire_parse_request(struct str in, struct wire_request *out, size_t *used)
{
	struct reader r;
	unsigned type;
	uint32_t job;
	int rc = take_head(in, &r, &type, &job, used);

	if (rc <= 0)
		return rc;
	if (type < WIRE_EXEC_MORE || type > WIRE_CONNECT)
		return -EPROTO;
	*out = (struct wire_request){.type = (enum wire_request_type)type, .job = job};
	take_request(&r, out);
	return r.bad ? -EPROTO : 1;
}

/* Text for people goes into answers and logs: no control bytes. */
static bool is_text(struct str s)
{
	if (s.n > WIRE_TEXT_MAX)
		return false;
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return false;
	return true;
}

static void take_entry(struct reader *r, struct wire_event *m)
{
	m->size = take_int(r, 8);
	m->mtime_sec = (int64_t)take_int(r, 8);
	m->mode = (unsigned)take_int(r, 4);
	m->is_dir = take_bool(r);
	m->path = take_rest(r);
	m->cost = wire_entry_cost(m->path);
	r->bad |= m->mode > 07777 || m->size > INT64_MAX || m->path.n == 0 || m->path.n > WIRE_PATH_MAX ||
		  m->path.p[0] != '/' || has_nul(m->path);
}

static void take_done(struct reader *r, struct wire_event *m)
{
	uint64_t error = take_int(r, 4);
	uint64_t code = take_int(r, 4);

	m->text = take_rest(r);
	r->bad |= error > 4095 || (code > 255 && code != UINT32_MAX) || !is_text(m->text);
	m->error = (int)(error & 4095);
	m->exit_code = code == UINT32_MAX ? -1 : (int)(code & 255);
}

static void take_event(struct reader *r, struct wire_event *m)
{
	switch (m->type) {
	case WIRE_READY:
		r->bad |= m->job != 0;
		break;
	case WIRE_SIZE:
		m->size = take_int(r, 8);
		r->bad |= m->size > INT64_MAX;
		break;
	case WIRE_DATA:
		m->stream = (unsigned)take_int(r, 1);
		m->bytes = take_rest(r);
		m->cost = m->bytes.n;
		r->bad |= m->stream > 2 || m->bytes.n == 0;
		break;
	case WIRE_LOG:
		m->bytes = take_rest(r);
		m->cost = m->bytes.n;
		r->bad |= m->bytes.n == 0 || m->job != 0;
		break;
	case WIRE_ENTRY:
		take_entry(r, m);
		break;
	case WIRE_DONE:
		take_done(r, m);
		break;
	case WIRE_CONNECTED:
		r->bad |= m->job == 0;
		break;
	}
	r->bad |= r->n != 0;
}

int wire_parse_event(struct str in, struct wire_event *out, size_t *used)
{
	struct reader r;
	unsigned type;
	uint32_t job;
	int rc = take_head(in, &r, &type, &job, used);

	if (rc <= 0)
		return rc;
	if (type < WIRE_READY || type > WIRE_CONNECTED)
		return -EPROTO;
	*out = (struct wire_event){.type = (enum wire_event_type)type, .job = job};
	take_event(&r, out);
	return r.bad ? -EPROTO : 1;
}

static void put_int(struct buf *out, uint64_t v, size_t bytes)
{
	char mem[8];

	for (size_t i = 0; i < bytes; i++)
		mem[i] = (char)(v >> (8 * i));
	buf_add(out, mem, bytes);
}

static void put_head(struct buf *out, unsigned type, uint32_t job, size_t length)
{
	CHECK(length <= WIRE_PAYLOAD_MAX);
	put_int(out, length, 4);
	put_int(out, job, 4);
	put_int(out, type, 4);
}

/* A message is added whole or not at all, so that a lack of memory never leaves half of one. */
static bool has_room(struct buf *out, size_t payload)
{
	return buf_reserve(out, WIRE_HEAD_BYTES + payload) != NULL;
}

static size_t request_bytes(const struct wire_request *m)
{
	switch (m->type) {
	case WIRE_EXEC_MORE:
	case WIRE_EXEC:
	case WIRE_CONTENT:
		return m->bytes.n;
	case WIRE_READ:
	case WIRE_LIST:
	case WIRE_STAT:
	case WIRE_GLOB:
		return m->path.n;
	case WIRE_WRITE:
		return 12 + m->path.n;
	case WIRE_DELETE:
		return 1 + m->path.n;
	case WIRE_MOVE:
		return 4 + m->path.n + m->to.n;
	case WIRE_CHMOD:
		return 4 + m->path.n;
	case WIRE_CREDIT:
		return 4;
	case WIRE_CONNECT:
		return 2;
	case WIRE_KILL:
	case WIRE_CANCEL:
		return 0;
	}
	return 0;
}

void wire_put_request(struct buf *out, const struct wire_request *m)
{
	size_t length = request_bytes(m);

	if (!has_room(out, length))
		return;
	put_head(out, m->type, m->job, length);
	if (m->type == WIRE_WRITE || m->type == WIRE_CHMOD)
		put_int(out, m->mode, 4);
	if (m->type == WIRE_WRITE)
		put_int(out, m->size, 8);
	if (m->type == WIRE_DELETE)
		put_int(out, m->recursive, 1);
	if (m->type == WIRE_MOVE)
		put_int(out, m->path.n, 4);
	if (m->type == WIRE_CREDIT)
		put_int(out, m->credit, 4);
	if (m->type == WIRE_CONNECT)
		put_int(out, m->port, 2);
	buf_add_str(out, m->bytes);
	buf_add_str(out, m->path);
	buf_add_str(out, m->to);
}

static size_t event_bytes(const struct wire_event *m)
{
	switch (m->type) {
	case WIRE_READY:
	case WIRE_CONNECTED:
		return 0;
	case WIRE_SIZE:
		return 8;
	case WIRE_DATA:
		return 1 + m->bytes.n;
	case WIRE_LOG:
		return m->bytes.n;
	case WIRE_ENTRY:
		return 21 + m->path.n;
	case WIRE_DONE:
		return 8 + m->text.n;
	}
	return 0;
}

void wire_put_event(struct buf *out, const struct wire_event *m)
{
	size_t length = event_bytes(m);

	if (!has_room(out, length))
		return;
	put_head(out, m->type, m->job, length);
	if (m->type == WIRE_SIZE || m->type == WIRE_ENTRY)
		put_int(out, m->size, 8);
	if (m->type == WIRE_DATA)
		put_int(out, m->stream, 1);
	if (m->type == WIRE_ENTRY) {
		put_int(out, (uint64_t)m->mtime_sec, 8);
		put_int(out, m->mode, 4);
		put_int(out, m->is_dir, 1);
	}
	if (m->type == WIRE_DONE) {
		put_int(out, (uint64_t)m->error, 4);
		put_int(out, (uint32_t)m->exit_code, 4);
	}
	buf_add_str(out, m->bytes);
	buf_add_str(out, m->path);
	buf_add_str(out, m->text);
}

size_t wire_entry_cost(struct str path)
{
	return 21 + path.n;
}

static bool put_string(struct buf *out, struct str s)
{
	buf_add_str(out, s);
	buf_add_char(out, 0);
	return !has_nul(s);
}

int wire_put_exec(struct buf *out, const struct str *argv, size_t nargv, const struct str *env, size_t nenv,
		  struct str workdir)
{
	bool ok = nargv > 0;

	if (nargv > WIRE_EXEC_MAX || nenv > WIRE_EXEC_MAX)
		return -E2BIG;
	put_int(out, nargv, 4);
	put_int(out, nenv, 4);
	for (size_t i = 0; i < nargv; i++)
		ok = put_string(out, argv[i]) && ok;
	for (size_t i = 0; i < nenv; i++)
		ok = put_string(out, env[i]) && ok;
	ok = put_string(out, workdir) && ok;
	if (out->failed)
		return -ENOMEM;
	if (out->len > WIRE_EXEC_MAX)
		return -E2BIG;
	return ok ? 0 : -EINVAL;
}

int wire_parse_exec(struct str body, struct wire_exec *out)
{
	struct reader r = {(const unsigned char *)body.p, body.n, false};
	uint64_t strings = 0;

	out->nargv = (size_t)take_int(&r, 4);
	out->nenv = (size_t)take_int(&r, 4);
	if (r.bad || out->nargv == 0 || r.n == 0 || r.p[r.n - 1] != 0)
		return -EPROTO;
	for (size_t i = 0; i < r.n; i++)
		strings += r.p[i] == 0;
	if (strings != (uint64_t)out->nargv + out->nenv + 1)
		return -EPROTO;
	out->strings = (const char *)r.p;
	return 0;
}
