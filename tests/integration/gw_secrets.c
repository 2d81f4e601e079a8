/* SPDX-License-Identifier: Apache-2.0 */
/* The credential never leaves: not by /proc, not by a core, not by the environment (X4-X6 of the list of threats). */
#include <criterion/criterion.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(secrets, .fini = gw_fini);

#define GET_X "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
enum {
	GW_UID = 1234
};
#define CLIENTS                                                                                                        \
	"[ { name: me, match: { uid: 0 }, upstream: main, credential: team, user_id: \"alice\", allow: [all], "        \
	"isolation: none } ]"

/* What a file below /proc/PID holds for this process; empty when it may not be read. */
static struct buf proc_file(const struct daemon *d, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)d->pid, name);
	return scratch_read(path);
}

static void expect_absent(const struct buf *b, const char *where)
{
	cr_expect(!buf_contains(b, PLANTED_SECRET), "the key is in %s", where);
}

/* X4: the key is neither in the arguments nor in the environment, wherever it came from. */
Test(secrets, arguments_and_environment)
{
	static const char *const env[] = {"TEAM_KEY=" GW_KEY, NULL};
	struct gw *gw = gw_prepare(NULL);
	struct gw_options options = {.env = env};
	char text[1024];
	struct answer a;
	struct buf b;

	snprintf(text, sizeof(text),
		 "listen: [ { path: %s } ]\nupstreams: { main: { url: \"unix://%s\" } }\n"
		 "credentials: { team: { api_key: { env: TEAM_KEY } } }\nclients: [ { name: me, match: { uid: %u }, "
		 "upstream: main, "
		 "credential: team, user_id: alice, allow: [all], isolation: none } ]\n",
		 gw->socket, gw->upstream_path, (unsigned)getuid());
	scratch_text(&gw->dir, "stacygate.yaml", 0644, text);
	gw_run(gw, &options);
	a = gw_ask(gw, GET_X);
	expect_status(&a, 200);
	answer_fini(&a);
	b = upstream_request_head(gw->up, 0);
	cr_assert(wire_header_is(buf_str(&b), "X-API-Key", GW_KEY), "the key of the environment is not used");
	buf_fini(&b);
	b = proc_file(gw->daemon, "cmdline");
	cr_expect(geteuid() != 0 || b.len > 0);
	expect_absent(&b, "cmdline");
	buf_fini(&b);
	b = proc_file(gw->daemon, "environ");
	cr_expect(geteuid() != 0 || b.len > 0, "root reads no environment: nothing was tested");
	expect_absent(&b, "environ");
	buf_fini(&b);
	gw_stop(gw);
}

/* Runs a shell command as the gateway's own uid: exit status, output in *out. */
static int as_gateway(struct gw *gw, const char *command, struct buf *out)
{
	const char *argv[] = {"--reuid=1234", "--regid=1234", "--clear-groups", "sh", "-c", command, NULL};
	struct daemon_spec spec = {.program = "/usr/bin/setpriv", .argv = argv};
	struct buf err = BUF_EMPTY;
	int status = daemon_run(&gw->dir, &spec, out, &err);

	buf_add_str(out, buf_str(&err));
	buf_fini(&err);
	return status;
}

/* X4: a process of the same uid can neither read its environment, memory, maps or descriptors nor trace it. */
Test(secrets, same_uid_sees_nothing)
{
	static const char *const files[] = {"environ", "mem", "maps", "fd/0", "cwd/.", "root/.", "io", "auxv"};
	struct gw_options options = {.uid = GW_UID, .clients = CLIENTS};
	struct gw *gw;
	char command[300];
	struct buf out = BUF_EMPTY;
	struct answer a;

	if (!have_root("a gateway of another user"))
		return;
	gw = gw_start(&options);
	a = gw_ask(gw, GET_X);
	expect_status(&a, 200);
	answer_fini(&a);
	for (unsigned i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		snprintf(command, sizeof(command), "test -e /proc/%d || exit 9; head -c 100 /proc/%d/%s",
			 (int)gw->daemon->pid, (int)gw->daemon->pid, files[i]);
		cr_expect_eq(as_gateway(gw, command, &out), 1, "%s can be read: %.*s", files[i],
			     STR_ARG(buf_str(&out)));
		buf_reset(&out);
	}
	if (access("/usr/bin/strace", X_OK) == 0) {
		snprintf(command, sizeof(command), "timeout 5 strace -p %d", (int)gw->daemon->pid);
		cr_expect_neq(as_gateway(gw, command, &out), 0);
		cr_expect(buf_contains(&out, "not permitted"), "%.*s", STR_ARG(buf_str(&out)));
	}
	/* The same uid may send it signals, which shows that the commands above ran as that uid. */
	buf_reset(&out);
	snprintf(command, sizeof(command), "kill -0 %d", (int)gw->daemon->pid);
	cr_expect_eq(as_gateway(gw, command, &out), 0, "%.*s", STR_ARG(buf_str(&out)));
	buf_fini(&out);
	gw_stop(gw);
}

/* X5: no core, whatever the limit it was started with. */
Test(secrets, no_core)
{
	struct rlimit most;
	struct gw *gw;
	struct buf limits;

	cr_assert_eq(getrlimit(RLIMIT_CORE, &most), 0);
	most.rlim_cur = most.rlim_max;
	cr_assert_eq(setrlimit(RLIMIT_CORE, &most), 0);
	gw = gw_start(NULL);
	limits = proc_file(gw->daemon, "limits");
	buf_add_char(&limits, '\0');
	cr_expect_not_null(strstr(buf_data(&limits), "Max core file size        0                    0"), "%s",
			   buf_data(&limits));
	buf_fini(&limits);
	/* Not SIGSEGV: a sanitizer would catch that one and report it. */
	daemon_signal(gw->daemon, SIGQUIT);
	cr_expect_eq(daemon_wait(gw->daemon, WAIT_MS), 128 + SIGQUIT);
	cr_expect(!WCOREDUMP(gw->daemon->wait_status), "it dumped core");
}

/* X6: what would steer TLS, proxies or curl in the environment is ignored. */
Test(secrets, environment_is_ignored)
{
	struct scratch other;
	struct upstream *proxy;
	char http[100], all[100], keylog[200];
	const char *env[] = {http, all, keylog, "NETRC=/nowhere", "CURL_HOME=/nowhere", "no_proxy=", NULL};
	struct gw_options options = {.tcp = true, .env = env};
	struct gw *gw;

	scratch_init(&other);
	proxy = upstream_echo(NULL);
	snprintf(http, sizeof(http), "http_proxy=%s", upstream_url(proxy));
	snprintf(all, sizeof(all), "ALL_PROXY=%s", upstream_url(proxy));
	snprintf(keylog, sizeof(keylog), "SSLKEYLOGFILE=%s/keys", other.path);
	gw = gw_start(&options);
	for (unsigned i = 0; i < 3; i++) {
		struct answer a = gw_ask(gw, GET_X);

		expect_status(&a, 200);
		answer_fini(&a);
	}
	cr_expect_eq(upstream_connections(proxy), 0, "it asked the proxy of the environment");
	cr_expect_eq(upstream_requests(gw->up), 3);
	cr_expect_eq(access(scratch_path(&other, "keys"), F_OK), -1);
	upstream_stop(proxy);
	scratch_fini(&other);
	gw_stop(gw);
}

/* The parent of a process, 0 when there is none. */
static int parent_of(int pid)
{
	char path[64];
	struct buf text;
	const char *at;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	text = scratch_read(path);
	buf_add_char(&text, '\0');
	at = strstr(buf_data(&text), "PPid:");
	if (at)
		parent = (int)strtol(at + 5, NULL, 10);
	buf_fini(&text);
	return parent;
}

static bool descends(int pid, int ancestor)
{
	while (pid > 1 && pid != ancestor)
		pid = parent_of(pid);
	return pid == ancestor;
}

/* X6: nor is any of it, or a key, passed on to what the gateway starts. */
Test(secrets, children)
{
	static const char *const env[] = {"LD_LIBRARY_PATH=/nowhere",
					  "SSLKEYLOGFILE=/nowhere/keys",
					  "https_proxy=http://127.0.0.1:1",
					  "NETRC=/nowhere",
					  "CURL_CA_BUNDLE=/nowhere",
					  "TEAM_KEY=" GW_KEY,
					  NULL};
	static const char *const names[] = {"LD_LIBRARY_PATH", "SSLKEYLOGFILE", "https_proxy", "NETRC",
					    "CURL_CA_BUNDLE"};
	struct scratch place;
	char socket[200];
	struct daemon_spec spec = {.env = env};
	struct daemon *d;
	unsigned children = 0;
	struct dirent *entry;
	DIR *proc;

	if (!have_root("reading the environment of children"))
		return;
	scratch_init(&place);
	snprintf(socket, sizeof(socket), "%s/run/stacygate.sock", place.path);
	spec.ready_socket = socket;
	d = daemon_start(&place, &spec);
	proc = opendir("/proc");
	cr_assert_not_null(proc);
	while ((entry = readdir(proc))) {
		int pid = (int)strtol(entry->d_name, NULL, 10);
		struct daemon child = {.pid = pid};
		struct buf b;

		if (pid <= 0 || pid == d->pid || !descends(pid, d->pid))
			continue;
		children++;
		b = proc_file(&child, "cmdline");
		expect_absent(&b, "a child's arguments");
		buf_fini(&b);
		if (parent_of(pid) == d->pid)
			continue; /* the launcher is a fork: the kernel shows the parent's own start */
		b = proc_file(&child, "environ");
		expect_absent(&b, "a child's environment");
		for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			cr_expect(!buf_contains(&b, names[i]), "%s is in a child's environment", names[i]);
		buf_fini(&b);
	}
	closedir(proc);
	cr_expect_geq(children, 2, "launcher and local server were not found");
	daemon_stop(d);
	scratch_fini(&place);
}
