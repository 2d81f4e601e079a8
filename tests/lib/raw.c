/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/raw.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/unix_socket.h"
#include "lib/wait.h"
#include "lib/wire.h"

static struct raw adopt(int fd)
{
	cr_assert_eq(fd_set_nonblock(fd), 0);
	return (struct raw){.fd = fd};
}

int raw_try_unix(struct raw *r, const char *path)
{
	int fd = unix_socket_connect(path);

	*r = (struct raw){.fd = -1};
	if (fd < 0)
		return fd;
	*r = adopt(fd);
	return 0;
}

struct raw raw_unix(const char *path)
{
	struct raw r;
	int rc = raw_try_unix(&r, path);

	cr_assert_eq(rc, 0, "no connection to %s: %s", path, strerror(-rc));
	return r;
}

/*
 * The kernel keeps the effective ids and the groups of the thread that connects, so they are changed by system call,
 * for this thread alone, and changed back; the threads of an upstream are not touched.
 */
struct raw raw_unix_as(const char *path, uid_t uid, gid_t gid, const gid_t *groups, size_t ngroups)
{
	gid_t own[64];
	int nown = getgroups(64, own);
	struct raw r;
	int rc;

	cr_assert_geq(nown, 0);
	cr_assert_eq(syscall(SYS_setgroups, ngroups, groups), 0);
	cr_assert_eq(syscall(SYS_setresgid, -1, gid, -1), 0);
	cr_assert_eq(syscall(SYS_setresuid, -1, uid, -1), 0);
	rc = raw_try_unix(&r, path);
	cr_assert_eq(syscall(SYS_setresuid, -1, 0, -1), 0);
	cr_assert_eq(syscall(SYS_setresgid, -1, 0, -1), 0);
	cr_assert_eq(syscall(SYS_setgroups, nown, own), 0);
	cr_assert_eq(rc, 0, "no connection to %s as uid %u: %s", path, (unsigned)uid, strerror(-rc));
	return r;
}

struct raw raw_tcp(unsigned port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0, "no connection to port %u", port);
	cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	return adopt(fd);
}

/* A socket on a loopback address; port 0 is of the kernel's choice. -1 with errno when it cannot be bound. */
static int bound(int family, unsigned port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd >= 0 && bind(fd, family == AF_INET ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6,
			    family == AF_INET ? sizeof(v4) : sizeof(v6)) == 0)
		return fd;
	fd_close(&fd);
	return -1;
}

bool raw_has_ipv6(void)
{
	int fd = bound(AF_INET6, 0);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

/* Below the range from which the kernel takes ports of its own choice, so that nobody gets it meanwhile by chance. */
unsigned raw_free_port(void)
{
	static unsigned tried;
	unsigned first = (unsigned)getpid() * 131;

	for (unsigned i = 0; i < 1000; i++) {
		unsigned port = 20000 + (first + tried++) % 12000;
		int fd = bound(AF_INET, port);
		int other = bound(AF_INET6, port);
		bool is_free = fd >= 0 && (other >= 0 || !raw_has_ipv6());

		fd_close(&fd);
		fd_close(&other);
		if (is_free)
			return port;
	}
	cr_assert_fail("no port is free");
	return 0;
}

struct raw raw_tcp_as(unsigned port, uid_t uid, bool v6)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 to6 = {
		.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	uid_t own = geteuid();
	int fd, one = 1;

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(syscall(SYS_setresuid, -1, uid, -1), 0);
	fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(syscall(SYS_setresuid, -1, own, -1), 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(connect(fd, v6 ? (struct sockaddr *)&to6 : (struct sockaddr *)&to, v6 ? sizeof(to6) : sizeof(to)),
		     0, "no connection to port %u", port);
	cr_assert_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	return adopt(fd);
}

void raw_close(struct raw *r)
{
	fd_close(&r->fd);
	buf_fini(&r->in);
}

void raw_reset(struct raw *r)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	if (r->fd >= 0)
		(void)setsockopt(r->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	raw_close(r);
}

void raw_half_close(struct raw *r)
{
	cr_assert_eq(shutdown(r->fd, SHUT_WR), 0);
}

bool raw_send(struct raw *r, const void *p, size_t n)
{
	const char *at = p;
	uint64_t end = wait_now_ms() + WAIT_MS;

	while (n) {
		ssize_t sent = send(r->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			at += sent;
			n -= (size_t)sent;
		} else if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			return false;
		} else if (wait_now_ms() > end || !wait_fd(r->fd, POLLOUT, WAIT_MS)) {
			return false;
		}
	}
	return true;
}

bool raw_text(struct raw *r, const char *text)
{
	return raw_send(r, text, strlen(text));
}

bool raw_split(struct raw *r, const void *p, size_t n, size_t at)
{
	return raw_send(r, p, at) && raw_send(r, (const char *)p + at, n - at);
}

bool raw_bytewise(struct raw *r, const void *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!raw_send(r, (const char *)p + i, 1))
			return false;
	return true;
}

size_t raw_push(struct raw *r, const void *p, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t sent = send(r->fd, (const char *)p + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent <= 0)
			break;
		done += (size_t)sent;
	}
	return done;
}

/* Whether the credential lies in the buffer, its last n bytes being new. */
static bool holds_planted(const struct buf *b, size_t n)
{
	size_t overlap = sizeof(PLANTED_SECRET) - 2;
	size_t look = n + overlap < b->len ? n + overlap : b->len;

	return memmem(buf_data(b) + b->len - look, look, PLANTED_SECRET, sizeof(PLANTED_SECRET) - 1) != NULL;
}

/* Whatever has arrived goes to r->in. False when nothing had. */
static bool take_input(struct raw *r)
{
	char *room = buf_reserve(&r->in, 65536);
	ssize_t n = recv(r->fd, room, 65536, MSG_DONTWAIT);

	if (n > 0) {
		buf_commit(&r->in, (size_t)n);
		cr_assert_not(holds_planted(&r->in, (size_t)n), "the planted credential reached a client");
		return true;
	}
	if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		r->ended = true;
		r->reset = n < 0;
	}
	return false;
}

bool raw_read(struct raw *r, size_t n, unsigned ms)
{
	uint64_t end = wait_now_ms() + ms;

	while (r->in.len < n && !r->ended) {
		uint64_t now = wait_now_ms();

		if (!take_input(r) && !r->ended && (now >= end || !wait_fd(r->fd, POLLIN, (unsigned)(end - now))))
			break;
	}
	return r->in.len >= n;
}

bool raw_read_text(struct raw *r, const char *needle, unsigned ms)
{
	uint64_t end = wait_now_ms() + ms;

	while (!r->in.len || !memmem(buf_data(&r->in), r->in.len, needle, strlen(needle))) {
		uint64_t now = wait_now_ms();

		if (now >= end || !raw_read(r, r->in.len + 1, (unsigned)(end - now)))
			return false;
	}
	return true;
}

bool raw_closes(struct raw *r, unsigned ms)
{
	uint64_t end = wait_now_ms() + ms;

	while (!r->ended) {
		uint64_t now = wait_now_ms();

		if (now >= end)
			return false;
		(void)raw_read(r, r->in.len + 1, (unsigned)(end - now));
	}
	return true;
}

bool raw_silent(struct raw *r, unsigned ms)
{
	return !raw_read(r, r->in.len + 1, ms) && !r->ended;
}

/* Takes an answer from what has arrived; ANSWER_LATE while it is incomplete. */
static enum answer_end try_answer(struct raw *r, bool bodiless, struct answer *a)
{
	size_t head = wire_head_bytes(buf_str(&r->in)), used;
	struct str h, rest;
	unsigned status;

	if (!head)
		return r->ended ? ANSWER_CUT : ANSWER_LATE;
	h = str_of(buf_data(&r->in), head);
	rest = str_of(buf_data(&r->in) + head, r->in.len - head);
	status = wire_status(h);
	if (!status)
		return ANSWER_MALFORMED;
	bodiless = bodiless || status < 200 || status == 204 || status == 304;
	switch (wire_body(h, rest, bodiless, r->ended, &used, &a->body)) {
	case WIRE_BROKEN:
		return ANSWER_MALFORMED;
	case WIRE_MORE:
		if (!r->ended)
			return ANSWER_LATE;
		used = rest.n;
		break;
	case WIRE_COMPLETE:
		a->end = ANSWER_COMPLETE;
		break;
	}
	a->status = status;
	buf_add(&a->head, h.p, h.n);
	buf_add(&a->wire, rest.p, used);
	buf_consume(&r->in, head + used);
	return a->end;
}

struct answer raw_answer(struct raw *r, bool bodiless, unsigned ms)
{
	struct answer a = {.end = ANSWER_CUT};
	uint64_t end = wait_now_ms() + ms;

	for (;;) {
		enum answer_end how = try_answer(r, bodiless, &a);
		uint64_t now = wait_now_ms();

		if (how != ANSWER_LATE || now >= end) {
			a.end = how;
			return a;
		}
		(void)raw_read(r, r->in.len + 1, (unsigned)(end - now));
	}
}

void answer_fini(struct answer *a)
{
	buf_fini(&a->head);
	buf_fini(&a->wire);
	buf_fini(&a->body);
}

struct answer raw_once(const char *path, const char *request)
{
	struct raw r = raw_unix(path);
	struct answer a;

	cr_assert(raw_text(&r, request));
	a = raw_answer(&r, str_starts(str_from(request), STR("HEAD ")), WAIT_MS);
	raw_close(&r);
	return a;
}
