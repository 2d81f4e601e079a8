/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The child writes whole messages to a pipe, blocking; the init passes them on one by one as the window of the job allows,
 * so a slow reader stops the child and nobody else. The last message is the answer. A child that ends without one (a
 * command inside may kill it: same uid) is answered as an input/output error.
 */
#include "local/init/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fd.h"
#include "local/init/job.h"
#include "local/init/walk.h"

struct worker {
	struct job job; /* first */
	int pipe;       /* owned: read end */
	struct buf in;  /* received, not yet passed on */
	bool ended;     /* the child closed the pipe */
};

static struct worker *worker_of(struct job *job)
{
	return CONTAINER_OF(job, struct worker, job);
}

static bool has_whole_message(const struct worker *w)
{
	struct wire_event event;
	size_t used;

	return wire_parse_event(buf_str(&w->in), &event, &used) != 0;
}

static size_t worker_wait(struct job *job, struct pollfd *fds)
{
	struct worker *w = worker_of(job);

	if (w->ended || has_whole_message(w))
		return 0;
	fds[0] = (struct pollfd){.fd = w->pipe, .events = POLLIN};
	return 1;
}

static bool worker_is_runnable(const struct job *job)
{
	const struct worker *w = CONTAINER_OF((struct job *)(uintptr_t)job, struct worker, job);

	return job->credit > 0 && init_may_send(job->init) && (w->ended || has_whole_message(w));
}

static void worker_receive(struct worker *w)
{
	char *to = buf_reserve(&w->in, WIRE_DATA_MAX);
	ssize_t n = to ? read(w->pipe, to, WIRE_DATA_MAX) : 0;

	if (n > 0)
		buf_commit(&w->in, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		w->ended = true;
}

/* Passes on one message. False: there is none, or it was the last and the job is freed. */
static bool pass_on(struct worker *w)
{
	struct job *job = &w->job;
	struct wire_event event;
	size_t used;
	int rc = wire_parse_event(buf_str(&w->in), &event, &used);

	if (rc == 0 && !w->ended)
		return false;
	if (rc <= 0) {
		init_fail_errno(job->init, job->id, EIO, "file");
		job_free(job);
		return false;
	}
	event.job = job->id;
	wire_put_event(&job->init->out, &event);
	buf_consume(&w->in, used);
	job->credit -= (int64_t)event.cost;
	if (event.type == WIRE_DONE) {
		job_free(job);
		return false;
	}
	return true;
}

static void worker_work(struct job *job, const struct pollfd *fds, size_t n)
{
	struct worker *w = worker_of(job);

	if (n && fds[0].revents)
		worker_receive(w);
	while (job->credit > 0 && init_may_send(job->init) && pass_on(w))
		;
}

static void worker_on_exit(struct job *job, int status)
{
	(void)status;
	job->pid = 0;
}

static void worker_cancel(struct job *job)
{
	init_fail(job->init, job->id, ECANCELED, "cancelled");
	job_free(job);
}

static void worker_free(struct job *job)
{
	struct worker *w = worker_of(job);

	if (job->pid > 0)
		kill(job->pid, SIGKILL);
	fd_close(&w->pipe);
	buf_fini(&w->in);
	free(w);
}

static const struct job_ops worker_ops = {
	.wait = worker_wait,
	.is_runnable = worker_is_runnable,
	.work = worker_work,
	.on_exit = worker_on_exit,
	.cancel = worker_cancel,
	.free = worker_free,
};

static void answer(struct walk *w, int rc, const char *what)
{
	char mem[WIRE_TEXT_MAX];
	struct wire_event done = {.type = WIRE_DONE, .job = 1, .error = -rc};

	if (rc == -EINVAL && w->b == NULL)
		done.text = STR("bad pattern");
	else if (rc == -E2BIG)
		done.text = STR("too many entries");
	else if (rc)
		done.text = str_from(init_error_text(-rc, what, mem, sizeof(mem)));
	wire_put_event(&w->out, &done);
}

static _Noreturn void run_child(int fd, int (*run)(struct walk *w), const char *what, const char *a, const char *b)
{
	struct walk w = {.fd = fd, .a = a, .b = b};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* The socket of the init most of all: its end of file tells the server that the init is gone. */
	if (dup2(fd, 3) < 0 || close_range(4, ~0U, 0) < 0)
		_exit(1);
	w.fd = 3;
	answer(&w, run(&w), what);
	_exit(walk_flush(&w) == 0 ? 0 : 1);
}

void worker_start(struct init *init, uint32_t id, int (*run)(struct walk *w), const char *what, const char *a,
		  const char *b)
{
	int p[2];
	struct job *job = job_new(init, id, &worker_ops, sizeof(struct worker));

	if (!job)
		return;
	struct worker *w = worker_of(job);
	w->pipe = -1;
	if (pipe2(p, O_CLOEXEC) < 0) {
		init_fail_errno(init, id, errno, what);
		job_free(job);
		return;
	}
	w->pipe = p[0];
	job->pid = fork();
	if (job->pid == 0)
		run_child(p[1], run, what, a, b);
	int error = errno;
	close(p[1]);
	if (job->pid < 0 || fd_set_nonblock(w->pipe) < 0) {
		init_fail_errno(init, id, job->pid < 0 ? error : EIO, what);
		job_free(job);
	}
}
