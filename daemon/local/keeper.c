/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server tells the keeper of each sandbox that runs, and of its end. While a server is connected the keeper only holds.
 * When the server is gone it waits, so long as it was told, for the next one, to which it hands what it holds and for which
 * it holds on. One that comes and fails before it serves buys no time. When none comes it kills the inits, which a hostile one does not outstay, and ends. It was the last holder of
 * every leash and every door, so its own death, however it comes, is the end of the sandboxes as well (see the init's main).
 *
 *     new --listener--> waiting <--end of file, connection--> serving: another server that comes must wait
 *                          |
 *                          +-- time is up, or a server went and nothing is held --> ends
 *
 * It has no memory of the server's and reads nothing that comes from a sandbox. A sandbox that ends while nobody serves is
 * dropped when its init's pidfd says so.
 */
#include "local/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/process.h"
#include "local/keep.h"

enum {
	FIRST_WAIT_MS = 60000, /* for the server that started it */
	EVENTS = 32
};

struct keeper {
	int epoll;       /* owned; its events point at a struct kept, or at one of the two descriptors here */
	int listener;    /* owned */
	int server;      /* owned; -1: waiting */
	bool served;     /* a server was there */
	bool welcome;    /* the one that is there serves, and will be waited for anew */
	struct list all; /* struct kept */
	uint32_t wait_ms;
	uint64_t until_ms; /* waiting: when it is over */
};

static int watch(const struct keeper *k, int fd, void *what)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = what};

	return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

/* Others hold the same open files, so that a close alone would not end the watching. */
static void unwatch(const struct keeper *k, int fd)
{
	(void)epoll_ctl(k->epoll, EPOLL_CTL_DEL, fd, NULL);
}

static void drop(const struct keeper *k, struct kept *kept)
{
	if (!kept)
		return;
	if (kept->fds[KEPT_INIT] >= 0)
		unwatch(k, kept->fds[KEPT_INIT]);
	kept_free(kept);
}

static struct kept *find(const struct keeper *k, const char *id)
{
	LIST_FOREACH (n, &k->all) {
		struct kept *kept = CONTAINER_OF(n, struct kept, link);
		if (strcmp(kept->id, id) == 0)
			return kept;
	}
	return NULL;
}

/* Takes over the descriptors. */
static void hold(struct keeper *k, const struct keep_message *m, const int *fds)
{
	struct kept *kept = calloc(1, sizeof(*kept));

	drop(k, find(k, m->id));
	if (!kept) {
		for (size_t i = 0; i < KEPT_FDS; i++)
			close(fds[i]);
		log_error("keeper: no memory: %s will not survive a restart", m->id);
		return;
	}
	list_add_tail(&k->all, &kept->link);
	memcpy(kept->id, m->id, sizeof(kept->id));
	memcpy(kept->fds, fds, sizeof(kept->fds));
	kept->uid = m->uid;
	kept->wire = m->wire;
	if (watch(k, kept->fds[KEPT_INIT], kept)) {
		log_error("keeper: %s will not survive a restart: %s", m->id, strerror(errno));
		drop(k, kept);
	}
}

/* Takes over the descriptors. */
static void obey(struct keeper *k, struct keep_message *m, int *fds, size_t nfds)
{
	struct kept *kept;

	m->id[KEEP_ID_MAX] = 0;
	kept = find(k, m->id);
	if (m->type == KEEP_HOLD && nfds == KEPT_FDS) {
		hold(k, m, fds);
		return;
	}
	if (m->type == KEEP_HOLD)
		log_error("keeper: too many descriptors: %s will not survive a restart", m->id);
	else if (m->type == KEEP_DROP)
		drop(k, kept);
	else if (m->type == KEEP_WAIT) {
		k->wait_ms = m->wait_ms;
		k->welcome = true;
	} else if (m->type == KEEP_NOTE && kept && nfds == 1) {
		fd_close(&kept->fds[KEPT_NOTE]);
		kept->fds[KEPT_NOTE] = fds[0];
		fds[0] = -1;
	} else if (m->type == KEEP_NOTE && kept) {
		log_error("keeper: too many descriptors: what changed of %s will be forgotten by a restart", m->id);
	}
	for (size_t i = 0; i < nfds; i++)
		fd_close(&fds[i]);
}

static void serve(struct keeper *k, int server)
{
	k->server = server;
	k->served = true;
	unwatch(k, k->listener);
	if (watch(k, server, &k->server))
		_exit(1);
}

static void lose_server(struct keeper *k)
{
	unwatch(k, k->server);
	fd_close(&k->server);
	if (k->welcome)
		k->until_ms = clock_ms() + k->wait_ms;
	k->welcome = false;
	if (watch(k, k->listener, &k->listener))
		_exit(1);
}

static void on_server(struct keeper *k)
{
	struct keep_message m;
	int fds[FD_PASS_MAX];
	size_t nfds = FD_PASS_MAX;
	ssize_t n = fd_recv(k->server, &m, sizeof(m), fds, &nfds);

	if (n == (ssize_t)sizeof(m)) {
		obey(k, &m, fds, nfds);
		return;
	}
	for (size_t i = 0; i < nfds; i++)
		close(fds[i]);
	if (n <= 0)
		lose_server(k);
}

static ssize_t hand_over(const struct keeper *k, const struct kept *kept)
{
	struct keep_message m = {.type = KEEP_HOLD, .uid = kept->uid, .wire = kept->wire};

	memcpy(m.id, kept->id, sizeof(m.id));
	return fd_send(k->server, &m, sizeof(m), kept->fds, KEPT_FDS);
}

static void on_listener(struct keeper *k)
{
	const struct keep_message end = {.type = KEEP_END};
	int server = accept4(k->listener, NULL, NULL, SOCK_CLOEXEC);
	ssize_t rc = 0;

	if (server < 0)
		return;
	serve(k, server);
	LIST_FOREACH (n, &k->all)
		if (rc >= 0)
			rc = hand_over(k, CONTAINER_OF(n, struct kept, link));
	if (rc >= 0)
		rc = fd_send(k->server, &end, sizeof(end), NULL, 0);
	if (rc < 0)
		lose_server(k);
}

static bool is_over(const struct keeper *k)
{
	if (k->server >= 0)
		return false;
	if (k->served && list_empty(&k->all))
		return true;
	if (clock_ms() < k->until_ms)
		return false;
	log_warn("keeper: no server has come back: its sandboxes end");
	LIST_FOREACH (n, &k->all)
		(void)process_pidfd_kill(CONTAINER_OF(n, struct kept, link)->fds[KEPT_INIT], SIGKILL);
	return true;
}

static void keeper_turn(struct keeper *k)
{
	struct epoll_event events[EVENTS];
	uint64_t now = clock_ms();
	int left = k->server >= 0 ? -1 : k->until_ms > now ? (int)(k->until_ms - now) : 0;
	int n = epoll_wait(k->epoll, events, EVENTS, left);
	bool server = false, listener = false;

	for (int i = 0; i < n; i++) {
		void *what = events[i].data.ptr;
		server |= what == &k->server;
		listener |= what == &k->listener;
		if (what != &k->server && what != &k->listener)
			drop(k, what);
	}
	if (server)
		on_server(k);
	if (listener)
		on_listener(k);
}

/* The listener, or -1: it is not needed. */
static int take_listener(int control)
{
	struct keep_message m;
	int listener = -1;
	size_t nfds = 1;
	ssize_t n = fd_recv(control, &m, sizeof(m), &listener, &nfds);

	return n == (ssize_t)sizeof(m) && m.type == KEEP_LISTEN && nfds == 1 ? listener : -1;
}

/* Nothing of the server's stays but its standard error; nor its session, whose end would be ours. */
static bool keeper_isolate(int control)
{
	struct sigaction dfl = {.sa_handler = SIG_DFL};
	struct rlimit limit;
	int null;

	(void)setsid();
	(void)prctl(PR_SET_NAME, "stacygate-keep");
	for (int i = 1; i < NSIG; i++)
		if (i != SIGPIPE)
			(void)sigaction(i, &dfl, NULL);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
	if (dup2(control, 3) < 0 || close_range(4, ~0U, 0) < 0 || chdir("/") < 0)
		return false;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	return null > 2 && dup2(null, 0) == 0 && dup2(null, 1) == 1 && close(null) == 0;
}

static _Noreturn void keeper_run(int control)
{
	struct keeper k = {.server = -1, .wait_ms = FIRST_WAIT_MS};

	list_init(&k.all);
	if (!keeper_isolate(control))
		_exit(1);
	k.listener = take_listener(3);
	k.epoll = k.listener >= 0 ? epoll_create1(EPOLL_CLOEXEC) : -1;
	if (k.epoll < 0 || watch(&k, k.listener, &k.listener))
		_exit(k.listener >= 0);
	close(3);
	k.until_ms = clock_ms() + k.wait_ms;
	while (!is_over(&k))
		keeper_turn(&k);
	_exit(0);
}

int keeper_start(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	/* Twice, so that it is nobody's child who would have to reap it. */
	pid_t pid = fork();
	if (pid == 0) {
		pid = fork();
		if (pid == 0)
			keeper_run(pair[1]);
		_exit(pid < 0);
	}
	int status = 1;
	bool forked = pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
	close(pair[1]);
	if (forked)
		return pair[0];
	close(pair[0]);
	return -EAGAIN;
}
