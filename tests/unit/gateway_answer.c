/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of the gateway's own, byte for byte as a client receives them. */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/http_parse.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/answer.h"
#include "gateway/client.h"
#include "lib/scratch.h"

static struct loop *loop;
static struct client_shared shared;
static struct client *client;
static int fd;

static void on_request(void *arg, const struct http_head *head)
{
	(void)arg;
	(void)head;
}

static void on_body(void *arg, const char *p, size_t n)
{
	(void)arg;
	(void)p;
	(void)n;
}

static void on_nothing(void *arg)
{
	(void)arg;
}

static void on_fault(void *arg, unsigned status, const char *why)
{
	(void)arg;
	cr_assert_fail("%u %s", status, why);
}

static void on_closed(void *arg, enum client_end end)
{
	(void)arg;
	(void)end;
	client = NULL;
}

static const struct client_events events = {
	.on_request = on_request,
	.on_body = on_body,
	.on_body_end = on_nothing,
	.on_fault = on_fault,
	.on_drained = on_nothing,
	.on_gone = on_nothing,
	.on_closed = on_closed,
};

static void pump(void)
{
	for (unsigned i = 0; i < 20; i++) {
		event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
		loop_run_deferred(loop);
	}
}

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	loop = loop_new();
	cr_assert_not_null(loop);
	client_shared_init(&shared, loop);
}

static void end(void)
{
	client_shared_fini(&shared);
	loop_free(loop);
}

TestSuite(gateway_answer, .init = begin, .fini = end);

enum kind {
	ERROR_503,
	ERROR_429,
	ERROR_ODD,
	JSON,
	OPTIONS,
};

static void give(const struct answer_to *to, enum kind kind)
{
	struct buf json = BUF_EMPTY;

	switch (kind) {
	case ERROR_503:
		answer_error(to, 503, "the %s is \"full\"", "pool");
		return;
	case ERROR_429:
		answer_error(to, 429, "slower");
		return;
	case ERROR_ODD:
		answer_error(to, 421, "a\nb");
		return;
	case JSON:
		buf_add_cstr(&json, "{}");
		answer_json(to, &json);
		cr_expect_eq(json.len, 0);
		buf_fini(&json);
		return;
	case OPTIONS:
		answer_options(to);
		return;
	}
}

/* The API's own shape, our header, one length that is right, Connection as the client's version needs it. */
Test(gateway_answer, bytes)
{
	static const struct {
		const char *request;
		enum kind kind;
		const char *id;
		bool head_only;
		const char *want;
	} rows[] = {
		{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", ERROR_503, "r-1", false,
		 "HTTP/1.1 503 Service Unavailable\r\nStacygate-Error: UNAVAILABLE\r\nRetry-After: 1\r\nContent-Type: "
		 "application/json\r\n"
		 "Content-Length: 56\r\nX-Request-ID: r-1\r\n\r\n{\"code\":\"UNAVAILABLE\",\"message\":\"the pool is "
		 "\\\"full\\\"\"}\n"},
		{"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", ERROR_429, NULL, false,
		 "HTTP/1.1 429 Too Many Requests\r\nStacygate-Error: RESOURCE_LIMIT\r\nRetry-After: 1\r\nContent-Type: "
		 "application/json\r\n"
		 "Content-Length: 45\r\nConnection: "
		 "close\r\n\r\n{\"code\":\"RESOURCE_LIMIT\",\"message\":\"slower\"}\n"},
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", ERROR_ODD, NULL, false,
		 "HTTP/1.1 421 Misdirected Request\r\nStacygate-Error: BAD_REQUEST\r\nContent-Type: "
		 "application/json\r\n"
		 "Content-Length: 40\r\nConnection: "
		 "keep-alive\r\n\r\n{\"code\":\"BAD_REQUEST\",\"message\":\"a\\nb\"}\n"},
		{"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", JSON, "r", true,
		 "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: "
		 "3\r\nX-Request-ID: r\r\n\r\n"},
		{"GET / HTTP/1.0\r\n\r\n", JSON, NULL, false,
		 "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Type: application/json\r\nContent-Length: 3\r\n"
		 "Connection: close\r\n\r\n{}\n"},
		{"OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n", OPTIONS, "r", false,
		 "HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\nX-Request-ID: "
		 "r\r\n\r\n"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char got[2048];
		int pair[2];
		ssize_t n;

		cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
		fd = pair[1];
		client = client_new(&shared, pair[0], 1, &events, NULL);
		cr_assert_not_null(client);
		cr_assert_gt(send(fd, rows[i].request, strlen(rows[i].request), 0), 0);
		pump();
		give(&(struct answer_to){client, rows[i].id, rows[i].head_only, NULL}, rows[i].kind);
		pump();
		n = recv(fd, got, sizeof(got), 0);
		cr_assert_gt(n, 0);
		cr_expect(str_eq(str_of(got, (size_t)n), str_from(rows[i].want)), "row %zu: %.*s", i, (int)n, got);
		close(fd);
		pump();
		cr_expect_null(client);
	}
}

/* The code of each status that the manual names. */
Test(gateway_answer, codes)
{
	static const struct {
		unsigned status;
		const char *code;
	} rows[] = {
		{400, "BAD_REQUEST"},     {405, "BAD_REQUEST"},      {414, "BAD_REQUEST"},
		{417, "BAD_REQUEST"},     {421, "BAD_REQUEST"},      {501, "BAD_REQUEST"},
		{505, "BAD_REQUEST"},     {403, "FORBIDDEN"},        {404, "NOT_FOUND"},
		{409, "CONFLICT"},        {413, "TOO_LARGE"},        {431, "HEADERS_TOO_LARGE"},
		{408, "REQUEST_TIMEOUT"}, {429, "RESOURCE_LIMIT"},   {502, "CONNECTION_ERROR"},
		{503, "UNAVAILABLE"},     {504, "UPSTREAM_TIMEOUT"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_str_eq(answer_code(rows[i].status), rows[i].code, "%u", rows[i].status);
}
