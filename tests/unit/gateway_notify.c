/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/notify: one datagram for each state, in order, never waiting, and nothing left in the environment. */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/notify.h"
#include "lib/scratch.h"
#include "lib/wait.h"

static struct scratch scratch;
static int manager = -1;
static struct notify *notify;
static struct loop *loop;

static void begin(void)
{
	log_init("test", LOG_LEVEL_ERROR);
	scratch_init(&scratch);
}

static void end(void)
{
	if (notify)
		notify_unwatch(notify);
	notify_free(notify);
	loop_free(loop);
	fd_close(&manager);
	scratch_fini(&scratch);
}

TestSuite(notify, .init = begin, .fini = end);

/* Listens there, '@' for an abstract name, and puts the address into the environment. */
static void be_manager(const char *address)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	size_t n = strlen(address);

	memcpy(at.sun_path, address, n);
	if (address[0] == '@')
		at.sun_path[0] = '\0';
	manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	cr_assert(manager >= 0);
	cr_assert_eq(bind(manager, (struct sockaddr *)&at,
			  (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (address[0] == '/'))),
		     0, "%s", strerror(errno));
	setenv("NOTIFY_SOCKET", address, 1);
}

/* The next message, "" when there is none. */
static const char *heard(void)
{
	static char text[1024];
	ssize_t n = recv(manager, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

static void expect_states(void)
{
	notify_ready(notify);
	cr_expect_str_eq(heard(), "READY=1");
	notify_reloading(notify);
	heard();
	notify_stopping(notify, 1000);
	cr_expect_str_eq(heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=16000000");
	notify_failed(notify, "socket: taken\nSTATUS=forged");
	cr_expect_str_eq(heard(), "STATUS=cannot start: socket: taken");
	cr_expect_str_eq(heard(), "");
}

/* By a path. */
Test(notify, path)
{
	be_manager(scratch_path(&scratch, "notify"));
	notify = notify_new();
	cr_assert_not_null(notify);
	cr_expect_null(getenv("NOTIFY_SOCKET"));
	expect_states();
}

/* By an abstract name. */
Test(notify, abstract)
{
	char name[64];

	snprintf(name, sizeof(name), "@sg-test-notify-%d", (int)getpid());
	be_manager(name);
	notify = notify_new();
	cr_assert_not_null(notify);
	expect_states();
}

/* A reload is told with the time of the monotonic clock, which Type=notify-reload compares. */
Test(notify, reloading)
{
	const char *text;
	char *rest;
	struct timespec now;

	be_manager(scratch_path(&scratch, "notify"));
	notify = notify_new();
	notify_reloading(notify);
	text = heard();
	cr_assert(strncmp(text, "RELOADING=1\nMONOTONIC_USEC=", 27) == 0, "%s", text);
	clock_gettime(CLOCK_MONOTONIC, &now);
	unsigned long long usec = strtoull(text + 27, &rest, 10);
	unsigned long long now_usec = (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
	cr_expect_eq(*rest, '\0');
	cr_expect(usec <= now_usec && now_usec - usec < 60000000, "%llu at %llu", usec, now_usec);
}

/* Without a manager, or with an address that is none, nothing happens; the variables go all the same. */
Test(notify, nobody)
{
	static const char *const addresses[] = {NULL, "", "relative", "/", "@", "vsock:2:1234"};
	char longer[200];

	memset(longer, 'x', sizeof(longer));
	longer[0] = '/';
	longer[sizeof(longer) - 1] = '\0';
	for (size_t i = 0; i <= sizeof(addresses) / sizeof(addresses[0]); i++) {
		const char *address = i < sizeof(addresses) / sizeof(addresses[0]) ? addresses[i] : longer;
		if (address)
			setenv("NOTIFY_SOCKET", address, 1);
		setenv("WATCHDOG_USEC", "1000", 1);
		setenv("WATCHDOG_PID", "1", 1);
		notify = notify_new();
		cr_assert_not_null(notify);
		notify_ready(notify);
		notify_stopping(notify, 0);
		notify_unwatch(notify);
		notify_free(notify);
		notify = NULL;
		cr_expect(!getenv("NOTIFY_SOCKET") && !getenv("WATCHDOG_USEC") && !getenv("WATCHDOG_PID"));
	}
}

static void status(void *arg, char *text, size_t size)
{
	snprintf(text, size, "%s", (const char *)arg);
}

static unsigned pings;

static bool is_pinged(void *arg)
{
	(void)arg;
	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	for (const char *text = heard(); *text; text = heard())
		pings += strcmp(text, "WATCHDOG=1") == 0;
	return pings >= 5;
}

/* L8: the loop says that it turns as long as it does. */
Test(notify, L8_watchdog)
{
	be_manager(scratch_path(&scratch, "notify"));
	setenv("WATCHDOG_USEC", "20000", 1);
	notify = notify_new();
	loop = loop_new();
	cr_assert_not_null(loop);
	cr_assert_eq(notify_watch(notify, loop, status, (void *)(uintptr_t) "fine"), 0);
	cr_expect(wait_until(is_pinged, NULL, WAIT_MS));
	notify_unwatch(notify);
	pings = 0;
	is_pinged(NULL);
	cr_expect_eq(pings, 0);
}

/* A status line is sent when it changes, as one line. */
Test(notify, status)
{
	char text[NOTIFY_TEXT_MAX_BYTES] = "one\ntwo";

	be_manager(scratch_path(&scratch, "notify"));
	notify = notify_new();
	loop = loop_new();
	cr_assert_eq(notify_watch(notify, loop, status, text), 0);
	notify_ready(notify);
	cr_expect_str_eq(heard(), "READY=1");
	cr_expect_str_eq(heard(), "STATUS=one");
	notify_ready(notify);
	cr_expect_str_eq(heard(), "READY=1");
	cr_expect_str_eq(heard(), "");
	snprintf(text, sizeof(text), "three");
	notify_ready(notify);
	cr_expect_str_eq(heard(), "READY=1");
	cr_expect_str_eq(heard(), "STATUS=three");
}

/* Connections go to the manager as copies, and are taken back by their name; without a manager nothing is taken. */
Test(notify, store)
{
	char text[256];
	int fds[8], pair[2];
	size_t nfds = 8;
	ssize_t n;

	notify = notify_new();
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_expect(!notify_store(notify, pair, 2));
	notify_unstore(notify);
	notify_unwatch(notify);
	notify_free(notify);
	be_manager(scratch_path(&scratch, "notify"));
	setenv("FDSTORE", "64", 1);
	notify = notify_new();
	cr_expect_null(getenv("FDSTORE"));
	notify_ready(notify);
	cr_expect_str_eq(heard(), "READY=1");
	cr_expect(notify_store(notify, pair, 2));
	n = fd_recv(manager, text, sizeof(text) - 1, fds, &nfds);
	cr_assert_gt(n, 0);
	text[n] = '\0';
	cr_expect_str_eq(text, "FDSTORE=1\nFDNAME=client");
	cr_assert_eq(nfds, 2);
	close(pair[0]);
	close(pair[1]);
	/* They are the same connection. */
	cr_expect_eq(send(fds[0], "x", 1, 0), 1);
	cr_expect_eq(recv(fds[1], text, 1, MSG_DONTWAIT), 1);
	close(fds[0]);
	close(fds[1]);
	notify_unstore(notify);
	cr_expect_str_eq(heard(), "FDSTOREREMOVE=1\nFDNAME=client");
}

static bool has_stopping(void *arg)
{
	const char *text;

	(void)arg;
	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	text = heard();
	return strncmp(text, "STOPPING=1", 10) == 0;
}

/* A manager that does not read: nobody waits, and the states come in order once it reads again. */
Test(notify, full_queue)
{
	unsigned sent = 0;

	be_manager(scratch_path(&scratch, "notify"));
	notify = notify_new();
	loop = loop_new();
	cr_assert_eq(notify_watch(notify, loop, status, (void *)(uintptr_t) "fine"), 0);
	/* More than any queue holds; what is kept beyond it is bounded. */
	for (; sent < 4000; sent++)
		notify_ready(notify);
	notify_stopping(notify, 0);
	cr_expect(wait_until(has_stopping, NULL, WAIT_MS));
}
