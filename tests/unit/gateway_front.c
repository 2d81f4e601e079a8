/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole gateway without its process: a socket pair on the client's side, a listening socket on the server's, and every
 * turn of the loop made by the test. send(2) can be made to fail, so that what otherwise needs luck happens every time.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/config_yaml.h"
#include "gateway/dial.h"
#include "gateway/exchange.h"
#include "gateway/front.h"
#include "gateway/front_state.h"
#include "gateway/keyring.h"
#include "gateway/names.h"
#include "gateway/snapshot.h"
#include "gateway/upstream.h"
#include "lib/scratch.h"
#include "lib/wait.h"

#define HOST " HTTP/1.1\r\nHost: h\r\n"

static struct loop *loop;
static struct dialer *dialer;
static struct keyring *keyring;
static struct names *names;
static struct scratch dir;
static struct config_places places;
static struct front_shared shared;
static int listening = -1;
static int server = -1; /* the upstream's end of the last connection */
static unsigned connections;
static int client = -1;
static struct buf asked; /* what `server` received */
static struct buf got;   /* what `client` received */
static bool fail_sends_up;
static const char *user_id = "alice";                         /* of the rule */
static int name_fault;                                        /* what the name service answers instead of a name */
static pthread_mutex_t name_gate = PTHREAD_MUTEX_INITIALIZER; /* held: it does not answer */

ssize_t __real_send(int fd, const void *p, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags);

/* Of the library's calls only upstream_conn_send sends with send(2); the client side uses sendmsg(2) at first. */
ssize_t __wrap_send(int fd, const void *p, size_t n, int flags)
{
	if (fail_sends_up && fd != client && fd != server) {
		errno = EPIPE;
		return -1;
	}
	return __real_send(fd, p, n, flags);
}

static int look_up(enum names_kind kind, uint32_t id, char **name)
{
	(void)id;
	pthread_mutex_lock(&name_gate);
	pthread_mutex_unlock(&name_gate);
	*name = name_fault ? NULL : strdup(kind == NAMES_USER ? "a b" : "g");
	return name_fault;
}

static void use_config(const char *more)
{
	struct buf text = BUF_EMPTY;
	struct buf faults = BUF_EMPTY;
	struct config *config = NULL;
	struct snapshot *snapshot = NULL;
	const struct snapshot_local local = {NULL, NULL, NULL};
	char why[200];

	buf_addf(&text,
		 /* So few that what is remembered has no subscription of its own. */
		 "upstreams: { main: { url: \"unix://%s\", pool: { max_connections: 3, max_idle: 3 } } }\n"
		 "credentials: { team: { api_key: { file: %s } } }\n"
		 "clients:\n"
		 "  - { name: me, match: { uid: %u }, upstream: main, credential: team, user_id: \"%s\", allow: "
		 "[all], isolation: none }\n"
		 "%s",
		 scratch_path(&dir, "up.sock"), scratch_text(&dir, "key", 0600, "SEKRET\n"), (unsigned)geteuid(),
		 user_id, more);
	cr_assert_eq(
		config_load(scratch_file(&dir, "c.yaml", 0644, buf_data(&text), text.len), &places, &config, &faults),
		0, "%.*s", STR_ARG(buf_str(&faults)));
	cr_assert_eq(snapshot_new(loop, dialer, keyring, config, &local, shared.snapshot, &snapshot, why, sizeof(why)),
		     0, "%s", why);
	front_use_snapshot(&shared, snapshot);
	snapshot_unref(snapshot);
	config_unref(config);
	buf_fini(&text);
	buf_fini(&faults);
}

static void listen_upstream(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", scratch_path(&dir, "up.sock"));
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(listening, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(listening, 16), 0);
}

static void connect_client(void)
{
	int pair[2];

	if (client >= 0)
		close(client);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
	client = pair[1];
	front_accept(&shared, pair[0], "host", -1);
}

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	scratch_init(&dir);
	setenv("RUNTIME_DIRECTORY", dir.path, 1);
	setenv("STATE_DIRECTORY", dir.path, 1);
	cr_assert_eq(config_places_init(&places), 0);
	loop = loop_new();
	dialer = dialer_new(loop);
	cr_assert_eq(keyring_new(loop, NULL, &keyring), 0);
	cr_assert(loop && dialer);
	listen_upstream();
	names = names_new(loop, look_up);
	cr_assert(names);
	cr_assert_eq(front_shared_init(&shared, loop, dialer, names), 0);
	use_config("");
	connect_client();
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
	connections++;
}

static void pump(void)
{
	for (unsigned i = 0; i < 50; i++)
		turn();
}

static void drain_into(int fd, struct buf *to)
{
	char piece[16384];
	ssize_t n;

	while (fd >= 0 && (n = recv(fd, piece, sizeof(piece), 0)) > 0) {
		buf_add(to, piece, (size_t)n);
		pump();
	}
}

static void end(void)
{
	front_cut_all(&shared);
	pump();
	cr_expect(list_empty(&shared.fronts));
	cr_expect(list_empty(&shared.uids));
	cr_expect_eq(shared.stats.connections, 0);
	front_shared_fini(&shared);
	pump();
	close(client);
	close(listening);
	if (server >= 0)
		close(server);
	names_free(names);
	keyring_free(keyring); /* asserts that no key is left */
	dialer_free(dialer);   /* asserts that no connection is left */
	loop_free(loop);
	buf_fini(&asked);
	buf_fini(&got);
	config_places_fini(&places);
	scratch_fini(&dir);
}

TestSuite(gateway_front, .init = begin, .fini = end, .timeout = 60);

static void say(const char *text)
{
	cr_assert_eq(__real_send(client, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	pump();
}

/* Waits until the upstream has received a head and `body` behind it. */
static void await_asked(const char *body)
{
	uint64_t until = wait_now_ms() + WAIT_MS;

	while (wait_now_ms() < until) {
		turn();
		drain_into(server, &asked);
		if (buf_contains(&asked, "\r\n\r\n") && str_ends(buf_str(&asked), str_from(body)))
			return;
	}
	cr_assert_fail("the upstream received %.*s", STR_ARG(buf_str(&asked)));
}

static void reply(const char *text)
{
	cr_assert_eq(__real_send(server, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
	pump();
	drain_into(client, &got);
}

/* Whether the gateway has closed the client's connection. */
static bool is_closed(void)
{
	char byte;

	pump();
	drain_into(client, &got);
	return recv(client, &byte, 1, 0) == 0;
}

/* One request and its answer, so that the pool has a connection that served before. */
static void warm_up(void)
{
	say("GET /api/v1/a" HOST "\r\n");
	await_asked("\r\n\r\n");
	reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	cr_assert(str_ends(buf_str(&got), STR("ok")));
	buf_reset(&asked);
	buf_reset(&got);
}

static unsigned count(const struct buf *b, const char *what)
{
	unsigned n = 0;
	const char *p = buf_data(b);
	const char *limit = p ? p + b->len : p;

	while (p && (p = memmem(p, (size_t)(limit - p), what, strlen(what)))) {
		n++;
		p += strlen(what);
	}
	return n;
}

/* The whole way, once: our key and user id exactly once, the target as sent. */
Test(gateway_front, request)
{
	say("GET /api/v1/x?y=%2e./z HTTP/1.1\r\nHost: h\r\nX-API-Key: mine\r\nX-User-ID: bob\r\nX-Kept: 1\r\n\r\n");
	await_asked("\r\n\r\n");
	cr_expect(str_starts(buf_str(&asked), STR("GET /api/v1/x?y=%2e./z HTTP/1.1\r\n")));
	cr_expect_eq(count(&asked, "X-API-Key: SEKRET\r\n"), 1);
	cr_expect_eq(count(&asked, "X-User-ID: alice\r\n"), 1);
	cr_expect_eq(count(&asked, "X-Kept: 1\r\n"), 1);
	cr_expect_not(buf_contains(&asked, "mine"));
	cr_expect_not(buf_contains(&asked, "bob"));
	reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	cr_expect(str_ends(buf_str(&got), STR("\r\n\r\nok")));
	cr_expect_eq(shared.stats.exchange_ends[EXCHANGE_END_DONE], 1);
}

/* A request body that breaks down when its answer has begun ends that answer; no second one stands in its body. */
Test(gateway_front, regress_no_answer_within_an_answer)
{
	say("POST /api/v1/x" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
	await_asked("a\r\n");
	reply("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun");
	cr_assert(str_ends(buf_str(&got), STR("begun")));
	say("zz\r\n");
	cr_expect(is_closed());
	cr_expect(str_ends(buf_str(&got), STR("begun")), "got %.*s", STR_ARG(buf_str(&got)));
	cr_expect_eq(count(&got, "HTTP/1.1 "), 1);
	cr_expect_eq(shared.stats.exchange_ends[EXCHANGE_END_REQUEST_FAULT], 1);
}

/* The same before its answer has begun: 400. */
Test(gateway_front, body_fault_before_the_answer)
{
	say("POST /api/v1/x" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
	await_asked("a\r\n");
	say("zz\r\n");
	cr_expect(is_closed());
	cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 400 ")));
	cr_expect_eq(count(&got, "HTTP/1.1 "), 1);
}

/* F6: an answer without framing that ends by a reset, not by a close, looks cut: no last chunk. */
Test(gateway_front, regress_reset_is_no_end)
{
	say("GET /api/v1/x" HOST "\r\n");
	await_asked("\r\n\r\n");
	reply("HTTP/1.1 200 OK\r\n\r\npart");
	cr_assert(buf_contains(&got, "part"));
	close(server);
	server = -1;
	cr_expect_not(is_closed());
	cr_expect(str_ends(buf_str(&got), STR("0\r\n\r\n")), "an orderly end is an end");

	connect_client();
	buf_reset(&got);
	buf_reset(&asked);
	say("POST /api/v1/x" HOST "Content-Length: 4\r\n\r\nab");
	await_asked("ab");
	reply("HTTP/1.1 200 OK\r\n\r\npart");
	cr_assert(buf_contains(&got, "part"));
	/* Input that nobody read makes close(2) a reset on a Unix socket. */
	say("cd");
	close(server);
	server = -1;
	cr_expect(is_closed());
	cr_expect(buf_contains(&got, "part"));
	cr_expect_not(str_ends(buf_str(&got), STR("0\r\n\r\n")), "got %.*s", STR_ARG(buf_str(&got)));
}

/*
 * A kept connection that breaks before a byte of the request was sent is replaced; every byte of the body that came in
 * between goes to the new one.
 */
Test(gateway_front, regress_body_is_whole_after_a_repeat)
{
	static const char *const framing[] = {"Content-Length: 9\r\n\r\nabc",
					      "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"};
	static const char *const middle[] = {"def", "3\r\ndef\r\n"};
	static const char *const last[] = {"ghi", "3\r\nghi\r\n0\r\n\r\n"};

	for (unsigned i = 0; i < 2; i++) {
		char text[200];
		unsigned before;

		warm_up();
		before = connections;
		fail_sends_up = true;
		snprintf(text, sizeof(text), "PUT /api/v1/x" HOST "%s", framing[i]);
		say(text);
		say(middle[i]);
		fail_sends_up = false;
		/* The server closes: only now it shows that the connection was lost. */
		close(server);
		server = -1;
		while (connections == before)
			turn();
		say(last[i]);
		await_asked(last[i]);
		snprintf(text, sizeof(text), "%s%s%s", framing[i], middle[i], last[i]);
		cr_expect(str_ends(buf_str(&asked), str_from(text)), "%.*s", STR_ARG(buf_str(&asked)));
		reply("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
		cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 201 ")));
		buf_reset(&asked);
		buf_reset(&got);
	}
	cr_expect_eq(shared.stats.repeated, 2);
}

/* A rule that a reload takes away is gone for the next request of the same connection; the present one is finished. */
Test(gateway_front, reload_within_a_request)
{
	say("GET /api/v1/x" HOST "\r\n");
	await_asked("\r\n\r\n");
	use_config("drain_timeout: 1s\n");
	reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	cr_expect(str_ends(buf_str(&got), STR("ok")));
	say("GET /gateway/v1/whoami" HOST "\r\n");
	drain_into(client, &got);
	cr_expect_eq(count(&got, "HTTP/1.1 200 "), 2);
	cr_expect_eq(shared.stats.generation, 2);
}

/* Many clients that leave at every stage leave nothing behind: end() looks. */
Test(gateway_front, clients_leave_everywhere)
{
	static const char *const said[] = {
		"", "GET /api", "GET /api/v1/x" HOST "\r\n", "POST /api/v1/x" HOST "Content-Length: 9\r\n\r\nabc",
		"POST /api/v1/sandboxes" HOST "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n"};

	for (unsigned i = 0; i < 5; i++) {
		for (unsigned turns = 0; turns < 6; turns++) {
			connect_client();
			if (said[i][0])
				cr_assert_gt(__real_send(client, said[i], strlen(said[i]), MSG_NOSIGNAL), 0);
			for (unsigned k = 0; k < turns; k++)
				turn();
		}
	}
}

/* A request waits for the name of its user; several on one connection, too; then it goes up under that name. */
Test(gateway_front, waits_for_a_name)
{
	user_id = "{user}.{group}";
	pthread_mutex_lock(&name_gate);
	use_config("");
	connect_client();
	say("GET /api/v1/x" HOST "\r\n");
	pump();
	cr_expect_eq(connections, 0, "it went up without a name");
	pthread_mutex_unlock(&name_gate);
	await_asked("\r\n\r\n");
	cr_expect_eq(count(&asked, "X-User-ID: a%20b.g\r\n"), 1, "%.*s", STR_ARG(buf_str(&asked)));
	reply("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	cr_expect(str_ends(buf_str(&got), STR("ok")));
}

/* Who leaves meanwhile is forgotten, and is told to nobody. */
Test(gateway_front, leaves_while_it_waits)
{
	user_id = "{user}";
	pthread_mutex_lock(&name_gate);
	use_config("");
	connect_client();
	say("GET /api/v1/x" HOST "\r\n");
	front_cut_all(&shared);
	pump();
	cr_expect(list_empty(&shared.fronts));
	pthread_mutex_unlock(&name_gate);
	pump();
	cr_expect_eq(connections, 0);
}

/* Turns until the name service has answered. */
static void await_name(enum names_kind kind, uint32_t id)
{
	struct names_wait w = {.on_known = NULL};
	uint64_t until = wait_now_ms() + WAIT_MS;
	const char *name;

	list_init(&w.link);
	while (names_look_up(names, kind, id, &w, &name) != NAMES_KNOWN) {
		names_cancel(&w);
		cr_assert_lt(wait_now_ms(), until);
		pump();
	}
}

/* ID16: a stream goes on while a reload needs a name to tell whose it is, and after it when that is the same owner. */
Test(gateway_front, ID16_revoked_when_the_name_is_known)
{
	user_id = "a%20b";
	use_config("");
	say("GET /api/v1/events" HOST "\r\n");
	await_asked("\r\n\r\n");
	cr_expect_eq(count(&asked, "X-User-ID: a%20b\r\n"), 1, "%.*s", STR_ARG(buf_str(&asked)));
	user_id = "{user}";
	pthread_mutex_lock(&name_gate);
	use_config("");
	cr_expect(!is_closed(), "it ends before the name is known");
	pthread_mutex_unlock(&name_gate);
	await_name(NAMES_USER, geteuid());
	cr_expect(!is_closed(), "it ends although its owner is the same");
	user_id = "{group}";
	pthread_mutex_lock(&name_gate);
	use_config("");
	cr_expect(!is_closed(), "it ends before the name is known");
	pthread_mutex_unlock(&name_gate);
	await_name(NAMES_GROUP, getegid());
	cr_expect(is_closed(), "it goes on as another's");
	cr_expect_eq(shared.clients.ends[CLIENT_END_REVOKED], 1);
}

/* A name service that fails is 503, never a made-up name; the request after its recovery is served. */
Test(gateway_front, name_service_fails)
{
	uint64_t until;

	user_id = "{user}";
	name_fault = -EIO;
	use_config("");
	connect_client();
	say("GET /api/v1/x" HOST "\r\n");
	until = wait_now_ms() + WAIT_MS;
	while (!got.len && wait_now_ms() < until) {
		pump();
		drain_into(client, &got);
	}
	cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 503 ")), "%.*s", STR_ARG(buf_str(&got)));
	cr_expect_eq(connections, 0);
	name_fault = 0;
	while (connections == 0 && wait_now_ms() < until) {
		say("GET /api/v1/x" HOST "\r\n");
		drain_into(client, &got);
	}
	await_asked("\r\n\r\n");
	cr_expect(buf_contains(&asked, "X-User-ID: a%20b\r\n"));
}

/* --- previews --------------------------------------------------------------------------------------------------------------- */

static uint64_t later_ns; /* how far the gateway's clock is ahead */

static uint64_t ahead(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + later_ns;
}

#define RECORD                                                                                                         \
	"HTTP/1.1 200 OK\r\nContent-Length: 57\r\n\r\n"                                                                \
	"{\"id\":\"sb-ab\",\"preview_domain\":\"preview.example\"}        "
#define DOWN "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"

/* Asks for the URL. With `answer` the server is asked for the record and says that; NULL: it must not be asked. */
static void ask_url(const char *more, const char *answer)
{
	buf_reset(&asked);
	buf_reset(&got);
	say("GET /gateway/v1/sandboxes/sb-ab/preview/80" HOST);
	say(more);
	say("\r\n");
	if (answer) {
		await_asked("\r\n\r\n");
		cr_expect(str_starts(buf_str(&asked), STR("GET /api/v1/sandboxes/sb-ab HTTP/1.1\r\n")));
		reply(answer);
	}
	pump();
	drain_into(server, &asked);
	drain_into(client, &got);
	cr_expect(answer || asked.len == 0, "the server was asked: %.*s", STR_ARG(buf_str(&asked)));
}

static void expect_url(const char *cache_status, const char *age)
{
	cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 200 ")), "%.*s", STR_ARG(buf_str(&got)));
	cr_expect(buf_contains(&got, "{\"url\":\"http://80-sb-ab.preview.example\"}\n"));
	cr_expect(buf_contains(&got, cache_status), "%.*s", STR_ARG(buf_str(&got)));
	cr_expect_eq(buf_contains(&got, "\r\nAge: "), age != NULL);
	cr_expect(!age || buf_contains(&got, age), "%.*s", STR_ARG(buf_str(&got)));
}

/*
 * The URL is kept for five minutes; then the server is asked again. When it does not say anything, the old one is given and said to
 * be old, but not to who wants the server's word.
 */
Test(gateway_front, preview_stale)
{
	clock_set_source(ahead);
	ask_url("", RECORD);
	expect_url("\r\nCache-Status: stacygate; fwd=miss; stored\r\n", NULL);
	ask_url("", NULL);
	expect_url("\r\nCache-Status: stacygate; hit; ttl=300\r\n", "\r\nAge: 0\r\n");
	later_ns += UINT64_C(290000000000);
	ask_url("", NULL);
	expect_url("\r\nCache-Status: stacygate; hit; ttl=10\r\n", "\r\nAge: 290\r\n");
	later_ns += UINT64_C(20000000000);
	ask_url("", RECORD);
	expect_url("\r\nCache-Status: stacygate; fwd=stale; stored\r\n", NULL);
	ask_url("", NULL);
	expect_url("\r\nCache-Status: stacygate; hit; ttl=300\r\n", "\r\nAge: 0\r\n");
	later_ns += UINT64_C(4000000000000);
	ask_url("", DOWN);
	expect_url("\r\nCache-Status: stacygate; hit; ttl=-3700; detail=upstream-unavailable\r\n", "\r\nAge: 4000\r\n");
	ask_url("Cache-Control: no-cache\r\n", DOWN);
	cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 503 ")), "%.*s", STR_ARG(buf_str(&got)));
	ask_url("", "HTTP/1.1 404 Not Found\r\nContent-Length: 34\r\n\r\n{\"code\":\"NOT_FOUND\",\"message\":\"x\"}");
	cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 404 ")), "%.*s", STR_ARG(buf_str(&got)));
	ask_url("", DOWN);
	cr_expect(str_starts(buf_str(&got), STR("HTTP/1.1 503 ")), "it is given although it is gone");
	clock_set_source(NULL);
}

/* Preview traffic goes by an old record too when there is no newer one, and by the server's own socket without anything of ours. */
Test(gateway_front, preview_traffic_stale)
{
	clock_set_source(ahead);
	ask_url("", RECORD);
	later_ns += UINT64_C(301000000000);
	buf_reset(&asked);
	buf_reset(&got);
	say("GET /a/../b HTTP/1.1\r\nHost: 80-SB-AB.localhost:1\r\nX-API-Key: x\r\nCookie: c\r\n\r\n");
	await_asked("\r\n\r\n");
	cr_expect(str_starts(buf_str(&asked), STR("GET /api/v1/sandboxes/sb-ab HTTP/1.1\r\n")));
	buf_reset(&asked);
	reply(DOWN);
	await_asked("\r\n\r\n");
	cr_expect(
		str_eq(buf_str(&asked), STR("GET /a/../b HTTP/1.1\r\nHost: 80-sb-ab.preview.example:1\r\nCookie: c\r\n"
					    "Connection: close\r\n\r\n")),
		"%.*s", STR_ARG(buf_str(&asked)));
	reply("HTTP/1.1 200 OK\r\nSet-Cookie: s\r\nContent-Length: 2\r\n\r\nok");
	cr_expect(str_eq(buf_str(&got), STR("HTTP/1.1 200 OK\r\nSet-Cookie: s\r\nContent-Length: 2\r\n\r\nok")), "%.*s",
		  STR_ARG(buf_str(&got)));
	clock_set_source(NULL);
}

/* A client that leaves at any point of a preview takes everything with it; the next is served. */
Test(gateway_front, preview_left)
{
	static const char *const answers[] = {NULL, RECORD, RECORD};

	for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
		buf_reset(&asked);
		say("GET / HTTP/1.1\r\nHost: 80-sb-ab.localhost\r\n\r\n");
		await_asked("\r\n\r\n");
		if (answers[i] && i == 1)
			reply(answers[i]);
		connect_client();
		pump();
		cr_expect_eq(shared.stats.connections, 1);
		cr_expect_null(CONTAINER_OF(shared.fronts.next, struct front, link)->now);
	}
}
