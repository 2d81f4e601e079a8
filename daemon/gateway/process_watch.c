/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pid alone may mean another process by the time it is looked at. So a process is held by a pidfd first and looked at then: if it
 * still lives after that, what was read was its own. What is kept of it beyond the life of this daemon is its start in clock ticks
 * since the boot, which no two processes of one pid have in common, and in which boot and pid namespace that was.
 *
 * An ancestor is found by going up from the peer. A parent that ends meanwhile can make the way miss the one that was meant, or
 * lead to a process of the same user that never was an ancestor: neither gives anybody power over what is not his.
 */
#include "gateway/process_watch.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/loop.h"
#include "common/process.h"
#include "common/str.h"
#include "gateway/identity.h"
#include "gateway/peer.h"

enum {
	PROC_FILE_MAX_BYTES = 65536,
	ANCESTORS_MAX = 128,
	START_FIELD = 22, /* of /proc/PID/stat, from 1 */
};

struct process {
	struct list link;  /* on process_watch.processes */
	struct list waits; /* struct process_wait */
	unsigned refs;     /* of waits */
	pid_t pid;
	uint64_t start; /* in clock ticks since the boot */
	int pidfd;
	struct event *event; /* owned; the pidfd is readable when it has ended */
};

/* --- /proc ----------------------------------------------------------------------------------------------------------- */

static int read_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fd_read_all(fd, PROC_FILE_MAX_BYTES, out);
	close(fd);
	return rc;
}

static int read_proc(pid_t pid, const char *name, struct buf *out)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	return read_file(path, out);
}

/* When the process of that pid began. */
static int read_start(pid_t pid, uint64_t *out)
{
	struct buf text = BUF_EMPTY;
	int rc = read_proc(pid, "stat", &text);
	const char *end = rc == 0 && text.len ? memrchr(buf_data(&text), ')', text.len) : NULL;
	struct str rest = end ? str_of(end + 1, (size_t)(buf_data(&text) + text.len - end - 1)) : str_of(NULL, 0);
	struct str field = str_cut(&rest, ' ');

	/* That was the empty one behind the name, which is the second and may hold anything. */
	for (unsigned i = 2; i < START_FIELD; i++)
		field = str_cut(&rest, ' ');
	if (rc == 0)
		rc = str_parse_u64(field, out);
	buf_fini(&text);
	return rc;
}

struct status {
	uint64_t parent;
	uint64_t uid;
	size_t depth; /* pid namespaces from this daemon's to its own */
	uint64_t pid; /* in its own */
};

/* The numbers behind "NSpid:", one for each namespace, the innermost last. */
static void read_ns_pids(struct str text, pid_t pid, struct status *out)
{
	out->depth = 1;
	out->pid = (uint64_t)pid;
	while (text.n) {
		struct str value = str_cut(&text, '\n');
		struct str key = str_cut(&value, ':');
		if (!str_eq(key, STR("NSpid")))
			continue;
		value = str_trim(value);
		for (out->depth = 0; value.n; out->depth++)
			if (str_parse_u64(str_cut(&value, '\t'), &out->pid))
				out->pid = 0;
		return;
	}
}

static int read_status(pid_t pid, struct status *out)
{
	struct buf text = BUF_EMPTY;
	int rc = read_proc(pid, "status", &text);

	if (rc == 0)
		rc = identity_status_field(buf_str(&text), STR("PPid"), 10, &out->parent);
	if (rc == 0)
		rc = identity_status_field(buf_str(&text), STR("Uid"), 10, &out->uid);
	if (rc == 0)
		read_ns_pids(buf_str(&text), pid, out);
	buf_fini(&text);
	return rc;
}

static bool has_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) != 0;
}

static void read_place(struct process_watch *p)
{
	struct buf boot = BUF_EMPTY;
	struct stat ns;

	if (read_file("/proc/sys/kernel/random/boot_id", &boot) == 0 && boot.len > 36 &&
	    stat("/proc/self/ns/pid", &ns) == 0)
		snprintf(p->place, sizeof(p->place), "%.36s:%llu", buf_data(&boot), (unsigned long long)ns.st_ino);
	buf_fini(&boot);
}

/* --- watching -------------------------------------------------------------------------------------------------------- */

void process_watch_init(struct process_watch *p, struct loop *loop)
{
	memset(p, 0, sizeof(*p));
	p->loop = loop;
	list_init(&p->processes);
	read_place(p);
}

void process_watch_fini(struct process_watch *p)
{
	CHECK(list_empty(&p->processes));
}

static void process_unref(struct process *p)
{
	if (--p->refs)
		return;
	list_remove(&p->link);
	if (p->event)
		event_free(p->event);
	fd_close(&p->pidfd);
	free(p);
}

void process_wait_init(struct process_wait *w, void (*on_end)(struct process_wait *w))
{
	list_init(&w->link);
	w->process = NULL;
	w->on_end = on_end;
}

void process_wait_cancel(struct process_wait *w)
{
	list_remove(&w->link);
	if (w->process)
		process_unref(w->process);
	w->process = NULL;
}

static void on_ended(evutil_socket_t fd, short what, void *arg)
{
	struct process *p = arg;

	(void)fd;
	(void)what;
	event_del(p->event);
	p->refs++;
	while (!list_empty(&p->waits)) {
		struct process_wait *w = LIST_FIRST(&p->waits, struct process_wait, link);
		list_remove(&w->link);
		w->on_end(w);
	}
	process_unref(p);
}

static struct process *find(struct process_watch *pw, pid_t pid, uint64_t start)
{
	LIST_FOREACH (n, &pw->processes) {
		struct process *p = CONTAINER_OF(n, struct process, link);
		if (p->pid == pid && p->start == start)
			return p;
	}
	return NULL;
}

/* Takes the pidfd in any case. */
static int watch(struct process_watch *pw, pid_t pid, uint64_t start, int pidfd, struct process_wait *w)
{
	struct process *p = find(pw, pid, start);

	if (p) {
		close(pidfd);
	} else {
		p = calloc(1, sizeof(*p));
		if (!p) {
			close(pidfd);
			return -ENOMEM;
		}
		*p = (struct process){.pid = pid, .start = start, .pidfd = pidfd};
		list_init(&p->waits);
		list_add_tail(&pw->processes, &p->link);
		p->event = event_new(loop_base(pw->loop), pidfd, EV_READ | EV_PERSIST, on_ended, p);
	}
	p->refs++;
	if (!p->event || event_add(p->event, NULL) < 0) {
		process_unref(p);
		return -ENOMEM;
	}
	process_wait_cancel(w);
	w->process = p;
	list_add_tail(&p->waits, &w->link);
	return 0;
}

/* Watches the process that the pidfd is; -ESRCH when it has ended, so that the pid may be another's by now. */
static int watch_held(struct process_watch *pw, pid_t pid, int pidfd, struct process_wait *w)
{
	uint64_t start;
	int rc = read_start(pid, &start);

	if (has_ended(pidfd))
		rc = -ESRCH;
	if (rc) {
		close(pidfd);
		return rc;
	}
	return watch(pw, pid, start, pidfd, w);
}

/* --- the peer and its ancestors -------------------------------------------------------------------------------------- */

/* Goes up from `from` to the one that it calls `pid`. 0 and *out, or -ESRCH. */
static int find_ancestor(pid_t from, pid_t pid, pid_t *out)
{
	struct status s;
	size_t depth = 0;

	for (unsigned i = 0; i < ANCESTORS_MAX && from > 0; i++) {
		if (read_status(from, &s))
			return -ESRCH;
		if (i == 0)
			depth = s.depth;
		/* Outside of its own namespace it cannot know anybody's number. */
		if (s.depth != depth)
			return -ESRCH;
		if (s.pid == (uint64_t)pid) {
			*out = from;
			return 0;
		}
		from = (pid_t)s.parent;
	}
	return -ESRCH;
}

static int wait_ancestor(struct process_watch *p, int peer_fd, const struct identity *peer, pid_t pid,
			 struct process_wait *w, const char **why)
{
	struct status s;
	pid_t found;
	int pidfd;
	int rc;

	*why = "Stacygate-Lease: that process is no ancestor of the one that asks, or has ended";
	rc = find_ancestor(peer->pid, pid, &found);
	/* What was read began at the peer if it lives still. */
	if (rc || has_ended(peer_fd))
		return -ESRCH;
	pidfd = process_pidfd(found);
	if (pidfd < 0)
		return pidfd == -ESRCH ? -ESRCH : pidfd;
	rc = read_status(found, &s) ? -ESRCH : 0;
	if (rc == 0 && s.pid != (uint64_t)pid)
		rc = -ESRCH;
	if (rc == 0 && s.uid != peer->uid) {
		*why = "Stacygate-Lease: that process is another user's";
		rc = -EPERM;
	}
	if (rc) {
		close(pidfd);
		return rc;
	}
	return watch_held(p, found, pidfd, w);
}

int process_wait_peer(struct process_watch *p, int fd, const struct identity *peer, pid_t pid, struct process_wait *w,
		      const char **why)
{
	int pidfd = peer_open_process(fd, peer);
	int rc;

	if (pidfd == -EACCES)
		*why = "Stacygate-Lease: which process asks cannot be told for certain on this connection";
	else if (pidfd == -ESRCH)
		*why = "Stacygate-Lease: the process that connected has ended";
	else if (pidfd < 0)
		*why = "the process cannot be watched now";
	if (pidfd < 0)
		return pidfd;
	if (pid == 0) {
		*why = "Stacygate-Lease: the process that connected has ended";
		return watch_held(p, peer->pid, pidfd, w);
	}
	rc = wait_ancestor(p, pidfd, peer, pid, w, why);
	close(pidfd);
	return rc;
}

int process_wait_again(struct process_watch *p, pid_t pid, uint64_t start, const char *place, struct process_wait *w)
{
	uint64_t found;
	int pidfd;
	int rc;

	if (!p->place[0] || strcmp(p->place, place) != 0)
		return -EXDEV;
	pidfd = process_pidfd(pid);
	if (pidfd < 0)
		return pidfd;
	rc = read_start(pid, &found);
	if (has_ended(pidfd) || (rc == 0 && found != start))
		rc = -ESRCH;
	if (rc) {
		close(pidfd);
		return rc;
	}
	return watch(p, pid, start, pidfd, w);
}

pid_t process_wait_pid(const struct process_wait *w)
{
	return w->process ? w->process->pid : 0;
}

uint64_t process_wait_start(const struct process_wait *w)
{
	return w->process ? w->process->start : 0;
}
