/* SPDX-License-Identifier: Apache-2.0 */
/* Loopback TCP: whose a connection is, both addresses, what a browser may not do, and what the end of input means there. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(tcp, .fini = gw_fini);

#define APP   "https://app.example.com"
#define HOST  " HTTP/1.1\r\nHost: localhost\r\n"
#define GET_X "GET /api/v1/x" HOST "\r\n"
#define RULE(name, match, user)                                                                                        \
	"  - { name: " name ", match: " match ", upstream: main, credential: team, user_id: \"" user                   \
	"\", allow: [all], isolation: none }\n"
/* Everybody, and root too, since the rule names the listener. */
#define DOOR "\n" RULE("door", "{ listener: web }", "{uid}")

static unsigned port;
static char entry[200];

/* A gateway with a TCP listener "web" beside its socket. */
static struct gw *start(struct gw_options *options)
{
	struct gw *gw;

	port = raw_free_port();
	snprintf(entry, sizeof(entry), "  - { tcp: \"127.0.0.1:%u\", name: web, origins: [\"" APP "\"] }", port);
	options->listen = entry;
	gw = gw_start(options);
	cr_assert(daemon_wait_log(gw->daemon, "listening on 127.0.0.1:"));
	return gw;
}

static struct answer ask(struct raw *r, const char *request)
{
	cr_assert(raw_text(r, request));
	return raw_answer(r, str_starts(str_from(request), STR("HEAD ")), WAIT_MS);
}

static struct answer ask_once(uid_t uid, bool v6, const char *request)
{
	struct raw r = raw_tcp_as(port, uid, v6);
	struct answer a = ask(&r, request);

	raw_close(&r);
	return a;
}

/* ID9: the uid is the one of the client's socket, on either address; whom no rule matches gets 403 and nothing goes up. */
Test(tcp, ID9_uid)
{
	struct gw_options options = {.clients = "\n" RULE("alice", "{ uid: 1234 }", "alice")
					     RULE("all-unix", "{ listener: nix }", "x"),
				     .top = ""};
	static const struct {
		uid_t uid;
		const char *user; /* NULL: 403 */
	} users[] = {{1234, "alice"}, {4321, NULL}, {0, NULL}};
	struct gw *gw;

	if (!have_root("sockets of other users"))
		return;
	options.clients = "\n" RULE("alice", "{ uid: 1234 }", "alice") RULE("root", "{ uid: 0 }", "root");
	gw = start(&options);
	for (unsigned i = 0; i < 3; i++) {
		for (int v6 = 0; v6 <= raw_has_ipv6(); v6++) {
			struct answer a = ask_once(users[i].uid, v6, GET_X);
			char want[64];

			if (users[i].user) {
				expect_status(&a, 200);
				snprintf(want, sizeof(want), "X-User-ID: %s\\r", users[i].user);
				cr_expect(buf_contains(&a.body, want), "%.*s", STR_ARG(buf_str(&a.body)));
			} else {
				/* ID18: root, too, although a rule is for uid 0: it does not name the listener. */
				expect_error(&a, 403, "FORBIDDEN");
			}
			answer_fini(&a);
		}
	}
	cr_expect_eq(upstream_requests(gw->up), raw_has_ipv6() ? 2 : 1);
	gw_stop(gw);
}

/* ID18: a rule that names the listener is for root as well; whoami says what is known over TCP. */
Test(tcp, ID18_root_by_listener)
{
	struct gw_options options = {.clients = DOOR};
	struct gw *gw = start(&options);
	struct answer a = ask_once(geteuid(), false, "GET /gateway/v1/whoami" HOST "\r\n");
	json_t *json;

	expect_status(&a, 200);
	json = answer_json(&a);
	cr_expect_eq(json_number_at(json, "uid"), geteuid());
	cr_expect_str_eq(json_text_at(json, "listener"), "web");
	cr_expect_null(json_object_get(json, "pid"));
	cr_expect_null(json_object_get(json, "gid"));
	json_decref(json);
	answer_fini(&a);
	gw_stop(gw);
}

/* ID17: closed before it is accepted, a socket is nobody's (the kernel says uid 0): its bytes are not read. */
Test(tcp, ID17_closed_before_accept)
{
	struct gw_options options = {.clients = DOOR};
	struct gw *gw = start(&options);
	struct raw r;

	daemon_freeze(gw->daemon);
	r = raw_tcp_as(port, geteuid() == 0 ? 1234 : geteuid(), false);
	cr_assert(raw_text(&r, "GET /api/v1/stolen" HOST "\r\n"));
	raw_close(&r);
	daemon_signal(gw->daemon, SIGCONT);
	cr_expect(daemon_wait_log(gw->daemon, "turned away"));
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* A socket of that uid, bound to a source port that others may have had, connected to the listener. */
static int connect_from(unsigned source, uid_t uid)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons((uint16_t)source)};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	int fd, one = 1;

	from.sin_addr.s_addr = to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(syscall(SYS_setresuid, -1, uid, -1), 0);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(syscall(SYS_setresuid, -1, 0, -1), 0);
	cr_assert_geq(fd, 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
	cr_assert_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	cr_assert_eq(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	return fd;
}

/* ID20: a request sent and reset before it is accepted is not taken for that of the user who has its port by then. */
Test(tcp, ID20_reset_before_accept)
{
	struct gw_options options = {.clients = DOOR};
	struct linger now = {.l_onoff = 1, .l_linger = 0};
	unsigned source = raw_free_port();
	struct buf sent;
	struct raw r;
	struct answer a;
	struct gw *gw;
	int fd;

	if (!have_root("sockets of other users"))
		return;
	gw = start(&options);
	daemon_freeze(gw->daemon);
	fd = connect_from(source, 1234);
	cr_assert_gt(send(fd, "GET /api/v1/stolen" HOST "\r\n", 45, MSG_NOSIGNAL), 0);
	cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)), 0);
	close(fd);
	r = (struct raw){.fd = connect_from(source, 5678)};
	daemon_signal(gw->daemon, SIGCONT);
	a = ask(&r, GET_X);
	expect_status(&a, 200);
	cr_expect(buf_contains(&a.body, "X-User-ID: 5678\\r"));
	answer_fini(&a);
	raw_close(&r);
	cr_expect(daemon_wait_log(gw->daemon, "turned away"));
	sent = upstream_everything(gw->up);
	cr_expect_not(buf_contains(&sent, "stolen"));
	buf_fini(&sent);
	gw_stop(gw);
}

static int hold(int family)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_geq(fd, 0);
	cr_assert_eq(family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
				       : bind(fd, (struct sockaddr *)&v6, sizeof(v6)),
		     0);
	cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

/* ID22: where somebody else has the port on either address the listener fails, and log and health say which. */
Test(tcp, ID22_other_loopback_taken)
{
	for (unsigned i = 0; i < 2; i++) {
		struct gw_options options = {.clients = "\n" RULE("all", "{}", "x")};
		char want[64];
		struct gw *gw;
		json_t *json;
		int held;

		if (i == 0 && !raw_has_ipv6()) {
			cr_log_info("SKIPPED, needs IPv6: ::1 that is somebody else's");
			continue;
		}
		port = raw_free_port();
		held = hold(i ? AF_INET : AF_INET6);
		snprintf(entry, sizeof(entry), "  - { tcp: \"localhost:%u\", name: web }", port);
		snprintf(want, sizeof(want), "%s:%u: Address already in use", i ? "127.0.0.1" : "[::1]", port);
		options.listen = entry;
		gw = gw_start(&options);
		cr_expect(daemon_wait_log(gw->daemon, "listener web:"));
		cr_expect_gt(daemon_count_log(gw->daemon, want), 0, "%s", want);
		json = gw_get(gw, "/gateway/v1/health");
		cr_expect_str_eq(json_text_at(json, "status"), "degraded");
		cr_expect_not_null(strstr(json_text_at(json, "listener_error"), want));
		json_decref(json);
		close(held);
		gw_stop(gw);
	}
}

/* A listener that stays keeps its connections over a reload; lists are the new ones; one that goes, goes. */
Test(tcp, reload)
{
	struct gw_options options = {.clients = DOOR};
	struct gw *gw = start(&options);
	struct raw r = raw_tcp(port);
	struct answer a = ask(&r, GET_X);

	expect_status(&a, 200);
	answer_fini(&a);
	snprintf(entry, sizeof(entry), "  - { tcp: \"127.0.0.1:%u\", name: web, hosts: [box] }", port);
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_assert(daemon_wait_log(gw->daemon, "reloaded"));
	cr_expect_eq(daemon_count_log(gw->daemon, "no longer listening"), 0);
	a = ask(&r, GET_X);
	expect_error(&a, 421, "BAD_REQUEST");
	answer_fini(&a);
	a = ask(&r, "GET /api/v1/x HTTP/1.1\r\nHost: BOX:1\r\n\r\n");
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* --- browsers ---------------------------------------------------------------------------------------------------------- */

static void expect_guarded(const struct answer *a)
{
	cr_expect(wire_header_is(answer_head(a), "X-Content-Type-Options", "nosniff"), "%.*s", STR_ARG(answer_head(a)));
	cr_expect(wire_header_is(answer_head(a), "Content-Security-Policy", "sandbox"));
}

/* ID10, U9: what a page could have sent is refused unread by any server; nothing goes up. */
Test(tcp, ID10_pages)
{
	static const struct {
		const char *request;
		unsigned status;
	} rows[] = {
		{"GET /api/v1/x HTTP/1.1\r\nHost: evil.test\r\n\r\n", 421},
		{"GET /api/v1/x HTTP/1.1\r\nHost: 3000-sb-a1b2.localhost\r\nOrigin: http://evil\r\n\r\n", 403},
		{"GET http://evil.test/api/v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n", 421},
		{"GET /api/v1/x" HOST "Origin: http://evil\r\n\r\n", 403},
		{"GET /api/v1/x" HOST "Origin: null\r\n\r\n", 403},
		{"GET /gateway/v1/whoami" HOST "Origin: http://evil\r\n\r\n", 403},
		{"GET /api/v1/x" HOST "Sec-Fetch-Site: cross-site\r\n\r\n", 403},
		{"POST /api/v1/x" HOST "Origin: http://evil\r\nContent-Length: 1\r\n\r\nx", 403},
		{"OPTIONS /api/v1/x" HOST "Origin: http://evil\r\nAccess-Control-Request-Method: PUT\r\n\r\n", 403},
		{"GET /api/v1/x" HOST "Origin: http://evil\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
		 "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		 403},
		{"HEAD /api/v1/x" HOST "Sec-Fetch-Site: same-site\r\n\r\n", 403},
		{"GET /api/v1/x HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
		{"GET /api/v1/x HTTP/1.1\r\n\r\n", 400},
	};
	struct gw_options options = {.clients = DOOR};
	struct gw *gw = start(&options);

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct answer a = ask_once(geteuid(), false, rows[i].request);

		cr_expect_eq(a.status, rows[i].status, "row %zu: %u", i, a.status);
		cr_expect_eq(wire_count(answer_head(&a), "Access-Control-Allow-Origin"), 0);
		expect_guarded(&a);
		answer_fini(&a);
	}
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* Programs pass, as Node's fetch, and every answer says that it is no page; a configured origin is named, in its own only. */
Test(tcp, programs_and_origins)
{
	struct gw_options options = {.clients = DOOR};
	struct gw *gw = start(&options);
	struct raw r = raw_tcp(port);
	struct answer a = ask(&r, "GET /api/v1/x" HOST "Sec-Fetch-Mode: cors\r\n\r\n");

	expect_status(&a, 200);
	expect_guarded(&a);
	answer_fini(&a);
	a = ask(&r, "GET /api/v1/x" HOST "Origin: " APP "\r\nSec-Fetch-Site: cross-site\r\n\r\n");
	expect_status(&a, 200);
	expect_guarded(&a);
	cr_expect(wire_header_is(answer_head(&a), "Access-Control-Allow-Origin", APP));
	cr_expect_not(buf_contains(&a.body, "app.example.com"), "Origin goes upstream");
	answer_fini(&a);
	a = ask(&r, GET_X);
	expect_status(&a, 200);
	expect_guarded(&a);
	cr_expect_eq(wire_count(answer_head(&a), "Access-Control-Allow-Origin"), 0);
	answer_fini(&a);
	a = ask(&r, "OPTIONS /api/v1/x" HOST "Origin: " APP "\r\nAccess-Control-Request-Method: DELETE\r\n"
		    "Access-Control-Request-Headers: x-a\r\n\r\n");
	expect_status(&a, 204);
	cr_expect(wire_header_is(answer_head(&a), "Access-Control-Allow-Origin", APP));
	cr_expect(wire_header_is(answer_head(&a), "Access-Control-Allow-Headers", "x-a"));
	answer_fini(&a);
	a = ask(&r, "OPTIONS /gateway/v1/health" HOST "\r\n");
	expect_status(&a, 204);
	cr_expect_eq(wire_count(answer_head(&a), "Allow"), 1);
	cr_expect_eq(wire_count(answer_head(&a), "Access-Control-Allow-Methods"), 0);
	answer_fini(&a);
	raw_close(&r);
	cr_expect_eq(upstream_requests(gw->up), 3);
	gw_stop(gw);
}

/* U9: a Unix socket, which no page reaches, accepts any well-formed Host and says nothing to browsers. */
Test(tcp, U9_unix_is_not_guarded)
{
	struct gw *gw = gw_start(NULL);
	struct answer a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: evil.test\r\nSec-Fetch-Site: cross-site\r\n\r\n");

	expect_status(&a, 200);
	cr_expect_eq(wire_count(answer_head(&a), "Content-Security-Policy"), 0);
	answer_fini(&a);
	gw_stop(gw);
}

/* --- the end of input ---------------------------------------------------------------------------------------------------- */

#define STREAM_HEAD                                                                                                    \
	"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n"

/* K3: after a plain request the end of input is no more than that, and the answer comes. */
Test(tcp, K3_half_closed)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, {UP_SEND, UP_OK_TEXT, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.clients = DOOR, .scripts = scripts, .nscripts = 1};
	struct gw *gw = start(&options);
	struct raw r = raw_tcp(port);
	struct answer a;

	cr_assert(raw_text(&r, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	raw_half_close(&r);
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* K3: a command, or a stream, whose client ends its input has lost its client: the upstream connection is closed. */
Test(tcp, K3_gone)
{
	static const char *const requests[] = {
		"POST /api/v1/sandboxes/sb-1/exec" HOST "Content-Length: 2\r\n\r\n{}",
		"GET /api/v1/sandboxes/sb-1/logs" HOST "\r\n",
	};
	const struct up_step *const exec[] = {SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	const struct up_step *const stream[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_SEND, STREAM_HEAD, 0}, {UP_READ_EOF, NULL, 0})};

	for (unsigned i = 0; i < 2; i++) {
		struct gw_options options = {.clients = DOOR, .scripts = i ? stream : exec, .nscripts = 1};
		struct gw *gw = start(&options);
		struct raw r = raw_tcp(port);

		cr_assert(raw_text(&r, requests[i]));
		cr_assert(upstream_wait_requests(gw->up, 1));
		if (i)
			cr_assert(raw_read_text(&r, "{}", WAIT_MS));
		raw_half_close(&r);
		cr_expect(upstream_wait_closed(gw->up, 0), "request %u goes on without its client", i);
		raw_close(&r);
		gw_stop(gw);
	}
}
