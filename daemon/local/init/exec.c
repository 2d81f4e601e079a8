/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A command runs in a session of its own with /dev/null as input and a pipe for each output. It is answered when it has
 * exited and both pipes are closed, or 100 ms after it exited, once what it had written by then is sent: a background
 * process that holds a pipe delays no answer and cuts nothing off. After that the job lives on without its id and what is
 * still written goes to the log.
 *
 *     running --exit--> exited --pipes closed, or 100 ms and nothing owed--> answered --pipes closed--> freed
 *
 * When the server goes and another may come (see the init's main) the command runs on, as if it had been answered: its output
 * goes to the log, so that it never waits for a reader.
 */
#include "local/init/exec.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "local/box_path.h"
#include "local/init/job.h"

enum {
	LINGER_MS = 100
};

struct exec {
	struct job job; /* first */
	int pipes[2];   /* owned: read ends of stdout and stderr; -1 when closed */
	int owed[2];    /* bytes in the pipe when the command exited, not read yet: they belong to the answer */
	bool exited;
	bool cancelled; /* nobody wants the output */
	int exit_code;
};

static struct exec *exec_of(struct job *job)
{
	return CONTAINER_OF(job, struct exec, job);
}

static size_t exec_wait(struct job *job, struct pollfd *fds)
{
	struct exec *e = exec_of(job);
	size_t n = 0;

	if (!job->answered && !e->cancelled && (job->credit <= 0 || !init_may_send(job->init)))
		return 0;
	for (int i = 0; i < 2; i++)
		if (e->pipes[i] >= 0)
			fds[n++] = (struct pollfd){.fd = e->pipes[i], .events = POLLIN};
	return n;
}

static void take_output(struct exec *e, int i, struct str bytes)
{
	struct job *job = &e->job;

	if (job->answered || e->cancelled) {
		init_log(job->init, bytes);
		return;
	}
	wire_put_event(
		&job->init->out,
		&(struct wire_event){.type = WIRE_DATA, .job = job->id, .stream = (unsigned)i + 1, .bytes = bytes});
	job->credit -= (int64_t)bytes.n;
	e->owed[i] = e->owed[i] > (int)bytes.n ? e->owed[i] - (int)bytes.n : 0;
}

/* One read, so that no command keeps the others waiting. */
static void read_pipe(struct exec *e, int i)
{
	char mem[WIRE_DATA_MAX];
	size_t room = sizeof(mem);

	if (!e->job.answered && !e->cancelled && e->job.credit < (int64_t)room)
		room = e->job.credit > 0 ? (size_t)e->job.credit : 0;
	if (room == 0)
		return;
	ssize_t n = read(e->pipes[i], mem, room);
	if (n > 0) {
		take_output(e, i, str_of(mem, (size_t)n));
	} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
		fd_close(&e->pipes[i]);
		e->owed[i] = 0;
	}
}

static void exec_maybe_finish(struct exec *e)
{
	struct job *job = &e->job;
	bool closed = e->pipes[0] < 0 && e->pipes[1] < 0;
	bool lingered = e->exited && clock_ms() >= job->wake_ms;

	/* Without credit what is owed waits for it; there is nothing to wake up for until then. */
	if (lingered)
		job->wake_ms = 0;
	if (!job->answered && e->exited &&
	    (closed || e->cancelled || (lingered && e->owed[0] == 0 && e->owed[1] == 0))) {
		init_done(job->init, job->id, e->exit_code);
		job->answered = true;
		job->wake_ms = 0;
	}
	if (job->answered && closed)
		job_free(job);
}

static void exec_work(struct job *job, const struct pollfd *fds, size_t n)
{
	struct exec *e = exec_of(job);

	for (size_t k = 0; k < n; k++)
		for (int i = 0; i < 2; i++)
			if (fds[k].revents && fds[k].fd == e->pipes[i]) {
				read_pipe(e, i);
				break;
			}
	exec_maybe_finish(e);
}

static void exec_on_exit(struct job *job, int status)
{
	struct exec *e = exec_of(job);

	job->pid = 0;
	e->exited = true;
	e->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	job->wake_ms = clock_ms() + LINGER_MS;
	for (int i = 0; i < 2; i++)
		if (e->pipes[i] >= 0 && ioctl(e->pipes[i], FIONREAD, &e->owed[i]) < 0)
			e->owed[i] = 0;
	exec_maybe_finish(e);
}

static void exec_kill(struct job *job)
{
	/* After the exit the group may still have members that hold the pipes; they need no kill for an answer. */
	if (job->pid > 0)
		kill(-job->pid, SIGKILL);
}

static void exec_cancel(struct job *job)
{
	exec_of(job)->cancelled = true;
	exec_kill(job);
	exec_maybe_finish(exec_of(job));
}

static void exec_detach(struct job *job)
{
	job->answered = true;
	job->wake_ms = 0;
	exec_maybe_finish(exec_of(job));
}

static void exec_free(struct job *job)
{
	struct exec *e = exec_of(job);

	fd_close(&e->pipes[0]);
	fd_close(&e->pipes[1]);
	free(e);
}

static const struct job_ops exec_ops = {
	.wait = exec_wait,
	.work = exec_work,
	.on_exit = exec_on_exit,
	.kill = exec_kill,
	.cancel = exec_cancel,
	.detach = exec_detach,
	.free = exec_free,
};

/* --- starting ------------------------------------------------------------------------------------------------- */

static const char *const base_env[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"HOME=/home/sandbox",
	"USER=sandbox",
	"LOGNAME=sandbox",
	"SHELL=/bin/sh",
	"LANG=C.UTF-8",
	"TERM=xterm",
	"WORKSPACE=/workspace",
};
enum {
	BASE_ENV = sizeof(base_env) / sizeof(base_env[0])
};

/* A command ready to be started; everything points into the message. */
struct command {
	char **argv;         /* owned array, NULL at the end */
	char **envp;         /* owned array, NULL at the end */
	const char *workdir; /* as the request says it */
};

static bool same_name(const char *a, const char *b)
{
	size_t n = strcspn(a, "=");

	return strncmp(a, b, n) == 0 && b[n] == '=';
}

static bool is_overridden(const char *entry, char *const *envp, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (same_name(entry, envp[i]))
			return true;
	return false;
}

static char *next_string(const char **at)
{
	const char *s = *at;

	*at += strlen(s) + 1;
	return (char *)(uintptr_t)s;
}

static int command_init(struct command *c, struct str body)
{
	struct wire_exec x;
	int rc = wire_parse_exec(body, &x);

	if (rc)
		return rc;
	const char *at = x.strings;
	c->argv = calloc(x.nargv + 1, sizeof(char *));
	c->envp = calloc(x.nenv + BASE_ENV + 1, sizeof(char *));
	if (!c->argv || !c->envp)
		return -ENOMEM;
	for (size_t i = 0; i < x.nargv; i++)
		c->argv[i] = next_string(&at);
	for (size_t i = 0; i < x.nenv; i++)
		c->envp[i] = next_string(&at);
	c->workdir = at;
	size_t n = x.nenv;
	for (size_t i = 0; i < BASE_ENV; i++)
		if (!is_overridden(base_env[i], c->envp, x.nenv))
			c->envp[n++] = (char *)(uintptr_t)base_env[i];
	return 0;
}

static void command_fini(struct command *c)
{
	free(c->argv);
	free(c->envp);
}

static const char *command_path(const struct command *c)
{
	for (char **e = c->envp; *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			return *e + 5;
	return "";
}

/* The program's file: as named, or the first executable in PATH. 0 or -ENOENT. */
static int find_program(const struct command *c, int workdir, char out[BOX_PATH_MAX + 1])
{
	struct str rest = str_from(command_path(c));
	const char *name = c->argv[0];
	struct stat st;

	if (name[0] == 0)
		return -ENOENT;
	if (strchr(name, '/'))
		return snprintf(out, BOX_PATH_MAX + 1, "%s", name) > BOX_PATH_MAX ? -ENAMETOOLONG : 0;
	while (rest.p) {
		struct str dir = str_cut(&rest, ':');
		int n = snprintf(out, BOX_PATH_MAX + 1, "%.*s/%s", STR_ARG(dir.n ? dir : STR(".")), name);
		if (n <= BOX_PATH_MAX && fstatat(workdir, out, &st, 0) == 0 && S_ISREG(st.st_mode) &&
		    faccessat(workdir, out, X_OK, AT_EACCESS) == 0)
			return 0;
	}
	return -ENOENT;
}

static int open_workdir(const char *workdir)
{
	char path[BOX_PATH_MAX + 1];
	int rc = box_path_clean(workdir[0] ? str_from(workdir) : STR("/workspace"), path);

	if (rc < 0)
		return rc;
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int fill_actions(posix_spawn_file_actions_t *actions, const int out[2], int workdir)
{
	int rc = posix_spawn_file_actions_adddup2(actions, out[0], 1);

	if (rc == 0)
		rc = posix_spawn_file_actions_adddup2(actions, out[1], 2);
	if (rc == 0)
		rc = posix_spawn_file_actions_addfchdir_np(actions, workdir);
	return rc;
}

static int fill_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	int rc = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
	if (rc == 0)
		rc = posix_spawnattr_setsigmask(attr, &none);
	if (rc == 0)
		rc = posix_spawnattr_setsigdefault(attr, &all);
	return rc;
}

/*
 * Child and init share their memory until the exec, so the child is as undumpable as the init, and its failure is known
 * at once. 0 or negative errno.
 */
static int spawn(const struct command *c, const char *program, const int out[2], int workdir, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int rc = posix_spawn_file_actions_init(&actions);

	if (rc)
		return -rc;
	rc = posix_spawnattr_init(&attr);
	if (rc == 0) {
		rc = fill_actions(&actions, out, workdir);
		if (rc == 0)
			rc = fill_attributes(&attr);
		if (rc == 0)
			rc = posix_spawn(pid, program, &actions, &attr, c->argv, c->envp);
		posix_spawnattr_destroy(&attr);
	}
	posix_spawn_file_actions_destroy(&actions);
	return -rc;
}

/* Makes both pipes; the read ends do not block. On failure some may be open. */
static int make_pipes(int in[2], int out[2])
{
	for (int i = 0; i < 2; i++) {
		int p[2];
		if (pipe2(p, O_CLOEXEC) < 0)
			return -errno;
		in[i] = p[0];
		out[i] = p[1];
		int rc = fd_set_nonblock(p[0]);
		if (rc)
			return rc;
	}
	return 0;
}

static void fail_to_start(struct init *init, uint32_t id, const struct command *c, int error)
{
	char text[WIRE_TEXT_MAX], mem[WIRE_TEXT_MAX];

	if (error == ENOENT)
		snprintf(text, sizeof(text), "exec: \"%s\": executable file not found", c->argv[0]);
	else
		snprintf(text, sizeof(text), "exec: %s: %.60s", init_error_text(error, "file", mem, sizeof(mem)),
			 c->argv[0]);
	init_fail(init, id, error, text);
}

static void start_command(struct init *init, uint32_t id, const struct command *c, int workdir)
{
	char program[BOX_PATH_MAX + 1];
	int out[2] = {-1, -1};
	struct job *job = job_new(init, id, &exec_ops, sizeof(struct exec));

	if (!job)
		return;
	struct exec *e = exec_of(job);
	e->pipes[0] = e->pipes[1] = -1;
	int rc = find_program(c, workdir, program);
	if (rc == 0)
		rc = make_pipes(e->pipes, out);
	if (rc == 0)
		rc = spawn(c, program, out, workdir, &job->pid);
	fd_close(&out[0]);
	fd_close(&out[1]);
	if (rc) {
		fail_to_start(init, id, c, -rc);
		job_free(job);
	}
}

void exec_start(struct init *init, uint32_t id, struct str body)
{
	struct command c = {0};
	int rc = command_init(&c, body);

	if (rc) {
		init_fail_errno(init, id, -rc, "command");
	} else {
		int workdir = open_workdir(c.workdir);
		if (workdir == -ENOENT)
			init_fail(init, id, ENOENT, "workdir does not exist");
		else if (workdir < 0)
			init_fail_errno(init, id, -workdir, "workdir");
		else
			start_command(init, id, &c, workdir);
		fd_close(&workdir);
	}
	command_fini(&c);
}
