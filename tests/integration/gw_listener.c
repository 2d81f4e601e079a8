/* SPDX-License-Identifier: Apache-2.0 */
/* The socket: who may open it from its first moment on, what it replaces, what it refuses to touch. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(listener, .fini = gw_fini);

#define RULES                                                                                                          \
	"upstreams: { main: { url: \"unix://%s\" } }\ncredentials: { team: { api_key: { file: %s } } }\n"              \
	"clients: [ { name: me, match: { uid: %u }, upstream: main, credential: team, user_id: alice, allow: [all], "  \
	"isolation: none } ]\n"

/* A configuration with this listen entry and everything else in order. */
static void configure(struct gw *gw, const char *listen_entry)
{
	char text[2048];

	snprintf(text, sizeof(text), "listen: [ %s ]\n" RULES, listen_entry, gw->upstream_path, gw->key_file,
		 (unsigned)getuid());
	scratch_text(&gw->dir, "stacygate.yaml", 0644, text);
}

static int run_to_end(struct gw *gw, struct buf *err)
{
	struct daemon_spec spec = {.argv = gw->argv};

	return daemon_run(&gw->dir, &spec, NULL, err);
}

/* Fails unless the gateway does not start, with that status, and names the text. */
static void expect_no_start(struct gw *gw, int status, const char *text)
{
	struct buf err = BUF_EMPTY;
	int got = run_to_end(gw, &err);

	cr_expect_eq(got, status, "exit status %d, expected %d: %.*s", got, status, STR_ARG(buf_str(&err)));
	cr_expect(buf_contains(&err, text), "'%s' is not named: %.*s", text, STR_ARG(buf_str(&err)));
	buf_fini(&err);
}

static int dead_socket(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%.107s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

/* Mode and group are as configured. */
Test(listener, mode)
{
	static const struct {
		const char *written;
		mode_t mode;
	} modes[] = {{"\"0600\"", 0600}, {"\"0660\"", 0660}, {"\"0666\"", 0666}};

	for (unsigned i = 0; i < 3; i++) {
		struct gw *gw = gw_prepare(NULL);
		struct stat st;
		char entry[300];

		snprintf(entry, sizeof(entry), "{ path: %s, mode: %s }", gw->socket, modes[i].written);
		configure(gw, entry);
		gw_run(gw, NULL);
		cr_assert_eq(stat(gw->socket, &st), 0);
		cr_expect_eq(st.st_mode & 07777, modes[i].mode, "mode %o", (unsigned)st.st_mode & 07777);
		cr_expect(S_ISSOCK(st.st_mode));
		cr_expect_eq(st.st_uid, geteuid());
		gw_stop(gw);
	}
}

Test(listener, default_mode)
{
	struct gw *gw = gw_prepare(NULL);
	struct stat st;
	char entry[300];

	snprintf(entry, sizeof(entry), "{ path: %s }", gw->socket);
	configure(gw, entry);
	gw_run(gw, NULL);
	cr_assert_eq(stat(gw->socket, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
	gw_stop(gw);
}

Test(listener, group)
{
	struct gw *gw;
	struct stat st;
	char entry[300];

	if (!have_root("a socket of another group"))
		return;
	gw = gw_prepare(NULL);
	snprintf(entry, sizeof(entry), "{ path: %s, mode: \"0660\", group: daemon }", gw->socket);
	configure(gw, entry);
	gw_run(gw, NULL);
	cr_assert_eq(stat(gw->socket, &st), 0);
	cr_expect_eq(st.st_gid, 1, "gid %u", (unsigned)st.st_gid);
	gw_stop(gw);
}

/* Race-free: nobody can connect before mode and owner are right, since listen comes last; umask 0177 at bind. */
Test(listener, race_free)
{
	struct gw *gw;
	char trace[300], entry[300], needle[200];
	struct buf text, err = BUF_EMPTY;
	const char *bind_at, *mode_at, *listen_at;

	if (access("/usr/bin/strace", X_OK) != 0) {
		cr_log_info("SKIPPED, needs strace: the order of bind, chmod and listen");
		return;
	}
	/* The gateway is undumpable: only root sees the paths that it names. */
	if (!have_root("the order of bind, chmod and listen"))
		return;
	gw = gw_prepare(NULL);
	snprintf(trace, sizeof(trace), "%s/trace", gw->dir.path);
	snprintf(entry, sizeof(entry), "{ path: %s, mode: \"0666\" }", gw->socket);
	configure(gw, entry);
	{
		char program[600];
		/* -D: strace stands aside, and the child that is started, stopped and judged is the daemon itself. */
		const char *argv[] = {
			"-D",    "-o", trace,      "-e", "trace=bind,listen,chmod,fchmodat,fchmod,umask,exit_group",
			program, "-c", gw->config, NULL};
		const char *env[] = {"ASAN_OPTIONS=detect_leaks=0", NULL};
		struct daemon_spec spec = {
			.program = "/usr/bin/strace", .argv = argv, .env = env, .ready_socket = gw->socket};

		snprintf(program, sizeof(program), "%s/stacygated",
			 getenv("SG_BUILDDIR") ? getenv("SG_BUILDDIR") : ".");
		gw->daemon = daemon_start(&gw->dir, &spec);
	}
	text = scratch_read(trace);
	buf_add_char(&text, '\0');
	snprintf(needle, sizeof(needle), "sun_path=\"%s\"", gw->socket);
	bind_at = strstr(buf_data(&text), needle);
	cr_assert_not_null(bind_at, "no bind seen: %s", buf_data(&text));
	mode_at = strstr(bind_at, "0666");
	cr_assert_not_null(mode_at, "no chmod after bind");
	listen_at = strstr(bind_at, "listen(");
	cr_assert_not_null(listen_at);
	cr_expect_lt(mode_at, listen_at, "it listens before its mode is right");
	cr_expect_not_null(memmem(buf_data(&text), (size_t)(bind_at - buf_data(&text)), "umask(0177)", 11));
	buf_fini(&text);
	buf_fini(&err);
	gw_stop(gw);
}

/* ID12: a socket that nobody listens on is replaced, and so is the one that kill -9 left. */
Test(listener, stale_socket)
{
	struct gw *gw = gw_prepare(NULL);
	int dead = dead_socket(gw->socket);

	close(dead);
	gw_run(gw, NULL);
	daemon_signal(gw->daemon, SIGKILL);
	cr_assert_eq(daemon_wait(gw->daemon, WAIT_MS), 128 + SIGKILL);
	daemon_free(gw->daemon);
	cr_assert_eq(access(gw->socket, F_OK), 0, "kill -9 left no socket to replace");
	gw_run(gw, NULL);
	gw_stop(gw);
}

/* ID12: what is no socket is not touched: a file, a directory, a link to either, a link to a socket. */
Test(listener, not_a_socket)
{
	static const char *const kinds[] = {"file", "directory", "link to a file", "fifo"};

	for (unsigned i = 0; i < 4; i++) {
		struct gw *gw = gw_prepare(NULL);
		const char *target = scratch_text(&gw->dir, "precious", 0644, "precious content");
		struct buf after;
		struct stat st;

		switch (i) {
		case 0:
			cr_assert_eq(link(target, gw->socket), 0);
			break;
		case 1:
			cr_assert_eq(mkdir(gw->socket, 0700), 0);
			break;
		case 2:
			cr_assert_eq(symlink(target, gw->socket), 0);
			break;
		default:
			cr_assert_eq(mkfifo(gw->socket, 0600), 0);
			break;
		}
		expect_no_start(gw, 3, gw->socket);
		cr_expect_eq(lstat(gw->socket, &st), 0, "the %s is gone", kinds[i]);
		after = scratch_read(target);
		cr_expect(str_eq(buf_str(&after), STR("precious content")));
		buf_fini(&after);
		gw_fini();
	}
}

/* ID12: a live socket of somebody else is reported and left to him: exit 3. */
Test(listener, live_socket)
{
	struct gw *gw = gw_prepare(NULL);
	struct upstream *other = upstream_echo(gw->socket);
	struct raw r;

	expect_no_start(gw, 3, gw->socket);
	r = raw_unix(gw->socket);
	raw_close(&r);
	upstream_stop(other);
}

/* ID13: a directory that others may write to is refused; a sticky one is fine. */
Test(listener, open_directory)
{
	struct gw *gw = gw_prepare(NULL);
	char entry[400];
	const char *dir = scratch_path(&gw->dir, "open");

	cr_assert_eq(mkdir(dir, 0700), 0);
	cr_assert_eq(chmod(dir, 0777), 0);
	snprintf(entry, sizeof(entry), "{ path: %s/gw.sock }", dir);
	configure(gw, entry);
	expect_no_start(gw, 3, dir);
	cr_assert_eq(chmod(dir, 01777), 0);
	snprintf(gw->socket, sizeof(gw->socket), "%s/gw.sock", dir);
	gw_run(gw, NULL);
	gw_stop(gw);
}

/* A path that no socket address holds is an error of the configuration that says so, also the default one. */
Test(listener, long_path)
{
	struct gw *gw = gw_prepare(NULL);
	char entry[400], name[121];
	struct buf err = BUF_EMPTY;
	char run[300];
	const char *env[] = {run, NULL};
	struct daemon_spec spec = {.env = env};

	memset(name, 'n', 120);
	name[120] = '\0';
	snprintf(entry, sizeof(entry), "{ path: %s/%s }", gw->dir.path, name);
	configure(gw, entry);
	expect_no_start(gw, 1, "107");
	snprintf(run, sizeof(run), "RUNTIME_DIRECTORY=%s/%s", gw->dir.path, name);
	cr_expect_eq(daemon_run(&gw->dir, &spec, NULL, &err), 1);
	cr_expect(buf_contains(&err, "107"), "%.*s", STR_ARG(buf_str(&err)));
	buf_fini(&err);
}

/* A second gateway on the same state directory is refused by its lock, whatever socket it wants: exit 3. */
Test(listener, second_daemon)
{
	struct gw *gw = gw_start(NULL);
	char entry[300];
	struct answer a;

	snprintf(entry, sizeof(entry), "{ path: %s/other.sock }", gw->dir.path);
	configure(gw, entry);
	expect_no_start(gw, 3, "state");
	cr_expect_eq(access(scratch_path(&gw->dir, "other.sock"), F_OK), -1);
	a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_status(&a, 200);
	answer_fini(&a);
	gw_stop(gw);
}

/* Listeners are told apart by name, and a rule may ask for one; one that cannot be bound beside others is no stop. */
Test(listener, several)
{
	struct gw *gw = gw_prepare(NULL);
	const char *blocked = scratch_text(&gw->dir, "blocked", 0644, "no socket");
	char text[2048], other[200];
	struct answer a;

	snprintf(other, sizeof(other), "%s/other.sock", gw->dir.path);
	snprintf(text, sizeof(text),
		 "listen: [ { path: %s, name: one }, { path: %s, name: two }, { path: %s, name: three } ]\n"
		 "upstreams: { main: { url: \"unix://%s\" } }\ncredentials: { team: { api_key: { file: %s } } }\n"
		 "clients: [ { name: me, match: { listener: two }, upstream: main, credential: team, user_id: alice, "
		 "allow: [all], isolation: none } ]\n",
		 other, gw->socket, blocked, gw->upstream_path, gw->key_file);
	scratch_text(&gw->dir, "stacygate.yaml", 0644, text);
	gw_run(gw, NULL);
	a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_status(&a, 200);
	answer_fini(&a);
	a = raw_once(other, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_error(&a, 403, "FORBIDDEN");
	answer_fini(&a);
	cr_expect(daemon_wait_log(gw->daemon, "blocked"), "the listener that failed is not named");
	gw_stop(gw);
}

/* A missing parent directory is made. */
Test(listener, makes_directory)
{
	struct gw *gw = gw_prepare(NULL);
	char entry[300];

	snprintf(gw->socket, sizeof(gw->socket), "%s/new/gw.sock", gw->dir.path);
	snprintf(entry, sizeof(entry), "{ path: %s }", gw->socket);
	configure(gw, entry);
	gw_run(gw, NULL);
	gw_stop(gw);
}

/* K8: connections beyond a uid's bound are turned away; those that exist are served, and so are others. */
Test(listener, connection_bound)
{
	enum {
		BOUND = 5
	};
	struct gw_options options = {.top = "bounds: { connections_per_uid: 5 }"};
	struct gw *gw = gw_start(&options);
	struct raw r[BOUND], extra;
	struct answer a;

	for (unsigned i = 0; i < BOUND; i++) {
		r[i] = gw_connect(gw);
		cr_assert(raw_text(&r[i], "GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n"));
		a = raw_answer(&r[i], false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
	}
	extra = gw_connect(gw);
	(void)raw_text(&extra, "GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n");
	a = raw_answer(&extra, false, WAIT_MS);
	cr_expect(a.end == ANSWER_CUT || a.status == 503, "status %u", a.status);
	answer_fini(&a);
	cr_expect(raw_closes(&extra, WAIT_MS));
	raw_close(&extra);
	cr_assert(raw_text(&r[0], "GET /gateway/v1/health HTTP/1.1\r\nHost: h\r\n\r\n"));
	a = raw_answer(&r[0], false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	for (unsigned i = 0; i < BOUND; i++)
		raw_close(&r[i]);
	gw_stop(gw);
}
