/* SPDX-License-Identifier: Apache-2.0 */
/* The bounds of the HTTP front, with limits so short that a test can wait for them. */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/loop.h"
#include "common/unix_socket.h"
#include "lib/raw.h"
#include "lib/scratch.h"
#include "lib/wait.h"
#include "local/conn.h"
#include "local/httpd.h"

enum {
	BODY_LIMIT = 1000,
	BODIES_LIMIT = 1500
};

static struct scratch scratch;
static struct loop *loop;
static struct httpd *httpd;
static struct event *end_ev;
static int end_pipe[2];
static pthread_t thread;
static const char *path;

static struct conn_body_limit on_head(void *arg, struct conn *c)
{
	(void)arg;
	(void)c;
	return (struct conn_body_limit){BODY_LIMIT, 413};
}

/* "/never" is not answered, "/stream" begins a stream and leaves it, "/big" is more than a socket holds. */
static void on_request(void *arg, struct conn *c)
{
	static char big[4 << 20];

	(void)arg;
	if (str_eq(conn_path(c), STR("/never")))
		return;
	if (str_eq(conn_path(c), STR("/stream"))) {
		conn_begin(c, 200, NULL, STR(""), -1);
		conn_send(c, str_of(big, sizeof(big)));
		return;
	}
	if (str_eq(conn_path(c), STR("/big")))
		conn_respond(c, 200, NULL, STR(""), str_of(big, sizeof(big)));
	else
		conn_respond(c, 200, "text/plain", STR(""), conn_body(c));
}

static void on_end(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	loop_stop(arg);
}

static void *serve(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void begin(void)
{
	static const struct conn_handler handler = {.on_head = on_head, .on_request = on_request};
	const struct httpd_limits limits = {
		.connections = 2,
		.body_bytes = BODIES_LIMIT,
		.head_ms = 150,
		.idle_ms = 400,
		.body_idle_ms = 150,
		.stall_ms = 200,
		.linger_ms = 150,
	};
	struct unix_socket_spec spec = {.mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 16};
	char why[100];
	int fd;

	scratch_init(&scratch);
	spec.path = path = scratch_path(&scratch, "s");
	fd = unix_socket_listen(&spec, why, sizeof(why));
	cr_assert_geq(fd, 0, "%s", why);
	loop = loop_new();
	httpd = httpd_new(loop, &limits, &handler, NULL);
	cr_assert_eq(httpd_listen(httpd, fd, false), 0);
	cr_assert_eq(pipe(end_pipe), 0);
	end_ev = event_new(loop_base(loop), end_pipe[0], EV_READ, on_end, loop);
	cr_assert_eq(event_add(end_ev, NULL), 0);
	cr_assert_eq(pthread_create(&thread, NULL, serve, loop), 0);
}

static void end(void)
{
	close(end_pipe[1]);
	pthread_join(thread, NULL);
	httpd_free(httpd);
	event_free(end_ev);
	close(end_pipe[0]);
	loop_free(loop);
	scratch_fini(&scratch);
}

TestSuite(conn, .init = begin, .fini = end);

static void expect_status(struct raw *r, unsigned status)
{
	struct answer a = raw_answer(r, false, WAIT_MS);

	cr_expect_eq(a.end, ANSWER_COMPLETE);
	cr_expect_eq(a.status, status, "%u", a.status);
	answer_fini(&a);
}

/* A head that does not come to its end is answered 408, and the connection is closed. */
Test(conn, slow_head)
{
	struct raw r = raw_unix(path);

	raw_text(&r, "GET / HTTP/1.1\r\nHost:");
	expect_status(&r, 408);
	cr_expect(raw_closes(&r, WAIT_MS));
	raw_close(&r);
}

/* So is a body. */
Test(conn, slow_body)
{
	struct raw r = raw_unix(path);

	raw_text(&r, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nab");
	expect_status(&r, 408);
	cr_expect(raw_closes(&r, WAIT_MS));
	raw_close(&r);
}

/* A connection without a request is closed without a word, before the first one and between two. */
Test(conn, idle)
{
	struct raw fresh = raw_unix(path);
	struct raw used = raw_unix(path);

	raw_text(&used, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_status(&used, 200);
	cr_expect(raw_closes(&used, WAIT_MS));
	cr_expect(raw_closes(&fresh, WAIT_MS));
	cr_expect_eq(fresh.in.len, 0);
	raw_close(&fresh);
	raw_close(&used);
}

/* A request that is worked on has no deadline of the front's. */
Test(conn, work_takes_its_time)
{
	struct raw r = raw_unix(path);

	raw_text(&r, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
	cr_expect(raw_silent(&r, 700));
	raw_close(&r);
}

/* An answer that nobody reads is given up; a stream is not. */
Test(conn, stalled)
{
	struct raw big = raw_unix(path);
	struct raw stream = raw_unix(path);
	struct answer a;

	raw_text(&big, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_text(&stream, "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n");
	cr_expect(raw_read(&stream, 1, WAIT_MS));
	/* The close is waited for without reading anything, which would be progress. */
	cr_expect_neq(wait_fd(big.fd, POLLRDHUP, WAIT_MS), 0);
	cr_expect_eq(wait_fd(stream.fd, POLLRDHUP, 300), 0, "the stream was closed");
	a = raw_answer(&big, false, WAIT_MS);
	cr_expect_eq(a.end, ANSWER_CUT);
	answer_fini(&a);
	cr_expect(raw_read(&stream, 4 << 20, WAIT_MS));
	raw_close(&big);
	raw_close(&stream);
}

/* Beyond the connection limit a client waits until another has gone. */
Test(conn, connection_limit)
{
	struct raw a = raw_unix(path);
	struct raw b = raw_unix(path);
	struct raw c;

	raw_text(&a, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_text(&b, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
	c = raw_unix(path);
	raw_text(&c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	cr_expect(raw_silent(&c, 300));
	raw_close(&a);
	expect_status(&c, 200);
	raw_close(&b);
	raw_close(&c);
}

/* Request bodies are bounded one by one and all together. */
Test(conn, body_limits)
{
	struct raw a = raw_unix(path);
	struct raw b = raw_unix(path);
	char filler[901];

	memset(filler, 'x', 900);
	filler[900] = '\0';
	raw_text(&a, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
	raw_text(&a, filler);
	raw_text(&b, "POST /never HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n");
	raw_text(&b, filler);
	/* One of them came second. */
	struct pollfd fds[2] = {{.fd = a.fd, .events = POLLIN}, {.fd = b.fd, .events = POLLIN}};
	cr_assert_gt(poll(fds, 2, WAIT_MS), 0);
	expect_status(fds[0].revents ? &a : &b, 503);
	raw_close(&a);
	raw_close(&b);
	a = raw_unix(path);
	raw_text(&a, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n");
	expect_status(&a, 413);
	raw_close(&a);
	/* What was held is given back. */
	a = raw_unix(path);
	raw_text(&a, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n");
	raw_text(&a, filler);
	expect_status(&a, 200);
	raw_close(&a);
}

/* Pipelined bytes beyond the bound stay in the kernel, and the client's close is heard all the same. */
Test(conn, close_behind_pipelined_requests)
{
	struct raw busy = raw_unix(path);
	struct raw other = raw_unix(path);
	struct raw third;
	char requests[40 * 100 + 1];
	size_t n = 0;

	raw_text(&busy, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
	for (int i = 0; i < 100; i++)
		n += (size_t)snprintf(requests + n, sizeof(requests) - n, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	for (int i = 0; i < 60; i++)
		raw_push(&busy, requests, n);
	raw_text(&other, "GET /never HTTP/1.1\r\nHost: x\r\n\r\n");
	raw_close(&busy);
	/* Both places were taken: the third is served only because the first one's close was heard. */
	third = raw_unix(path);
	raw_text(&third, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
	expect_status(&third, 200);
	raw_close(&third);
	raw_close(&other);
}
