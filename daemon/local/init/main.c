/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stacygate-init: process 1 of a sandbox. It alone starts commands and touches files there, as the server asks over a
 * socket. Being process 1 it cannot be killed from inside, and being undumpable it cannot be traced or read.
 *
 *     stacygate-init SOCKET LEASH NAME [DOOR]    descriptors; the name is for whoever looks at a list of processes
 *
 * It ends when the server does, in two ways. The socket's end of file ends its loop. The leash is a pipe whose other end
 * the server alone holds: its end makes the kernel kill our parent, and that kills us (PR_SET_PDEATHSIG), even when this
 * program is stopped or busy. The leash is armed only here: bubblewrap's own --die-with-parent may kill it between clone
 * and the release of its child, which would then wait forever.
 *
 * With a door it outlives the server, and ends with the server's keeper (local/keeper.h) in the same two ways: the keeper
 * holds the leash as well, and is the other end of the door. Through the door comes a new socket, at whose end the next server is.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/str.h"
#include "local/init/connect.h"
#include "local/init/exec.h"
#include "local/init/file.h"
#include "local/init/job.h"

enum {
	RECEIVE_MAX = 128 * 1024, /* bytes taken from the server per turn */
	COMMANDS_MAX = 64,        /* commands that may arrive in pieces at a time */
};

/* A command that arrives in pieces. */
struct partial {
	uint32_t id; /* 0: not in use */
	struct buf body;
};

static struct partial partials[COMMANDS_MAX];

static struct partial *partial_find(uint32_t id)
{
	for (size_t i = 0; i < COMMANDS_MAX; i++)
		if (partials[i].id == id)
			return &partials[i];
	return NULL;
}

static bool on_exec_more(const struct wire_request *m)
{
	struct partial *p = partial_find(m->job);

	if (!p)
		p = partial_find(0);
	if (!p || p->body.len + m->bytes.n > WIRE_EXEC_MAX)
		return false;
	p->id = m->job;
	buf_add_str(&p->body, m->bytes);
	return !p->body.failed;
}

static bool on_exec(struct init *init, const struct wire_request *m)
{
	struct partial *p = partial_find(m->job);

	if (!p) {
		exec_start(init, m->job, m->bytes);
		return true;
	}
	bool ok = on_exec_more(m);
	if (ok)
		exec_start(init, m->job, buf_str(&p->body));
	buf_fini(&p->body);
	p->id = 0;
	return ok;
}

static void on_credit(struct init *init, const struct wire_request *m)
{
	struct job *job = job_find(init, m->job);

	if (m->job == 0) {
		init->log_credit += m->credit;
		init_log_flush(init);
	} else if (job) {
		job->credit += m->credit;
	}
}

/* For a job that may have been answered meanwhile. */
static void on_job_message(struct init *init, const struct wire_request *m)
{
	struct job *job = job_find(init, m->job);

	if (!job)
		return;
	if (m->type == WIRE_CONTENT && job->ops->on_content)
		job->ops->on_content(job, m->bytes);
	else if (m->type == WIRE_KILL && job->ops->kill)
		job->ops->kill(job);
	else if (m->type == WIRE_CANCEL && job->ops->cancel)
		job->ops->cancel(job);
}

/* False: the server breaks the protocol, or there is no memory. */
static bool on_request(struct init *init, const struct wire_request *m)
{
	switch (m->type) {
	case WIRE_EXEC_MORE:
		return on_exec_more(m);
	case WIRE_EXEC:
		return on_exec(init, m);
	case WIRE_READ:
		file_read(init, m);
		break;
	case WIRE_WRITE:
		file_write(init, m);
		break;
	case WIRE_DELETE:
		file_delete(init, m);
		break;
	case WIRE_LIST:
		file_list(init, m);
		break;
	case WIRE_STAT:
		file_stat(init, m);
		break;
	case WIRE_GLOB:
		file_glob(init, m);
		break;
	case WIRE_MOVE:
		file_move(init, m);
		break;
	case WIRE_CHMOD:
		file_chmod(init, m);
		break;
	case WIRE_CREDIT:
		on_credit(init, m);
		break;
	case WIRE_CONNECT:
		connect_start(init, m->job, m->port);
		break;
	case WIRE_CONTENT:
	case WIRE_KILL:
	case WIRE_CANCEL:
		on_job_message(init, m);
		break;
	}
	return true;
}

/* --- the socket ------------------------------------------------------------------------------------------------ */

/* The server is gone, and what was half said with it. False: nobody is waited for. */
static bool on_server_gone(struct init *init)
{
	if (init->door < 0)
		return false;
	fd_close(&init->sock);
	fd_close(&init->pass_fd);
	buf_fini(&init->in);
	buf_fini(&init->out);
	init->log_credit = 0;
	for (size_t i = 0; i < COMMANDS_MAX; i++) {
		buf_fini(&partials[i].body);
		partials[i].id = 0;
	}
	LIST_FOREACH_SAFE (n, &init->jobs) {
		struct job *job = CONTAINER_OF(n, struct job, link);
		if (job->ops->detach)
			job->ops->detach(job);
		else
			job_free(job);
	}
	return true;
}

static void greet(struct init *init)
{
	init->log_credit = WIRE_LOG_WINDOW;
	wire_put_event(&init->out, &(struct wire_event){.type = WIRE_READY});
}

/* False: there will be no server any more. */
static bool on_door(struct init *init)
{
	char byte;
	size_t n = 1;
	ssize_t got = fd_recv(init->door, &byte, 1, &init->sock, &n);

	if (got == -EAGAIN || (got > 0 && n == 0))
		return true;
	if (got <= 0)
		return false;
	greet(init);
	return fd_set_nonblock(init->sock) == 0;
}

/* False: the server is gone for good or does not make sense. */
static bool init_receive(struct init *init)
{
	struct wire_request m;
	size_t used;
	int rc;
	char *to = buf_reserve(&init->in, RECEIVE_MAX);

	if (!to)
		return false;
	ssize_t n = recv(init->sock, to, RECEIVE_MAX, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n <= 0)
		return on_server_gone(init);
	buf_commit(&init->in, (size_t)n);
	while ((rc = wire_parse_request(buf_str(&init->in), &m, &used)) == 1) {
		if (!on_request(init, &m))
			return false;
		buf_consume(&init->in, used);
	}
	return rc == 0;
}

/* Sends what comes next: the message with the descriptor, or bytes up to it. As send(). */
static ssize_t send_some(struct init *init)
{
	bool passing = init->pass_fd >= 0;
	ssize_t n;

	if (passing && init->pass_at == 0) {
		n = fd_send(init->sock, buf_data(&init->out), WIRE_HEAD_BYTES, &init->pass_fd, 1);
		if (n >= 0) {
			fd_close(&init->pass_fd);
			return n;
		}
		/* Too many are on their way: the server takes some. */
		errno = n == -ETOOMANYREFS ? EAGAIN : (int)-n;
		return -1;
	}
	n = send(init->sock, buf_data(&init->out), passing ? init->pass_at : init->out.len,
		 MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0 && passing)
		init->pass_at -= (size_t)n;
	return n;
}

static bool init_send(struct init *init)
{
	if (init->out.failed)
		return false;
	while (init->out.len) {
		ssize_t n = send_some(init);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR || on_server_gone(init);
		buf_consume(&init->out, (size_t)n);
	}
	init_log_flush(init);
	return true;
}

/* --- children --------------------------------------------------------------------------------------------------- */

static struct job *job_of_pid(struct init *init, pid_t pid)
{
	LIST_FOREACH (n, &init->jobs) {
		struct job *job = CONTAINER_OF(n, struct job, link);
		if (job->pid == pid)
			return job;
	}
	return NULL;
}

/* Also reaps what commands left behind: process 1 is everybody's last parent. */
static void init_reap(struct init *init)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	while (read(init->signals, &info, sizeof(info)) > 0)
		;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct job *job = job_of_pid(init, pid);
		if (job && job->ops->on_exit)
			job->ops->on_exit(job, status);
	}
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

/* What one turn waits for. */
struct turn {
	struct pollfd *fds; /* owned; the first two are the server, or the door to the next, and SIGCHLD */
	size_t n;
	size_t cap;
	int timeout_ms;
};

static bool turn_reserve(struct turn *t)
{
	if (t->n + JOB_POLL_MAX <= t->cap)
		return true;
	size_t cap = t->cap ? t->cap * 2 : 64;
	struct pollfd *fds = realloc(t->fds, cap * sizeof(*fds));
	if (!fds)
		return false;
	t->fds = fds;
	t->cap = cap;
	return true;
}

static void turn_wake_at(struct turn *t, uint64_t at_ms)
{
	uint64_t now = clock_ms();
	int wait = at_ms > now ? (int)(at_ms - now) : 0;

	if (t->timeout_ms < 0 || wait < t->timeout_ms)
		t->timeout_ms = wait;
}

static bool turn_prepare(struct turn *t, struct init *init)
{
	t->n = 0;
	t->timeout_ms = -1;
	if (!turn_reserve(t))
		return false;
	t->fds[t->n++] = (struct pollfd){.fd = init->sock >= 0 ? init->sock : init->door,
					 .events = (short)(POLLIN | (init->out.len ? POLLOUT : 0))};
	t->fds[t->n++] = (struct pollfd){.fd = init->signals, .events = POLLIN};
	LIST_FOREACH (n, &init->jobs) {
		struct job *job = CONTAINER_OF(n, struct job, link);
		if (!turn_reserve(t))
			return false;
		job->fds_at = t->n;
		job->fds_n = job->ops->wait ? job->ops->wait(job, t->fds + t->n) : 0;
		t->n += job->fds_n;
		if (job->ops->is_runnable && job->ops->is_runnable(job))
			t->timeout_ms = 0;
		if (job->wake_ms)
			turn_wake_at(t, job->wake_ms);
	}
	return true;
}

/* Before anything else of the turn, so that the jobs are those that `turn_prepare` saw. */
static void turn_work(struct turn *t, struct init *init)
{
	LIST_FOREACH_SAFE (n, &init->jobs) {
		struct job *job = CONTAINER_OF(n, struct job, link);
		if (job->ops->work)
			job->ops->work(job, t->fds + job->fds_at, job->fds_n);
	}
}

static void init_run(struct init *init)
{
	struct turn turn = {0};

	while (init_send(init) && turn_prepare(&turn, init)) {
		if (poll(turn.fds, turn.n, turn.timeout_ms) < 0 && errno != EINTR)
			break;
		turn_work(&turn, init);
		if (turn.fds[1].revents)
			init_reap(init);
		if (turn.fds[0].revents && !(init->sock >= 0 ? init_receive(init) : on_door(init)))
			break;
	}
	free(turn.fds);
}

/* --- set-up ------------------------------------------------------------------------------------------------------ */

static int parse_fd(const char *arg)
{
	uint64_t v;

	return str_parse_u64(str_from(arg), &v) == 0 && v > 2 && v < 1024 ? (int)v : -1;
}

/* From here on the kernel kills our parent, and so us, when the server is gone. False: it is gone already. */
static bool arm_leash(int leash)
{
	struct pollfd p = {.fd = leash, .events = POLLIN};

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || fcntl(leash, F_SETFL, O_NONBLOCK | O_ASYNC) < 0)
		return false;
	return poll(&p, 1, 0) == 0;
}

/* Nothing but these descriptors and 0-2, which are made to lead nowhere, comes along from outside. */
static bool close_others(int *const keep[], unsigned n)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null < 0)
		return false;
	for (unsigned i = 0; i < n; i++)
		if ((*keep[i] = fcntl(*keep[i], F_DUPFD_CLOEXEC, 64)) < 0)
			return false;
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			return false;
	for (unsigned i = 0; i < n; i++)
		if ((*keep[i] = dup3(*keep[i], (int)(3 + i), O_CLOEXEC)) < 0)
			return false;
	return close_range(3 + n, ~0U, 0) == 0;
}

static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigprocmask(SIG_SETMASK, &set, NULL) < 0)
		return -1;
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static bool init_setup(struct init *init, int argc, char **argv)
{
	bool keeps = argc == 5;
	int leash = argc >= 4 ? parse_fd(argv[2]) : -1;
	int *const keep[] = {&init->sock, &leash, &init->door};

	init->sock = argc >= 4 ? parse_fd(argv[1]) : -1;
	init->door = keeps ? parse_fd(argv[4]) : -1;
	init->pass_fd = -1;
	list_init(&init->jobs);
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || init->sock < 0 || leash < 0 || (keeps && init->door < 0) ||
	    !close_others(keep, keeps ? 3 : 2))
		return false;
	signal(SIGPIPE, SIG_IGN);
	umask(022);
	init->signals = open_signals();
	return init->signals >= 0 && fd_set_nonblock(init->sock) == 0 && chdir("/workspace") == 0 && arm_leash(leash);
}

int main(int argc, char **argv)
{
	static struct init init;

	if (!init_setup(&init, argc, argv))
		return 1;
	greet(&init);
	init_run(&init);
	/* Process 1 ends, and with it everything in here. */
	return 0;
}
