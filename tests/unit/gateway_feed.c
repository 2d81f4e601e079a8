/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/feed, by a clock of the test's own: how long it subscribes for what is remembered, and when it asks again. */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/dial.h"
#include "gateway/feed.h"
#include "gateway/ownership.h"
#include "gateway/sandbox_doc.h"
#include "gateway/upstream.h"
#include "lib/scratch.h"
#include "lib/wait.h"

#define MINUTE_MS UINT64_C(60000)
#define STREAM    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

static struct loop *loop;
static struct dialer *dialer;
static struct scratch dir;
static struct upstream *up;
static struct ownership ownership;
static struct feed feed;
static uint64_t now_ms;
static int listening;
static int server = -1; /* the server's end of the last connection */
static unsigned asked;  /* requests that came */
static struct deadline_queue soon;
static struct deadline wake;

static uint64_t injected_ns(void)
{
	return now_ms * 1000000u;
}

static void turn(void)
{
	int fd;

	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	loop_run_deferred(loop);
	fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (server >= 0)
		close(server);
	server = fd;
}

/* Takes what the feed asks; what it has asked so far. */
static unsigned requests(void)
{
	char bytes[4096];
	uint64_t until = wait_now_ms() + 100;

	while (wait_now_ms() < until) {
		turn();
		ssize_t n = server < 0 ? -1 : recv(server, bytes, sizeof(bytes), 0);
		if (n > 0 && memmem(bytes, (size_t)n, "GET /api/v1/events HTTP/1.1\r\n", 29))
			asked++;
	}
	return asked;
}

static void answer(const char *text)
{
	cr_assert_eq(send(server, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	requests();
}

static void on_wake(struct deadline *d)
{
	(void)d;
}

/* The loop looks at its deadlines when the first one is due: one that is due soon, whatever the clock says then. */
static void wait_for_ms(uint64_t ms)
{
	deadline_set(&soon, &wake);
	now_ms += ms;
	requests();
}

static struct fetch_caller caller(void)
{
	return (struct fetch_caller){up, NULL, "alice", NULL, NULL};
}

static void use(void)
{
	const struct fetch_caller c = caller();

	feed_want(&feed, &c);
}

static void begin(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct config_upstream config = {0};

	config_upstream_defaults(&config);
	config.scheme = CONFIG_UNIX;
	config.name = (char *)(uintptr_t) "main";
	config.url = (char *)(uintptr_t) "unix:///up.sock";
	config.pool.max_connections = config.pool.max_per_identity = config.pool.max_idle = 4;
	config.pool.lifetime_ms = 0;
	config.timeouts.stream_idle_ms = 0;
	now_ms = 1000;
	clock_set_source(injected_ns);
	scratch_init(&dir);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", scratch_path(&dir, "up.sock"));
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(listening, 16), 0);
	loop = loop_new();
	dialer = dialer_new(loop);
	cr_assert(loop && dialer);
	up = upstream_new(loop, dialer, &config, address.sun_path);
	cr_assert_not_null(up);
	cr_assert_eq(ownership_init(&ownership, loop), 0);
	feed_init(&feed, loop, &ownership);
	deadline_queue_init(&soon, loop, 25);
	deadline_init(&wake, on_wake);
}

static void end(void)
{
	deadline_queue_fini(&soon);
	feed_fini(&feed);
	ownership_fini(&ownership);
	loop_run_deferred(loop);
	upstream_unref(up);
	loop_run_deferred(loop);
	dialer_free(dialer);
	loop_free(loop);
	close(listening);
	if (server >= 0)
		close(server);
	scratch_fini(&dir);
	clock_set_source(NULL);
}

TestSuite(gateway_feed, .init = begin, .fini = end, .timeout = 60);

/* For five minutes after the last use it subscribes, then not any more, and what was remembered is forgotten. */
Test(gateway_feed, given_up_when_idle)
{
	static const struct sandbox_doc doc = {.id = "sb-1", .owner = "alice"};
	const struct fetch_caller c = caller();

	cr_expect_eq(requests(), 0);
	use();
	cr_assert_eq(requests(), 1);
	answer(STREAM);
	cr_assert(feed_status(&feed, up).connected);
	ownership_learn_doc(&ownership, up, &doc);
	for (unsigned i = 0; i < 4; i++) {
		wait_for_ms(4 * MINUTE_MS);
		use();
		cr_assert_eq(asked, 1);
		cr_assert(feed_status(&feed, up).connected, "%u", i);
		cr_assert_eq(ownership_known(&ownership, &c, STR("sb-1")), OWNER_SAME);
	}
	for (unsigned i = 0; i < 2; i++)
		wait_for_ms(5 * MINUTE_MS + 20);
	cr_expect_not(feed_status(&feed, up).connected);
	cr_expect(list_empty(&feed.shared.sources));
	cr_expect_eq(ownership_known(&ownership, &c, STR("sb-1")), OWNER_UNKNOWN);
	cr_expect_eq(requests(), 1);
}

/* A server without events is left alone for five minutes, though what is remembered is used, and asked again then. */
Test(gateway_feed, left_alone_without_events)
{
	static const char *const answers[] = {
		"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 24\r\n\r\nstreaming not supported\n",
		"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
		STREAM,
	};

	use();
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(requests(), i + 1);
		answer(answers[i]);
		for (unsigned minute = 0; minute < 4; minute++) {
			wait_for_ms(MINUTE_MS);
			use();
			cr_assert_eq(asked, i + 1, "after %u minutes", minute + 1);
		}
		for (unsigned minute = 4; minute < 11 && asked == i + 1; minute++) {
			wait_for_ms(MINUTE_MS);
			use();
		}
	}
	cr_expect_eq(asked, 3);
	cr_expect(feed_status(&feed, up).connected);
}
