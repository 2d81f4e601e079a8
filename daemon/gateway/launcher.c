/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher is forked early, so it holds nothing of the gateway's: no key, no connection, no event loop. Gateway and
 * launcher talk over a socket pair in small messages: 'S' with three descriptors starts the server, 'K' kills it; 'E' and
 * 'F' with an int say that it exited or could not be started.
 *
 * Nobody outlives anybody: the launcher ends at the end of file of its socket, the server at that of its life
 * descriptor, whose other end only the gateway holds; and the server is killed by the kernel if the launcher dies.
 */
#include "gateway/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/process.h"

enum {
	LIFE_FD = 3,
	KEY_FD = 4,
	ADMIN_KEY_FD = 5,
	SERVER_FDS = 3,
	END_WAIT_MS = 2000
};

struct message {
	char what; /* 'S', 'K', 'E', 'F' */
	int status;
};

struct launcher {
	int sock; /* owned */
	pid_t pid;
};

/* --- the launcher's own process --------------------------------------------------------------------------------------- */

extern char **environ;

struct runner {
	int sock;    /* owned; to the gateway */
	int signals; /* owned; SIGCHLD */
	int program; /* owned; -1: cannot be opened, errno in program_error */
	int program_error;
	char **argv;  /* borrowed */
	char **env;   /* borrowed */
	pid_t server; /* 0: none runs */
};

static void tell(struct runner *r, char what, int status)
{
	struct message m = {what, status};

	if (fd_send(r->sock, &m, sizeof(m), NULL, 0) < 0)
		_exit(0); /* the gateway is gone; the server follows us */
}

/* What the server may know of our environment: next to nothing. Also wipes the rest, where a key may stand. */
static char **server_environment(void)
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

/* In the child: descriptors to their places, then the program. */
_Noreturn static void run_server(struct runner *r, const int fds[SERVER_FDS], pid_t launcher)
{
	int high[SERVER_FDS + 1];
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGINT, SIG_DFL);
	signal(SIGTERM, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	/* First out of the way of their places, then to them. */
	for (int i = 0; i < SERVER_FDS; i++)
		high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 16);
	high[SERVER_FDS] = fcntl(r->program, F_DUPFD_CLOEXEC, 16);
	for (int i = 0; i < SERVER_FDS; i++)
		if (high[i] < 0 || dup2(high[i], LIFE_FD + i) < 0)
			_exit(126);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != launcher)
		_exit(126);
	fexecve(high[SERVER_FDS], r->argv, r->env);
	_exit(127);
}

static void start_server(struct runner *r, const int fds[SERVER_FDS])
{
	pid_t self = getpid();
	pid_t pid;

	if (r->program < 0 || r->server) {
		tell(r, 'F', r->server ? EBUSY : r->program_error);
		return;
	}
	pid = fork();
	if (pid == 0)
		run_server(r, fds, self);
	if (pid < 0)
		tell(r, 'F', errno);
	else
		r->server = pid;
}

static void reap(struct runner *r)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(r->signals, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == r->server) {
			r->server = 0;
			tell(r, 'E', status);
		}
	}
}

/* The gateway is gone: its server sees that by itself; one that does not is killed. */
_Noreturn static void end_with_gateway(struct runner *r)
{
	struct pollfd p = {.fd = r->signals, .events = POLLIN};

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

static void serve_one(struct runner *r)
{
	struct message m;
	int fds[SERVER_FDS];
	size_t nfds = SERVER_FDS;
	ssize_t n = fd_recv(r->sock, &m, sizeof(m), fds, &nfds);

	if (n <= 0)
		end_with_gateway(r);
	if (n == sizeof(m) && m.what == 'S' && nfds == SERVER_FDS)
		start_server(r, fds);
	else if (n == sizeof(m) && m.what == 'K' && r->server)
		kill(r->server, SIGKILL);
	for (size_t i = 0; i < nfds; i++)
		close(fds[i]);
}

_Noreturn static void launcher_main(int sock, const struct launcher_program *program)
{
	struct runner r = {.sock = sock};
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
	r.env = server_environment();
	r.program = open(program->program, O_PATH | O_CLOEXEC);
	r.program_error = errno;
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

/* --- the gateway's side ------------------------------------------------------------------------------------------------ */

int launcher_fork(const struct launcher_program *program, struct launcher **out)
{
	struct launcher *l = calloc(1, sizeof(*l));
	int pair[2];
	int rc;

	if (!l)
		return -ENOMEM;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		rc = -errno;
		free(l);
		return rc;
	}
	l->pid = fork();
	if (l->pid == 0) {
		close(pair[0]);
		launcher_main(pair[1], program);
	}
	close(pair[1]);
	l->sock = pair[0];
	rc = l->pid < 0 ? -errno : fd_set_nonblock(l->sock);
	if (rc) {
		fd_close(&l->sock);
		free(l);
		return rc;
	}
	*out = l;
	return 0;
}

int launcher_fd(const struct launcher *l)
{
	return l->sock;
}

enum launcher_event launcher_next(struct launcher *l, int *status)
{
	struct message m;
	size_t nfds = 0;
	ssize_t n = fd_recv(l->sock, &m, sizeof(m), NULL, &nfds);

	if (n == -EAGAIN)
		return LAUNCHER_NOTHING;
	if (n != sizeof(m))
		return LAUNCHER_GONE;
	*status = m.status;
	return m.what == 'E' ? LAUNCHER_EXITED : LAUNCHER_FAILED;
}

int launcher_start(struct launcher *l, int life_fd, int key_fd, int admin_key_fd)
{
	struct message m = {'S', 0};
	const int fds[SERVER_FDS] = {life_fd, key_fd, admin_key_fd};
	ssize_t n = fd_send(l->sock, &m, sizeof(m), fds, SERVER_FDS);

	return n < 0 ? (int)n : 0;
}

void launcher_kill(struct launcher *l)
{
	struct message m = {'K', 0};

	/* If it cannot be told it is gone, and the server with it. */
	if (fd_send(l->sock, &m, sizeof(m), NULL, 0) < 0)
		return;
}

void launcher_free(struct launcher *l)
{
	int pidfd;

	if (!l)
		return;
	fd_close(&l->sock);
	pidfd = process_pidfd(l->pid);
	if (pidfd >= 0) {
		struct pollfd p = {.fd = pidfd, .events = POLLIN};
		if (poll(&p, 1, 2 * END_WAIT_MS) == 0)
			process_pidfd_kill(pidfd, SIGKILL);
		close(pidfd);
	}
	waitpid(l->pid, NULL, 0);
	free(l);
}
