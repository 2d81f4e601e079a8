/* SPDX-License-Identifier: Apache-2.0 */
/* The command line and the configuration file: what is wrong is named with its place, and nothing is ignored. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"

static struct scratch dir;

static void begin(void)
{
	scratch_init(&dir);
	scratch_text(&dir, "team.key", 0600, GW_KEY "\n");
}

static void end(void)
{
	daemon_kill_all();
	scratch_fini(&dir);
}

TestSuite(config, .init = begin, .fini = end);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define UP           "upstreams: { main: { url: \"unix://$/up.sock\" } }\n"
#define KEY          "credentials: { team: { api_key: { file: $/team.key } } }\n"
#define ME(more)                                                                                                       \
	"{ name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"alice\", allow: [all], "          \
	"isolation: none" more " }"
#define RULES UP KEY "clients:\n  - " ME("") "\n"

/* Writes the text with "$" replaced by the test's directory; its path. */
static const char *write_config(const char *text)
{
	struct buf out = BUF_EMPTY;
	const char *path;

	for (; *text; text++) {
		if (*text == '$')
			buf_add_cstr(&out, dir.path);
		else
			buf_add_char(&out, *text);
	}
	path = scratch_file(&dir, "t.yaml", 0644, buf_data(&out), out.len);
	buf_fini(&out);
	return path;
}

/* stacygated OPTION -c FILE: its exit status, its output added to `out` (both streams). */
static int run(const char *option, const char *file, struct buf *out)
{
	const char *argv[] = {option, file ? "-c" : NULL, file, NULL};
	struct daemon_spec spec = {.argv = argv};
	struct buf err = BUF_EMPTY;
	int status = daemon_run(&dir, &spec, out, &err);

	buf_add_str(out, buf_str(&err));
	buf_fini(&err);
	return status;
}

struct bad_config {
	const char *text;
	const char *place; /* LINE:COLUMN, or LINE: when the column is a matter of taste */
	const char *names; /* what the message must name */
};

static const struct bad_config bad[] = {
	{"lisen: []\n" RULES, "1:1:", "lisen"},
	{RULES "drain_timeout: 1s\ndrain_timeout: 2s\n", "6:1:", "drain_timeout"},
	{"drain_timeout: 30\n" RULES, "1:16:", "drain_timeout"},
	{"drain_timeout: soon\n" RULES, "1:16:", "soon"},
	{"drain_timeout: -5s\n" RULES, "1:16:", "-5s"},
	{"drain_timeout: [1s]\n" RULES, "1:16:", "drain_timeout"},
	{"log: { level: loud }\n" RULES, "1:15:", "loud"},
	{"log: { level: info, color: red }\n" RULES, "1:21:", "color"},
	{"log: loud\n" RULES, "1:6:", "log"},
	{"listen:\n  - path: relative.sock\n" RULES, "2:11:", "absolute"},
	{"listen:\n  - path: $/x.sock\n    mode: \"9999\"\n" RULES, "3:11:", "9999"},
	{"listen:\n  - mode: \"0600\"\n" RULES, "2:5:", "path"},
	{"listen:\n  - path: $/x.sock\n    group: no-such-group-at-all\n" RULES, "3:12:", "no-such-group-at-all"},
	{"listen: []\n" RULES, "1:9:", "listen"},
	{"listen: [ { path: $/x.sock }, { path: $/x.sock } ]\n" RULES, "1:", "x.sock"},
	{"listen: [ { path: $/x.sock, name: a }, { path: $/y.sock, name: a } ]\n" RULES, "1:", "name"},
	{"upstreams: { main: { url: \"ftp://x\" } }\n" KEY "clients:\n  - " ME("") "\n", "1:27:", "ftp"},
	{"upstreams: { main: { url: \"unix://relative\" } }\n" KEY "clients:\n  - " ME("") "\n", "1:27:", "relative"},
	/* X9: the key does not go over a network in clear. */
	{"upstreams: { main: { url: \"http://10.0.0.1\" } }\n" KEY "clients:\n  - " ME("") "\n",
	 "1:27:", "allow_plaintext"},
	{"upstreams: { main: { url: \"http://u:p@x\" } }\n" KEY "clients:\n  - " ME("") "\n", "1:27:", "url"},
	{"upstreams: { main: { url: \"http://127.0.0.1:99999\" } }\n" KEY "clients:\n  - " ME("") "\n",
	 "1:27:", "99999"},
	{"upstreams: { main: { } }\n" KEY "clients:\n  - " ME("") "\n", "1:", "url"},
	{"upstreams: { main: { url: \"unix://$/u\", pool: { max_connections: 0 } } }\n" KEY
	 "clients:\n  - " ME("") "\n",
	 "1:", "max_connections"},
	{"upstreams: { main: { url: \"unix://$/u\", pool: { max_connections: many } } }\n" KEY
	 "clients:\n  - " ME("") "\n",
	 "1:", "many"},
	{"upstreams: { main: { url: \"unix://$/u\", pool: { size: 3 } } }\n" KEY "clients:\n  - " ME("") "\n",
	 "1:", "size"},
	{"upstreams: { main: { url: \"unix://$/u\", timeouts: { connect: 0s } } }\n" KEY "clients:\n  - " ME("") "\n",
	 "1:", "connect"},
	{"upstreams: { main: { url: \"unix://$/u\", timeouts: { connect: 5 minutes } } }\n" KEY
	 "clients:\n  - " ME("") "\n",
	 "1:", "5 minutes"},
	{UP "credentials: { team: { } }\nclients:\n  - " ME("") "\n", "2:", "api_key"},
	{UP "credentials: { team: { api_key: { } } }\nclients:\n  - " ME("") "\n", "2:", "api_key"},
	{UP "credentials: { team: { api_key: { file: relative } } }\nclients:\n  - " ME("") "\n", "2:", "relative"},
	{UP "credentials: { team: { api_key: { file: $/team.key, env: X } } }\nclients:\n  - " ME("") "\n",
	 "2:", "env"},
#define TEAM(key) UP "credentials: { team: { api_key: { " key " } } }\nclients:\n  - " ME("") "\n"
	{TEAM("file: $/team.key, ttl: 10m"), "2:", "ttl"},
	{TEAM("env: X, timeout: 1s"), "2:", "timeout"},
	{TEAM("systemd: ../x"), "2:", "../x"},
	{TEAM("systemd: .."), "2:", ".."},
	{TEAM("command: /bin/true"), "2:", "command"},
	{TEAM("command: []"), "2:", "command"},
	{TEAM("command: [true]"), "2:", "absolute"},
	{TEAM("command: [/bin/echo, [x]]"), "2:", "argument"},
	{TEAM("command: [/bin/echo, x], ttl: 0s"), "2:", "ttl"},
	{TEAM("command: [/bin/echo, x], timeout: 1h"), "2:", "timeout"},
#undef TEAM
	/* The key for admin routes needs a rule with admin: true. */
	{UP "credentials: { team: { api_key: { file: $/team.key }, admin_api_key: { file: $/team.key } } }\n"
	    "clients:\n  - " ME("") "\n",
	 "2:", "admin_api_key"},
	{RULES "  - " ME("") "\n", "5:", "me"},
	{UP KEY "clients:\n  - { name: all, match: {}, upstream: main, credential: team, user_id: x, allow: [all], "
		"isolation: none }\n  - " ME("") "\n",
	 "5:", "line 4"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: nowhere, credential: team, user_id: x, allow: "
		"[all], isolation: none }\n",
	 "4:", "nowhere"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: none, user_id: x, allow: "
		"[all], isolation: none }\n",
	 "4:", "none"},
	{UP KEY
	 "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, user_id: x, allow: [all], isolation: none }\n",
	 "4:", "credential"},
	{UP KEY
	 "clients:\n  - { name: me, upstream: main, credential: team, user_id: x, allow: [all], isolation: none }\n",
	 "4:", "match"},
	{UP KEY "clients:\n  - { name: me, match: { uid: abc }, upstream: main, credential: team, user_id: x, allow: "
		"[all], isolation: none }\n",
	 "4:", "abc"},
	{UP KEY "clients:\n  - { name: me, match: { user: no-such-user-at-all }, upstream: main, credential: team, "
		"user_id: x, allow: [all], isolation: none }\n",
	 "4:", "no-such-user-at-all"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 65534 }, upstream: main, credential: team, user_id: x, allow: "
		"[all], isolation: none }\n",
	 "4:", "65534"},
	{UP KEY "clients:\n  - { name: me, match: { listener: nowhere }, upstream: main, credential: team, user_id: x, "
		"allow: [all], isolation: none }\n",
	 "4:", "nowhere"},
	{UP KEY "clients:\n  - " ME(", colour: red") "\n", "4:", "colour"},
	{UP KEY "clients:\n  - " ME(", name: me") "\n", "4:", "name"},
	{UP KEY "clients: []\n", "3:10:", "clients"},
	{UP KEY "clients: { me: 1 }\n", "3:10:", "clients"},
	/* H6: what a user id must not hold. */
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a b\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a\\rb\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a\\nb\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a\\0b\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a\\tb\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a\\x7fb\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"a/b\", "
		"allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"\", allow: "
		"[all], isolation: none }\n",
	 "4:", "user_id"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"{nobody}\", "
		"allow: [all], isolation: none }\n",
	 "4:", "nobody"},
	{UP KEY "clients:\n  - { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \""
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"aaaaaaaaaaaaaaaaaaaaaaaaaaa"
		"\", allow: [all], isolation: none }\n",
	 "4:", "user_id"},
	/* What is no YAML, or not what the file must be. */
	{"listen: [\n", "2:1:", ""},
	{"a: b: c\n", "1:", ""},
	{"- x\n", "1:1:", ""},
	{RULES "---\nlog: { level: info }\n", "6:", "document"},
	{RULES "---\n[\n", "7:1:", ""},
	{"\x01\n", "1:", ""},
};

/* -t names each fault as FILE:LINE:COLUMN and what was expected, and exits 1; starting with it exits 1 as well. */
Test(config, faults)
{
	for (unsigned i = 0; i < COUNT(bad); i++) {
		const char *file = write_config(bad[i].text);
		struct buf out = BUF_EMPTY;
		char place[700];
		int status = run("-t", file, &out);

		snprintf(place, sizeof(place), "%s:%s", file, bad[i].place);
		cr_expect_eq(status, 1, "config %u: exit status %d", i, status);
		cr_expect(buf_contains(&out, place), "config %u: no '%s' in: %.*s", i, place, STR_ARG(buf_str(&out)));
		cr_expect(buf_contains(&out, bad[i].names), "config %u: '%s' is not named in: %.*s", i, bad[i].names,
			  STR_ARG(buf_str(&out)));
		buf_fini(&out);
	}
}

/* The same faults stop a start, with the same status and words. */
Test(config, faults_at_start)
{
	for (unsigned i = 0; i < COUNT(bad); i += 7) {
		const char *file = write_config(bad[i].text);
		const char *argv[] = {"-c", file, NULL};
		struct daemon_spec spec = {.argv = argv};
		struct buf err = BUF_EMPTY;
		char place[700];

		snprintf(place, sizeof(place), "%s:%s", file, bad[i].place);
		cr_expect_eq(daemon_run(&dir, &spec, NULL, &err), 1, "config %u", i);
		cr_expect(buf_contains(&err, place), "config %u: %.*s", i, STR_ARG(buf_str(&err)));
		buf_fini(&err);
	}
}

/* One run names every fault, not only the first. */
Test(config, all_faults_at_once)
{
	const char *file =
		write_config("lisen: []\ndrain_timeout: soon\n" UP KEY "clients:\n  - " ME(", colour: red") "\n");
	struct buf out = BUF_EMPTY;

	cr_expect_eq(run("-t", file, &out), 1);
	cr_expect(buf_contains(&out, "t.yaml:1:1:"));
	cr_expect(buf_contains(&out, "t.yaml:2:16:"));
	cr_expect(buf_contains(&out, "t.yaml:6:"));
	buf_fini(&out);
}

/* Also what is no fault of the file itself; what hangs on a fault is not told a second time. */
Test(config, faults_beside_those_of_the_file)
{
	const char *file =
		write_config("listen: [ { path: $/x.sock } ]\noops: 1\n" UP
			     "credentials: { team: { api_key: { file: $/none }, admin_api_key: { file: key } } }\n"
			     "log: { audit: $/none/audit.log }\n"
			     "clients:\n  - " ME(", admin: true") "\n");
	struct buf out = BUF_EMPTY;
	size_t lines = 0;

	cr_expect_eq(run("-t", file, &out), 1);
	cr_expect(buf_contains(&out, "t.yaml:2:1: unknown key \"oops\""));
	cr_expect(buf_contains(&out, "file is \"key\", expected an absolute path"));
	cr_expect(buf_contains(&out, "/none: No such file or directory"));
	cr_expect(buf_contains(&out, "log.audit: "));
	for (struct str rest = buf_str(&out); rest.n; lines++)
		str_cut(&rest, '\n');
	cr_expect_eq(lines, 4, "%.*s", STR_ARG(buf_str(&out)));
	buf_fini(&out);
}

/* A good file: -t says nothing bad and exits 0. */
Test(config, good)
{
	static const char *const good[] = {
		RULES,
		"listen: [ { path: $/x.sock, mode: \"0660\" } ]\n" RULES "log: { level: debug, access: stderr }\n",
		"drain_timeout: 1h30m\n" RULES "bounds: { body: 2MiB }\n",
		"upstreams:\n  main:\n    url: http://127.0.0.1:7000\n    pool: { max_connections: 3, max_idle: 1, "
		"idle_timeout: 1s, "
		"lifetime: 1m, max_waiting: 2, wait_timeout: 1s }\n    timeouts: { connect: 1s, response: 2s, spawn: "
		"3s, exec: 4s, "
		"body_idle: 5s, stream_idle: 0s }\n" KEY "clients:\n  - " ME("") "\n",
		"upstreams: { main: { url: \"http://10.0.0.1\", allow_plaintext: true } }\n" KEY
		"clients:\n  - " ME("") "\n",
		UP "credentials: { team: { api_key: { command: [/bin/echo, x, \"\"], ttl: 1h, timeout: 1s }, "
		   "admin_api_key: { file: $/team.key } } }\nclients:\n  - " ME(", admin: true") "\n",
		"host: box\n" UP KEY "clients:\n  - { name: a, match: { uid: [0, 1000] }, upstream: main, credential: "
		"team, user_id: \"{uid}@{host}\", allow: [all], isolation: none }\n",
	};

	for (unsigned i = 0; i < COUNT(good); i++) {
		struct buf out = BUF_EMPTY;
		int status = run("-t", write_config(good[i]), &out);

		cr_expect_eq(status, 0, "config %u: %.*s", i, STR_ARG(buf_str(&out)));
		buf_fini(&out);
	}
}

/* -t also checks what a start needs: the key file, its permissions and its bytes (H6, H7, X7); the key is not shown. */
Test(config, key_files)
{
	static const struct {
		const char *bytes;
		size_t n;
		mode_t mode;
		bool good;
	} keys[] = {
#define K(bytes, mode, good) {bytes, sizeof(bytes) - 1, mode, good}
		K(GW_KEY, 0600, true),          K(GW_KEY "\n", 0400, true),
		K(GW_KEY "\r\n", 0600, false),  K(GW_KEY "\n\n", 0600, false),
		K(GW_KEY "\0x", 0600, false),   K(GW_KEY " x", 0600, false),
		K(GW_KEY "\tx", 0600, false),   K(GW_KEY "\x7fx", 0600, false),
		K(GW_KEY "\x80x", 0600, false), K("", 0600, false),
		K("\n", 0600, false),           K(GW_KEY "\n", 0644, false),
		K(GW_KEY "\n", 0660, false),    K(GW_KEY "\n", 0604, false),
		K(GW_KEY "\n", 0620, false),
#undef K
	};

	for (unsigned i = 0; i < COUNT(keys); i++) {
		const char *file = write_config(RULES);
		struct buf out = BUF_EMPTY;
		int status;

		scratch_file(&dir, "team.key", keys[i].mode, keys[i].bytes, keys[i].n);
		status = run("-t", file, &out);
		cr_expect_eq(status, keys[i].good ? 0 : 1, "key %u: exit status %d: %.*s", i, status,
			     STR_ARG(buf_str(&out)));
		if (!keys[i].good)
			cr_expect(buf_contains(&out, "team.key"), "key %u: the file is not named", i);
		buf_fini(&out);
	}
}

/*
 * -t looks whether every other source is there as well, but for a credential of systemd, which only its unit sees; a start
 * needs all of them but the command, which may come later.
 */
Test(config, sources_that_are_not_there)
{
	static const struct {
		const char *credential;
		const char *names;
		int checked;
		int at_start;
	} rows[] = {
		{"api_key: { env: NOT_SET }", "NOT_SET", 1, 1},
		{"api_key: { systemd: none }", "systemd credential none", 0, 1},
		{"api_key: { file: $/team.key }, admin_api_key: { file: $/none }", "/none", 1, 1},
		{"api_key: { command: [/no/such/program] }", "/no/such/program", 1, 0},
	};

	for (unsigned i = 0; i < COUNT(rows); i++) {
		char text[600];
		const char *file;
		const char *argv[] = {"-c", NULL, NULL};
		struct daemon_spec spec = {.argv = argv};
		struct buf out = BUF_EMPTY;
		struct daemon *d;

		snprintf(text, sizeof(text),
			 "listen: [ { path: $/x.sock } ]\n" UP "credentials: { team: { %s } }\n"
			 "clients:\n  - " ME("%s") "\n",
			 rows[i].credential, strstr(rows[i].credential, "admin") ? ", admin: true" : "");
		file = argv[1] = write_config(text);
		cr_expect_eq(run("-t", file, &out), rows[i].checked, "row %u", i);
		cr_expect_eq(buf_contains(&out, ": warning: "), !rows[i].checked, "row %u", i);
		cr_expect(buf_contains(&out, rows[i].names), "row %u: %.*s", i, STR_ARG(buf_str(&out)));
		buf_fini(&out);
		if (rows[i].at_start) {
			cr_expect_eq(daemon_run(&dir, &spec, NULL, &out), 1, "row %u", i);
			cr_expect(buf_contains(&out, rows[i].names), "row %u: %.*s", i, STR_ARG(buf_str(&out)));
			buf_fini(&out);
			continue;
		}
		spec.ready_socket = scratch_path(&dir, "x.sock");
		d = daemon_start(&dir, &spec);
		cr_expect(daemon_wait_log(d, rows[i].names));
		daemon_stop(d);
	}
}

/* X7: a link, a fifo, a directory, a huge file, a missing one, and a key file of a group that is none of ours. */
Test(config, key_file_kinds)
{
	for (unsigned i = 0; i < 6; i++) {
		const char *key = scratch_path(&dir, "team.key"), *file = write_config(RULES);
		struct buf out = BUF_EMPTY;

		unlink(key);
		switch (i) {
		case 0:
			cr_assert_eq(symlink(scratch_text(&dir, "real.key", 0600, GW_KEY "\n"), key), 0);
			break;
		case 1:
			cr_assert_eq(mkfifo(key, 0600), 0);
			break;
		case 2:
			cr_assert_eq(mkdir(key, 0700), 0);
			break;
		case 3:
			scratch_text(&dir, "team.key", 0600, GW_KEY);
			cr_assert_eq(truncate(key, 1 << 30), 0);
			break;
		case 4:
			break;
		default:
			scratch_text(&dir, "team.key", 0640, GW_KEY);
			if (geteuid() == 0)
				cr_assert_eq(chown(key, 0, 4321), 0);
			break;
		}
		cr_expect_eq(run("-t", file, &out), 1, "kind %u: %.*s", i, STR_ARG(buf_str(&out)));
		cr_expect(buf_contains(&out, "team.key"), "kind %u", i);
		buf_fini(&out);
		(void)remove(key);
	}
}

/* A start with a key file that -t would refuse is refused too, and no socket appears. */
Test(config, key_file_at_start)
{
	const char *file = write_config("listen: [ { path: $/x.sock } ]\n" RULES);
	const char *argv[] = {"-c", file, NULL};
	struct daemon_spec spec = {.argv = argv};
	struct buf err = BUF_EMPTY;
	int status;

	scratch_text(&dir, "team.key", 0644, GW_KEY "\n");
	status = daemon_run(&dir, &spec, NULL, &err);
	cr_expect(status == 1 || status == 3, "exit status %d", status);
	cr_expect(buf_contains(&err, "team.key"));
	cr_expect_eq(access(scratch_path(&dir, "x.sock"), F_OK), -1);
	buf_fini(&err);
}

/* -T shows what holds, defaults filled in and secrets hidden; fed back to -t it is a sound configuration. */
Test(config, effective)
{
	struct buf out = BUF_EMPTY, again = BUF_EMPTY;
	const char *file = write_config("drain_timeout: 7s\nlisten: [ { path: $/x.sock } ]\n" RULES);

	cr_expect_eq(run("-T", file, &out), 0);
	cr_expect(buf_contains(&out, "<secret>"));
	cr_expect(buf_contains(&out, "drain_timeout: 7s"));
	cr_expect(buf_contains(&out, "max_connections: 64"));
	cr_expect(buf_contains(&out, "idle_timeout: 45s"));
	cr_expect(buf_contains(&out, "alice"));
	scratch_file(&dir, "effective.yaml", 0644, buf_data(&out), out.len);
	cr_expect_eq(run("-t", scratch_path(&dir, "effective.yaml"), &again), 0, "%.*s", STR_ARG(buf_str(&again)));
	buf_fini(&out);
	buf_fini(&again);
}

/* With no file at all there is a default for everything. */
Test(config, no_file)
{
	struct buf out = BUF_EMPTY;
	char home[200];
	const char *env[] = {home, NULL}, *argv[] = {"-T", NULL};
	struct daemon_spec spec = {.argv = argv, .env = env};

	if (geteuid() == 0 && access("/etc/stacygate/stacygate.yaml", F_OK) == 0)
		cr_skip_test("SKIPPED: this machine has a configuration of its own");
	snprintf(home, sizeof(home), "HOME=%s", dir.path);
	cr_expect_eq(daemon_run(&dir, &spec, &out, NULL), 0);
	cr_expect(buf_contains(&out, "/run/stacygate.sock"), "%.*s", STR_ARG(buf_str(&out)));
	cr_expect(buf_contains(&out, "local"));
	cr_expect(buf_contains(&out, "0600"));
	buf_fini(&out);
}

/* A file that is named and not there, or cannot be read, is exit 1 that names it. */
Test(config, unreadable_file)
{
	struct buf out = BUF_EMPTY;

	cr_expect_eq(run("-t", scratch_path(&dir, "nothing.yaml"), &out), 1);
	cr_expect(buf_contains(&out, "nothing.yaml"));
	buf_reset(&out);
	cr_expect_eq(run("-t", dir.path, &out), 1);
	cr_expect(buf_contains(&out, dir.path));
	buf_fini(&out);
}

/* -V says versions, -h the usage, both exit 0; what is no option, or an argument too many, is exit 2 with the usage. */
Test(config, command_line)
{
	static const char *const wrong[][4] = {
		{"-x", NULL}, {"--nonsense", NULL}, {"extra", NULL}, {"-c", NULL}, {"-t", "extra", NULL}};
	struct buf out = BUF_EMPTY;

	cr_expect_eq(run("-V", NULL, &out), 0);
	cr_expect(buf_contains(&out, "stacygate"));
	cr_expect(buf_contains(&out, "libcurl"));
	cr_expect(buf_contains(&out, "libevent"));
	buf_reset(&out);
	cr_expect_eq(run("-h", NULL, &out), 0);
	cr_expect(buf_contains(&out, "-c"));
	for (unsigned i = 0; i < COUNT(wrong); i++) {
		struct daemon_spec spec = {.argv = wrong[i]};
		struct buf err = BUF_EMPTY;

		cr_expect_eq(daemon_run(&dir, &spec, NULL, &err), 2, "case %u", i);
		cr_expect_gt(err.len, 0);
		buf_fini(&err);
	}
	buf_fini(&out);
}

/* Without a place for the socket the start fails with exit 3 and names the variable. */
Test(config, no_place)
{
	const char *argv[] = {NULL};
	struct daemon_spec spec = {.argv = argv, .uid = 1234, .no_directories = true};
	struct buf err = BUF_EMPTY;

	if (!have_root("a start as another user"))
		return;
	cr_expect_eq(daemon_run(&dir, &spec, NULL, &err), 3);
	cr_expect(buf_contains(&err, "XDG_RUNTIME_DIR"), "%.*s", STR_ARG(buf_str(&err)));
	buf_fini(&err);
}
