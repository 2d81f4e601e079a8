/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each message is one datagram, sent without waiting. When the manager's queue is full (it reads when it finds the time) a
 * message of state is kept and sent before all later ones; a ping or a status line is dropped, since another follows.
 */
#include "gateway/notify.h"

#include <errno.h>
#include <event2/event.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/str.h"

enum {
	MESSAGE_MAX_BYTES = NOTIFY_TEXT_MAX_BYTES + 128,
	KEPT_MAX = 4, /* messages of state that were not taken yet */
	RETRY_MS = 100,
	STATUS_MS = 2000,
	STOP_RESERVE_MS = 15000, /* beyond what a drain takes: the embedded server has to end as well */
};

struct notify {
	struct sockaddr_un address;
	socklen_t address_size; /* 0: nobody is to be told */
	int fd;                 /* owned; -1 as long as nothing was said */
	uint64_t ping_ms;       /* between two signs of life; 0: none are asked for */
	struct event *ping;     /* owned; NULL without a watchdog */
	struct event *look;     /* owned; asks for the status line */
	struct event *retry;    /* owned; pending while something is kept */
	size_t nkept;
	char kept[KEPT_MAX][MESSAGE_MAX_BYTES]; /* the oldest first */
	char said[NOTIFY_TEXT_MAX_BYTES];       /* the last status line */
	void (*status)(void *arg, char *text, size_t size);
	void *arg;
};

/* --- the environment ---------------------------------------------------------------------------------------------------- */

/* The address of the variable: a path, or with @ in front an abstract name. */
static bool read_address(struct notify *n, const char *text)
{
	size_t length = strlen(text);

	if ((text[0] != '/' && text[0] != '@') || length < 2 || length >= sizeof(n->address.sun_path))
		return false;
	n->address.sun_family = AF_UNIX;
	memcpy(n->address.sun_path, text, length);
	if (text[0] == '@')
		n->address.sun_path[0] = '\0';
	n->address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (text[0] == '/'));
	return true;
}

/* The watchdog is ours when no other process is named. */
static uint64_t read_ping_ms(const char *usec, const char *pid)
{
	uint64_t value;

	if (pid && (str_parse_u64(str_from(pid), &value) || value != (uint64_t)getpid()))
		return 0;
	if (!usec || str_parse_u64(str_from(usec), &value) || value == 0)
		return 0;
	value = value / 2 / 1000;
	return value ? value : 1;
}

struct notify *notify_new(void)
{
	struct notify *n = calloc(1, sizeof(*n));
	const char *address = getenv("NOTIFY_SOCKET");

	if (!n)
		return NULL;
	n->fd = -1;
	if (address && !read_address(n, address))
		log_warn("NOTIFY_SOCKET holds no address of a socket: nobody is told how this daemon is");
	n->ping_ms = read_ping_ms(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
	unsetenv("NOTIFY_SOCKET");
	unsetenv("WATCHDOG_USEC");
	unsetenv("WATCHDOG_PID");
	unsetenv("FDSTORE");
	return n;
}

/* --- sending ------------------------------------------------------------------------------------------------------------ */

/* 0, or a negative errno. */
static int send_text(struct notify *n, const char *text)
{
	ssize_t sent;

	if (n->fd < 0)
		n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (n->fd < 0)
		return -errno;
	do
		sent = sendto(n->fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL,
			      (const struct sockaddr *)&n->address, n->address_size);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

/* A full queue, or a moment without memory: the same message may pass later. */
static bool is_passing(int rc)
{
	return rc == -EAGAIN || rc == -ENOBUFS || rc == -ENOMEM || rc == -EMFILE || rc == -ENFILE;
}

static void wait_for_room(struct notify *n)
{
	const struct timeval tv = {.tv_usec = RETRY_MS * 1000};

	if (n->retry)
		event_add(n->retry, &tv);
}

static void keep(struct notify *n, const char *text)
{
	/* A manager that has not read four states will not miss the oldest. */
	if (n->nkept == KEPT_MAX)
		memmove(n->kept[0], n->kept[1], sizeof(n->kept[0]) * --n->nkept);
	snprintf(n->kept[n->nkept++], MESSAGE_MAX_BYTES, "%s", text);
	wait_for_room(n);
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
	struct notify *n = arg;

	(void)fd;
	(void)what;
	while (n->nkept) {
		int rc = send_text(n, n->kept[0]);
		if (is_passing(rc)) {
			wait_for_room(n);
			return;
		}
		memmove(n->kept[0], n->kept[1], sizeof(n->kept[0]) * --n->nkept);
	}
}

/* A message of state: none is lost, and their order stays. */
static void say_state(struct notify *n, const char *text)
{
	int rc;

	if (n->address_size == 0)
		return;
	rc = n->nkept ? -EAGAIN : send_text(n, text);
	if (is_passing(rc))
		keep(n, text);
	else if (rc)
		log_warn("the service manager cannot be told: %s", strerror(-rc));
}

/* --- in the loop --------------------------------------------------------------------------------------------------------- */

static void on_ping(evutil_socket_t fd, short what, void *arg)
{
	struct notify *n = arg;
	int rc = n->nkept ? -EAGAIN : send_text(n, "WATCHDOG=1");

	(void)fd;
	(void)what;
	if (rc && !is_passing(rc))
		log_debug("the service manager cannot be told: %s", strerror(-rc));
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
	struct notify *n = arg;
	char text[NOTIFY_TEXT_MAX_BYTES] = "";
	char message[MESSAGE_MAX_BYTES];

	(void)fd;
	(void)what;
	n->status(n->arg, text, sizeof(text));
	/* A line break would begin another assignment. */
	text[strcspn(text, "\n")] = '\0';
	if (n->nkept || strcmp(text, n->said) == 0)
		return;
	snprintf(message, sizeof(message), "STATUS=%s", text);
	if (send_text(n, message) == 0)
		memcpy(n->said, text, sizeof(n->said));
}

static struct event *every(struct notify *n, struct loop *loop, uint64_t ms,
			   void (*call)(evutil_socket_t fd, short what, void *arg))
{
	const struct timeval tv = clock_span(ms);
	struct event *e = event_new(loop_base(loop), -1, EV_PERSIST, call, n);

	if (e && event_add(e, &tv) < 0) {
		event_free(e);
		return NULL;
	}
	return e;
}

int notify_watch(struct notify *n, struct loop *loop, void (*status)(void *arg, char *text, size_t size), void *arg)
{
	if (n->address_size == 0)
		return 0;
	n->status = status;
	n->arg = arg;
	n->retry = evtimer_new(loop_base(loop), on_retry, n);
	n->look = every(n, loop, STATUS_MS, on_look);
	if (n->ping_ms)
		n->ping = every(n, loop, n->ping_ms, on_ping);
	if (!n->retry || !n->look || (n->ping_ms && !n->ping))
		return -ENOMEM;
	if (n->nkept)
		wait_for_room(n);
	/* The first sign at once: half of the time may have gone in starting. */
	if (n->ping)
		on_ping(-1, 0, n);
	return 0;
}

static void drop(struct event **e)
{
	if (*e)
		event_free(*e);
	*e = NULL;
}

void notify_unwatch(struct notify *n)
{
	drop(&n->ping);
	drop(&n->look);
	drop(&n->retry);
	on_retry(-1, 0, n);
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	fd_close(&n->fd);
	free(n);
}

/* --- what is said ---------------------------------------------------------------------------------------------------------- */

void notify_ready(struct notify *n)
{
	say_state(n, "READY=1");
	if (n->look)
		on_look(-1, 0, n);
}

void notify_reloading(struct notify *n)
{
	char text[MESSAGE_MAX_BYTES];

	/* Type=notify-reload wants the time on its own clock, CLOCK_MONOTONIC. */
	snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)(clock_ns() / 1000));
	say_state(n, text);
}

void notify_stopping(struct notify *n, uint64_t within_ms)
{
	char text[MESSAGE_MAX_BYTES];

	snprintf(text, sizeof(text), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu",
		 (unsigned long long)(within_ms + STOP_RESERVE_MS) * 1000);
	say_state(n, text);
	if (n->look)
		on_look(-1, 0, n);
}

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(NOTIFY_STORE_MAX * sizeof(int))];
};

bool notify_store(struct notify *n, const int *fds, size_t nfds)
{
	static const char text[] = "FDSTORE=1\nFDNAME=" NOTIFY_STORED_NAME;
	union control control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)text, .iov_len = sizeof(text) - 1};
	struct msghdr msg = {.msg_name = &n->address,
			     .msg_namelen = n->address_size,
			     .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = CMSG_SPACE(nfds * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	CHECK(nfds > 0 && nfds <= NOTIFY_STORE_MAX);
	if (n->fd < 0 || n->address_size == 0)
		return false;
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
	memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	return sendmsg(n->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

void notify_unstore(struct notify *n)
{
	say_state(n, "FDSTOREREMOVE=1\nFDNAME=" NOTIFY_STORED_NAME);
}

void notify_failed(struct notify *n, const char *why)
{
	char text[MESSAGE_MAX_BYTES];

	snprintf(text, sizeof(text), "STATUS=cannot start: %.*s", NOTIFY_TEXT_MAX_BYTES, why);
	text[strcspn(text, "\n")] = '\0';
	say_state(n, text);
}
