/* SPDX-License-Identifier: Apache-2.0 */
/* Who a client is: users, namespaces, executables, units, names; and what is done when that cannot be known. */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/unix_socket.h"
#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(identity, .fini = gw_fini);

#define GET_X  "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
#define WHOAMI "GET /gateway/v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n"
#define RULE(name, match, user)                                                                                        \
	"  - { name: " name ", match: " match ", upstream: main, credential: team, user_id: \"" user                   \
	"\", allow: [all], isolation: none }\n"

/* Asks on a connection of that uid and gid; the status, and whether the body holds the text (NULL: any). */
static unsigned ask_as(struct gw *gw, uid_t uid, gid_t gid, const char *text)
{
	struct raw r = raw_unix_as(gw->socket, uid, gid, NULL, 0);
	struct answer a;
	unsigned status;

	cr_assert(raw_text(&r, GET_X));
	a = raw_answer(&r, false, WAIT_MS);
	status = a.status;
	if (text)
		cr_expect(buf_contains(&a.body, text), "not %s: %.*s", text, STR_ARG(buf_str(&a.body)));
	answer_fini(&a);
	raw_close(&r);
	return status;
}

/* {user} is the name, uid-N where the uid has none; {group} likewise; for rules that name no users as well. */
Test(identity, names)
{
	struct gw_options options = {.clients = "\n" RULE("groups", "{ gid: [0, 5555] }", "{user}.{group}@{host}")
					     RULE("all", "{}", "{user}@{host}"),
				     .top = "host: box"};
	struct gw *gw;

	if (!have_root("connections of other users"))
		return;
	gw = gw_start(&options);
	cr_expect_eq(ask_as(gw, 0, 0, "X-User-ID: root.root@box\\r"), 200);
	cr_expect_eq(ask_as(gw, 1, 5555, "X-User-ID: daemon.gid-5555@box\\r"), 200);
	cr_expect_eq(ask_as(gw, 4321, 4321, "X-User-ID: uid-4321@box\\r"), 200);
	cr_expect_eq(ask_as(gw, 1, 1, "X-User-ID: daemon@box\\r"), 200);
	gw_stop(gw);
}

/* A rule for units alone makes no user id of a caller without one: 403, nothing upstream. */
Test(identity, empty_user_id)
{
	struct gw_options options = {.clients = "\n" RULE("units", "{}", "{unit}")};
	struct gw *gw = gw_start(&options);
	struct answer a = gw_ask(gw, "%s", WHOAMI);
	json_t *json;

	expect_status(&a, 200);
	json = answer_json(&a);
	if (json_object_get(json, "unit")) {
		cr_log_info("SKIPPED, needs to run outside of a unit: an empty user id");
	} else {
		answer_fini(&a);
		a = gw_ask(gw, "%s", GET_X);
		expect_error(&a, 403, "FORBIDDEN");
		cr_expect_eq(upstream_connections(gw->up), 0);
	}
	json_decref(json);
	answer_fini(&a);
	gw_stop(gw);
}

/* In a child: asks once; ends with 0 when the answer holds the text. */
static void ask_and_exit(const char *socket, const char *want)
{
	char got[4096];
	size_t n = 0;
	ssize_t step;
	int fd = unix_socket_connect(socket);

	if (fd < 0 || write(fd, GET_X, sizeof(GET_X) - 1) < 0)
		_exit(1);
	do {
		step = read(fd, got + n, sizeof(got) - n);
		n += step > 0 ? (size_t)step : 0;
		if (memmem(got, n, want, strlen(want)))
			_exit(0);
	} while (step > 0 && n < sizeof(got));
	_exit(2);
}

/* Fails unless the child ended with 0; 77 means that it could not become what it was to be. */
static void expect_child(pid_t pid, const char *skipped)
{
	int status = wait_child(pid, WAIT_MS);

	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		cr_log_info("SKIPPED, %s", skipped);
	else
		cr_expect_eq(status, 0, "status %x", (unsigned)status);
}

/* ID5: "root" of a user namespace of one's own is who one is outside. */
Test(identity, ID5_root_in_own_namespace)
{
	struct gw_options options = {.clients = "\n" RULE("root", "{ uid: 0 }", "root")
					     RULE("alice", "{ uid: 1234 }", "alice")};
	struct gw *gw;
	pid_t pid;

	if (!have_root("a client of another user"))
		return;
	gw = gw_start(&options);
	pid = fork();
	if (pid == 0) {
		static const char map[] = "0 1234 1";
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (syscall(SYS_setgroups, 0, NULL) || setresgid(1234, 1234, 1234) || setresuid(1234, 1234, 1234) ||
		    prctl(PR_SET_DUMPABLE, 1) || unshare(CLONE_NEWUSER))
			_exit(77);
		fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, map, sizeof(map) - 1) < 0 || geteuid() != 0)
			_exit(77);
		ask_and_exit(gw->socket, "X-User-ID: alice\\r");
	}
	expect_child(pid, "needs user namespaces: a client in one");
	gw_stop(gw);
}

/* ID6: a connection is its maker's, whoever uses it later; the log says so. */
Test(identity, ID6_descriptor_of_another)
{
	struct gw_options options = {.clients = "\n" RULE("root", "{ uid: 0 }", "root")
					     RULE("alice", "{ uid: 1234 }", "alice")};
	char line[64];
	struct gw *gw;

	if (!have_root("a connection of another user"))
		return;
	gw = gw_start(&options);
	/* Made as 1234; this process, which sends on it, is root again. */
	cr_expect_eq(ask_as(gw, 1234, 1234, "X-User-ID: alice\\r"), 200);
	cr_expect(daemon_wait_log(gw->daemon, "rule alice"));
	snprintf(line, sizeof(line), "uid=0 pid=%d \"GET", (int)getpid());
	cr_expect_eq(daemon_count_log(gw->daemon, line), 0);
	gw_stop(gw);
}

/* --- executables and units -------------------------------------------------------------------------------------------- */

static const char *own_exe(void)
{
	static char path[512];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	cr_assert_gt(n, 0);
	path[n] = '\0';
	return path;
}

static void expect_exe_rule(void)
{
	struct buf rules = BUF_EMPTY;
	struct gw_options options = {0};
	struct gw *gw;
	json_t *json;

	buf_addf(&rules,
		 "\n" RULE("shell", "{ exe: /bin/sh }", "sh") RULE("me", "{ exe: [/bin/ls, \"%s\"] }", "{uid}-{exe}"),
		 own_exe());
	buf_add_char(&rules, '\0');
	options.clients = buf_data(&rules);
	gw = gw_start(&options);
	json = gw_get(gw, "/gateway/v1/whoami");
	cr_expect_str_eq(json_text_at(json, "rule"), "me");
	cr_expect_str_eq(json_text_at(json, "exe"), own_exe());
	cr_expect(strncmp(json_text_at(json, "user_id"), "0-", geteuid() == 0 ? 2 : 0) == 0);
	json_decref(json);
	gw_stop(gw);
	buf_fini(&rules);
}

/* exe matches the executable of the caller, which whoami shows then. */
Test(identity, exe)
{
	if (have_root("the executable of others"))
		expect_exe_rule();
}

/* From now on this process, and what it starts, has a kernel without SO_PEERPIDFD (77). */
static void hide_peerpidfd(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 77, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOPROTOOPT),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* ID19: the same on a kernel without SO_PEERPIDFD. */
Test(identity, ID19_exe_without_peerpidfd)
{
	if (!have_root("the executable of others"))
		return;
	hide_peerpidfd();
	expect_exe_rule();
}

/* ID7: whoever has gone, or is another program than the rule names, is not matched by it. */
Test(identity, ID7_exe_of_another)
{
	struct gw_options options = {.clients = "\n" RULE("shell", "{ exe: /bin/sh }", "sh")};
	struct gw *gw;
	struct answer a;

	if (!have_root("the executable of others"))
		return;
	gw = gw_start(&options);
	a = gw_ask(gw, "%s", GET_X);
	expect_error(&a, 403, "FORBIDDEN");
	answer_fini(&a);
	cr_expect_eq(upstream_connections(gw->up), 0);
	gw_stop(gw);
}

/* A reload that asks for executables knows those of connections that are open already. */
Test(identity, exe_after_reload)
{
	struct gw_options plain = {.clients = "\n" RULE("all", "{}", "x")};
	struct gw_options asking = {.clients = "\n" RULE("shell", "{ exe: /bin/sh }", "sh") RULE("all", "{}", "y")};
	struct gw *gw;
	struct raw r;
	struct answer a;

	if (!have_root("the executable of others"))
		return;
	gw = gw_start(&plain);
	r = gw_connect(gw);
	cr_assert(raw_text(&r, WHOAMI));
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect_not(buf_contains(&a.body, "\"exe\""), "it is asked for without need");
	answer_fini(&a);
	gw_configure(gw, &asking);
	daemon_signal(gw->daemon, SIGHUP);
	cr_assert(daemon_wait_log(gw->daemon, "reloaded"));
	cr_assert(raw_text(&r, WHOAMI));
	a = raw_answer(&r, false, WAIT_MS);
	cr_expect(buf_contains(&a.body, own_exe()), "%.*s", STR_ARG(buf_str(&a.body)));
	answer_fini(&a);
	raw_close(&r);
	gw_stop(gw);
}

/* Moves this process into a control group of that path, below the tree in which systemd would keep its units. */
static bool enter_group(const char *slice, const char *service)
{
	static const char *const trees[] = {"/sys/fs/cgroup/systemd", "/sys/fs/cgroup"};

	for (size_t i = 0; i < 2; i++) {
		char path[300];
		bool entered;
		int fd;

		snprintf(path, sizeof(path), "%s/cgroup.procs", trees[i]);
		if (access(path, W_OK) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", trees[i], slice);
		mkdir(path, 0755);
		snprintf(path, sizeof(path), "%s/%s/%s", trees[i], slice, service);
		mkdir(path, 0755);
		snprintf(path, sizeof(path), "%s/%s/%s/cgroup.procs", trees[i], slice, service);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		entered = fd >= 0 && write(fd, "0", 1) == 1;
		if (fd >= 0)
			close(fd);
		if (entered)
			return true;
	}
	return false;
}

static void remove_group(const char *slice, const char *service)
{
	static const char *const trees[] = {"/sys/fs/cgroup/systemd", "/sys/fs/cgroup"};

	for (size_t i = 0; i < 2; i++) {
		char path[300];

		snprintf(path, sizeof(path), "%s/%s/%s", trees[i], slice, service);
		rmdir(path);
		snprintf(path, sizeof(path), "%s/%s", trees[i], slice);
		rmdir(path);
	}
}

/* unit matches the systemd unit that the caller's control group says, and {unit} is its name. */
Test(identity, unit)
{
	struct gw_options options = {.clients = "\n" RULE("other", "{ unit: sg-other.service }", "other")
					     RULE("build", "{ unit: sg-test.service }", "u-{unit}")};
	char slice[64];
	struct gw *gw;
	pid_t pid;

	if (!have_root("a control group"))
		return;
	snprintf(slice, sizeof(slice), "sg-%d.slice", (int)getpid());
	gw = gw_start(&options);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (!enter_group(slice, "sg-test.service"))
			_exit(77);
		ask_and_exit(gw->socket, "X-User-ID: u-sg-test.service\\r");
	}
	expect_child(pid, "needs a control group of its own: a caller in a unit");
	remove_group(slice, "sg-test.service");
	gw_stop(gw);
}

/* --- what a reload no longer admits ------------------------------------------------------------------------------------ */

/* ID16: a WebSocket and a stream of events end with the rule that admitted them; those that a rule still admits go on. */
Test(identity, ID16_revoked)
{
	static const char switched[] =
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nbegun\n";
	static const char events[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: begun\n\n";
	static const char *const requests[] = {
		"GET /api/v1/sandboxes/sb-1/exec/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: "
		"websocket\r\n"
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
		"GET /api/v1/events HTTP/1.1\r\nHost: h\r\n\r\n",
	};
	struct gw_options before = {.clients = "\n" RULE("me", "{ uid: [0, 1234] }", "x") RULE("all", "{}", "y"),
				    .nscripts = 1};
	struct gw_options kept = {.clients = "\n" RULE("everyone", "{}", "x")};
	struct gw_options revoked = {.clients = "\n" RULE("others", "{ uid: 4321 }", "x")};

	for (unsigned i = 0; i < 2; i++) {
		const struct up_step script[] = {{UP_READ, NULL, 0},
						 {UP_SEND, i ? events : switched, 0},
						 {UP_READ_EOF, NULL, 0},
						 {UP_END, NULL, 0}};
		const struct up_step *const scripts[] = {script};
		struct gw *gw;
		struct raw r;
		uint64_t began;

		before.scripts = scripts;
		gw = gw_start(&before);
		r = gw_connect(gw);
		cr_assert(raw_text(&r, requests[i]));
		cr_assert(raw_read_text(&r, i ? "begun\n\n\r\n" : "begun\n", WAIT_MS));
		gw_configure(gw, &kept);
		daemon_signal(gw->daemon, SIGHUP);
		cr_assert(daemon_wait_log(gw->daemon, "configuration 2 is in force"));
		cr_expect(raw_silent(&r, 100), "%u ends although a rule admits it: %d %.*s", i, (int)r.ended,
			  STR_ARG(buf_str(&r.in)));
		gw_configure(gw, &revoked);
		began = wait_now_ms();
		daemon_signal(gw->daemon, SIGHUP);
		cr_expect(raw_closes(&r, WAIT_MS), "it goes on");
		cr_expect_lt(wait_now_ms() - began, 1000);
		cr_expect(upstream_wait_closed(gw->up, 0));
		raw_close(&r);
		gw_stop(gw);
	}
}

/* --- starts that are refused ------------------------------------------------------------------------------------------- */

static void expect_no_start(struct gw *gw, const struct daemon_spec *spec, const char *text)
{
	struct buf err = BUF_EMPTY;
	int status = daemon_run(&gw->dir, spec, NULL, &err);

	cr_expect_eq(status, 3, "exit status %d: %.*s", status, STR_ARG(buf_str(&err)));
	cr_expect(buf_contains(&err, text), "'%s' is not named: %.*s", text, STR_ARG(buf_str(&err)));
	buf_fini(&err);
}

static const char *program(void)
{
	static char path[600];

	snprintf(path, sizeof(path), "%s/stacygated", getenv("SG_BUILDDIR") ? getenv("SG_BUILDDIR") : ".");
	return path;
}

/* ID19: a rule for executables of others is refused at start without the right to read them: exit 3, which says what it needs. */
Test(identity, ID19_no_right_to_read_exe)
{
	struct gw_options options = {.clients = "\n" RULE("tools", "{ exe: /bin/sh }", "x"), .uid = 1234};
	struct daemon_spec spec = {.uid = 1234};
	struct gw *gw;

	if (!have_root("a start as another user"))
		return;
	gw = gw_prepare(&options);
	spec.argv = gw->argv;
	expect_no_start(gw, &spec, "CAP_SYS_PTRACE");
	gw_fini();
}

/* ID19: a rule for units where /proc hides the processes of others. */
Test(identity, ID19_no_right_to_read_units)
{
	struct gw_options options = {.clients = "\n" RULE("units", "{ unit: x.service }", "x"), .uid = 1234};
	char command[1200];
	const char *argv[] = {"-m", "sh", "-c", command, NULL};
	struct daemon_spec spec = {.program = "/usr/bin/unshare", .argv = argv};
	const char *probe[] = {"-m", "sh", "-c", "mount -t proc -o hidepid=2 proc /proc", NULL};
	struct daemon_spec probe_spec = {.program = "/usr/bin/unshare", .argv = probe};
	struct gw *gw;

	if (!have_root("a /proc of its own"))
		return;
	gw = gw_prepare(&options);
	if (daemon_run(&gw->dir, &probe_spec, NULL, NULL) != 0) {
		cr_log_info("SKIPPED, needs to mount /proc: units behind hidepid");
		gw_fini();
		return;
	}
	/* The directories of the run are root's: others are named. */
	snprintf(command, sizeof(command),
		 "mount -t proc -o hidepid=2 proc /proc && export RUNTIME_DIRECTORY=%s/r STATE_DIRECTORY=%s/s && "
		 "exec setpriv --reuid 1234 --regid 1234 --clear-groups %s -c %s",
		 gw->dir.path, gw->dir.path, program(), gw->config);
	expect_no_start(gw, &spec, "hidepid");
	gw_fini();
}

/* ID3, ID4: in a user namespace, as under PrivateUsers=yes, nothing is started. */
Test(identity, ID4_start_in_user_namespace)
{
	struct gw *gw = gw_prepare(NULL);
	const char *argv[] = {"-Ur", program(), "-c", gw->config, NULL};
	const char *probe[] = {"-Ur", "true", NULL};
	struct daemon_spec spec = {.program = "/usr/bin/unshare", .argv = argv};
	struct daemon_spec probe_spec = {.program = "/usr/bin/unshare", .argv = probe};

	if (daemon_run(&gw->dir, &probe_spec, NULL, NULL) != 0)
		cr_log_info("SKIPPED, needs user namespaces: the start in one");
	else
		expect_no_start(gw, &spec, "PrivateUsers");
	gw_fini();
}

/* ID21: a uid that somebody hands out to himself matches only rules that name it by uid or by listener. */
Test(identity, ID21_subuid)
{
	struct gw_options options = {.clients = "\n" RULE("group", "{ gid: 2000 }", "group-{uid}")
					     RULE("named", "{ uid: 100007 }", "named")};
	char command[1200];
	const char *argv[] = {"-m", "sh", "-c", command, NULL};
	struct daemon_spec spec = {.program = "/usr/bin/unshare", .argv = argv};
	struct gw *gw;

	if (!have_root("users of a range"))
		return;
	gw = gw_prepare(&options);
	scratch_text(&gw->dir, "subuid", 0644, "alice:100000:65536\n");
	snprintf(command, sizeof(command), "mount --bind %s/subuid /etc/subuid && exec %s -c %s", gw->dir.path,
		 program(), gw->config);
	if (access("/etc/subuid", F_OK) != 0) {
		cr_log_info("SKIPPED, needs an /etc/subuid to mount over: users of a range");
		gw_fini();
		return;
	}
	spec.ready_socket = gw->socket;
	gw->daemon = daemon_start(&gw->dir, &spec);
	cr_expect_eq(ask_as(gw, 1234, 2000, "X-User-ID: group-1234\\r"), 200);
	cr_expect_eq(ask_as(gw, 100000, 2000, NULL), 403);
	cr_expect_eq(ask_as(gw, 165535, 2000, NULL), 403);
	cr_expect_eq(ask_as(gw, 100007, 2000, "X-User-ID: named\\r"), 200);
	cr_expect_eq(ask_as(gw, 165536, 2000, "X-User-ID: group-165536\\r"), 200);
	gw_stop(gw);
}
