/* SPDX-License-Identifier: Apache-2.0 */
/* Streams that stand still, on sandboxes in memory (tests/fake), with a beat that a test can wait for. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "common/unix_socket.h"
#include "lib/raw.h"
#include "lib/scratch.h"
#include "lib/wait.h"
#include "local/api.h"
#include "local/httpd.h"
#include "local/preview.h"
#include "local/records.h"
#include "local/templates.h"

enum {
	BEAT_MS = 100,
	CONNECT_MS = 200,
	SHORT_MS = 60 /* every limit of the front */
};

static struct scratch scratch;
static struct api api;
static struct sandbox_host *host;
static struct httpd *httpd;
static struct event *end_ev;
static int end_pipe[2];
static pthread_t thread;
static const char *path;

static void on_stopped(void *arg)
{
	loop_stop(arg);
}

static void on_end(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	httpd_drain(httpd);
	sandbox_host_stop(host, on_stopped, api.loop);
}

static void *serve(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void begin_with(struct httpd_limits limits)
{
	const struct sandbox_host_config config = {.state_dir = "/nowhere"};
	struct unix_socket_spec spec = {.mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 16};
	char why[100];
	int fd;

	scratch_init(&scratch);
	spec.path = path = scratch_path(&scratch, "s");
	fd = unix_socket_listen(&spec, why, sizeof(why));
	cr_assert_geq(fd, 0, "%s", why);
	api = (struct api){.loop = loop_new(), .state_dir = scratch.path, .started_ns = clock_ns(), .beat_ms = BEAT_MS};
	cr_assert_eq(sandbox_host_new(api.loop, &config, &host, why, sizeof(why)), 0);
	api.records = records_new(api.loop, host);
	api.templates = templates_open(scratch.path);
	api.events = events_new();
	api.previews = previews_new(api.loop, CONNECT_MS);
	api_watch_records(&api);
	httpd = httpd_new(api.loop, &limits, api_handler(), &api);
	cr_assert_eq(httpd_listen(httpd, fd, false), 0);
	cr_assert_eq(pipe(end_pipe), 0);
	end_ev = event_new(loop_base(api.loop), end_pipe[0], EV_READ, on_end, NULL);
	cr_assert_eq(event_add(end_ev, NULL), 0);
	cr_assert_eq(pthread_create(&thread, NULL, serve, api.loop), 0);
}

static void begin(void)
{
	begin_with(httpd_default_limits());
}

static void begin_short(void)
{
	struct httpd_limits limits = httpd_default_limits();

	limits.head_ms = limits.idle_ms = limits.body_idle_ms = limits.stall_ms = limits.linger_ms = SHORT_MS;
	begin_with(limits);
}

static void end(void)
{
	close(end_pipe[1]);
	pthread_join(thread, NULL);
	httpd_free(httpd);
	previews_free(api.previews);
	records_free(api.records);
	templates_free(api.templates);
	events_free(api.events);
	sandbox_host_free(host);
	event_free(end_ev);
	close(end_pipe[0]);
	loop_free(api.loop);
	scratch_fini(&scratch);
}

TestSuite(stream, .init = begin, .fini = end);

static void post(struct raw *r, const char *target, const char *body)
{
	char request[600];

	snprintf(request, sizeof(request), "POST /api/v1%s HTTP/1.1\r\nHost: x\r\nContent-Length: %zu\r\n\r\n%s",
		 target, strlen(body), body);
	cr_assert(raw_text(r, request));
}

/* A new sandbox's exec route. */
static void spawn(struct raw *r, char target[64])
{
	struct answer a;
	const char *id;

	post(r, "/sandboxes", "{}");
	a = raw_answer(r, false, WAIT_MS);
	cr_assert_eq(a.status, 201);
	id = memmem(buf_data(&a.body), a.body.len, "sb-", 3);
	cr_assert_not_null(id);
	snprintf(target, 64, "/sandboxes/%.11s/exec", id);
	answer_fini(&a);
}

/* A new sandbox's preview host for a port, as the head of a request. */
static void preview_head(struct raw *r, unsigned port, char head[200])
{
	char target[64];

	spawn(r, target);
	snprintf(head, 200, "GET / HTTP/1.1\r\nHost: %u-%.11s.localhost\r\n\r\n", port, target + strlen("/sandboxes/"));
}

/* A silent stream gets blank lines, each a chunk of its own, between whole records. */
Test(stream, blank_lines)
{
	struct raw r = raw_unix(path);
	char target[64];

	spawn(&r, target);
	post(&r, target, "{\"stream\":true,\"command\":\"out a; stop 1000; out b\"}");
	struct answer a = raw_answer(&r, false, WAIT_MS);
	cr_expect_eq(a.end, ANSWER_COMPLETE);
	cr_expect(buf_contains(&a.wire, "\r\n1\r\n\n\r\n1\r\n\n\r\n"), "%.*s", STR_ARG(buf_str(&a.wire)));
	cr_expect(str_starts(buf_str(&a.body), STR("{\"stream\":\"stdout\",\"data\":\"a\\n\"}\n\n\n")));
	cr_expect(str_ends(buf_str(&a.body), STR("\n\n{\"stream\":\"stdout\",\"data\":\"b\\n\"}\n")));
	answer_fini(&a);
	raw_close(&r);
}

/* A stream with output more often than the beat gets none. */
Test(stream, no_blank_lines_between_output)
{
	struct raw r = raw_unix(path);
	char target[64];

	spawn(&r, target);
	post(&r, target, "{\"stream\":true,\"command\":\"out a; stop 20; out b; stop 20; out c; stop 20; out d\"}");
	struct answer a = raw_answer(&r, false, WAIT_MS);
	cr_expect_eq(a.end, ANSWER_COMPLETE);
	cr_expect_not(buf_contains(&a.body, "\n\n"));
	answer_fini(&a);
	raw_close(&r);
}

/* So does a stream of events: a comment, which is no event, while nothing happens. */
Test(stream, events_beat)
{
	struct raw r = raw_unix(path), other = raw_unix(path);
	char target[64];

	cr_assert(raw_text(&r, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"));
	cr_assert(raw_read_text(&r, "\r\n\r\n", WAIT_MS));
	cr_assert(raw_read_text(&r, "4\r\n: \n\n\r\n4\r\n: \n\n\r\n", WAIT_MS));
	spawn(&other, target);
	cr_assert(raw_read_text(&r, "data: {\"id\":\"evt-1\",\"type\":\"sandbox.created\"", WAIT_MS));
	raw_close(&other);
	raw_close(&r);
}

/* No limit of the front is one for streams: they stand still for many times as long as any of them. */
TestSuite(short_limits, .init = begin_short, .fini = end);

Test(short_limits, cut_no_stream)
{
	struct raw r = raw_unix(path), events = raw_unix(path);
	char target[64];

	cr_assert(raw_text(&events, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n"));
	spawn(&r, target);
	post(&r, target, "{\"stream\":true,\"command\":\"out a; stop 600; out b\"}");
	struct answer a = raw_answer(&r, false, WAIT_MS);
	cr_expect_eq(a.end, ANSWER_COMPLETE);
	cr_expect(str_ends(buf_str(&a.body), STR("{\"stream\":\"stdout\",\"data\":\"b\\n\"}\n")));
	answer_fini(&a);
	post(&r, target, "{\"command\":\"stop 600; out b\"}");
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect(a.end == ANSWER_COMPLETE && a.status == 200);
	answer_fini(&a);
	cr_expect(raw_read_text(&events, "exec.completed", WAIT_MS));
	raw_close(&events);
	raw_close(&r);
}

/* Nor for previews, in either direction or none. */
Test(short_limits, cut_no_preview)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct raw r = raw_unix(path);
	char head[200], bytes[200];

	cr_assert_eq(bind(listener, (struct sockaddr *)&at, size), 0);
	cr_assert_eq(listen(listener, 1), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)&at, &size), 0);
	preview_head(&r, ntohs(at.sin_port), head);
	cr_assert(raw_text(&r, head));
	int program = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(program, 0);
	cr_assert_eq(recv(program, bytes, strlen(head), MSG_WAITALL), (ssize_t)strlen(head));
	cr_expect(raw_silent(&r, 10 * SHORT_MS));
	cr_assert_eq(send(program, "late", 4, MSG_NOSIGNAL), 4);
	cr_expect(raw_read_text(&r, "late", WAIT_MS));
	cr_expect(raw_silent(&r, 5 * SHORT_MS));
	cr_assert(raw_text(&r, "later"));
	cr_expect_eq(recv(program, bytes, 5, MSG_WAITALL), 5);
	close(program);
	cr_expect(raw_closes(&r, WAIT_MS));
	raw_close(&r);
	close(listener);
}

/* A program that does not accept in time is answered for. */
Test(stream, preview_not_accepted)
{
	struct raw r = raw_unix(path);
	char head[200];

	preview_head(&r, 14, head);
	cr_assert(raw_text(&r, head));
	struct answer a = raw_answer(&r, false, WAIT_MS);
	cr_expect_eq(a.status, 502);
	cr_expect(buf_contains(&a.body, "\"code\":\"PROVIDER_ERROR\""));
	cr_expect(buf_contains(&a.body, "the program does not accept the connection"));
	cr_expect(raw_closes(&r, WAIT_MS));
	answer_fini(&a);
	raw_close(&r);
}
