/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening socket is watched while it may accept. When accept finds no descriptor or no memory it is not watched for
 * a while instead of being tried again at once, since a level-triggered loop would otherwise spin.
 */
#include "gateway/listener.h"

#include <errno.h>
#include <event2/event.h>
#include <libgen.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/loopback.h"
#include "common/unix_socket.h"
#include "gateway/activation.h"
#include "gateway/config.h"

/* A full backlog turns connect() away at once, so it is as long as the kernel allows by default. */
enum {
	BACKLOG = 4096,
	ACCEPTS_PER_TURN = 64,
	PAUSE_MS = 200,
	DOORS = LOOPBACK_DOORS
};

/* One listening socket. */
struct door {
	struct listener *listener; /* borrowed */
	int fd;                    /* owned; -1: none */
	struct event *event;       /* owned; readiness to accept */
};

struct listener {
	char *path;  /* owned; NULL: TCP */
	char *name;  /* owned */
	char *where; /* owned; path or address, for people */
	mode_t mode;
	gid_t gid;
	char *offered_name; /* owned; what it is to be called; NULL: as it is */
	mode_t offered_mode;
	gid_t offered_gid;
	uint16_t port; /* TCP; 0: Unix */
	int diag;      /* owned; TCP: to ask whose a peer is; -1 otherwise */
	bool bound;    /* here, by path: a passed socket is not ours to unlink */
	dev_t dev;     /* of the socket's directory entry, so that only our own is unlinked */
	ino_t ino;
	struct door doors[DOORS]; /* TCP: one per loopback address */
	struct event *pause;      /* owned; a timer, pending while paused */
	void (*on_accept)(void *arg, struct listener *l, int fd);
	void *arg;
};

static void pause_accepting(struct listener *l, int error)
{
	struct timeval tv = {.tv_usec = PAUSE_MS * 1000};

	log_warn("listener %s: accept: %s; paused for %d ms", l->name, strerror(error), PAUSE_MS);
	/* Without memory for the timer there is no pause: it goes on trying. */
	if (event_add(l->pause, &tv) < 0)
		return;
	for (size_t i = 0; i < DOORS; i++)
		if (l->doors[i].event)
			event_del(l->doors[i].event);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
	struct listener *l = arg;

	(void)fd;
	(void)what;
	for (size_t i = 0; i < DOORS; i++)
		if (l->doors[i].event)
			event_add(l->doors[i].event, NULL);
}

/* Small answers go out at once; that it may fail for a socket that was reset is found by whoever uses it. */
static void prepare(const struct listener *l, int fd)
{
	int one = 1;

	if (l->port && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
		log_debug("listener %s: TCP_NODELAY: %s", l->name, strerror(errno));
}

static void on_acceptable(evutil_socket_t listen_fd, short what, void *arg)
{
	struct listener *l = ((struct door *)arg)->listener;

	(void)what;
	for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (fd >= 0) {
			prepare(l, fd);
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

static int open_unix(struct listener *l, char *why, size_t why_size)
{
	struct unix_socket_spec spec = {
		.path = l->path, .mode = l->mode, .uid = (uid_t)-1, .gid = l->gid, .backlog = BACKLOG};
	struct stat st;

	l->doors[0].fd = unix_socket_listen(&spec, why, why_size);
	if (l->doors[0].fd < 0)
		return l->doors[0].fd;
	if (lstat(l->path, &st) == 0) {
		l->bound = true;
		l->dev = st.st_dev;
		l->ino = st.st_ino;
	}
	return 0;
}

/* Who may connect to a passed socket was decided by whoever made it. */
static void compare_mode(const struct listener *l, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return;
	if ((st.st_mode & 0777) != l->mode || (l->gid != (gid_t)-1 && st.st_gid != l->gid))
		log_warn(
			"listener %s: %s was passed with mode %04o and group %u, not as `listen` says: SocketMode= and "
			"SocketGroup= of the socket unit decide",
			l->name, path, (unsigned)(st.st_mode & 0777), (unsigned)st.st_gid);
}

/* Takes what was passed for it: 0, -ENOENT without, or another negative errno. */
static int take_unix(struct listener *l, struct activation *passed, char *why, size_t why_size)
{
	const char *path;
	int fd = activation_unix(passed, l->name, l->path, &path, why, why_size);

	if (fd < 0)
		return fd;
	l->doors[0].fd = fd;
	compare_mode(l, path);
	if (strcmp(path, l->path) != 0)
		log_info("listener %s: the socket that was passed by this name is %s, not %s", l->name, path, l->path);
	return 0;
}

static int open_tcp(struct listener *l, struct activation *passed, char *why, size_t why_size)
{
	struct loopback opened;
	int rc = passed ? activation_tcp(passed, l->name, l->port, &opened, why, why_size) : -ENOENT;

	if (rc == -ENOENT)
		rc = loopback_listen(l->port, BACKLOG, &opened, why, why_size);
	if (rc)
		return rc;
	for (size_t i = 0; i < LOOPBACK_DOORS; i++)
		l->doors[i].fd = opened.fds[i];
	l->diag = opened.diag;
	return 0;
}

static int watch(struct listener *l, struct loop *loop)
{
	for (size_t i = 0; i < DOORS; i++) {
		struct door *d = &l->doors[i];
		if (d->fd < 0)
			continue;
		d->event = event_new(loop_base(loop), d->fd, EV_READ | EV_PERSIST, on_acceptable, d);
		if (!d->event || event_add(d->event, NULL) < 0)
			return -ENOMEM;
	}
	l->pause = evtimer_new(loop_base(loop), on_pause_over, l);
	return l->pause ? 0 : -ENOMEM;
}

static struct listener *listener_new(const struct config_listener *config)
{
	struct listener *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	for (size_t i = 0; i < DOORS; i++)
		l->doors[i] = (struct door){.listener = l, .fd = -1};
	l->diag = -1;
	l->mode = config->mode;
	l->gid = config->gid;
	l->port = config->port;
	l->name = strdup(config->name);
	if (config->path)
		l->path = strdup(config->path);
	if (config->path)
		l->where = strdup(config->path);
	else if (asprintf(&l->where, "127.0.0.1:%u", (unsigned)config->port) < 0)
		l->where = NULL;
	if (l->name && l->where && (l->path || l->port))
		return l;
	listener_stop(l);
	return NULL;
}

/* Passed, else bound here. */
static int open_door(struct listener *l, const struct config_listener *config, struct activation *passed, char *why,
		     size_t why_size)
{
	int rc;

	if (l->port)
		return open_tcp(l, passed, why, why_size);
	rc = passed ? take_unix(l, passed, why, why_size) : -ENOENT;
	if (rc != -ENOENT)
		return rc;
	rc = make_parent(config, why, why_size);
	return rc ? rc : open_unix(l, why, why_size);
}

int listener_start(struct loop *loop, const struct config_listener *config, struct activation *passed,
		   void (*on_accept)(void *arg, struct listener *l, int fd), void *arg, struct listener **out,
		   char *why, size_t why_size)
{
	struct listener *l = listener_new(config);
	int rc;

	snprintf(why, why_size, "out of memory");
	if (!l)
		return -ENOMEM;
	l->on_accept = on_accept;
	l->arg = arg;
	rc = open_door(l, config, passed, why, why_size);
	if (rc == 0)
		rc = watch(l, loop);
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

const char *listener_where(const struct listener *l)
{
	return l->where;
}

int listener_diag(const struct listener *l)
{
	return l->diag;
}

bool listener_accepted(const struct listener *l, int fd)
{
	struct sockaddr_storage own, theirs;
	socklen_t own_size = sizeof(own), size = sizeof(theirs);

	memset(&own, 0, sizeof(own));
	if (getsockname(fd, (struct sockaddr *)&own, &own_size) < 0)
		return false;
	for (size_t i = 0; i < DOORS; i++) {
		size = sizeof(theirs);
		memset(&theirs, 0, sizeof(theirs));
		if (l->doors[i].fd >= 0 && getsockname(l->doors[i].fd, (struct sockaddr *)&theirs, &size) == 0 &&
		    size == own_size && memcmp(&own, &theirs, size) == 0)
			return true;
	}
	return false;
}

bool listener_same(const struct listener *l, const struct config_listener *config)
{
	return l->port == config->port && (l->port || strcmp(l->path, config->path) == 0);
}

/* Whether this process may give a file of its own to the group. */
static bool may_give_to(gid_t gid)
{
	gid_t groups[NGROUPS_MAX];
	int n;

	if (geteuid() == 0 || gid == (gid_t)-1 || gid == getegid())
		return true;
	n = getgroups(NGROUPS_MAX, groups);
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

int listener_offer(struct listener *l, const struct config_listener *config, char *why, size_t why_size)
{
	listener_withdraw(l);
	if (l->bound && l->gid != config->gid && !may_give_to(config->gid)) {
		snprintf(why, why_size, "group \"%s\" is none of this daemon's, so the socket cannot be given to it",
			 config->group ? config->group : "");
		return -EPERM;
	}
	l->offered_mode = config->mode;
	l->offered_gid = config->gid;
	if (strcmp(l->name, config->name) == 0)
		return 0;
	l->offered_name = strdup(config->name);
	if (l->offered_name)
		return 0;
	snprintf(why, why_size, "out of memory");
	return -ENOMEM;
}

const char *listener_offered_name(const struct listener *l)
{
	return l->offered_name;
}

static bool is_ours(const struct listener *l)
{
	struct stat st;

	return l->bound && lstat(l->path, &st) == 0 && st.st_dev == l->dev && st.st_ino == l->ino;
}

/* Nobody may use it in between who may use it neither before nor after. What the kernel refuses leaves it as it was. */
static int change_mode(const struct listener *l)
{
	const gid_t gid = l->offered_gid == (gid_t)-1 ? getegid() : l->offered_gid;
	int rc;

	if (l->gid == l->offered_gid)
		return chmod(l->path, l->offered_mode) < 0 ? -errno : 0;
	if (chmod(l->path, l->mode & 0700) < 0)
		return -errno;
	if (lchown(l->path, (uid_t)-1, gid) == 0)
		return chmod(l->path, l->offered_mode) < 0 ? -errno : 0;
	rc = -errno;
	if (chmod(l->path, l->mode) < 0)
		log_error("listener %s: %s: its mode cannot be given back: %s", l->name, l->path, strerror(errno));
	return rc;
}

static void adopt_mode(struct listener *l)
{
	int rc = is_ours(l) ? change_mode(l) : 0;

	if (rc) {
		log_error("listener %s: %s: mode and group stay as they were: %s", l->name, l->path, strerror(-rc));
		return;
	}
	l->mode = l->offered_mode;
	l->gid = l->offered_gid;
	if (!l->bound)
		compare_mode(l, l->path);
}

void listener_withdraw(struct listener *l)
{
	free(l->offered_name);
	l->offered_name = NULL;
	l->offered_mode = l->mode;
	l->offered_gid = l->gid;
}

void listener_adopt(struct listener *l)
{
	if (l->offered_name) {
		log_info("listener %s is called %s now", l->name, l->offered_name);
		free(l->name);
		l->name = l->offered_name;
		l->offered_name = NULL;
	}
	if (l->path && (l->mode != l->offered_mode || l->gid != l->offered_gid))
		adopt_mode(l);
}

void listener_stop(struct listener *l)
{
	if (!l)
		return;
	for (size_t i = 0; i < DOORS; i++)
		if (l->doors[i].event)
			event_free(l->doors[i].event);
	if (l->pause)
		event_free(l->pause);
	/* Somebody may have put another socket there meanwhile. */
	if (is_ours(l))
		unlink(l->path);
	for (size_t i = 0; i < DOORS; i++)
		fd_close(&l->doors[i].fd);
	fd_close(&l->diag);
	free(l->path);
	free(l->name);
	free(l->offered_name);
	free(l->where);
	free(l);
}
