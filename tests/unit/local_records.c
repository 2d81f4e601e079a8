/* SPDX-License-Identifier: Apache-2.0 */
/* Records on sandboxes that exist only in memory (tests/fake). */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <stdio.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/loop.h"
#include "local/records.h"
#include "local/sandbox.h"

static struct loop *loop;
static struct sandbox_host *host;
static struct records *records;
static struct event *alarm_ev;
static int started;     /* how often on_started was called */
static int start_error; /* its last error */
static int gone;        /* how many waiters were told */

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	loop_stop(arg);
}

static void begin(void)
{
	char why[64];
	const struct sandbox_host_config config = {.state_dir = "/nowhere"};

	loop = loop_new();
	cr_assert_eq(sandbox_host_new(loop, &config, &host, why, sizeof(why)), 0);
	records = records_new(loop, host);
	alarm_ev = event_new(loop_base(loop), -1, 0, on_alarm, loop);
	started = start_error = gone = 0;
}

static void on_stopped(void *arg)
{
	loop_stop(arg);
}

static void end(void)
{
	sandbox_host_stop(host, on_stopped, loop);
	loop_run(loop);
	records_free(records);
	sandbox_host_free(host);
	event_free(alarm_ev);
	loop_free(loop);
}

TestSuite(records, .init = begin, .fini = end);

/* Lets the loop turn for so long. */
static void turn_ms(unsigned ms)
{
	const struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	event_add(alarm_ev, &tv);
	loop_run(loop);
}

static void on_started(void *arg, struct record *r, int error, const char *why)
{
	(void)arg;
	(void)r;
	(void)why;
	started++;
	start_error = error;
	loop_stop(loop);
}

static struct record *spawn(int64_t memory_mb, int64_t ttl_ns)
{
	const struct record_spec spec = {
		.image = STR("i"), .owner_id = STR("alice"), .memory_mb = memory_mb, .ttl_ns = ttl_ns};
	struct record *r = records_spawn(records, &spec, on_started, NULL);

	cr_assert_not_null(r);
	cr_assert_eq(r->state, RECORD_CREATING);
	if (memory_mb != 14)
		loop_run(loop);
	return r;
}

static void on_waiter(struct record_waiter *w)
{
	(void)w;
	gone++;
	loop_stop(loop);
}

#define MINUTE INT64_C(60000000000)

/* The table has these edges and no others. */
Test(records, edges)
{
	static const char allowed[RECORD_STATES][RECORD_STATES + 1] = {
		/* to CREATING, RUNNING, EXPIRED, ERROR, DESTROYED */
		[RECORD_CREATING] = "01011", [RECORD_RUNNING] = "00111",   [RECORD_EXPIRED] = "00001",
		[RECORD_ERROR] = "00001",    [RECORD_DESTROYED] = "00000",
	};

	for (int from = 0; from < RECORD_STATES; from++)
		for (int to = 0; to < RECORD_STATES; to++)
			cr_expect_eq(record_state_may_follow((enum record_state)from, (enum record_state)to),
				     allowed[from][to] == '1', "%s -> %s", record_state_name((enum record_state)from),
				     record_state_name((enum record_state)to));
	cr_expect_str_eq(record_state_name(RECORD_RUNNING), "running");
}

/* creating, running, destroyed: found by its id all the way, and its waiter hears of the end. */
Test(records, whole_life)
{
	struct record *r = spawn(256, MINUTE);
	struct record_waiter w = {.on_gone = on_waiter};

	cr_expect_eq(start_error, 0);
	cr_expect_eq(r->state, RECORD_RUNNING);
	cr_expect_eq(records_find(records, str_from(r->id)), r);
	cr_expect_eq(records_count(records, STR("")), 1);
	cr_expect_eq(records_count(records, STR("bob")), 0);
	record_destroy(r, &w);
	cr_expect_eq(r->state, RECORD_DESTROYED);
	cr_expect_eq(gone, 0, "not before it is gone");
	loop_run(loop);
	cr_expect_eq(gone, 1);
	cr_expect_null(r->sandbox);
	cr_expect_eq(records_find(records, str_from(r->id)), r, "it is remembered");
	cr_expect_eq(records_count(records, STR("")), 0);
}

/* What could not be started is reported once and forgotten. */
Test(records, failed_start)
{
	struct record *r = spawn(13, MINUTE);
	char id[16];

	cr_expect_eq(started, 1);
	cr_expect_neq(start_error, 0);
	snprintf(id, sizeof(id), "%s", r->id);
	turn_ms(60);
	cr_expect_null(records_find(records, str_from(id)));
	cr_expect_eq(started, 1);
}

/* A spawn that nobody waits for any more is destroyed and never reported. */
Test(records, abandoned)
{
	struct record *r = spawn(14, MINUTE);

	record_abandon(r);
	turn_ms(60);
	cr_expect_eq(started, 0);
	cr_expect_eq(records_count(records, STR("")), 0);
}

/* One that is destroyed by request while it is being created is reported as failed. */
Test(records, destroyed_while_creating)
{
	struct record *r = spawn(14, MINUTE);
	struct record_waiter w = {.on_gone = on_waiter};

	record_destroy(r, &w);
	turn_ms(60);
	cr_expect_eq(started, 1);
	cr_expect_neq(start_error, 0);
	cr_expect_eq(gone, 1);
}

/* Expiry comes by itself, within a second of the time; an extension moves it. */
Test(records, expiry)
{
	struct record *soon = spawn(256, 0);
	struct record *later = spawn(256, 0);
	uint64_t began = clock_ms();

	record_extend(later, MINUTE);
	while (soon->state != RECORD_DESTROYED && clock_ms() - began < 5000)
		turn_ms(10);
	cr_expect_eq(soon->state, RECORD_DESTROYED);
	cr_expect_lt(clock_ms() - began, 1500u);
	cr_expect_eq(later->state, RECORD_RUNNING);
}

/* A sandbox that ends by itself stays visible as an error until it is destroyed. */
Test(records, ended_by_itself)
{
	struct record *r = spawn(256, MINUTE);

	sandbox_destroy(r->sandbox);
	turn_ms(60);
	cr_expect_eq(r->state, RECORD_ERROR);
	cr_expect_null(r->sandbox);
	cr_expect_eq(records_count(records, STR("")), 1);
	record_destroy(r, NULL);
	cr_expect_eq(r->state, RECORD_DESTROYED);
	cr_expect_eq(records_count(records, STR("")), 0);
}

static void note_id(struct record *r, void *arg)
{
	struct buf *ids = arg;

	buf_add_cstr(ids, r->id);
}

/* --- from server to server --------------------------------------------------------------------------------------- */

static void begin_keeping(void)
{
	char why[64];
	const struct sandbox_host_config config = {.state_dir = "/nowhere", .keep_ms = 1000, .keeper = -1};

	cr_assert_eq(sandbox_host_new(loop, &config, &host, why, sizeof(why)), 0);
	records = records_new(loop, host);
}

/* The next server, after this one has stopped. */
static void next_server(void)
{
	sandbox_host_stop(host, on_stopped, loop);
	loop_run(loop);
	records_free(records);
	sandbox_host_free(host);
	begin_keeping();
	records_resume(records);
}

static void write_record(const struct record *r, struct buf *out)
{
	struct json_writer w = json_writer(out);

	record_write(r, &w, NULL);
	buf_add_char(out, '\n');
}

static void write_each(struct record *r, void *arg)
{
	write_record(r, arg);
}

/* What runs is there again as it was, its metadata and its time too; what was destroyed or had not started is not. */
Test(records, taken_up)
{
	json_t *metadata = json_pack("{s:s, s:s}", "<a>", "\"\u00e9\n", "stacygate.owner", "alice");
	const struct record_spec spec = {.image = STR("img:1"),
					 .owner_id = STR("o"),
					 .metadata = metadata,
					 .memory_mb = 300,
					 .vcpus = 3,
					 .ttl_ns = MINUTE};
	struct buf before = BUF_EMPTY;
	struct buf after = BUF_EMPTY;

	end();
	loop = loop_new();
	alarm_ev = event_new(loop_base(loop), -1, 0, on_alarm, loop);
	begin_keeping();
	(void)spawn(256, MINUTE);
	struct record *r = records_spawn(records, &spec, on_started, NULL);
	cr_assert_not_null(r);
	loop_run(loop);
	record_extend(r, 60 * MINUTE);
	record_destroy(spawn(256, MINUTE), NULL);
	(void)spawn(14, MINUTE);
	records_each(records, write_each, &before);
	for (int i = 0; i < 2; i++) {
		next_server();
		buf_reset(&after);
		records_each(records, write_each, &after);
		cr_expect_eq(records_count(records, STR("")), 2);
		cr_expect_eq(records_count(records, STR("o")), 1);
		/* The one that had not started comes first in what was before. */
		struct str rest = buf_str(&before);
		(void)str_cut(&rest, '\n');
		cr_expect(str_eq(buf_str(&after), rest), "%.*s", STR_ARG(buf_str(&after)));
	}
	buf_fini(&before);
	buf_fini(&after);
	json_decref(metadata);
}

/* Time goes on while no server is there. */
Test(records, expired_meanwhile)
{
	end();
	loop = loop_new();
	alarm_ev = event_new(loop_base(loop), -1, 0, on_alarm, loop);
	begin_keeping();
	char id[RECORD_ID_SIZE];
	snprintf(id, sizeof(id), "%s", spawn(256, 1)->id);
	next_server();
	struct record *r = records_find(records, str_from(id));
	cr_assert_not_null(r);
	uint64_t began = clock_ms();
	while (r->state != RECORD_DESTROYED && clock_ms() - began < 5000)
		turn_ms(10);
	cr_expect_eq(r->state, RECORD_DESTROYED);
}

/* A note that makes no sense costs the sandbox its life, and nothing else. */
Test(records, bad_notes)
{
	static const char *const notes[] = {"", "{", "[]", "{}", "{\"image\":1,\"created_ns\":5}", "{\"image\":\"i\"}"};

	end();
	loop = loop_new();
	alarm_ev = event_new(loop_base(loop), -1, 0, on_alarm, loop);
	begin_keeping();
	for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++)
		sandbox_keep(spawn(256, MINUTE)->sandbox, str_from(notes[i]));
	struct record *good = spawn(256, MINUTE);
	char id[RECORD_ID_SIZE];
	snprintf(id, sizeof(id), "%s", good->id);
	next_server();
	turn_ms(60);
	cr_expect_eq(records_count(records, STR("")), 1);
	cr_assert_not_null(records_find(records, str_from(id)));
}

/* The newest comes first. */
Test(records, order)
{
	struct record *a = spawn(256, MINUTE);
	struct record *b = spawn(256, MINUTE);
	struct buf want = BUF_EMPTY;
	struct buf have = BUF_EMPTY;

	note_id(b, &want);
	note_id(a, &want);
	records_each(records, note_id, &have);
	cr_expect(str_eq(buf_str(&want), buf_str(&have)));
	buf_fini(&want);
	buf_fini(&have);
}
