/* SPDX-License-Identifier: Apache-2.0 */
/*
 * 127.0.0.1 is tried, then ::1, without waiting: where nothing listens the kernel says so at once. A program that does
 * not accept keeps its client waiting, for as long as the server likes. A socket that is connected waits for its turn to
 * be handed over, one at a time.
 */
#include "local/init/connect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "local/init/job.h"

enum {
	ADDRESSES = 2
};

struct connect {
	struct job job; /* first */
	int fd;         /* owned; -1: none */
	uint16_t port;
	unsigned next; /* address to try next */
	int error;     /* what the first one said */
	bool connected;
};

static struct connect *connect_of(struct job *job)
{
	return CONTAINER_OF(job, struct connect, job);
}

/*
 * Where nothing listens, a port among those that the kernel chooses for clients may be chosen for this one: then it is
 * connected to itself.
 */
static bool is_own_peer(int fd)
{
	struct sockaddr_storage own = {0}, peer = {0};
	socklen_t own_size = sizeof(own), peer_size = sizeof(peer);

	return getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
	       getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0 && own_size == peer_size &&
	       memcmp(&own, &peer, own_size) == 0;
}

/* 0 when it is connected, -EINPROGRESS, or another negative errno. */
static int try_address(struct connect *c, unsigned which)
{
	struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(c->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(c->port), .sin6_addr = in6addr_loopback};
	const struct sockaddr *address = which == 0 ? (const struct sockaddr *)&in4 : (const struct sockaddr *)&in6;
	socklen_t size = which == 0 ? sizeof(in4) : sizeof(in6);

	in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	c->fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		return -errno;
	if (connect(c->fd, address, size) < 0)
		return -errno;
	return is_own_peer(c->fd) ? -ECONNREFUSED : 0;
}

/* Goes on with the addresses that are left. May free the job. */
static void connect_next(struct connect *c)
{
	while (c->next < ADDRESSES) {
		int rc = try_address(c, c->next++);
		c->connected = rc == 0;
		if (rc == 0 || rc == -EINPROGRESS)
			return;
		if (c->error == 0)
			c->error = -rc;
		fd_close(&c->fd);
	}
	init_fail_errno(c->job.init, c->job.id, c->error, "port");
	job_free(&c->job);
}

/* The attempt under way has ended. May free the job. */
static void on_attempt(struct connect *c)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
		error = errno;
	if (error == 0 && is_own_peer(c->fd))
		error = ECONNREFUSED;
	if (error == 0) {
		c->connected = true;
		return;
	}
	if (c->error == 0)
		c->error = error;
	fd_close(&c->fd);
	connect_next(c);
}

static size_t connect_wait(struct job *job, struct pollfd *fds)
{
	const struct connect *c = connect_of(job);

	if (c->connected)
		return 0;
	fds[0] = (struct pollfd){.fd = c->fd, .events = POLLOUT};
	return 1;
}

static bool connect_is_runnable(const struct job *job)
{
	const struct connect *c = CONTAINER_OF((struct job *)(uintptr_t)job, struct connect, job);

	return c->connected && job->init->pass_fd < 0;
}

static void connect_work(struct job *job, const struct pollfd *fds, size_t n)
{
	struct connect *c = connect_of(job);

	if (n && fds[0].revents) {
		on_attempt(c);
	} else if (connect_is_runnable(job)) {
		init_pass(job->init, job->id, c->fd);
		c->fd = -1;
		job_free(job);
	}
}

static void connect_cancel(struct job *job)
{
	init_fail_errno(job->init, job->id, ECANCELED, "port");
	job_free(job);
}

static void connect_free(struct job *job)
{
	struct connect *c = connect_of(job);

	fd_close(&c->fd);
	free(c);
}

static const struct job_ops connect_ops = {
	.wait = connect_wait,
	.is_runnable = connect_is_runnable,
	.work = connect_work,
	.cancel = connect_cancel,
	.free = connect_free,
};

void connect_start(struct init *init, uint32_t id, uint16_t port)
{
	struct job *job = job_new(init, id, &connect_ops, sizeof(struct connect));
	struct connect *c;

	if (!job)
		return;
	c = connect_of(job);
	c->fd = -1;
	c->port = port;
	connect_next(c);
}
