/* SPDX-License-Identifier: Apache-2.0 */
/*
 * It is forked early, so it holds nothing of the gateway's: no key, no connection, no event loop. It starts the server
 * and the commands of the configuration, at most COMMANDS_MAX at once, and says how each ended.
 *
 * Nobody outlives anybody: it ends at the end of file of its socket, the server at that of its life descriptor, whose
 * other end only the gateway holds; commands are killed, each with its session; and all are killed by the kernel if this
 * process dies.
 */
#include "gateway/launcher_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"

enum {
	LIFE_FD = 3, /* the server's: then its two keys */
	END_WAIT_MS = 2000,
	COMMANDS_MAX = 32,
	ARGUMENTS_MAX = 65
};

extern char **environ;

struct command {
	pid_t pid; /* 0: free */
	unsigned id;
};

struct runner {
	int sock;    /* owned; to the gateway */
	int signals; /* owned; SIGCHLD */
	int program; /* owned; -1: cannot be opened, errno in program_error */
	int program_error;
	char **argv;                            /* borrowed; of the server */
	char **env;                             /* borrowed */
	pid_t server;                           /* 0: none runs */
	const struct launcher_program *allowed; /* borrowed */
	struct command commands[COMMANDS_MAX];
};

/* One message with room for a command's arguments. */
struct request {
	struct launch_message m;
	char text[LAUNCH_ARGV_MAX_BYTES];
};

static void tell(struct runner *r, enum launch_what what, unsigned id, int status)
{
	struct launch_message m = {what, status, id};

	if (fd_send(r->sock, &m, sizeof(m), NULL, 0) < 0)
		_exit(0); /* the gateway is gone; the server follows us */
}

/* What children may know of our environment: next to nothing. Also wipes the rest, where a key may stand. */
static char **clean_environment(void)
{
	static char *env[8] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"};
	static const char *const passed[] = {"ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS"};
	size_t n = 2;

	for (size_t i = 0; i < sizeof(passed) / sizeof(passed[0]); i++) {
		char *text;
		const char *value = getenv(passed[i]);
		if (value && asprintf(&text, "%s=%s", passed[i], value) >= 0)
			env[n++] = text;
	}
	for (char **e = environ; e && *e; e++)
		explicit_bzero(*e, strlen(*e));
	clearenv();
	env[n] = NULL;
	return env;
}

/* In a child: as a program expects to find itself. */
static void become_ordinary(pid_t launcher)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher)
		_exit(126);
}

/* --- the server ---------------------------------------------------------------------------------------------------------- */

/* In the child: descriptors to their places, then the program. */
_Noreturn static void run_server(struct runner *r, const int fds[LAUNCH_SERVER_FDS], pid_t launcher)
{
	int high[LAUNCH_SERVER_FDS + 1];

	/* First out of the way of their places, then to them. */
	for (int i = 0; i < LAUNCH_SERVER_FDS; i++)
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 16);
	high[LAUNCH_SERVER_FDS] = fcntl(r->program, F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < LAUNCH_SERVER_FDS; i++)
		if (high[i] < 0 || dup2(high[i], LIFE_FD + i) < 0)
			_exit(126);
	become_ordinary(launcher);
	fexecve(high[LAUNCH_SERVER_FDS], r->argv, r->env);
	_exit(127);
}

static void start_server(struct runner *r, const int fds[LAUNCH_SERVER_FDS])
{
	pid_t self = getpid();
	pid_t pid;

	if (r->program < 0 || r->server) {
		tell(r, LAUNCH_FAILED, 0, r->server ? EBUSY : r->program_error);
		return;
	}
	pid = fork();
	if (pid == 0)
		run_server(r, fds, self);
	if (pid < 0)
		tell(r, LAUNCH_FAILED, 0, errno);
	else
		r->server = pid;
}

/* --- commands ------------------------------------------------------------------------------------------------------------ */

/* In the child: no input, no words but those for the gateway, then the program. */
_Noreturn static void run_command(struct runner *r, char **argv, int out, pid_t launcher)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0 || chdir("/") < 0)
		_exit(126);
	become_ordinary(launcher);
	execve(argv[0], argv, r->env);
	_exit(127);
}

static struct command *free_command(struct runner *r)
{
	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (r->commands[i].pid == 0)
			return &r->commands[i];
	return NULL;
}

/* Cuts the text behind a message into arguments; false when it is not what the gateway sends. */
static bool cut_arguments(char *text, size_t n, char *argv[ARGUMENTS_MAX])
{
	size_t count = 0;

	if (n == 0 || text[n - 1] != '\0')
		return false;
	for (char *p = text; p < text + n; p += strlen(p) + 1) {
		if (count + 1 == ARGUMENTS_MAX)
			return false;
		argv[count++] = p;
	}
	argv[count] = NULL;
	return true;
}

static int start_command(struct runner *r, struct request *q, size_t n, int out)
{
	char *argv[ARGUMENTS_MAX];
	struct command *c = free_command(r);
	pid_t self = getpid();
	pid_t pid;

	if (!c)
		return EAGAIN;
	if (!cut_arguments(q->text, n, argv) || !r->allowed->may_run || !r->allowed->may_run(r->allowed->arg, argv))
		return EPERM;
	if (access(argv[0], X_OK) < 0)
		return errno;
	pid = fork();
	if (pid == 0)
		run_command(r, argv, out, self);
	if (pid < 0)
		return errno;
	*c = (struct command){pid, q->m.id};
	return 0;
}

/* With everything in its session that did not leave it. */
static void kill_command(const struct command *c)
{
	kill(-c->pid, SIGKILL);
	kill(c->pid, SIGKILL); /* it may not have a session of its own yet */
}

static void stop_command(struct runner *r, unsigned id)
{
	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (r->commands[i].pid && r->commands[i].id == id)
			kill_command(&r->commands[i]);
}

/* --- what happens -------------------------------------------------------------------------------------------------------- */

/* A child has ended and is not reaped yet, so that its number is nobody else's. */
static void bury(struct runner *r, pid_t pid)
{
	int status = 0;

	for (size_t i = 0; i < COMMANDS_MAX; i++) {
		struct command *c = &r->commands[i];
		if (c->pid != pid)
			continue;
		kill(-pid, SIGKILL); /* what it left behind */
		waitpid(pid, &status, 0);
		c->pid = 0;
		tell(r, LAUNCH_COMMAND_ENDED, c->id, status);
		return;
	}
	waitpid(pid, &status, 0);
	if (pid == r->server) {
		r->server = 0;
		tell(r, LAUNCH_EXITED, 0, status);
	}
}

static void reap(struct runner *r)
{
	struct signalfd_siginfo info;
	siginfo_t child = {0};

	if (read(r->signals, &info, sizeof(info)) < 0)
		return;
	while (waitid(P_ALL, 0, &child, WEXITED | WNOHANG | WNOWAIT) == 0 && child.si_pid > 0) {
		bury(r, child.si_pid);
		child.si_pid = 0;
	}
}

/* The gateway is gone: its server sees that by itself; one that does not is killed. */
_Noreturn static void end_with_gateway(struct runner *r)
{
	struct pollfd p = {.fd = r->signals, .events = POLLIN};

	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (r->commands[i].pid)
			kill_command(&r->commands[i]);
	while (r->server) {
		if (poll(&p, 1, END_WAIT_MS) <= 0) {
			kill(r->server, SIGKILL);
			waitpid(r->server, NULL, 0);
			break;
		}
		struct signalfd_siginfo info;
		if (read(r->signals, &info, sizeof(info)) < 0 || waitpid(r->server, NULL, WNOHANG) == r->server)
			break;
	}
	_exit(0);
}

static void serve(struct runner *r, struct request *q, size_t n, const int *fds, size_t nfds)
{
	int failure;

	switch (q->m.what) {
	case LAUNCH_START:
		if (nfds == LAUNCH_SERVER_FDS)
			start_server(r, fds);
		return;
	case LAUNCH_KILL:
		if (r->server)
			kill(r->server, SIGKILL);
		return;
	case LAUNCH_COMMAND:
		failure = nfds == 1 ? start_command(r, q, n - sizeof(q->m), fds[0]) : EINVAL;
		if (failure)
			tell(r, LAUNCH_COMMAND_FAILED, q->m.id, failure);
		return;
	case LAUNCH_STOP_COMMAND:
		stop_command(r, q->m.id);
		return;
	case LAUNCH_EXITED:
	case LAUNCH_FAILED:
	case LAUNCH_COMMAND_ENDED:
	case LAUNCH_COMMAND_FAILED:
		return;
	}
}

static void serve_one(struct runner *r)
{
	static struct request q;
	int fds[LAUNCH_SERVER_FDS];
	size_t nfds = LAUNCH_SERVER_FDS;
	ssize_t n = fd_recv(r->sock, &q, sizeof(q), fds, &nfds);

	if (n <= 0)
		end_with_gateway(r);
	if ((size_t)n >= sizeof(q.m))
		serve(r, &q, (size_t)n, fds, nfds);
	for (size_t i = 0; i < nfds; i++)
		close(fds[i]);
}

_Noreturn void launcher_process(int sock, const struct launcher_program *program)
{
	struct runner r = {.sock = sock, .allowed = program};
	char listen_at[160];
	char *argv[] = {"stacygate-local",
			"--listen",
			listen_at,
			"--api-key-file",
			"/dev/fd/4",
			"--admin-api-key-file",
			"/dev/fd/5",
			"--state",
			(char *)(uintptr_t)program->state_dir,
			"--life-fd",
			"3",
			program->verbose ? "-v" : NULL,
			NULL};
	sigset_t mask;

	/* A session of its own: the terminal's Ctrl-C is for the gateway, which then ends us in order. */
	setsid();
	prctl(PR_SET_NAME, "stacygate-run");
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	snprintf(listen_at, sizeof(listen_at), "unix:%s", program->socket);
	r.argv = argv;
	r.env = clean_environment();
	r.program = open(program->program, O_PATH | O_CLOEXEC);
	r.program_error = errno;
	if (program->settle && program->settle(program->arg))
		_exit(1);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	r.signals = signalfd(-1, &mask, SFD_CLOEXEC);
	if (r.signals < 0)
		_exit(1);
	for (;;) {
		struct pollfd p[2] = {{.fd = r.sock, .events = POLLIN}, {.fd = r.signals, .events = POLLIN}};
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents)
			reap(&r);
		if (p[0].revents)
			serve_one(&r);
	}
}
