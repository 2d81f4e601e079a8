/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   WAITING <--> RUNNING --> KILLED --> WAITING
 *
 * WAITING  a timer leads to the next run: after the ttl, or sooner when the last one failed
 * RUNNING  the launcher has been asked; its output is read as it comes, its end is waited for, both within the timeout
 * KILLED   it took too long or said too much; its end is waited for
 *
 * The run is over when the process has ended and its output too; a program that leaves the pipe open in a child of its
 * own has that child killed by the launcher. A launcher that is gone ends every run and makes further ones impossible.
 */
#include "gateway/key_command.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/secret.h"
#include "gateway/config.h"
#include "gateway/launcher.h"

enum key_command_state {
	COMMAND_WAITING,
	COMMAND_RUNNING,
	COMMAND_KILLED,
	COMMAND_STATES,
};

static const char *const state_names[COMMAND_STATES] = {"waiting", "running", "killed"};

static const uint32_t state_edges[COMMAND_STATES] = {
	[COMMAND_WAITING] = SM_TO(COMMAND_RUNNING),
	[COMMAND_RUNNING] = SM_TO(COMMAND_WAITING) | SM_TO(COMMAND_KILLED),
	[COMMAND_KILLED] = SM_TO(COMMAND_WAITING),
};

static const struct sm sm = {"key command", state_names, state_edges, COMMAND_STATES};

enum {
	BACKOFF_MIN_MS = 500,
	BACKOFF_MAX_MS = 60000,
	KILL_AGAIN_MS = 1000,
	OUTPUT_BYTES = SECRET_MAX_BYTES + 2, /* the longest key, its newline, and one more that is too many */
};

struct key_command {
	struct loop *loop;            /* borrowed */
	struct launcher *launcher;    /* borrowed */
	const struct config_key *key; /* borrowed */
	enum key_command_state state;
	struct launcher_command run;
	struct event *timer;    /* owned; the next run, or the end of patience with this one */
	struct event *readable; /* owned; its output; NULL when that has ended */
	int out;                /* owned; the reading end, -1 when it has ended */
	int status;             /* once it has ended: of waitpid, or a negative errno */
	bool ended;             /* the process has */
	uint64_t backoff_ms;
	char *bytes; /* owned; OUTPUT_BYTES while it runs, else NULL */
	size_t n;
	char why[128];                           /* KILLED: the reason */
	const struct key_command_events *events; /* borrowed */
	void *arg;
};

const struct sm *key_command_sm(void)
{
	return &sm;
}

static void set_timer(struct key_command *c, uint64_t ms)
{
	struct timeval tv = clock_span(ms);

	event_add(c->timer, &tv);
}

static void move(struct key_command *c, enum key_command_state to)
{
	c->state = sm_move(&sm, 0, c->state, to);
	event_del(c->timer);
	switch (to) {
	case COMMAND_WAITING:
		return; /* whoever moved it knows for how long */
	case COMMAND_RUNNING:
		set_timer(c, c->key->timeout_ms);
		return;
	case COMMAND_KILLED:
		launcher_stop_command(c->launcher, &c->run);
		set_timer(c, KILL_AGAIN_MS); /* in case the launcher could not be told */
		return;
	case COMMAND_STATES:
		return;
	}
}

static void close_output(struct key_command *c)
{
	if (c->readable)
		event_free(c->readable);
	c->readable = NULL;
	fd_close(&c->out);
}

static void drop_bytes(struct key_command *c)
{
	if (c->bytes)
		explicit_bzero(c->bytes, OUTPUT_BYTES);
	free(c->bytes);
	c->bytes = NULL;
	c->n = 0;
}

/* Why the run gave no key, or NULL. */
static const char *fault_of(struct key_command *c)
{
	if (c->why[0])
		return c->why;
	if (c->status < 0)
		snprintf(c->why, sizeof(c->why), "cannot be started: %s",
			 c->status == -EPIPE || c->status == -EBADF ? "the launcher process is gone; restart the daemon"
								    : strerror(-c->status));
	else if (WIFSIGNALED(c->status))
		snprintf(c->why, sizeof(c->why), "ended by signal %d", WTERMSIG(c->status));
	else if (WEXITSTATUS(c->status))
		snprintf(c->why, sizeof(c->why), "exited with status %d", WEXITSTATUS(c->status));
	return c->why[0] ? c->why : NULL;
}

static void finish(struct key_command *c)
{
	const char *fault = fault_of(c);
	int rc = -EIO;

	close_output(c);
	move(c, COMMAND_WAITING);
	if (fault)
		c->events->on_failure(c->arg, fault);
	else
		rc = c->events->on_output(c->arg, c->bytes, c->n);
	drop_bytes(c);
	c->backoff_ms = rc == 0 ? BACKOFF_MIN_MS : c->backoff_ms;
	set_timer(c, rc == 0 ? c->key->ttl_ms : c->backoff_ms);
	if (rc && c->backoff_ms < BACKOFF_MAX_MS)
		c->backoff_ms = c->backoff_ms * 2 < BACKOFF_MAX_MS ? c->backoff_ms * 2 : BACKOFF_MAX_MS;
}

static void finish_if_over(struct key_command *c)
{
	if (c->ended && (c->state == COMMAND_KILLED || c->out < 0))
		finish(c);
}

static void give_up(struct key_command *c, const char *why)
{
	if (c->state != COMMAND_RUNNING)
		return;
	snprintf(c->why, sizeof(c->why), "%s", why);
	move(c, COMMAND_KILLED);
	finish_if_over(c);
}

static void on_end(struct launcher_command *run, int status)
{
	struct key_command *c = CONTAINER_OF(run, struct key_command, run);

	c->ended = true;
	c->status = status;
	if (status < 0)
		close_output(c);
	finish_if_over(c);
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct key_command *c = arg;
	ssize_t n = read(fd, c->bytes + c->n, OUTPUT_BYTES - c->n);

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		c->n += (size_t)n;
	if (n <= 0)
		close_output(c);
	if (c->n == OUTPUT_BYTES)
		give_up(c, "prints more than a key may have");
	else
		finish_if_over(c);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct key_command *c = arg;

	(void)fd;
	(void)what;
	switch (c->state) {
	case COMMAND_WAITING:
		key_command_run(c);
		return;
	case COMMAND_RUNNING:
		if (c->ended && c->status < 0)
			finish(c);
		else
			give_up(c, "did not end within its timeout, killed");
		return;
	case COMMAND_KILLED:
		launcher_stop_command(c->launcher, &c->run);
		set_timer(c, KILL_AGAIN_MS);
		return;
	case COMMAND_STATES:
		return;
	}
}

/* Its end of the pipe goes to the launcher; ours is read. */
static int launch(struct key_command *c)
{
	int ends[2];
	int rc;

	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	c->out = ends[0];
	/* A program expects to write without EAGAIN; the flag belongs to this end alone. */
	rc = fcntl(ends[1], F_SETFL, 0) < 0 ? -errno : 0;
	c->bytes = malloc(OUTPUT_BYTES);
	c->readable = event_new(loop_base(c->loop), c->out, EV_READ | EV_PERSIST, on_readable, c);
	if (!c->bytes || !c->readable || event_add(c->readable, NULL) < 0)
		rc = -ENOMEM;
	if (rc == 0)
		rc = launcher_run(c->launcher, c->key->argv, ends[1], &c->run);
	close(ends[1]);
	return rc;
}

void key_command_run(struct key_command *c)
{
	int rc;

	if (c->state != COMMAND_WAITING)
		return;
	c->ended = false;
	c->why[0] = '\0';
	c->n = 0;
	move(c, COMMAND_RUNNING);
	rc = launch(c);
	if (rc == 0)
		return;
	/* As if it had failed at once, but from the loop. */
	close_output(c);
	c->ended = true;
	c->status = rc;
	set_timer(c, 0);
}

int key_command_new(struct loop *loop, struct launcher *launcher, const struct config_key *key,
		    const struct key_command_events *events, void *arg, struct key_command **out)
{
	struct key_command *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct key_command){
		.loop = loop,
		.launcher = launcher,
		.key = key,
		.run = {.on_end = on_end},
		.out = -1,
		.backoff_ms = BACKOFF_MIN_MS,
		.events = events,
		.arg = arg,
	};
	list_init(&c->run.link);
	c->timer = evtimer_new(loop_base(loop), on_timer, c);
	if (!c->timer) {
		free(c);
		return -ENOMEM;
	}
	*out = c;
	return 0;
}

bool key_command_is_running(const struct key_command *c)
{
	return c->state != COMMAND_WAITING;
}

void key_command_free(struct key_command *c)
{
	if (!c)
		return;
	launcher_forget(c->launcher, &c->run);
	close_output(c);
	drop_bytes(c);
	event_free(c->timer);
	free(c);
}
