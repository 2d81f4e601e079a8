/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/keyring, gateway/key_watch: one key for all who name its source, and when it is read again. */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/http_write.h"
#include "common/loop.h"
#include "common/secret.h"
#include "gateway/config.h"
#include "gateway/config_yaml.h"
#include "gateway/dial.h"
#include "gateway/keyring.h"
#include "gateway/rewrite.h"
#include "gateway/snapshot.h"
#include "lib/scratch.h"
#include "lib/wait.h"

#define VARIABLE "GATEWAY_KEYRING_TEST"

static struct scratch dir;
static struct loop *loop;
static struct keyring *ring;
static uint64_t now_ns = 1000000000000;

static uint64_t fake_clock(void)
{
	return now_ns;
}

static void begin(void)
{
	scratch_init(&dir);
	loop = loop_new();
	cr_assert_not_null(loop);
	cr_assert_eq(keyring_new(loop, NULL, &ring), 0);
}

static void end(void)
{
	clock_set_source(NULL);
	keyring_free(ring);
	loop_free(loop);
	scratch_fini(&dir);
}

TestSuite(gateway_keyring, .init = begin, .fini = end);

static struct key *get(enum config_source source, const char *from)
{
	const struct config_key k = {.source = source, .from = (char *)(uintptr_t)from};
	struct key *key = NULL;
	char why[300];

	cr_assert_eq(keyring_get(ring, &k, "team", &key, why, sizeof(why)), 0, "%s", why);
	return key;
}

static bool holds(const struct key *k, const char *value)
{
	return secret_equal(key_secret(k), str_from(value));
}

/* Writes a key beside its place and renames it there, as tools do. */
static void replace(const char *value)
{
	char path[200];

	snprintf(path, sizeof(path), "%s", scratch_path(&dir, "key"));
	cr_assert_eq(rename(scratch_text(&dir, "key.new", 0600, value), path), 0);
}

struct expected {
	const struct key *key;
	const char *value; /* NULL: that the key is in trouble */
};

static bool comes(void *arg)
{
	const struct expected *e = arg;

	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	return e->value ? holds(e->key, e->value) : key_state(e->key).error != NULL;
}

/* regress: two credentials that name one variable both work, and so does naming it again when no configuration holds it. */
Test(gateway_keyring, one_variable_for_two)
{
	struct key *first;
	struct key *second;

	setenv(VARIABLE, "SEKRET-a", 1);
	first = get(CONFIG_SOURCE_ENV, VARIABLE);
	cr_expect_null(getenv(VARIABLE));
	second = get(CONFIG_SOURCE_ENV, VARIABLE);
	cr_expect_eq(first, second);
	cr_expect(holds(second, "SEKRET-a"));
	key_unref(first);
	key_unref(second);
	first = get(CONFIG_SOURCE_ENV, VARIABLE);
	cr_expect(holds(first, "SEKRET-a"));
	cr_expect_eq(key_refused(first, key_secret(first), NULL), KEY_SAME, "there is nothing to read again");
	key_unref(first);
}

/* A file that is replaced, written in place or removed is seen; what is no key changes nothing but the state. */
Test(gateway_keyring, watched)
{
	const char *path = scratch_text(&dir, "key", 0600, "SEKRET-a\n");
	struct key *k = get(CONFIG_SOURCE_FILE, path);
	struct expected b = {k, "SEKRET-b"}, c = {k, "SEKRET-c"}, trouble = {k, NULL};

	cr_expect(holds(k, "SEKRET-a"));
	replace("SEKRET-b\n");
	cr_expect(wait_until(comes, &b, WAIT_MS));
	cr_assert_eq(chmod(path, 0644), 0);
	cr_expect(wait_until(comes, &trouble, WAIT_MS));
	cr_expect(holds(k, "SEKRET-b"));
	cr_assert_eq(chmod(path, 0600), 0);
	scratch_text(&dir, "key", 0600, "SEKRET-c");
	cr_expect(wait_until(comes, &c, WAIT_MS));
	cr_expect_null(key_state(k).error);
	cr_assert_eq(unlink(path), 0);
	cr_expect(wait_until(comes, &trouble, WAIT_MS));
	cr_expect(holds(k, "SEKRET-c"));
	cr_expect_null(strstr(key_state(k).error, "SEKRET"));
	key_unref(k);
}

/* A directory that is replaced whole is found again; so are two files of one directory, of which one goes away. */
Test(gateway_keyring, replaced_directory)
{
	struct key *k;
	struct key *other;
	struct expected b = {NULL, "SEKRET-b"}, c = {NULL, "SEKRET-c"};

	cr_assert_eq(mkdir(scratch_path(&dir, "d"), 0700), 0);
	scratch_text(&dir, "d/other", 0600, "SEKRET-x");
	k = get(CONFIG_SOURCE_FILE, scratch_text(&dir, "d/key", 0600, "SEKRET-a"));
	other = get(CONFIG_SOURCE_FILE, scratch_path(&dir, "d/other"));
	key_unref(other);
	b.key = c.key = k;
	cr_assert_eq(mkdir(scratch_path(&dir, "e"), 0700), 0);
	scratch_text(&dir, "e/key", 0600, "SEKRET-b");
	cr_assert_eq(rename(scratch_path(&dir, "d"), scratch_path(&dir, "old")), 0);
	cr_assert_eq(rename(scratch_path(&dir, "e"), scratch_path(&dir, "d")), 0);
	cr_expect(wait_until(comes, &b, WAIT_MS));
	scratch_text(&dir, "d/key", 0600, "SEKRET-c");
	cr_expect(wait_until(comes, &c, WAIT_MS));
	key_unref(k);
}

/* A key that the server refuses is read again, once in 5 s whoever asks; a value that came meanwhile is told at once. */
Test(gateway_keyring, refused)
{
	struct key *k = get(CONFIG_SOURCE_FILE, scratch_text(&dir, "key", 0600, "SEKRET-a"));
	struct secret *a = secret_ref(key_secret(k));
	struct secret *b;

	clock_set_source(fake_clock);
	cr_expect_eq(key_refused(k, a, NULL), KEY_SAME);
	scratch_text(&dir, "key", 0600, "SEKRET-b");
	cr_expect_eq(key_refused(k, a, NULL), KEY_SAME, "asked twice within 5 s");
	now_ns += 5000000000;
	cr_expect_eq(key_refused(k, a, NULL), KEY_CHANGED);
	cr_expect_eq(key_refused(k, a, NULL), KEY_CHANGED);
	b = secret_ref(key_secret(k));
	cr_expect(secret_equal(b, STR("SEKRET-b")));
	cr_expect_eq(key_refused(k, b, NULL), KEY_SAME);
	cr_expect_eq(key_state(k).changes, 1);
	secret_unref(a);
	secret_unref(b);
	key_unref(k);
}

/* A start without the file fails; a file that has gone fails a reload and leaves the key as it is. */
Test(gateway_keyring, missing)
{
	char path[200];
	struct config_key source = {.source = CONFIG_SOURCE_FILE, .from = path};
	struct key *k = NULL;
	char why[300];

	snprintf(path, sizeof(path), "%s", scratch_path(&dir, "key"));
	cr_expect_eq(keyring_get(ring, &source, "team", &k, why, sizeof(why)), -ENOENT);
	cr_expect_null(k);
	scratch_text(&dir, "key", 0600, "SEKRET-a");
	k = get(CONFIG_SOURCE_FILE, path);
	cr_assert_eq(unlink(path), 0);
	cr_expect_eq(keyring_get(ring, &source, "team", &k, why, sizeof(why)), -ENOENT);
	cr_expect(holds(k, "SEKRET-a"));
	key_unref(k);
}

/* The embedded server has both keys from its keeper; the second is for rules with admin: true only. */
Test(gateway_keyring, keys_of_the_local_server)
{
	static const char text[] =
		"clients:\n  - { name: a, match: { uid: 0 }, upstream: local, user_id: x, allow: [all], "
		"isolation: none, admin: true }\n  - { name: b, match: {}, upstream: local, user_id: x, "
		"allow: [all], isolation: none }\n";
	const struct config_places places = {.socket = (char *)(uintptr_t) "/nowhere/s",
					     .state_dir = (char *)(uintptr_t) "/nowhere"};
	struct snapshot_local local = {.socket = "/nowhere/l"};
	struct dialer *dialer = dialer_new(loop);
	struct snapshot *snapshot = NULL;
	struct config *config = NULL;
	struct buf faults = BUF_EMPTY;
	struct secret *s = NULL;
	char why[300];

	cr_assert_eq(secret_random(&s), 0);
	local.key = key_fixed(s);
	local.admin_key = key_fixed(s);
	secret_unref(s);
	cr_assert_eq(config_load(scratch_text(&dir, "c.yaml", 0644, text), &places, &config, &faults), 0, "%.*s",
		     STR_ARG(buf_str(&faults)));
	cr_assert_eq(snapshot_new(loop, dialer, ring, config, &local, NULL, &snapshot, why, sizeof(why)), 0, "%s", why);
	cr_expect_eq(snapshot_key(snapshot, &config->rules[0]), local.key);
	cr_expect_eq(snapshot_admin_key(snapshot, &config->rules[0]), local.admin_key);
	cr_expect_eq(snapshot_key(snapshot, &config->rules[1]), local.key);
	cr_expect_null(snapshot_admin_key(snapshot, &config->rules[1]));
	cr_expect_eq(key_refused(local.key, key_secret(local.key), NULL), KEY_SAME);
	snapshot_unref(snapshot);
	key_unref(local.key);
	key_unref(local.admin_key);
	config_unref(config);
	loop_run_deferred(loop);
	dialer_free(dialer);
}

static struct secret *secret_from(const char *text)
{
	char copy[64];
	struct secret *s = NULL;

	snprintf(copy, sizeof(copy), "%s", text);
	cr_assert_eq(secret_take(copy, strlen(copy), &s), 0);
	return s;
}

/* Other keys go where the old ones stood, longer or shorter, whatever else is in the head and behind it. */
Test(gateway_keyring, keys_in_a_written_head)
{
	struct secret *long_one = secret_from("SEKRET-longer-than-before"), *short_one = secret_from("S");
	struct buf request = BUF_EMPTY;

	buf_add_cstr(&request, "GET /X-API-Key:x HTTP/1.1\r\nA: X-API-Key: 1\r\nX-API-Key: old\r\nX-Admin-API-Key: "
			       "older\r\nB: 2\r\n\r\nrest\r\nX-API-Key: body\r\n");
	rewrite_request_keys(&request, long_one, NULL);
	cr_expect(str_eq(buf_str(&request), STR("GET /X-API-Key:x HTTP/1.1\r\nA: X-API-Key: 1\r\nX-API-Key: "
						"SEKRET-longer-than-before\r\nX-Admin-API-Key: older\r\nB: "
						"2\r\n\r\nrest\r\nX-API-Key: body\r\n")),
		  "%.*s", STR_ARG(buf_str(&request)));
	rewrite_request_keys(&request, short_one, long_one);
	cr_expect(str_eq(buf_str(&request), STR("GET /X-API-Key:x HTTP/1.1\r\nA: X-API-Key: 1\r\nX-API-Key: S\r\n"
						"X-Admin-API-Key: SEKRET-longer-than-before\r\nB: "
						"2\r\n\r\nrest\r\nX-API-Key: body\r\n")),
		  "%.*s", STR_ARG(buf_str(&request)));
	buf_wipe(&request);
	secret_unref(long_one);
	secret_unref(short_one);
}
