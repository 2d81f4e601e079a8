/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server behind the proxies that are measured: keep-alive HTTP/1.1 on a Unix socket, one epoll loop, as little work
 * as possible, so that what is measured is not this. It answers
 *
 *   GET  .../files?bytes=N              N bytes with a length
 *   GET  .../logs?count=N&gap=MS        NDJSON, each line the CLOCK_MONOTONIC nanoseconds of its sending
 *   POST, PUT anything                         reads the body, then a small JSON object
 *   GET  anything else                         a small JSON object
 *
 * It trusts who asks: only heads that curl, h2load, the probe and the proxies send are understood.
 *
 * usage: bench_upstream SOCKET-PATH
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	HEAD_MAX_BYTES = 8192,
	BLOCK_BYTES = 262144,
	EVENTS = 256
};

/* What epoll's data points at: the first field of a connection, or its timer. */
enum watch_kind {
	WATCH_LISTENER,
	WATCH_CONN,
	WATCH_TIMER
};

struct watch {
	enum watch_kind kind;
	struct conn *conn; /* borrowed; NULL for the listener */
	int fd;            /* owned; -1: none */
};

struct conn {
	struct watch socket;
	struct watch timer; /* of a stream of chunks */
	char head[HEAD_MAX_BYTES];
	size_t have;        /* bytes of `head` */
	uint64_t body_left; /* of the request */
	bool in_body;
	uint64_t down_left; /* of a long answer */
	unsigned chunks_left;
	bool closed;
	struct conn *next; /* of those closed in this turn */
};

/* A sandbox of the one who asks (stacygate.yaml), since the gateway looks whose it is. */
static const char small_body[] =
	"{\"id\":\"sb-0123456789ab\",\"state\":\"running\",\"provider\":\"bench\",\"image\":\"alpine:3.19\","
	"\"owner_id\":\"bench-user@bench\",\"created_at\":\"2026-01-01T00:00:00Z\","
	"\"metadata\":{\"stacygate.owner\":\"bench-user@bench\"}}\n";

static char block[BLOCK_BYTES]; /* zeros that are sent */
static char sink[BLOCK_BYTES];  /* what is read and thrown away */
static int epoll_fd;
static struct conn *graveyard; /* closed in this turn */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void watch(struct watch *w, int op, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = w};

	if (epoll_ctl(epoll_fd, op, w->fd, &e) < 0)
		die("epoll_ctl");
}

static void conn_close(struct conn *c)
{
	if (c->closed)
		return;
	if (c->timer.fd >= 0)
		close(c->timer.fd);
	close(c->socket.fd);
	/* Freed behind the turn, since an event of it may still stand in this one's list. */
	c->closed = true;
	c->next = graveyard;
	graveyard = c;
}

/* Small answers fit into any socket buffer; one that does not is an error of the measurement. */
static void send_all(struct conn *c, const char *p, size_t n)
{
	if (send(c->socket.fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		conn_close(c);
}

static void answer_small(struct conn *c)
{
	static char text[1024];
	static int n;

	if (n == 0)
		n = snprintf(
			text, sizeof(text),
			"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
			"Vary: Origin\r\nContent-Length: %zu\r\n\r\n%s",
			sizeof(small_body) - 1, small_body);
	send_all(c, text, (size_t)n);
}

static uint64_t query(const char *head, const char *name)
{
	const char *at = strstr(head, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : 0;
}

static void send_down(struct conn *c)
{
	while (c->down_left) {
		size_t n = c->down_left < sizeof(block) ? (size_t)c->down_left : sizeof(block);
		ssize_t sent = send(c->socket.fd, block, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN) {
			watch(&c->socket, EPOLL_CTL_MOD, EPOLLOUT);
			return;
		}
		if (sent < 0) {
			conn_close(c);
			return;
		}
		c->down_left -= (uint64_t)sent;
	}
	watch(&c->socket, EPOLL_CTL_MOD, EPOLLIN);
}

static void begin_down(struct conn *c, uint64_t bytes)
{
	char head[128];
	int n = snprintf(head, sizeof(head),
			 "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %" PRIu64
			 "\r\n\r\n",
			 bytes);

	c->down_left = bytes;
	send_all(c, head, (size_t)n);
	if (!c->closed)
		send_down(c);
}

static void begin_chunks(struct conn *c, unsigned count, unsigned gap_ms)
{
	static const char head[] =
		"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
	struct timespec gap = {.tv_sec = gap_ms / 1000, .tv_nsec = (long)(gap_ms % 1000) * 1000000};
	struct itimerspec every = {gap, gap};

	c->timer.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (c->timer.fd < 0 || timerfd_settime(c->timer.fd, 0, &every, NULL) < 0)
		die("timerfd");
	c->chunks_left = count;
	watch(&c->timer, EPOLL_CTL_ADD, EPOLLIN);
	send_all(c, head, sizeof(head) - 1);
}

static void send_chunk(struct conn *c)
{
	struct timespec now;
	uint64_t ticks;
	char line[64];
	char text[96];
	int n;

	if (read(c->timer.fd, &ticks, sizeof(ticks)) != sizeof(ticks))
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	n = snprintf(line, sizeof(line), "%" PRIu64 "\n", (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
	n = snprintf(text, sizeof(text), "%x\r\n%s\r\n%s", (unsigned)n, line, c->chunks_left == 1 ? "0\r\n\r\n" : "");
	if (--c->chunks_left == 0) {
		close(c->timer.fd);
		c->timer.fd = -1;
	}
	send_all(c, text, (size_t)n);
}

/* The value of Content-Length, 0 without one. */
static uint64_t content_length(const char *head)
{
	for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
		if (strncasecmp(line + 2, "content-length:", 15) == 0)
			return strtoull(line + 17, NULL, 10);
	return 0;
}

/* A head (terminated) is there: answers, or waits for a body. */
static void use_head(struct conn *c)
{
	if (c->head[0] == 'P') {
		c->body_left = content_length(c->head);
		c->in_body = true;
	} else if (strstr(c->head, "/files?bytes=")) {
		begin_down(c, query(c->head, "bytes="));
	} else if (strstr(c->head, "/logs?count=")) {
		begin_chunks(c, (unsigned)query(c->head, "count="), (unsigned)query(c->head, "gap="));
	} else {
		answer_small(c);
	}
}

static void body_bytes(struct conn *c, size_t n)
{
	c->body_left -= n;
	if (c->body_left)
		return;
	c->in_body = false;
	answer_small(c);
}

/* Whole heads in what was received, and the beginning of a body behind one. */
static void use_received(struct conn *c)
{
	char *end;

	while (!c->closed && (end = memmem(c->head, c->have, "\r\n\r\n", 4))) {
		size_t used = (size_t)(end - c->head) + 4;
		end[2] = '\0';
		use_head(c);
		if (c->closed)
			return;
		if (c->in_body) {
			size_t behind = c->have - used;
			if (behind > c->body_left)
				behind = (size_t)c->body_left;
			used += behind;
			body_bytes(c, behind);
		}
		c->have -= used;
		memmove(c->head, c->head + used, c->have);
	}
	if (!c->closed && c->have == sizeof(c->head) - 1)
		conn_close(c);
}

static void on_readable(struct conn *c)
{
	ssize_t n;

	if (c->in_body) {
		n = recv(c->socket.fd, sink, c->body_left < sizeof(sink) ? (size_t)c->body_left : sizeof(sink),
			 MSG_DONTWAIT);
	} else {
		n = recv(c->socket.fd, c->head + c->have, sizeof(c->head) - 1 - c->have, MSG_DONTWAIT);
	}
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		conn_close(c);
		return;
	}
	if (c->in_body) {
		body_bytes(c, (size_t)n);
		return;
	}
	c->have += (size_t)n;
	c->head[c->have] = '\0';
	use_received(c);
}

static void on_accept(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	struct conn *c = fd >= 0 ? calloc(1, sizeof(*c)) : NULL;

	if (!c)
		die("accept");
	c->socket = (struct watch){WATCH_CONN, c, fd};
	c->timer = (struct watch){WATCH_TIMER, c, -1};
	watch(&c->socket, EPOLL_CTL_ADD, EPOLLIN);
}

static void on_event(const struct watch *w, uint32_t events)
{
	switch (w->kind) {
	case WATCH_LISTENER:
		on_accept(w->fd);
		return;
	case WATCH_TIMER:
		if (!w->conn->closed && w->fd >= 0)
			send_chunk(w->conn);
		return;
	case WATCH_CONN:
		if (w->conn->closed)
			return;
		if (events & EPOLLOUT)
			send_down(w->conn);
		else
			on_readable(w->conn);
		return;
	}
}

/* Frees what was closed in this turn. */
static void sweep(void)
{
	while (graveyard) {
		struct conn *c = graveyard;
		graveyard = c->next;
		free(c);
	}
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || strlen(path) >= sizeof(address.sun_path))
		die("socket path");
	memcpy(address.sun_path, path, strlen(path) + 1);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 4096) < 0)
		die(path);
	return fd;
}

int main(int argc, char **argv)
{
	struct watch listener = {WATCH_LISTENER, NULL, -1};
	struct epoll_event events[EVENTS];

	if (argc != 2) {
		fprintf(stderr, "usage: bench_upstream SOCKET-PATH\n");
		return 2;
	}
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1");
	listener.fd = listen_at(argv[1]);
	watch(&listener, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		int n = epoll_wait(epoll_fd, events, EVENTS, -1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++)
			on_event(events[i].data.ptr, events[i].events);
		sweep();
	}
}
