/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/flow.h"

#include <errno.h>
#include <sys/socket.h>

enum {
	ROOM_BYTES = 65536 /* of each buffer; more than a head may have */
};

void flow_fini(struct flow *f)
{
	buf_fini(&f->in);
	buf_fini(&f->out);
}

void flow_next(struct flow *f, llhttp_type_t kind)
{
	http_parser_init(&f->parser, kind);
	f->in_body = f->begun = f->done = false;
}

bool flow_has_room(const struct flow *f)
{
	return !f->eof && f->in.len < ROOM_BYTES;
}

bool flow_is_full(const struct flow *f)
{
	return f->out.len >= ROOM_BYTES;
}

bool flow_failed(const struct flow *f)
{
	return f->in.failed || f->out.failed;
}

int flow_read(struct flow *f, int fd)
{
	char *to;
	ssize_t n;

	if (!flow_has_room(f))
		return 0;
	to = buf_reserve(&f->in, ROOM_BYTES - f->in.len);
	if (!to)
		return 0;
	n = recv(fd, to, ROOM_BYTES - f->in.len, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	f->eof = n == 0;
	buf_commit(&f->in, (size_t)n);
	return 1;
}

int flow_write(struct flow *f, int fd)
{
	ssize_t n;

	if (f->out.len == 0)
		return 0;
	n = send(fd, buf_data(&f->out), f->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	buf_consume(&f->out, (size_t)n);
	return 1;
}

/* How many of the bytes that were read find room. */
static size_t movable(const struct flow *f)
{
	size_t room = f->out.len < ROOM_BYTES ? ROOM_BYTES - f->out.len : 0;

	return f->in.len < room ? f->in.len : room;
}

static void move(struct flow *f, size_t n)
{
	buf_add(&f->out, buf_data(&f->in), n);
	buf_consume(&f->in, n);
}

int flow_move_body(struct flow *f)
{
	size_t n = movable(f);
	size_t used = 0;
	enum http_result rc;

	if (!f->in_body || f->done || (f->begun && n == 0))
		return 0;
	f->begun = true;
	rc = http_parse_body(&f->parser, n ? buf_data(&f->in) : "", n, &used, NULL, NULL);
	if (used)
		move(f, used);
	f->done = rc == HTTP_DONE;
	return rc == HTTP_BAD ? -1 : used > 0 || f->done;
}

bool flow_move_raw(struct flow *f)
{
	size_t n = movable(f);

	if (n)
		move(f, n);
	return n > 0;
}
