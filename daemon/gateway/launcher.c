/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gateway and launcher talk over a socket pair, one message at a time (launcher_process.h). When the launcher is gone the
 * server's keeper is told so and every command that was under way has failed.
 */
#include "gateway/launcher.h"

#include <errno.h>
#include <event2/event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/process.h"
#include "gateway/launcher_process.h"

enum {
	FREE_WAIT_MS = 4000
};

struct launcher {
	int sock; /* owned; -1 when the launcher is gone */
	pid_t pid;
	char *server;           /* owned: the server's program, for people */
	struct event *readable; /* owned; NULL until attached */
	struct list commands;   /* struct launcher_command */
	unsigned last_id;
	void (*on_server)(void *arg, enum launcher_event event, int status); /* may be NULL */
	void *arg;
};

/* In the child: what was passed to the gateway is not to stay open by us when the gateway closes it. */
static void keep_only(int fd)
{
	if (fd > 3)
		close_range(3, (unsigned)fd - 1, 0);
	close_range((unsigned)fd + 1, ~0U, 0);
}

int launcher_fork(const struct launcher_program *program, struct launcher **out)
{
	struct launcher *l = calloc(1, sizeof(*l));
	int pair[2];
	int rc;

	if (!l)
		return -ENOMEM;
	list_init(&l->commands);
	l->server = strdup(program->program);
	if (!l->server) {
		free(l);
		return -ENOMEM;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
		rc = -errno;
		free(l->server);
		free(l);
		return rc;
	}
	l->pid = fork();
	if (l->pid == 0) {
		keep_only(pair[1]);
		launcher_process(pair[1], program);
	}
	close(pair[1]);
	l->sock = pair[0];
	rc = l->pid < 0 ? -errno : fd_set_nonblock(l->sock);
	if (rc) {
		fd_close(&l->sock);
		free(l->server);
		free(l);
		return rc;
	}
	*out = l;
	return 0;
}

static void tell_server(struct launcher *l, enum launcher_event event, int status)
{
	if (l->on_server)
		l->on_server(l->arg, event, status);
}

static void end_command(struct launcher_command *c, int status)
{
	list_remove(&c->link);
	c->on_end(c, status);
}

static struct launcher_command *find_command(struct launcher *l, unsigned id)
{
	LIST_FOREACH (n, &l->commands) {
		struct launcher_command *c = CONTAINER_OF(n, struct launcher_command, link);
		if (c->id == id)
			return c;
	}
	return NULL;
}

static void on_gone(struct launcher *l)
{
	struct launcher_command *c;

	event_del(l->readable);
	fd_close(&l->sock);
	tell_server(l, LAUNCHER_GONE, 0);
	while ((c = LIST_FIRST(&l->commands, struct launcher_command, link)))
		end_command(c, -EPIPE);
}

static void on_message(struct launcher *l, const struct launch_message *m)
{
	struct launcher_command *c = find_command(l, m->id);

	switch (m->what) {
	case LAUNCH_EXITED:
		tell_server(l, LAUNCHER_EXITED, m->status);
		return;
	case LAUNCH_FAILED:
		tell_server(l, LAUNCHER_FAILED, m->status);
		return;
	case LAUNCH_COMMAND_ENDED:
		if (c)
			end_command(c, m->status);
		return;
	case LAUNCH_COMMAND_FAILED:
		if (c)
			end_command(c, -m->status);
		return;
	case LAUNCH_START:
	case LAUNCH_KILL:
	case LAUNCH_COMMAND:
	case LAUNCH_STOP_COMMAND:
		return;
	}
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct launcher *l = arg;
	struct launch_message m;
	size_t nfds = 0;
	ssize_t n;

	(void)fd;
	(void)what;
	while (l->sock >= 0 && (n = fd_recv(l->sock, &m, sizeof(m), NULL, &nfds)) != -EAGAIN) {
		if (n == sizeof(m))
			on_message(l, &m);
		else
			on_gone(l);
	}
}

int launcher_attach(struct launcher *l, struct loop *loop)
{
	l->readable = event_new(loop_base(loop), l->sock, EV_READ | EV_PERSIST, on_readable, l);
	return l->readable && event_add(l->readable, NULL) == 0 ? 0 : -ENOMEM;
}

void launcher_on_server(struct launcher *l, void (*on_event)(void *arg, enum launcher_event event, int status),
			void *arg)
{
	l->on_server = on_event;
	l->arg = arg;
}

int launcher_start(struct launcher *l, int life_fd, int key_fd, int admin_key_fd)
{
	struct launch_message m = {LAUNCH_START, 0, 0};
	const int fds[LAUNCH_SERVER_FDS] = {life_fd, key_fd, admin_key_fd};
	ssize_t n = fd_send(l->sock, &m, sizeof(m), fds, LAUNCH_SERVER_FDS);

	return n < 0 ? (int)n : 0;
}

static void send_plain(struct launcher *l, enum launch_what what, unsigned id)
{
	struct launch_message m = {what, 0, id};

	/* If it cannot be told it is gone, and its children with it. */
	if (fd_send(l->sock, &m, sizeof(m), NULL, 0) < 0)
		return;
}

void launcher_kill(struct launcher *l)
{
	send_plain(l, LAUNCH_KILL, 0);
}

int launcher_run(struct launcher *l, char *const *argv, int out_fd, struct launcher_command *c)
{
	struct launch_message m = {LAUNCH_COMMAND, 0, ++l->last_id};
	struct buf packet = BUF_EMPTY;
	ssize_t n = -ENOMEM;

	buf_add(&packet, &m, sizeof(m));
	for (size_t i = 0; argv[i]; i++)
		buf_add(&packet, argv[i], strlen(argv[i]) + 1);
	if (packet.len > sizeof(m) + LAUNCH_ARGV_MAX_BYTES)
		n = -E2BIG;
	else if (!packet.failed)
		n = fd_send(l->sock, buf_data(&packet), packet.len, &out_fd, 1);
	buf_fini(&packet);
	if (n < 0)
		return (int)n;
	c->id = m.id;
	list_add_tail(&l->commands, &c->link);
	return 0;
}

void launcher_stop_command(struct launcher *l, const struct launcher_command *c)
{
	send_plain(l, LAUNCH_STOP_COMMAND, c->id);
}

void launcher_forget(struct launcher *l, struct launcher_command *c)
{
	if (list_empty(&c->link))
		return;
	launcher_stop_command(l, c);
	list_remove(&c->link);
}

const char *launcher_server(const struct launcher *l)
{
	return l->server;
}

void launcher_free(struct launcher *l)
{
	int pidfd;

	if (!l)
		return;
	if (l->readable)
		event_free(l->readable);
	fd_close(&l->sock);
	pidfd = process_pidfd(l->pid);
	if (pidfd >= 0) {
		struct pollfd p = {.fd = pidfd, .events = POLLIN};
		if (poll(&p, 1, FREE_WAIT_MS) == 0)
			process_pidfd_kill(pidfd, SIGKILL);
		close(pidfd);
	}
	waitpid(l->pid, NULL, 0);
	free(l->server);
	free(l);
}
