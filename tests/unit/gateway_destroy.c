/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/destroy and gateway/list_poll: what is asked of a server again and again. */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/destroy.h"
#include "gateway/dial.h"
#include "gateway/list_poll.h"
#include "gateway/upstream.h"
#include "lib/canned.h"
#include "lib/scratch.h"
#include "lib/wait.h"

#define ANSWER(status, length, body)                                                                                   \
	"HTTP/1.1 " status "\r\nContent-Length: " length "\r\nConnection: close\r\n\r\n" body
#define SANDBOX(id) "{\"id\":\"" id "\",\"state\":\"running\",\"metadata\":{\"stacygate.token\":\"t\"}}"

static struct loop *loop;
static struct dialer *dialer;
static struct scratch dir;
static struct upstream *up;
static struct canned *server;
static uint64_t ahead_ms; /* of the real clock */

static uint64_t injected_ns(void)
{
	return (wait_now_ms() + ahead_ms) * 1000000u;
}

static void begin(void)
{
	struct config_upstream config;

	ahead_ms = 0;
	clock_set_source(injected_ns);
	log_set_level(LOG_LEVEL_ERROR);
	scratch_init(&dir);
	loop = loop_new();
	dialer = dialer_new(loop);
	cr_assert(loop && dialer);
	memset(&config, 0, sizeof(config));
	config_upstream_defaults(&config);
	config.scheme = CONFIG_UNIX;
	config.name = (char *)(uintptr_t) "main";
	config.url = (char *)(uintptr_t) "unix:///run/x";
	config.pool.max_per_identity = config.pool.max_connections;
	up = upstream_new(loop, dialer, &config, scratch_path(&dir, "up.sock"));
	cr_assert_not_null(up);
	server = NULL;
}

static void turn(void)
{
	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	loop_run_deferred(loop);
}

static void turn_for(unsigned ms)
{
	uint64_t until = wait_now_ms() + ms;

	while (wait_now_ms() < until)
		turn();
}

static void turn_until(const bool *over)
{
	uint64_t until = wait_now_ms() + WAIT_MS;

	while (!*over && wait_now_ms() < until)
		turn();
	cr_assert(*over, "not within %d ms", WAIT_MS);
}

static void turn_until_requests(unsigned n)
{
	uint64_t until = wait_now_ms() + WAIT_MS;

	while (canned_requests(server) < n && wait_now_ms() < until)
		turn();
	cr_assert_geq(canned_requests(server), n);
}

static void end(void)
{
	upstream_unref(up);
	turn_for(5);
	if (server)
		canned_stop(server);
	dialer_free(dialer);
	loop_free(loop);
	scratch_fini(&dir);
	clock_set_source(NULL);
}

TestSuite(gateway_destroy, .init = begin, .fini = end, .timeout = 60);
TestSuite(gateway_list_poll, .init = begin, .fini = end, .timeout = 60);

static struct fetch_caller caller(void)
{
	return (struct fetch_caller){up, NULL, "alice", NULL, NULL};
}

/* --- destroy ---------------------------------------------------------------------------------------------------------------- */

struct outcome {
	bool over;
	bool gone;
	char why[128];
};

static void on_destroyed(void *arg, bool gone, const char *why)
{
	struct outcome *o = arg;

	cr_expect(!o->over, "told once");
	o->over = true;
	o->gone = gone;
	snprintf(o->why, sizeof(o->why), "%s", why);
}

static struct destroy *start(struct outcome *o, uint64_t span_ms)
{
	const struct destroy_case c = {caller(), "sb-1", span_ms, on_destroyed, o};
	struct destroy *d;

	memset(o, 0, sizeof(*o));
	cr_assert_eq(destroy_start(loop, &c, &d), 0);
	cr_expect(!o->over, "never from within");
	return d;
}

/* Errors and answers that break off are followed by another try; 404 means that it is gone as well. */
Test(gateway_destroy, until_it_is_gone)
{
	static const char *const answers[] = {ANSWER("500 X", "0", ""), "", ANSWER("404 Not Found", "2", "{}"), NULL};
	struct outcome o;

	server = canned_start(scratch_path(&dir, "up.sock"), answers);
	start(&o, 600000);
	turn_until(&o.over);
	cr_expect(o.gone);
	cr_expect_eq(canned_requests(server), 3);
	for (unsigned i = 0; i < 3; i++)
		cr_expect_str_eq(canned_line(server, i), "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1");
}

/* A 2xx is enough; nothing is asked again. */
Test(gateway_destroy, at_once)
{
	static const char *const answers[] = {ANSWER("200 OK", "2", "{}"), NULL};
	struct outcome o;

	server = canned_start(scratch_path(&dir, "up.sock"), answers);
	start(&o, 600000);
	turn_until(&o.over);
	cr_expect(o.gone);
	turn_for(300);
	cr_expect_eq(canned_requests(server), 1);
}

/* It is given up after its span, and says why. */
Test(gateway_destroy, given_up)
{
	static const char *const answers[] = {ANSWER("503 X", "0", ""), NULL};
	struct outcome o;

	server = canned_start(scratch_path(&dir, "up.sock"), answers);
	start(&o, 600000);
	turn_until_requests(2);
	cr_expect(!o.over);
	ahead_ms = 600001;
	turn_until(&o.over);
	cr_expect(!o.gone);
	cr_expect(strstr(o.why, "503"), "%s", o.why);
}

/* The same of a server that is not there; cancelled, nobody is told. */
Test(gateway_destroy, no_server)
{
	struct outcome o;

	start(&o, 0);
	turn_until(&o.over);
	cr_expect(!o.gone && o.why[0]);
	destroy_cancel(start(&o, 600000));
	turn_for(300);
	cr_expect(!o.over);
	destroy_cancel(NULL);
}

/* Cancelled in the pause between two tries. */
Test(gateway_destroy, cancelled_in_a_pause)
{
	static const char *const answers[] = {ANSWER("500 X", "0", ""), NULL};
	struct outcome o;
	struct destroy *d;

	server = canned_start(scratch_path(&dir, "up.sock"), answers);
	d = start(&o, 600000);
	turn_until_requests(1);
	turn_for(50);
	destroy_cancel(d);
	turn_for(400);
	cr_expect_eq(canned_requests(server), 1);
	cr_expect(!o.over);
}

/* --- list_poll -------------------------------------------------------------------------------------------------------------- */

struct poll {
	struct list_poll *p;
	char ids[64]; /* that were shown, a space behind each */
	char json[200];
	unsigned rounds;
	unsigned complete;
	uint64_t next_ms;
	bool hurry; /* once, from within on_round */
	bool free;  /* from within on_round */
	bool over;  /* a round has ended */
};

static void on_sandbox(void *arg, const struct sandbox_doc *doc, struct str json)
{
	struct poll *p = arg;
	size_t n = strlen(p->ids);

	snprintf(p->ids + n, sizeof(p->ids) - n, "%s ", doc->id);
	snprintf(p->json, sizeof(p->json), "%.*s", STR_ARG(json));
	cr_expect_str_eq(doc->token, "t");
}

static uint64_t on_round(void *arg, bool complete)
{
	struct poll *p = arg;

	p->rounds++;
	p->complete += complete;
	p->over = true;
	if (p->hurry)
		list_poll_hurry(p->p);
	p->hurry = false;
	if (p->free) {
		list_poll_free(p->p);
		p->p = NULL;
	}
	return p->next_ms;
}

static const struct list_poll_events events = {on_sandbox, on_round};

static void poll_new(struct poll *p, const char *const *answers)
{
	const struct fetch_caller c = caller();

	memset(p, 0, sizeof(*p));
	server = canned_start(scratch_path(&dir, "up.sock"), answers);
	p->p = list_poll_new(loop, &c, &events, p);
	cr_assert_not_null(p->p);
	turn_for(20);
	cr_expect_eq(canned_requests(server), 0, "nothing is read before somebody hurries");
}

static void round_of(struct poll *p)
{
	p->over = false;
	turn_until(&p->over);
}

/* What the list shows is told as it is; 0 means not again until somebody hurries. */
Test(gateway_list_poll, a_round)
{
	static const char *const answers[] = {
		"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[" SANDBOX("sb-1") ", {\"no\":1}, " SANDBOX("sb-2") "]\n",
		NULL};
	struct poll p;

	poll_new(&p, answers);
	list_poll_hurry(p.p);
	round_of(&p);
	cr_expect_str_eq(p.ids, "sb-1 sb-2 ");
	cr_expect_str_eq(p.json, SANDBOX("sb-2"));
	cr_expect_eq(p.complete, 1);
	cr_expect_str_eq(canned_line(server, 0), "GET /api/v1/sandboxes HTTP/1.1");
	turn_for(300);
	cr_expect_eq(p.rounds, 1);
	list_poll_hurry(p.p);
	round_of(&p);
	cr_expect_eq(p.complete, 2);
	list_poll_free(p.p);
}

/* Lists that break off, are none, or are not given, are told as incomplete, and read again after the pause that is said. */
Test(gateway_list_poll, again_and_again)
{
	static const char *const answers[] = {
		"",
		ANSWER("500 X", "0", ""),
		"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[" SANDBOX("sb-1"),
		ANSWER("200 OK", "4", "{no}"),
		ANSWER("200 OK", "2", "[]"),
		NULL,
	};
	struct poll p;

	poll_new(&p, answers);
	p.next_ms = 10;
	list_poll_hurry(p.p);
	for (unsigned i = 1; i <= 4; i++) {
		round_of(&p);
		cr_expect_eq(p.complete, 0, "round %u", i);
	}
	round_of(&p);
	cr_expect_eq(p.complete, 1);
	list_poll_free(p.p);
	turn_for(50);
	cr_expect_eq(p.rounds, 5);
}

/* Whoever hurries while it is being read, or from within on_round, gets one more round that begins afterwards. */
Test(gateway_list_poll, hurried)
{
	static const char *const answers[] = {ANSWER("200 OK", "2", "[]"), NULL};
	struct poll p;

	poll_new(&p, answers);
	list_poll_hurry(p.p);
	list_poll_hurry(p.p);
	list_poll_hurry(p.p);
	round_of(&p);
	p.hurry = true;
	round_of(&p);
	round_of(&p);
	turn_for(100);
	cr_expect_eq(p.rounds, 3);
	cr_expect_eq(canned_requests(server), 3);
	list_poll_free(p.p);
}

/* A pause is cut short by whoever hurries. */
Test(gateway_list_poll, hurried_in_a_pause)
{
	static const char *const answers[] = {ANSWER("200 OK", "2", "[]"), NULL};
	struct poll p;

	poll_new(&p, answers);
	p.next_ms = 3600000;
	list_poll_hurry(p.p);
	round_of(&p);
	list_poll_hurry(p.p);
	round_of(&p);
	cr_expect_eq(p.rounds, 2);
	list_poll_free(p.p);
}

/* It may be freed from within on_round, hurried or not, and while it is being read. */
Test(gateway_list_poll, freed)
{
	static const char *const answers[] = {ANSWER("200 OK", "2", "[]"), NULL};
	struct poll p;
	const struct fetch_caller c = caller();

	poll_new(&p, answers);
	p.free = p.hurry = true;
	list_poll_hurry(p.p);
	round_of(&p);
	p.p = list_poll_new(loop, &c, &events, &p);
	cr_assert_not_null(p.p);
	list_poll_hurry(p.p);
	list_poll_free(p.p);
	turn_for(100);
	cr_expect_eq(p.rounds, 1);
	list_poll_free(NULL);
}
