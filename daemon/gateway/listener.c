/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening socket is watched while it may accept. When accept finds no descriptor or no memory it is not watched for
 * a while instead of being tried again at once, since a level-triggered loop would otherwise spin.
 */
#include "gateway/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/unix_socket.h"
#include "gateway/config.h"

/* A full backlog turns connect() away at once, so it is as long as the kernel allows by default. */
enum {
	BACKLOG = 4096,
	ACCEPTS_PER_TURN = 64,
	PAUSE_MS = 200
};

struct listener {
	char *path; /* owned */
	char *name; /* owned */
	mode_t mode;
	gid_t gid;
	int fd;
	dev_t dev; /* of the socket's directory entry, so that only our own is unlinked */
	ino_t ino;
	struct event *event; /* owned; readiness to accept */
	struct event *pause; /* owned; a timer, pending while paused */
	void (*on_accept)(void *arg, struct listener *l, int fd);
	void *arg;
};

static void pause_accepting(struct listener *l, int error)
{
	struct timeval tv = {.tv_usec = PAUSE_MS * 1000};

	log_warn("listener %s: accept: %s; paused for %d ms", l->name, strerror(error), PAUSE_MS);
	/* Without memory for the timer there is no pause: it goes on trying. */
	if (event_add(l->pause, &tv) == 0)
		event_del(l->event);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	event_add(l->event, NULL);
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			l->on_accept(l->arg, l, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO)
			continue;
		if (errno != EAGAIN && errno != EWOULDBLOCK)
			pause_accepting(l, errno);
		return;
	}
}

/* Makes the directory of the socket if it is missing, open to those who may reach the socket. */
static int make_parent(const struct config_listener *config, char *why, size_t why_size)
{
	char copy[UNIX_SOCKET_PATH_MAX + 1];
	mode_t old = umask(0);
	int rc;

	snprintf(copy, sizeof(copy), "%s", config->path);
	const char *dir = dirname(copy);
	rc = mkdir(dir, config->mode & 0077 ? 0755 : 0700) < 0 && errno != EEXIST ? -errno : 0;
	umask(old);
	if (rc)
		snprintf(why, why_size, "%s: the directory cannot be made: %s", dir, strerror(-rc));
	return rc;
}

static int open_socket(struct listener *l, char *why, size_t why_size)
{
	struct unix_socket_spec spec = {
		.path = l->path, .mode = l->mode, .uid = (uid_t)-1, .gid = l->gid, .backlog = BACKLOG};
	struct stat st;

	l->fd = unix_socket_listen(&spec, why, why_size);
	if (l->fd < 0)
		return l->fd;
	if (lstat(l->path, &st) == 0) {
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	return 0;
}

int listener_start(struct loop *loop, const struct config_listener *config,
		   void (*on_accept)(void *arg, struct listener *l, int fd), void *arg, struct listener **out,
		   char *why, size_t why_size)
{
	struct listener *l = calloc(1, sizeof(*l));
	int rc = -ENOMEM;

	snprintf(why, why_size, "out of memory");
	if (!l)
		return rc;
	l->fd = -1;
	l->mode = config->mode;
	l->gid = config->gid;
	l->on_accept = on_accept;
	l->arg = arg;
	l->path = strdup(config->path);
	l->name = strdup(config->name);
	if (l->path && l->name)
		rc = make_parent(config, why, why_size);
	if (rc == 0)
		rc = open_socket(l, why, why_size);
	if (rc == 0) {
		l->event = event_new(loop_base(loop), l->fd, EV_READ | EV_PERSIST, on_acceptable, l);
		l->pause = evtimer_new(loop_base(loop), on_pause_over, l);
		if (!l->event || !l->pause || event_add(l->event, NULL) < 0)
			rc = -ENOMEM;
	}
	if (rc) {
		listener_stop(l);
		return rc;
	}
	*out = l;
	return 0;
}

const char *listener_name(const struct listener *l)
{
	return l->name;
}

const char *listener_path(const struct listener *l)
{
	return l->path;
}

bool listener_same(const struct listener *l, const struct config_listener *config)
{
	return strcmp(l->path, config->path) == 0 && strcmp(l->name, config->name) == 0 && l->mode == config->mode &&
	       l->gid == config->gid;
}

void listener_stop(struct listener *l)
{
	struct stat st;

	if (!l)
		return;
	if (l->event)
		event_free(l->event);
	if (l->pause)
		event_free(l->pause);
	/* Somebody may have put another socket there meanwhile. */
	if (l->fd >= 0 && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	fd_close(&l->fd);
	free(l->path);
	free(l->name);
	free(l);
}
