/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/spawn_keys: what an Idempotency-Key stands for. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/loop.h"
#include "gateway/config.h"
#include "gateway/dial.h"
#include "gateway/journal.h"
#include "gateway/spawn.h"
#include "gateway/spawn_keys.h"
#include "gateway/upstream.h"
#include "lib/scratch.h"

#define HASH 7u

struct waiter {
	struct spawn_key_wait wait;
	unsigned over;
	unsigned answered;
	unsigned status; /* of the last answer */
};

static struct loop *loop;
static struct dialer *dialer;
static struct scratch dir;
static struct upstream *up;
static struct upstream *other;
static struct spawn_shared spawns;
static struct spawn_keys *keys;
static struct waiter waiter;

static void on_over(struct spawn_key_wait *w)
{
	CONTAINER_OF(w, struct waiter, wait)->over++;
}

static void on_answer(struct spawn_key_wait *w, const struct spawn_result *r)
{
	struct waiter *self = CONTAINER_OF(w, struct waiter, wait);

	self->answered++;
	self->status = r->status ? r->status : r->fail_status;
}

static struct upstream *upstream_of(const char *name)
{
	struct config_upstream config;

	memset(&config, 0, sizeof(config));
	config_upstream_defaults(&config);
	config.scheme = CONFIG_UNIX;
	config.name = (char *)(uintptr_t)name;
	config.url = (char *)(uintptr_t) "unix:///run/x";
	config.pool.max_per_identity = config.pool.max_connections;
	return upstream_new(loop, dialer, &config, "/run/x");
}

static void waiter_init(struct waiter *w)
{
	memset(w, 0, sizeof(*w));
	list_init(&w->wait.link);
	w->wait.on_over = on_over;
	w->wait.on_answer = on_answer;
}

static void begin(void)
{
	log_set_level(LOG_LEVEL_ERROR);
	scratch_init(&dir);
	loop = loop_new();
	dialer = dialer_new(loop);
	cr_assert(loop && dialer);
	up = upstream_of("main");
	other = upstream_of("other");
	spawn_shared_init(&spawns, loop, NULL, NULL);
	keys = spawn_keys_new(loop, &spawns);
	cr_assert(up && other && keys);
	waiter_init(&waiter);
}

static void end(void)
{
	spawn_keys_free(keys);
	spawn_shared_fini(&spawns);
	upstream_unref(up);
	upstream_unref(other);
	loop_run_deferred(loop);
	dialer_free(dialer);
	loop_free(loop);
	scratch_fini(&dir);
}

TestSuite(gateway_spawn_keys, .init = begin, .fini = end, .timeout = 60);

static enum spawn_key_claim claim_at(struct upstream *u, const char *user, const char *key, uint64_t hash,
				     struct spawn_key **out)
{
	const struct fetch_caller caller = {u, NULL, user, NULL, NULL};

	return spawn_keys_claim(keys, &caller, NULL, str_from(key), hash, &waiter.wait, out);
}

static struct spawn_key *claimed(const char *key)
{
	struct spawn_key *r = NULL;

	cr_assert_eq(claim_at(up, "alice", key, HASH, &r), SPAWN_KEY_NEW);
	return r;
}

static const struct spawn_result made = {.status = 201,
					 .head = {"HTTP/1.1 201 Created\r\n", 22},
					 .body = {"{\"id\":\"sb-1\"}\n", 14},
					 .doc = {.id = "sb-1"}};

/* What may be a key. */
Test(gateway_spawn_keys, well_formed)
{
	char all[256];
	char text[2] = "";

	memset(all, 'x', sizeof(all));
	cr_expect(spawn_key_is_good(str_of(all, 255)));
	cr_expect(!spawn_key_is_good(str_of(all, 256)));
	cr_expect(!spawn_key_is_good(str_of(all, 0)));
	for (int c = 0; c < 256; c++) {
		text[0] = (char)c;
		cr_expect_eq(spawn_key_is_good(str_of(text, 1)), c > 0x20 && c < 0x7f, "byte %d", c);
	}
	cr_expect(!spawn_key_is_good(STR("a b")));
}

/* Template, lease and body are told apart, wherever one ends and the other begins. */
Test(gateway_spawn_keys, hash)
{
	static const struct {
		struct str route;
		struct str body;
	} all[] = {
		{STR(""), STR("")},    {STR("t"), STR("")},   {STR(""), STR("t")},
		{STR("t"), STR("{}")}, {STR(""), STR("t{}")}, {STR("t{"), STR("}")},
		{STR(""), STR("{}")},  {STR(""), STR("{} ")}, {STR(""), STR("{\0")},
	};

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		cr_expect_eq(spawn_keys_hash(all[i].route, STR(""), all[i].body),
			     spawn_keys_hash(all[i].route, STR(""), all[i].body));
		for (size_t k = 0; k < i; k++)
			cr_expect_neq(spawn_keys_hash(all[i].route, STR(""), all[i].body),
				      spawn_keys_hash(all[k].route, STR(""), all[k].body), "%zu and %zu", i, k);
	}
}

/* A key belongs to its owner and its upstream. */
Test(gateway_spawn_keys, scope)
{
	struct spawn_key *r;

	claimed("k");
	cr_expect_eq(claim_at(up, "bob", "k", HASH + 1, &r), SPAWN_KEY_NEW);
	cr_expect_eq(claim_at(other, "alice", "k", HASH + 1, &r), SPAWN_KEY_NEW);
	cr_expect_eq(claim_at(up, "alice", "K", HASH + 1, &r), SPAWN_KEY_NEW);
	cr_expect_eq(claim_at(up, "alice", "k", HASH + 1, &r), SPAWN_KEY_CONFLICT);
	cr_expect_eq(claim_at(up, "alice", "k", HASH, &r), SPAWN_KEY_WAIT);
	spawn_key_wait_cancel(&waiter.wait);
}

/* Whoever waits is told what came of it; what was made is remembered, with its answer. */
Test(gateway_spawn_keys, made)
{
	struct spawn_key *r = claimed("k");
	struct spawn_key *again;
	struct str head;
	struct str body;

	spawn_key_sending(r, "00000000-0000-0000-0000-000000000001");
	cr_expect(!spawn_key_made(r, &made), "nobody waits");
	cr_assert_eq(claim_at(up, "alice", "k", HASH, &again), SPAWN_KEY_DONE);
	cr_expect(again == r);
	cr_expect_str_eq(spawn_key_sandbox(r), "sb-1");
	cr_expect(spawn_key_answer(r, &head, &body) && str_eq(head, made.head) && str_eq(body, made.body));
	cr_expect_eq(claim_at(up, "alice", "k", HASH + 1, &again), SPAWN_KEY_CONFLICT);
	r = claimed("l");
	spawn_key_sending(r, "00000000-0000-0000-0000-000000000002");
	cr_assert_eq(claim_at(up, "alice", "l", HASH, &again), SPAWN_KEY_WAIT);
	cr_expect(spawn_key_made(r, &made), "one waits");
	cr_expect_eq(waiter.answered, 1);
	cr_expect_eq(waiter.status, 201);
}

/* An answer too large to be kept is not; the record stands for it. */
Test(gateway_spawn_keys, large_answer)
{
	static char large[5000];
	struct spawn_result result = made;
	struct spawn_key *r = claimed("k");
	struct str head;
	struct str body;

	memset(large, ' ', sizeof(large));
	result.body = str_of(large, sizeof(large));
	spawn_key_sending(r, "00000000-0000-0000-0000-000000000001");
	spawn_key_made(r, &result);
	cr_expect(!spawn_key_answer(r, &head, &body));
	cr_expect_str_eq(spawn_key_sandbox(r), "sb-1");
}

/* Whatever else came of it frees the key; who waits is told the same, or claims anew when its runner has left. */
Test(gateway_spawn_keys, not_made)
{
	const struct spawn_result refused = {.fail_status = 503, .why = "no"};
	struct spawn_key *r = claimed("k");
	struct spawn_key *again;

	cr_assert_eq(claim_at(up, "alice", "k", HASH, &again), SPAWN_KEY_WAIT);
	spawn_key_refused(r, &refused);
	cr_expect_eq(waiter.status, 503);
	r = claimed("k");
	cr_assert_eq(claim_at(up, "alice", "k", HASH, &again), SPAWN_KEY_WAIT);
	spawn_key_left(r);
	cr_expect_eq(waiter.over, 1);
	cr_expect_eq(waiter.answered, 1);
	r = claimed("k");
	spawn_key_sending(r, "00000000-0000-0000-0000-000000000001");
	spawn_key_left(r);
	cr_expect_eq(claim_at(up, "alice", "k", HASH, &r), SPAWN_KEY_NEW, "nothing of that spawn is known");
}

/* One owner has 1,024 keys at most, all together 16,384. */
Test(gateway_spawn_keys, bounds)
{
	struct spawn_key *r = NULL;
	struct spawn_key *first = NULL;
	char user[16];
	char key[16];

	for (int u = 0; u < SPAWN_KEYS_MAX / SPAWN_KEYS_PER_OWNER_MAX; u++) {
		snprintf(user, sizeof(user), "u%d", u);
		for (int i = 0; i < SPAWN_KEYS_PER_OWNER_MAX; i++) {
			snprintf(key, sizeof(key), "k%d", i);
			cr_assert_eq(claim_at(up, user, key, HASH, &r), SPAWN_KEY_NEW);
			first = first ? first : r;
		}
		cr_expect_eq(claim_at(up, user, "more", HASH, &r), SPAWN_KEY_FULL);
	}
	cr_expect_eq(claim_at(up, "another", "k", HASH, &r), SPAWN_KEY_FULL);
	cr_expect_eq(claim_at(up, "u0", "k1", HASH, &r), SPAWN_KEY_WAIT, "what is there can be asked for");
	spawn_key_wait_cancel(&waiter.wait);
	spawn_key_left(first);
	cr_expect_eq(claim_at(up, "another", "k", HASH, &r), SPAWN_KEY_NEW);
}

static unsigned records;
static char last_key[80];

static void on_record(void *arg, struct str key, struct str value)
{
	(void)arg;
	(void)value;
	records++;
	snprintf(last_key, sizeof(last_key), "%.*s", STR_ARG(key));
}

static unsigned records_in(const char *path)
{
	struct journal *j;

	records = 0;
	cr_assert_eq(journal_open(path, on_record, NULL, &j), 0);
	journal_free(j);
	return records;
}

/* In the journal is what was sent or made, under its token; what is free again is not, nor what it was sent with before. */
Test(gateway_spawn_keys, journalled)
{
	char path[512];
	struct journal *j;
	struct spawn_key *r;

	snprintf(path, sizeof(path), "%s", scratch_path(&dir, "journal"));
	cr_assert_eq(journal_open(path, on_record, NULL, &j), 0);
	spawn_keys_use_journal(keys, j);
	r = claimed("k");
	cr_expect_eq(records_in(path), 0, "nothing was sent");
	spawn_key_sending(r, "00000000-0000-0000-0000-000000000001");
	cr_expect_eq(records_in(path), 1);
	cr_expect_str_eq(last_key, "idem/00000000-0000-0000-0000-000000000001");
	spawn_key_sending(r, "00000000-0000-0000-0000-000000000002");
	cr_expect_eq(records_in(path), 1);
	cr_expect_str_eq(last_key, "idem/00000000-0000-0000-0000-000000000002");
	spawn_key_made(r, &made);
	cr_expect_eq(records_in(path), 1);
	r = claimed("l");
	spawn_key_sending(r, "00000000-0000-0000-0000-000000000003");
	spawn_key_left(r);
	cr_expect_eq(records_in(path), 1);
	spawn_keys_use_journal(keys, NULL);
	journal_free(j);
}
