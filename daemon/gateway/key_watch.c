/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The directories of the files are watched, not the files: a key is usually replaced by a rename. Any event of a directory
 * has its files looked at, and what differs in inode, size, times, owner or mode has changed. Since a directory may itself be
 * replaced (systemd's credentials), lie on a file system without events, or be reached through a link that is turned, a timer
 * looks at all of them and watches anew: every SLOW_MS, sooner while a directory is not there.
 */
#include "gateway/key_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/loop.h"

enum {
	SLOW_MS = 5000,
	SOON_MS = 250
};

struct key_watch {
	int fd;                /* owned; inotify, -1 without */
	struct event *on_fd;   /* owned; NULL without */
	struct event *timer;   /* owned */
	struct list files;     /* struct key_watch_file */
	bool looking;          /* look() is at work; files may go meanwhile */
	struct list *next_one; /* while looking: where it goes on */
};

static void set_timer(struct key_watch *w)
{
	unsigned ms = SLOW_MS;

	if (list_empty(&w->files))
		return;
	LIST_FOREACH (n, &w->files)
		if (w->fd >= 0 && CONTAINER_OF(n, struct key_watch_file, link)->wd < 0)
			ms = SOON_MS;
	struct timeval tv = clock_span(ms);
	event_add(w->timer, &tv);
}

static bool is_watched(const struct key_watch *w, int wd)
{
	LIST_FOREACH (n, &w->files)
		if (CONTAINER_OF(n, struct key_watch_file, link)->wd == wd)
			return true;
	return false;
}

static void unwatch(struct key_watch *w, struct key_watch_file *f)
{
	int wd = f->wd;

	f->wd = -1;
	if (wd >= 0 && !is_watched(w, wd))
		(void)inotify_rm_watch(w->fd, wd); /* it may have gone by itself */
}

/* The same directory gives the same number, so this is also how a replaced one is found out. */
static void watch(struct key_watch *w, struct key_watch_file *f)
{
	char dir[PATH_MAX];
	const char *slash = strrchr(f->path, '/');
	size_t n = slash == f->path ? 1 : (size_t)(slash - f->path);
	int wd;

	if (w->fd < 0 || n >= sizeof(dir))
		return;
	memcpy(dir, f->path, n);
	dir[n] = '\0';
	wd = inotify_add_watch(w->fd, dir,
			       IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_ATTRIB | IN_DELETE | IN_DELETE_SELF |
				       IN_MOVE_SELF | IN_ONLYDIR);
	if (wd == f->wd)
		return;
	unwatch(w, f);
	f->wd = wd;
}

static struct stat state_of(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		memset(&st, 0, sizeof(st));
	return st;
}

static bool differs(const struct stat *a, const struct stat *b)
{
	return a->st_dev != b->st_dev || a->st_ino != b->st_ino || a->st_size != b->st_size ||
	       a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
	       a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec ||
	       a->st_ctim.tv_sec != b->st_ctim.tv_sec || a->st_ctim.tv_nsec != b->st_ctim.tv_nsec;
}

/* Looks at every file; what changed is told. */
static void look(struct key_watch *w)
{
	w->looking = true;
	for (struct list *at = w->files.next; at != &w->files; at = w->next_one) {
		struct key_watch_file *f = CONTAINER_OF(at, struct key_watch_file, link);
		struct stat now;
		w->next_one = at->next;
		watch(w, f);
		now = state_of(f->path);
		if (differs(&now, &f->seen))
			f->on_change(f);
	}
	w->looking = false;
	set_timer(w);
}

static void on_events(evutil_socket_t fd, short what, void *arg)
{
	char events[4096];

	(void)what;
	/* Which one it was does not matter: there are few files. */
	while (read(fd, events, sizeof(events)) > 0)
		continue;
	look(arg);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	look(arg);
}

int key_watch_new(struct loop *loop, struct key_watch **out)
{
	struct key_watch *w = calloc(1, sizeof(*w));

	if (!w)
		return -ENOMEM;
	list_init(&w->files);
	w->fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	w->timer = evtimer_new(loop_base(loop), on_timer, w);
	if (w->fd >= 0)
		w->on_fd = event_new(loop_base(loop), w->fd, EV_READ | EV_PERSIST, on_events, w);
	if (!w->timer || (w->fd >= 0 && (!w->on_fd || event_add(w->on_fd, NULL) < 0))) {
		key_watch_free(w);
		return -ENOMEM;
	}
	*out = w;
	return 0;
}

void key_watch_free(struct key_watch *w)
{
	if (!w)
		return;
	CHECK(list_empty(&w->files));
	if (w->on_fd)
		event_free(w->on_fd);
	if (w->timer)
		event_free(w->timer);
	fd_close(&w->fd);
	free(w);
}

int key_watch_add(struct key_watch *w, struct key_watch_file *f, const char *path)
{
	f->path = strdup(path);
	if (!f->path)
		return -ENOMEM;
	f->wd = -1;
	list_add_tail(&w->files, &f->link);
	watch(w, f);
	set_timer(w);
	return 0;
}

void key_watch_remove(struct key_watch *w, struct key_watch_file *f)
{
	if (!f->path)
		return;
	if (w->looking && w->next_one == &f->link)
		w->next_one = f->link.next;
	list_remove(&f->link);
	unwatch(w, f);
	free(f->path);
	f->path = NULL;
}

void key_watch_note(struct key_watch_file *f)
{
	f->seen = state_of(f->path);
}
