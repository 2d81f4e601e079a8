/* SPDX-License-Identifier: Apache-2.0 */
/* F19, K2, K4-K7, K11-K13, K15: clients that are slow, silent, greedy or gone cost a bounded amount for a bounded time. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "integration/dp_lib.h"

TestSuite(dp_clients, .fini = gw_fini);

/* Whether all that clients could leave behind is gone: their connections and those made for them. */
static void expect_all_gone(struct gw *gw, int fds)
{
	cr_expect(dp_wait_status(gw, "clients.connections", 1), "%d clients left",
		  (int)dp_status(gw, "clients.connections"));
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.leased", 0));
	cr_expect(dp_wait_status(gw, "upstreams.0.pool.waiting", 0));
	if (fds > 0)
		cr_expect(dp_wait_fds(gw, fds), "%d descriptors, %d before", daemon_fds(gw->daemon), fds);
}

static int base_fds(struct gw *gw)
{
	dp_ask_ok(gw);
	cr_assert(dp_wait_status(gw, "clients.connections", 1));
	return daemon_fds(gw->daemon) + 1; /* the connection that stays in the pool may be another one */
}

/* K4, K7: clients that do not read: what is kept for each is bounded, and after client_body_idle they are given up. */
Test(dp_clients, K4_never_reads)
{
	enum {
		CLIENTS = 40,
		KEPT_KIB = 512
	};
	static char piece[65537];
	const struct up_step endless[] = {{UP_READ, NULL, 0},
					  {UP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", 0},
					  {UP_SEND_REPEAT, piece, 15000},
					  {UP_READ_EOF, NULL, 0},
					  {UP_END, NULL, 0}};
	const struct up_step *const scripts[] = {SCRIPT({UP_ECHO, NULL, 0}, {UP_CLOSE, NULL, 0}), endless};
	struct gw_options options = {.scripts = scripts, .nscripts = 2, .top = "bounds: { client_body_idle: 1s }"};
	struct gw *gw;
	struct raw r[CLIENTS];
	long before, most = 0;
	int fds;

	memset(piece, 'x', sizeof(piece) - 1);
	gw = gw_start(&options);
	fds = base_fds(gw);
	before = daemon_rss_kib(gw->daemon);
	for (unsigned i = 0; i < CLIENTS; i++) {
		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], GET_X));
	}
	for (unsigned i = 0; i < CLIENTS; i++)
		cr_assert(upstream_wait_sent(gw->up, i + 1, 65536));
	do {
		long now = daemon_rss_kib(gw->daemon);

		most = now > most ? now : most;
		(void)wait_fd(-1, 0, 20);
	} while (dp_status(gw, "upstreams.0.pool.leased") > 0);
	if (before > 0)
		cr_expect_lt(most - before, CLIENTS * KEPT_KIB, "%ld KiB for %u clients", most - before, CLIENTS);
	for (unsigned i = 0; i < CLIENTS; i++) {
		cr_expect_lt(upstream_sent(gw->up, i + 1), 2u << 20, "%zu bytes taken", upstream_sent(gw->up, i + 1));
		raw_close(&r[i]);
	}
	cr_expect_eq(dp_status(gw, "clients.ends.not-reading"), CLIENTS);
	expect_all_gone(gw, fds);
	gw_stop(gw);
}

/* K7: one that reads slowly, but does, is served to the end. */
Test(dp_clients, K7_reads_slowly)
{
	enum {
		TOTAL = 3 << 20
	};
	static char piece[1025];
	const struct up_step script[] = {{UP_READ, NULL, 0},
					 {UP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n", 0},
					 {UP_SEND_REPEAT, piece, TOTAL / 1024},
					 {UP_FOREVER, NULL, 0}};
	const struct up_step *const scripts[] = {script};
	struct gw_options options = {.scripts = scripts,
				     .nscripts = 1,
				     .timeouts = "body_idle: 600ms",
				     .top = "bounds: { client_body_idle: 600ms }"};
	struct gw *gw;
	struct raw r;
	struct answer a;
	uint64_t begin;
	size_t taken = 0;

	memset(piece, 'y', sizeof(piece) - 1);
	gw = gw_start(&options);
	r = gw_connect(gw);
	begin = wait_now_ms();
	cr_assert(raw_text(&r, GET_X));
	/* Some every now and then, for thrice the bound: it never stands still as long as that. */
	while (wait_now_ms() - begin < 1800) {
		taken += 60000;
		cr_assert(raw_read(&r, taken < TOTAL ? taken : TOTAL, WAIT_MS), "given up after %zu bytes", r.in.len);
		(void)wait_fd(-1, 0, 60);
	}
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect_eq(a.body.len, TOTAL);
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* K5: many heads that never end, silent or a byte at a time: each is cut at the deadline of a whole head; others are served. */
Test(dp_clients, K5_slow_heads)
{
	enum {
		CLIENTS = 150
	};
	struct gw_options options = {.top = "bounds: { client_head: 700ms }"};
	struct gw *gw = gw_start(&options);
	struct raw r[CLIENTS];
	int fds = base_fds(gw);
	uint64_t begin;

	for (unsigned i = 0; i < CLIENTS; i++) {
		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nX-A: "));
	}
	begin = wait_now_ms();
	while (wait_now_ms() - begin < 500) {
		for (unsigned i = 0; i < CLIENTS; i += 2)
			cr_assert(raw_text(&r[i], "x"), "cut before its time");
		dp_ask_ok(gw);
		(void)wait_fd(-1, 0, 20);
	}
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct answer a;

		(void)raw_push(&r[i], "y", 1);
		a = raw_answer(&r[i], false, WAIT_MS);
		expect_error(&a, 408, "REQUEST_TIMEOUT");
		answer_fini(&a);
		cr_expect(raw_closes(&r[i], WAIT_MS));
		raw_close(&r[i]);
	}
	cr_expect_lt(wait_now_ms() - begin, 4000);
	cr_expect_eq(dp_status(gw, "clients.ends.head-timeout"), CLIENTS);
	expect_all_gone(gw, fds);
	gw_stop(gw);
}

/* K6: bodies that stand still are cut, and what they held upstream is free again; slow ones that move are not. */
Test(dp_clients, K6_slow_bodies)
{
	enum {
		CLIENTS = 40
	};
	struct gw_options options = {.top = "bounds: { client_body_idle: 600ms }"};
	struct gw *gw = gw_start(&options);
	struct raw r[CLIENTS], slow;
	int fds = base_fds(gw);
	struct answer a;
	uint64_t begin;

	for (unsigned i = 0; i < CLIENTS; i++) {
		static const char *const begun[] = {
			"PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nhel",
			"PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
			"POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n5",
			"PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n",
		};

		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], begun[i % COUNT(begun)]));
	}
	slow = gw_connect(gw);
	cr_assert(raw_text(&slow, "PUT /api/v1/slow HTTP/1.1\r\nHost: h\r\nContent-Length: 30\r\n\r\n"));
	begin = wait_now_ms();
	for (unsigned n = 0; n < 30; n++) {
		cr_assert(raw_text(&slow, "z"));
		cr_assert(raw_silent(&slow, n < 29 ? 50 : 0) || n == 29, "cut although it moves");
	}
	cr_expect_gt(wait_now_ms() - begin, 1200);
	a = raw_answer(&slow, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&slow);
	for (unsigned i = 0; i < CLIENTS; i++) {
		a = raw_answer(&r[i], false, WAIT_MS);
		expect_error(&a, 408, "REQUEST_TIMEOUT");
		answer_fini(&a);
		cr_expect(raw_closes(&r[i], WAIT_MS));
		raw_close(&r[i]);
	}
	cr_expect_eq(dp_status(gw, "clients.ends.body-timeout"), CLIENTS);
	cr_expect_eq(upstream_requests(gw->up), 2, "a part of a body became a whole request");
	expect_all_gone(gw, fds + 1);
	gw_stop(gw);
}

/* K11: a declared length over the bound is refused at the head, whatever its size; up to the bound it is not. */
Test(dp_clients, K11_declared_length)
{
	static const char *const lengths[] = {"65537", "1000000000000", "9223372036854775807"};
	struct gw_options options = {.top = "bounds: { body: 64KiB }"};
	struct gw *gw = gw_start(&options);
	char *body = malloc(65537);
	struct raw r;
	struct answer a;

	for (unsigned i = 0; i < COUNT(lengths); i++) {
		r = gw_connect(gw);
		a = (struct answer){0};
		cr_assert(
			raw_text(&r, "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: "));
		cr_assert(raw_text(&r, lengths[i]));
		cr_assert(raw_text(&r, "\r\n\r\n"));
		a = raw_answer(&r, false, WAIT_MS);
		expect_error(&a, 413, "TOO_LARGE");
		answer_fini(&a);
		cr_expect(raw_closes(&r, WAIT_MS));
		raw_close(&r);
	}
	cr_expect_eq(upstream_connections(gw->up), 0);
	cr_assert_not_null(body);
	memset(body, 'b', 65536);
	body[65536] = '\0';
	a = gw_ask(gw, "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 65536\r\n\r\n%s", body);
	expect_status(&a, 200);
	answer_fini(&a);
	free(body);
	gw_stop(gw);
}

/* What a client of K12 has done when it goes. */
enum stage {
	STAGE_CONNECTED,
	STAGE_HEAD,
	STAGE_BODY,
	STAGE_GATHERED,
	STAGE_ASKED,
	STAGE_ANSWERED,
	STAGE_STREAM,
	STAGE_UNREAD,
	STAGE_PIPELINED,
	STAGE_HALF_CLOSED,
	STAGE_TUNNEL,
	STAGES,
};

static const char *const stage_bytes[STAGES] = {
	[STAGE_CONNECTED] = "",
	[STAGE_HEAD] = "GET /api/v1/x HTTP/1.1\r\nHo",
	[STAGE_BODY] = "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nhello",
	[STAGE_GATHERED] =
		"POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	[STAGE_ASKED] = GET_X,
	[STAGE_ANSWERED] = GET_X,
	[STAGE_STREAM] = GET_X,
	[STAGE_UNREAD] = GET_X,
	[STAGE_PIPELINED] = GET_X GET_X GET_X GET_X "GET /ap",
	[STAGE_HALF_CLOSED] = GET_X,
	[STAGE_TUNNEL] = "GET /api/v1/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: "
			 "Upgrade\r\nSec-WebSocket-Key: x\r\n\r\nearly",
};

static void go_to(struct raw *r, enum stage stage)
{
	struct answer a;

	cr_assert(raw_text(r, stage_bytes[stage]));
	switch (stage) {
	case STAGE_ANSWERED:
	case STAGE_PIPELINED:
		a = raw_answer(r, false, WAIT_MS);
		answer_fini(&a);
		return;
	case STAGE_STREAM:
	case STAGE_TUNNEL:
		cr_assert(raw_read(r, 10, WAIT_MS));
		return;
	case STAGE_HALF_CLOSED:
		raw_half_close(r);
		return;
	case STAGE_CONNECTED:
	case STAGE_HEAD:
	case STAGE_BODY:
	case STAGE_GATHERED:
	case STAGE_ASKED:
	case STAGE_UNREAD:
	case STAGES:
		return;
	}
}

/* K12: clients that go at every stage, closing or resetting, on an upstream that answers in every way, leave nothing. */
Test(dp_clients, K12_every_stage)
{
	enum {
		CONNECTIONS = 660,
		TOGETHER = 12
	};
	static char big[300001];
	const struct up_step *const scripts[] = {
		SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0}),
		SCRIPT({UP_READ_HEAD, NULL, 0}, {UP_SEND, STREAM_HEAD "3\r\n{}\n\r\n", 0}, {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ_HEAD, NULL, 0}, {UP_SEND, "HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n", 0},
		       {UP_SEND_REPEAT, big, 10}, {UP_FOREVER, NULL, 0}),
		SCRIPT({UP_READ_HEAD, NULL, 0},
		       {UP_SEND,
			"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst "
			"words",
			0},
		       {UP_READ_EOF, NULL, 0}),
		SCRIPT({UP_READ_HEAD, NULL, 0}, {UP_READ_EOF, NULL, 0}),
	};
	struct gw_options options = {.log = "level: info",
				     .pool = "max_connections: 6, max_per_identity: 6, max_idle: 2"};
	int fds;

	memset(big, 'z', sizeof(big) - 1);
	for (unsigned kind = 0; kind < COUNT(scripts); kind++) {
		static const struct up_step echo[] = {{UP_ECHO, NULL, 0}, {UP_CLOSE, NULL, 0}, {UP_END, NULL, 0}};
		const struct up_step *both[] = {echo, scripts[kind]};
		uint32_t x = kind + 1;
		struct gw *gw;

		options.scripts = both;
		options.nscripts = 2;
		gw = gw_start(&options);
		fds = base_fds(gw) + 2;
		for (unsigned done = 0; done < CONNECTIONS / COUNT(scripts); done += TOGETHER) {
			struct raw r[TOGETHER];

			for (unsigned i = 0; i < TOGETHER; i++) {
				enum stage stage = (enum stage)dp_random(&x, STAGES);

				r[i] = gw_connect(gw);
				/* More than the pool holds are asked together, so an answer is waited for only by the first. */
				if (i >= 4 || kind == 4 ||
				    (kind != 0 && (stage == STAGE_ANSWERED || stage == STAGE_PIPELINED)))
					cr_assert(raw_text(&r[i], stage_bytes[stage]));
				else
					go_to(&r[i], stage);
			}
			for (unsigned i = 0; i < TOGETHER; i++)
				if (dp_random(&x, 2))
					raw_reset(&r[i]);
				else
					raw_close(&r[i]);
		}
		expect_all_gone(gw, fds);
		gw_stop(gw);
	}
}

/* K13: a flood of requests whose answers are not read: both stay with the client, and it is given up. */
Test(dp_clients, K13_unread_flood)
{
	/* What the sanitizer keeps of what was freed, and from gcc 13 on of frames, is not the gateway's. */
	const char *env[] = {"ASAN_OPTIONS=quarantine_size_mb=0:thread_local_quarantine_size_kb=0:"
			     "detect_stack_use_after_return=0",
			     NULL};
	struct gw_options options = {.top = "bounds: { client_body_idle: 800ms }", .log = "level: info", .env = env};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct buf many = BUF_EMPTY;
	size_t taken = 0, n;
	unsigned answered;
	long before;

	for (unsigned i = 0; i < 100000; i++)
		buf_add_cstr(&many, GET_X);
	dp_ask_ok(gw);
	before = daemon_rss_kib(gw->daemon);
	while (taken < many.len && wait_fd(r.fd, POLLOUT, 150)) {
		n = raw_push(&r, buf_data(&many) + taken, many.len - taken);
		if (!n)
			break;
		taken += n;
	}
	cr_expect_lt(taken, 2u << 20, "%zu bytes of requests were taken", taken);
	cr_expect_lt(daemon_rss_kib(gw->daemon) - before, 4096, "%ld KiB", daemon_rss_kib(gw->daemon) - before);
	answered = upstream_requests(gw->up);
	cr_expect_lt(answered, 10000, "%u requests made for a client that reads no answer", answered);
	cr_expect(dp_wait_status(gw, "clients.ends.not-reading", 1));
	buf_fini(&many);
	raw_close(&r);
	gw_stop(gw);
}

/* F19: an answer that comes within an upload is read whole, however fast the client goes on and the upstream closes. */
Test(dp_clients, F19_early_answer)
{
	enum {
		TIMES = 60
	};
	static char piece[262144];
	static const struct up_step close_at_once[] = {
		{UP_READ_HEAD, NULL, 0},
		{UP_SEND, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge", 0},
		{UP_CLOSE, NULL, 0},
		{UP_END, NULL, 0}};
	static const struct up_step half_close[] = {
		{UP_READ_BYTES, NULL, 100000},
		{UP_SEND, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge", 0},
		{UP_HALF_CLOSE, NULL, 0},
		{UP_READ_EOF, NULL, 0},
		{UP_END, NULL, 0}};
	static const struct up_step stays[] = {{UP_READ_HEAD, NULL, 0},
					       {UP_SEND, "HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge", 0},
					       {UP_READ_EOF, NULL, 0},
					       {UP_END, NULL, 0}};
	const struct up_step *scripts[TIMES + 1];
	struct gw_options options = {.scripts = scripts, .nscripts = COUNT(scripts)};
	struct gw *gw;

	for (unsigned i = 0; i < TIMES; i++)
		scripts[i] = (const struct up_step *const[]){close_at_once, half_close, stays}[i % 3];
	scripts[TIMES] = SCRIPT({UP_ECHO, NULL, 0}, {UP_FOREVER, NULL, 0});
	gw = gw_start(&options);
	for (unsigned i = 0; i < TIMES; i++) {
		struct raw r = gw_connect(gw);
		uint64_t begin = wait_now_ms();
		struct answer a;

		cr_assert(raw_text(
			&r,
			i & 4 ? "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 50000000\r\n\r\n"
			      : "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2faf080\r\n"));
		/* It sends until something can be read, as clients do. */
		while (!wait_fd(r.fd, POLLIN, 0) && wait_now_ms() - begin < WAIT_MS)
			if (!raw_push(&r, piece, sizeof(piece)))
				(void)wait_fd(r.fd, POLLIN, 5);
		a = raw_answer(&r, false, WAIT_MS);
		cr_assert_eq(a.end, ANSWER_COMPLETE, "round %u: %d", i, (int)a.end);
		cr_assert_eq(a.status, 413, "round %u: %u", i, a.status);
		cr_expect(str_eq(buf_str(&a.body), STR("large")));
		cr_expect_lt(wait_now_ms() - begin, 5000);
		answer_fini(&a);
		raw_close(&r);
	}
	dp_ask_ok(gw);
	cr_expect_eq(upstream_requests(gw->up), 1);
	gw_stop(gw);
}

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The 99th percentile of what a request on a connection of its own takes, in ms. */
static double p99_of_requests(struct gw *gw)
{
	static double took[400];

	for (unsigned i = 0; i < COUNT(took); i++) {
		took[i] = now_ms();
		dp_ask_ok(gw);
		took[i] = now_ms() - took[i];
	}
	qsort(took, COUNT(took), sizeof(took[0]), by_size);
	return took[COUNT(took) * 99 / 100];
}

/* How many idle clients this process can hold. */
static unsigned idle_clients(unsigned want)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	if (limit.rlim_cur >= want + 200)
		return want;
	cr_log_info("SKIPPED in part: %u idle clients do not fit into %llu descriptors", want,
		    (unsigned long long)limit.rlim_cur);
	return (unsigned)limit.rlim_cur - 200;
}

/* K15: thousands of idle clients, each of whom has asked once: they cost next to nothing, and delay nobody. */
Test(dp_clients, K15_idle_clients)
{
#ifdef __SANITIZE_ADDRESS__
	const double slowest_ms = 25, kib_each = 16;
#else
	const double slowest_ms = 5, kib_each = 1.2;
#endif
	struct gw_options options = {.top = "bounds: { connections: 5000, connections_per_uid: 5000 }",
				     .log = "level: info"};
	struct gw *gw = gw_start(&options);
	unsigned n = idle_clients(4000);
	struct raw *r = calloc(n, sizeof(*r));
	double p99, each;
	long before;

	cr_assert_not_null(r);
	(void)p99_of_requests(gw);
	before = daemon_rss_kib(gw->daemon);
	for (unsigned i = 0; i < n; i++) {
		struct answer a;

		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], GET_X));
		a = raw_answer(&r[i], false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
	}
	cr_expect_eq(dp_status(gw, "clients.connections"), n + 1);
	each = (double)(daemon_rss_kib(gw->daemon) - before) / n;
	/* What else the machine does may spoil a round, and not all of them. */
	p99 = p99_of_requests(gw);
	for (unsigned i = 0; i < 4 && p99 >= slowest_ms; i++)
		p99 = p99_of_requests(gw);
	cr_log_info("%u idle clients: %.2f KiB each, p99 of a new request %.2f ms", n, each, p99);
	cr_expect_lt(each, kib_each, "%.2f KiB for each", each);
	cr_expect_lt(p99, slowest_ms, "p99 %.2f ms", p99);
	for (unsigned i = 0; i < n; i++) {
		cr_expect(raw_silent(&r[i], 0), "closed");
		raw_close(&r[i]);
	}
	free(r);
	cr_expect(dp_wait_status(gw, "clients.connections", 1));
	gw_stop(gw);
}

/* K2: a client that dies within its body at any point leaves no whole request upstream, and frees what it held at once. */
Test(dp_clients, K2_dies_in_body)
{
	static const char chunked[] = "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
				      "chunked\r\n\r\n5\r\nhello\r\n3;e=x\r\nabc\r\n0\r\n\r\n";
	static const char plain[] = "PUT /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhelloabc";
	static const char gathered[] = "POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
				       "chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
	static const char *const requests[] = {chunked, plain, gathered};
	struct gw_options options = {.log = "level: info"};
	struct gw *gw = gw_start(&options);
	int fds = base_fds(gw);

	for (unsigned i = 0; i < COUNT(requests); i++) {
		size_t n = strlen(requests[i]), head = wire_head_bytes(str_from(requests[i]));

		for (size_t at = head; at < n; at++) {
			struct raw r = gw_connect(gw);

			cr_assert(raw_send(&r, requests[i], at));
			switch (at % 3) {
			case 0:
				raw_half_close(&r);
				cr_expect(raw_closes(&r, WAIT_MS), "request %u, byte %zu: waits for what cannot come",
					  i, at);
				raw_close(&r);
				break;
			case 1:
				raw_reset(&r);
				break;
			default:
				raw_close(&r);
			}
		}
	}
	expect_all_gone(gw, fds);
	cr_expect_eq(upstream_requests(gw->up), 1, "%u whole requests", upstream_requests(gw->up) - 1);
	gw_stop(gw);
}
