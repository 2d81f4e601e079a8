/* SPDX-License-Identifier: Apache-2.0 */
/* Start, reload, drain, stop, and what the gateway says of itself and of its callers. */
#include <criterion/criterion.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(lifecycle, .fini = gw_fini);

#define GET_X  "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
#define WHOAMI "GET /gateway/v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n"
#define RULE(name, match, user)                                                                                        \
	"  - { name: " name ", match: " match ", upstream: main, credential: team, user_id: \"" user                   \
	"\", allow: [all], isolation: none }\n"

static bool refuses(void *arg)
{
	struct raw probe;
	bool refused = raw_try_unix(&probe, arg) < 0;

	raw_close(&probe);
	return refused;
}

/* SIGTERM: no new connection is taken, idle ones close, the request under way is answered whole, then exit 0. */
Test(lifecycle, drain)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, {UP_SEND, UP_OK_TEXT, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw busy = gw_connect(gw), idle = gw_connect(gw);
	struct answer a;
	json_t *json;

	cr_assert(raw_text(&idle, WHOAMI));
	a = raw_answer(&idle, false, WAIT_MS);
	json = answer_json(&a);
	json_decref(json);
	answer_fini(&a);
	cr_assert(raw_text(&busy, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	daemon_signal(gw->daemon, SIGTERM);
	cr_expect(raw_closes(&idle, WAIT_MS), "an idle connection outlives the drain");
	cr_expect(wait_until(refuses, gw->socket, WAIT_MS), "it still takes connections");
	cr_expect(daemon_running(gw->daemon), "it does not wait for the request");
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&busy, false, WAIT_MS);
	expect_status(&a, 200);
	cr_expect(str_eq(buf_str(&a.body), STR("{}")));
	answer_fini(&a);
	cr_expect_eq(daemon_wait(gw->daemon, WAIT_MS), 0);
	cr_expect_eq(access(gw->socket, F_OK), -1, "L16: the socket file stays");
	raw_close(&busy);
	raw_close(&idle);
}

/* A second SIGTERM, or SIGINT, stops at once. */
Test(lifecycle, second_signal)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};

	for (unsigned i = 0; i < 2; i++) {
		struct gw *gw = gw_start(&options);
		struct raw busy = gw_connect(gw);
		uint64_t begin;

		cr_assert(raw_text(&busy, GET_X));
		cr_assert(upstream_wait_requests(gw->up, 1));
		daemon_signal(gw->daemon, SIGTERM);
		cr_assert(wait_until(refuses, gw->socket, WAIT_MS));
		cr_assert(daemon_running(gw->daemon));
		begin = wait_now_ms();
		daemon_signal(gw->daemon, i ? SIGINT : SIGTERM);
		cr_expect_eq(daemon_wait(gw->daemon, WAIT_MS), 0);
		cr_expect_lt(wait_now_ms() - begin, 3000);
		cr_expect(raw_closes(&busy, WAIT_MS));
		raw_close(&busy);
		gw_fini();
	}
}

/* A drain ends with drain_timeout whatever goes on. */
Test(lifecycle, drain_timeout)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_READ_EOF, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1, .top = "drain_timeout: 300ms"};
	struct gw *gw = gw_start(&options);
	struct raw busy = gw_connect(gw);

	cr_assert(raw_text(&busy, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	daemon_signal(gw->daemon, SIGTERM);
	cr_expect_eq(daemon_wait(gw->daemon, WAIT_MS), 0);
	cr_expect(raw_closes(&busy, WAIT_MS));
	raw_close(&busy);
}

struct rule_wait {
	struct raw *r;
	const char *user_id;
};

/* Whether the caller on this connection, kept open all the time, is that user now. */
static bool is_user(void *arg)
{
	struct rule_wait *w = arg;
	struct answer a;
	json_t *json;
	bool is;

	cr_assert(raw_text(w->r, WHOAMI));
	a = raw_answer(w->r, false, WAIT_MS);
	if (a.status != 200) {
		answer_fini(&a);
		return !w->user_id;
	}
	json = answer_json(&a);
	is = w->user_id && !strcmp(json_text_at(json, "user_id"), w->user_id);
	json_decref(json);
	answer_fini(&a);
	return is;
}

/* SIGHUP: the next request on a kept connection is judged by the new rules (ID11), what runs goes on. */
Test(lifecycle, reload)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, {UP_SEND, UP_OK_TEXT, 0}, {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw), busy = gw_connect(gw);
	struct rule_wait alice = {&r, GW_USER_ID}, bob = {&r, "bob"}, nobody = {&r, NULL};
	struct answer a;

	cr_assert(is_user(&alice));
	cr_assert(raw_text(&busy, GET_X));
	cr_assert(upstream_wait_requests(gw->up, 1));
	options.clients = "\n" RULE("everyone", "{}", "bob");
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_expect(wait_until(is_user, &bob, WAIT_MS), "the new rule does not hold");
	upstream_open_gate(gw->up, 0);
	a = raw_answer(&busy, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	options.clients = "\n" RULE("other", "{ uid: 4321 }", "carol");
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_expect(wait_until(is_user, &nobody, WAIT_MS), "a removed rule still holds");
	raw_close(&r);
	raw_close(&busy);
	gw_stop(gw);
}

/* A faulty file changes nothing and is named in the log with line and column; the next good one works. */
Test(lifecycle, reload_faulty)
{
	struct gw_options options = {0};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct rule_wait alice = {&r, GW_USER_ID}, bob = {&r, "bob"};

	cr_assert(is_user(&alice));
	options.clients = "\n" RULE("everyone", "{}", "bob");
	options.top = "no_such_key: 1";
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_expect(daemon_wait_log(gw->daemon, "stacygate.yaml:"), "no FILE:LINE:COLUMN in the log");
	cr_expect(daemon_wait_log(gw->daemon, "no_such_key"));
	cr_expect(is_user(&alice), "a faulty file changed something");
	options.top = NULL;
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_expect(wait_until(is_user, &bob, WAIT_MS));
	raw_close(&r);
	gw_stop(gw);
}

/* L14: a key replaced on disk goes up after a reload, the old one no more. */
Test(lifecycle, reload_key)
{
	struct gw_options options = {0};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);
	struct rule_wait bob = {&r, "bob"};
	struct answer a = gw_ask(gw, GET_X);
	struct buf head = upstream_request_head(gw->up, 0);

	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect(wire_header_is(buf_str(&head), "X-API-Key", GW_KEY));
	buf_fini(&head);
	scratch_text(&gw->dir, "team.key", 0600, PLANTED_SECRET "-another-key\n");
	options.clients = "\n" RULE("everyone", "{}", "bob");
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_assert(wait_until(is_user, &bob, WAIT_MS));
	a = gw_ask(gw, GET_X);
	expect_status(&a, 200);
	answer_fini(&a);
	head = upstream_request_head(gw->up, upstream_requests(gw->up) - 1);
	cr_expect(wire_header_is(buf_str(&head), "X-API-Key", PLANTED_SECRET "-another-key"));
	buf_fini(&head);
	raw_close(&r);
	gw_stop(gw);
}

/* whoami: the caller as the kernel and the rule say it; never a secret. */
Test(lifecycle, whoami)
{
	struct gw *gw = gw_start(NULL);
	json_t *json = gw_get(gw, "/gateway/v1/whoami");

	cr_expect_eq(json_number_at(json, "uid"), (json_int_t)getuid());
	cr_expect_eq(json_number_at(json, "gid"), (json_int_t)getgid());
	cr_expect_eq(json_number_at(json, "pid"), (json_int_t)getpid());
	cr_expect(json_is_array(json_object_get(json, "groups")));
	cr_expect_str_eq(json_text_at(json, "rule"), "me");
	cr_expect_str_eq(json_text_at(json, "user_id"), GW_USER_ID);
	cr_expect_str_eq(json_text_at(json, "upstream"), "main");
	cr_expect_str_eq(json_text_at(json, "listener"), gw->socket);
	json_decref(json);
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* health: answered without the upstream, which it names; ok until a dial has failed, then degraded. */
Test(lifecycle, health)
{
	struct gw_options options = {.no_upstream = true};
	struct gw *gw = gw_start(&options);
	json_t *json = gw_get(gw, "/gateway/v1/health");
	struct answer a;

	cr_expect_str_eq(json_text_at(json, "status"), "ok");
	cr_expect_gt(strlen(json_text_at(json, "version")), 0);
	cr_expect_gt(strlen(json_text_at(json, "uptime")), 0);
	cr_expect_str_eq(json_text_at(json, "upstreams.0.name"), "main");
	json_decref(json);
	a = gw_ask(gw, GET_X);
	expect_error(&a, 502, "CONNECTION_ERROR");
	answer_fini(&a);
	json = gw_get(gw, "/gateway/v1/health");
	cr_expect_str_eq(json_text_at(json, "status"), "degraded");
	cr_expect(json_is_false(json_object_get(json_array_get(json_object_get(json, "upstreams"), 0), "healthy")));
	cr_expect_gt(strlen(json_text_at(json, "upstreams.0.error")), 0);
	json_decref(json);
	gw_stop(gw);
}

/* The gateway's own routes: unknown ones are 404, known ones with another method 405; nothing goes upstream. */
Test(lifecycle, own_routes)
{
	struct gw *gw = gw_start(NULL);
	struct answer a = gw_ask(gw, "GET /gateway/v1/nothing HTTP/1.1\r\nHost: h\r\n\r\n");

	expect_error(&a, 404, "NOT_FOUND");
	answer_fini(&a);
	a = gw_ask(gw, "POST /gateway/v1/health HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
	expect_error(&a, 405, "BAD_REQUEST");
	answer_fini(&a);
	json_decref(gw_get(gw, "/gateway/v1/status"));
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* ID2, ID15: whom no rule matches gets one fixed answer, whatever he asks for and whoever he is; nothing goes up. */
Test(lifecycle, no_rule)
{
	static const char *const targets[] = {"/api/v1/sandboxes", "/gateway/v1/status", "/gateway/v1/whoami", "/x"};
	struct gw_options options = {.clients = "\n" RULE("secretive", "{ uid: 4321 }", "carol")};
	struct gw *gw = gw_start(&options);
	char *first = NULL;

	for (unsigned i = 0; i < 4; i++) {
		struct answer a = gw_ask(gw, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", targets[i]);
		char *body;

		expect_error(&a, 403, "FORBIDDEN");
		cr_expect(!buf_contains(&a.body, "secretive"));
		cr_expect(!buf_contains(&a.body, "carol"));
		body = str_dup(buf_str(&a.body));
		if (first)
			cr_expect_str_eq(body, first);
		else
			first = strdup(body);
		free(body);
		answer_fini(&a);
	}
	free(first);
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* ID1: each uid is its own user, on connections that are used in turn and kept. */
Test(lifecycle, identities)
{
	struct gw_options options = {.clients = "\n" RULE("one", "{ uid: 1234 }", "alice")
					     RULE("two", "{ uid: 5678 }", "bob")};
	static const struct {
		uid_t uid;
		const char *user;
	} users[] = {{1234, "alice"}, {5678, "bob"}, {4321, NULL}};
	struct raw r[6];
	unsigned served = 0;
	struct gw *gw;

	if (!have_root("connections of other users"))
		return;
	gw = gw_start(&options);
	for (unsigned i = 0; i < 6; i++)
		r[i] = raw_unix_as(gw->socket, users[i % 3].uid, users[i % 3].uid, NULL, 0);
	for (unsigned n = 0; n < 100; n++) {
		for (unsigned i = 0; i < 6; i++)
			cr_assert(raw_text(&r[i], GET_X));
		for (unsigned i = 0; i < 6; i++) {
			struct answer a = raw_answer(&r[i], false, WAIT_MS);
			char want[64];

			if (users[i % 3].user) {
				expect_status(&a, 200);
				snprintf(want, sizeof(want), "X-User-ID: %s\\r\\n", users[i % 3].user);
				cr_assert(buf_contains(&a.body, want), "not %s: %.*s", want, STR_ARG(buf_str(&a.body)));
				served++;
			} else {
				expect_error(&a, 403, "FORBIDDEN");
				if (a.end == ANSWER_COMPLETE &&
				    wire_header_is(answer_head(&a), "Connection", "close")) {
					raw_close(&r[i]);
					r[i] = raw_unix_as(gw->socket, 4321, 4321, NULL, 0);
				}
			}
			answer_fini(&a);
		}
	}
	cr_expect_eq(upstream_requests(gw->up), served);
	for (unsigned i = 0; i < 6; i++)
		raw_close(&r[i]);
	gw_stop(gw);
}

/* ID8: a group rule asks for the groups of the connection's maker, primary or supplementary. ID3: 65534 is nobody. */
Test(lifecycle, groups)
{
	struct gw_options options = {.clients = "\n" RULE("ops", "{ gid: 2000 }", "{uid}")};
	static const struct {
		uid_t uid;
		gid_t gid, extra;
		unsigned status;
	} peers[] = {{1234, 2000, 0, 200}, {1234, 1234, 2000, 200}, {1234, 1234, 2001, 403}, {5678, 5678, 0, 403}};
	struct gw *gw;

	if (!have_root("connections of other users"))
		return;
	gw = gw_start(&options);
	for (unsigned i = 0; i < 4; i++) {
		gid_t extra[1] = {peers[i].extra};
		struct raw r = raw_unix_as(gw->socket, peers[i].uid, peers[i].gid, extra, peers[i].extra ? 1 : 0);
		struct answer a;

		cr_assert(raw_text(&r, GET_X));
		a = raw_answer(&r, false, WAIT_MS);
		cr_expect_eq(a.status, peers[i].status, "peer %u: status %u", i, a.status);
		if (a.status == 200)
			cr_expect(buf_contains(&a.body, "X-User-ID: 1234\\r\\n"));
		answer_fini(&a);
		raw_close(&r);
	}
	gw_stop(gw);
}

/* ID3: an overflow uid matches no rule, even one that names everybody. */
Test(lifecycle, overflow_uid)
{
	struct gw_options options = {.clients = "\n" RULE("everyone", "{}", "{uid}")};
	struct gw *gw;
	struct raw r;
	struct answer a;

	if (!have_root("a connection of uid 65534"))
		return;
	gw = gw_start(&options);
	r = raw_unix_as(gw->socket, 65534, 65534, NULL, 0);
	cr_assert(raw_text(&r, GET_X));
	a = raw_answer(&r, false, WAIT_MS);
	expect_error(&a, 403, "FORBIDDEN");
	answer_fini(&a);
	raw_close(&r);
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* X13: one log line per request, printable whatever the client sends; no header value and no query in it. */
Test(lifecycle, log_lines)
{
	struct gw *gw = gw_start(NULL);
	struct answer a = gw_ask(
		gw,
		"GET /api/v1/%%C3%%A9?token=QUERYTEXT HTTP/1.1\r\nHost: h\r\nUser-Agent: HEADERTEXT\xc3\xa9\r\n\r\n");
	struct buf log;

	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect(daemon_wait_log(gw->daemon, "/api/v1/"), "no access line");
	a = gw_ask(gw, "GET /api/v1/\x1b[31m HTTP/1.1\r\nHost: h\r\nUser-Agent: HEADERTEXT\x1b[31m\r\n\r\n");
	expect_error(&a, 400, "BAD_REQUEST");
	answer_fini(&a);
	log = daemon_stderr(gw->daemon);
	cr_expect(!buf_contains(&log, "QUERYTEXT"));
	cr_expect(!buf_contains(&log, "HEADERTEXT"));
	for (size_t i = 0; i < log.len; i++) {
		unsigned char c = (unsigned char)buf_data(&log)[i];

		cr_assert(c == '\n' || (c >= 0x20 && c < 0x7f), "byte %02x in the log", c);
	}
	buf_fini(&log);
	gw_stop(gw);
}

/* With log.access on there is a line per connection and per request at info. */
Test(lifecycle, access_log)
{
	struct gw_options options = {.log = "level: info, access: stderr"};
	struct gw *gw = gw_start(&options);
	unsigned before = daemon_count_log(gw->daemon, "/api/v1/x");
	struct answer a = gw_ask(gw, GET_X);

	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect(daemon_wait_log(gw->daemon, "/api/v1/x"));
	cr_expect_eq(daemon_count_log(gw->daemon, "/api/v1/x"), before + 1, "more than a line for a request");
	gw_stop(gw);
	options.log = "level: info, access: off";
	gw = gw_start(&options);
	a = gw_ask(gw, GET_X);
	expect_status(&a, 200);
	answer_fini(&a);
	cr_expect_eq(daemon_count_log(gw->daemon, "/api/v1/x"), 0);
	gw_stop(gw);
}
