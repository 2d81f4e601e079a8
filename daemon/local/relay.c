/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each direction is read only when all that was read before has been taken, so at most a piece waits in it. An end is
 * passed on as an end of that direction alone, behind the bytes before it.
 *
 * It is over when
 *   - the client has gone, or takes nothing more: nobody is there to answer;
 *   - both ends were passed on, or the program's was and it takes nothing more.
 * Nothing else ends it, time least of all.
 *
 * The program's socket comes from an init that may hold it as well, so no call on either side relies on the flags of the
 * descriptor. Edges are listened to, with one event for both directions: that the client has gone is heard also while it
 * is not read.
 */
#include "local/relay.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <sys/socket.h>

#include "common/check.h"
#include "local/port_fd.h"

enum {
	PIECES_PER_TURN = 8
};

static bool is_gone(const struct relay_side *s)
{
	struct pollfd p = {.fd = s->fd};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

static void side_close(struct relay_side *s)
{
	if (s->ev)
		event_free(s->ev);
	s->ev = NULL;
	port_fd_close(&s->fd);
	buf_fini(&s->out);
}

static void relay_close(struct relay *r)
{
	side_close(&r->client);
	side_close(&r->program);
	if (r->again)
		event_free(r->again);
	r->again = NULL;
}

void relay_stop(struct relay *r)
{
	relay_close(r);
	loop_defer(r->loop, &r->end);
}

void relay_fini(struct relay *r)
{
	if (!r->loop)
		return;
	relay_close(r);
	deferred_cancel(&r->end);
}

/* --- one direction ---------------------------------------------------------------------------------------------- */

static void side_refused(struct relay_side *s)
{
	s->deaf = true;
	buf_fini(&s->out);
}

static void side_send(struct relay_side *s)
{
	while (s->writable && s->out.len) {
		ssize_t n = send(s->fd, buf_data(&s->out), s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			s->writable = false;
		} else if (n < 0) {
			side_refused(s);
		} else {
			s->taken += (uint64_t)n;
			buf_consume(&s->out, (size_t)n);
		}
	}
	if (s->out.len == 0 && !s->out.failed)
		buf_fini(&s->out);
}

/* Puts a piece of what `from` sends into to->out. */
static void side_read(struct relay_side *from, struct relay_side *to)
{
	char *scratch = from->relay->scratch;
	ssize_t n = recv(from->fd, scratch, RELAY_PIECE_BYTES, MSG_DONTWAIT);

	if (n < 0 && errno == EINTR)
		return;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
		from->readable = false;
		return;
	}
	if (n > 0) {
		if (!to->deaf)
			buf_add(&to->out, scratch, (size_t)n);
		return;
	}
	from->ended = true;
	from->readable = false;
	if (n < 0)
		side_refused(from);
}

static void pass_end(struct relay_side *from, struct relay_side *to)
{
	if (!from->ended || to->told || to->out.len)
		return;
	to->told = true;
	if (!to->deaf && shutdown(to->fd, SHUT_WR) < 0)
		side_refused(to);
}

/* One step; whether another may follow at once. */
static bool side_pass(struct relay_side *from, struct relay_side *to)
{
	side_send(to);
	if (to->out.len == 0 && from->readable && !from->ended) {
		side_read(from, to);
		side_send(to);
	}
	pass_end(from, to);
	return to->out.len == 0 && from->readable && !from->ended;
}

/* --- both ------------------------------------------------------------------------------------------------------- */

static bool is_over(const struct relay *r)
{
	const struct relay_side *c = &r->client, *p = &r->program;

	if (c->out.failed || p->out.failed || c->deaf)
		return true;
	if (c->told && (p->told || p->deaf))
		return true;
	/*
	 * Its last bytes are read first, unless the program does not take what came before them. With our own end told a
	 * half-closed client looks like one that has gone.
	 */
	return !c->told && (c->ended || p->out.len) && is_gone(c);
}

static void relay_turn(struct relay *r)
{
	bool more = true;

	for (int i = 0; i < PIECES_PER_TURN && more; i++) {
		more = side_pass(&r->client, &r->program);
		more = side_pass(&r->program, &r->client) || more;
	}
	if (is_over(r))
		relay_stop(r);
	else if (more)
		event_active(r->again, EV_TIMEOUT, 0);
}

static void on_io(evutil_socket_t fd, short what, void *arg)
{
	struct relay_side *s = arg;

	(void)fd;
	s->readable = s->readable || (what & EV_READ);
	s->writable = s->writable || (what & EV_WRITE);
	relay_turn(s->relay);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	relay_turn(arg);
}

static void on_end(struct deferred *d)
{
	struct relay *r = CONTAINER_OF(d, struct relay, end);

	r->on_end(r);
}

static bool side_watch(struct relay_side *s, struct relay *r)
{
	s->relay = r;
	s->writable = true;
	s->ev = event_new(loop_base(r->loop), s->fd, EV_READ | EV_WRITE | EV_ET | EV_PERSIST, on_io, s);
	return s->ev && event_add(s->ev, NULL) == 0;
}

int relay_start(struct relay *r, struct loop *loop, char *scratch, int client, int program,
		void (*told_end)(struct relay *r))
{
	*r = (struct relay){.loop = loop, .scratch = scratch, .client.fd = client, .program.fd = program};
	r->on_end = told_end;
	deferred_init(&r->end, on_end);
	r->again = event_new(loop_base(loop), -1, 0, on_again, r);
	if (r->again && side_watch(&r->client, r) && side_watch(&r->program, r))
		return 0;
	relay_fini(r);
	return -ENOMEM;
}

void relay_give(struct relay *r, struct buf *to_client, struct buf *to_program, bool client_ended)
{
	CHECK(r->client.ev && r->program.ev);
	r->client.out = *to_client;
	r->program.out = *to_program;
	*to_client = *to_program = BUF_EMPTY;
	r->client.ended = client_ended;
	r->client.readable = !client_ended;
	event_active(r->again, EV_TIMEOUT, 0);
}
