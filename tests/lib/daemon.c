/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/daemon.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/raw.h"
#include "lib/wait.h"

enum {
	MAX_ARGS = 32,
	MAX_ENV = 48
};

static struct daemon *all; /* those that run or were not freed, so that a failed test leaves none */

static unsigned descriptor_limit; /* 0: as the test itself */

struct launch {
	char program[512];
	int program_fd;
	char run[600], state[600];
	const char *argv[MAX_ARGS];
	char *env[MAX_ENV];
	size_t nenv;
};

/* Sets NAME=VALUE, or takes `name` as both when value is NULL; replaces one of that name. */
static void add_env(struct launch *l, const char *name, const char *value)
{
	size_t n = strcspn(name, "="), at = 0;
	char *entry;

	cr_assert_geq(asprintf(&entry, "%s%s%s", name, value ? "=" : "", value ? value : ""), 0);
	while (at < l->nenv && (strncmp(l->env[at], name, n) != 0 || l->env[at][n] != '='))
		at++;
	if (at < l->nenv)
		free(l->env[at]);
	else
		cr_assert_lt(l->nenv++, MAX_ENV - 1);
	l->env[at] = entry;
}

static void add_inherited(struct launch *l, const char *name)
{
	if (getenv(name))
		add_env(l, name, getenv(name));
}

static void own_directory(const char *path, uid_t uid)
{
	if (mkdir(path, 0700) < 0)
		cr_assert_eq(errno, EEXIST);
	if (uid)
		cr_assert_eq(chown(path, uid, uid), 0);
}

static void prepare(struct launch *l, struct scratch *s, const struct daemon_spec *spec)
{
	const char *build = getenv("SG_BUILDDIR");
	size_t n = 1;

	if (spec->program && spec->program[0] == '/')
		snprintf(l->program, sizeof(l->program), "%s", spec->program);
	else
		snprintf(l->program, sizeof(l->program), "%s/%s", build ? build : ".",
			 spec->program ? spec->program : "stacygated");
	cr_assert_eq(access(l->program, X_OK), 0, "%s is not built", l->program);
	/* Run by descriptor: another uid need not reach the build tree. */
	l->program_fd = open(l->program, O_RDONLY | O_CLOEXEC);
	cr_assert_geq(l->program_fd, 0);
	l->argv[0] = l->program;
	for (const char *const *a = spec->argv; a && *a; a++) {
		cr_assert_lt(n, MAX_ARGS - 1);
		l->argv[n++] = *a;
	}
	add_env(l, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	add_env(l, "HOME", s->path);
	add_env(l, "LANG", "C.UTF-8");
	add_inherited(l, "ASAN_OPTIONS");
	add_inherited(l, "UBSAN_OPTIONS");
	add_inherited(l, "LLVM_PROFILE_FILE");
	if (!spec->no_directories) {
		snprintf(l->run, sizeof(l->run), "%s/run", s->path);
		snprintf(l->state, sizeof(l->state), "%s/state", s->path);
		own_directory(l->run, spec->uid);
		own_directory(l->state, spec->uid);
		add_env(l, "RUNTIME_DIRECTORY", l->run);
		add_env(l, "STATE_DIRECTORY", l->state);
	}
	for (const char *const *e = spec->env; e && *e; e++)
		add_env(l, *e, NULL);
}

/* In the child: nothing returns. */
static void become(const struct launch *l, const struct daemon *d, uid_t uid)
{
	int in = open("/dev/null", O_RDONLY);
	int out = open(d->out, O_WRONLY | O_CREAT | O_APPEND, 0644);
	int err = open(d->err, O_WRONLY | O_CREAT | O_APPEND, 0644);

	if (in < 0 || out < 0 || err < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	for (int fd = 3; fd < 1024; fd++)
		if (fd != l->program_fd)
			close(fd);
	if (descriptor_limit)
		setrlimit(RLIMIT_NOFILE, &(struct rlimit){descriptor_limit, descriptor_limit});
	if (uid && (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0))
		_exit(126);
	/* Behind the change of identity, which clears it: the program never outlives its test. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_DFL);
	fexecve(l->program_fd, (char *const *)(const void *)l->argv, l->env);
	_exit(127);
}

struct daemon *daemon_spawn(struct scratch *s, const struct daemon_spec *spec)
{
	struct daemon *d = calloc(1, sizeof(*d));
	struct launch l = {0};
	static unsigned serial;

	cr_assert_not_null(d);
	prepare(&l, s, spec);
	serial++;
	snprintf(d->out, sizeof(d->out), "%s/out.%u", s->path, serial);
	snprintf(d->err, sizeof(d->err), "%s/err.%u", s->path, serial);
	close(open(d->out, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	close(open(d->err, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
	if (spec->uid) {
		cr_assert_eq(chown(d->out, spec->uid, spec->uid), 0);
		cr_assert_eq(chown(d->err, spec->uid, spec->uid), 0);
	}
	fflush(NULL);
	d->pid = fork();
	cr_assert_geq(d->pid, 0);
	if (d->pid == 0)
		become(&l, d, spec->uid);
	close(l.program_fd);
	for (size_t i = 0; i < l.nenv; i++)
		free(l.env[i]);
	d->next = all;
	all = d;
	return d;
}

struct readiness {
	struct daemon *d;
	const char *socket;
	bool accepts;
};

static bool ready_or_gone(void *arg)
{
	struct readiness *r = arg;
	struct raw probe;

	if (!daemon_running(r->d))
		return true;
	r->accepts = raw_try_unix(&probe, r->socket) == 0;
	raw_close(&probe);
	return r->accepts;
}

static void show(const struct daemon *d)
{
	struct buf err = daemon_stderr(d);

	cr_log_error("its log: %.*s", (int)(err.len > 4000 ? 4000 : err.len), err.len ? buf_data(&err) : "(empty)");
	buf_fini(&err);
}

struct daemon *daemon_start(struct scratch *s, const struct daemon_spec *spec)
{
	struct daemon *d = daemon_spawn(s, spec);
	struct readiness r = {d, spec->ready_socket, false};

	if (!spec->ready_socket)
		return d;
	if (!wait_until(ready_or_gone, &r, WAIT_MS * 2) || !r.accepts) {
		show(d);
		cr_assert_fail("%s did not come up on %s", spec->program ? spec->program : "stacygated",
			       spec->ready_socket);
	}
	return d;
}

bool daemon_running(struct daemon *d)
{
	if (d->pid && waitpid(d->pid, &d->wait_status, WNOHANG) == d->pid)
		d->pid = 0;
	return d->pid != 0;
}

void daemon_signal(struct daemon *d, int signal)
{
	cr_assert_neq(d->pid, 0, "it has ended already");
	cr_assert_eq(kill(d->pid, signal), 0);
}

void daemon_limit_descriptors(unsigned n)
{
	descriptor_limit = n;
}

void daemon_freeze(struct daemon *d)
{
	int status;

	daemon_signal(d, SIGSTOP);
	cr_assert_eq(waitpid(d->pid, &status, WUNTRACED), d->pid);
	cr_assert(WIFSTOPPED(status));
}

/* Everything that a program wrote is held to the same rules. */
static void judge(const struct daemon *d, const char *path)
{
	static const char *const bad[] = {"Sanitizer", "runtime error", "check failed", PLANTED_SECRET};
	struct buf text = scratch_read(path);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (!buf_contains(&text, bad[i]))
			continue;
		show(d);
		buf_fini(&text);
		cr_assert_fail("'%s' in what it wrote", bad[i]);
	}
	buf_fini(&text);
}

int daemon_wait(struct daemon *d, unsigned ms)
{
	if (d->pid) {
		int status = wait_child(d->pid, ms);

		if (status == -1) {
			show(d);
			cr_assert_fail("it still runs after %u ms", ms);
		}
		d->wait_status = status;
		d->pid = 0;
	}
	judge(d, d->out);
	judge(d, d->err);
	return WIFSIGNALED(d->wait_status) ? 128 + WTERMSIG(d->wait_status) : WEXITSTATUS(d->wait_status);
}

void daemon_free(struct daemon *d)
{
	struct daemon **at = &all;

	while (*at && *at != d)
		at = &(*at)->next;
	if (*at)
		*at = d->next;
	free(d);
}

void daemon_stop(struct daemon *d)
{
	int status;

	if (!d)
		return;
	if (daemon_running(d))
		daemon_signal(d, SIGTERM);
	status = daemon_wait(d, WAIT_MS * 2);
	if (status != 0)
		show(d);
	cr_assert_eq(status, 0, "exit status %d", status);
	daemon_free(d);
}

/* A program below strace outlives it; its own children notice its end by themselves. */
static void kill_children(const struct daemon *d)
{
	char path[64];
	struct buf list;
	char *at;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)d->pid, (int)d->pid);
	list = scratch_read(path);
	buf_add_char(&list, '\0');
	at = buf_data(&list);
	for (char *end = at;; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at || pid <= 1)
			break;
		kill((pid_t)pid, SIGKILL);
	}
	buf_fini(&list);
}

void daemon_kill_all(void)
{
	while (all) {
		if (daemon_running(all)) {
			kill_children(all);
			kill(all->pid, SIGKILL);
			(void)wait_child(all->pid, WAIT_MS);
		}
		daemon_free(all);
	}
}

struct buf daemon_stderr(const struct daemon *d)
{
	return scratch_read(d->err);
}

struct buf daemon_stdout(const struct daemon *d)
{
	return scratch_read(d->out);
}

unsigned daemon_count_log(struct daemon *d, const char *text)
{
	struct buf log = daemon_stderr(d);
	struct str rest = buf_str(&log);
	unsigned n = 0;

	while (rest.n) {
		const char *at = memmem(rest.p, rest.n, text, strlen(text));

		if (!at)
			break;
		n++;
		rest = str_of(at + 1, rest.n - (size_t)(at + 1 - rest.p));
	}
	buf_fini(&log);
	return n;
}

struct log_wait {
	struct daemon *d;
	const char *text;
};

static bool log_has(void *arg)
{
	struct log_wait *w = arg;

	return daemon_count_log(w->d, w->text) > 0;
}

bool daemon_wait_log(struct daemon *d, const char *text)
{
	struct log_wait w = {d, text};

	return wait_until(log_has, &w, WAIT_MS);
}

int daemon_fds(const struct daemon *d)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)d->pid);
	dir = opendir(path);
	if (!dir)
		return -1;
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

long daemon_rss_kib(const struct daemon *d)
{
	char path[64];
	struct buf text;
	const char *at;
	long kib = -1;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)d->pid);
	text = scratch_read(path);
	buf_add_char(&text, '\0');
	at = strstr(buf_data(&text), "VmRSS:");
	if (at)
		kib = strtol(at + 6, NULL, 10);
	buf_fini(&text);
	return kib;
}

int daemon_run(struct scratch *s, const struct daemon_spec *spec, struct buf *out, struct buf *err)
{
	struct daemon *d = daemon_spawn(s, spec);
	int status = daemon_wait(d, WAIT_MS * 2);
	struct buf text = daemon_stdout(d);

	if (out)
		buf_add_str(out, buf_str(&text));
	buf_fini(&text);
	text = daemon_stderr(d);
	if (err)
		buf_add_str(err, buf_str(&text));
	buf_fini(&text);
	daemon_free(d);
	return status;
}

bool have_root(const char *what_for)
{
	if (geteuid() == 0)
		return true;
	cr_log_info("SKIPPED, needs root: %s", what_for);
	return false;
}
