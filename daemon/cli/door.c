/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any user of the machine can connect to a loopback port, so each connection's owner is asked of the kernel before a byte is
 * read. A poll() over the listening sockets, the signal and all relays; each relay is run with what it waited for.
 *
 * Failures: no descriptor or memory for a connection pauses accepting; with RELAYS_MAX connections nothing is accepted until
 * one ends.
 */
#include "cli/door.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/admit.h"
#include "cli/interrupt.h"
#include "cli/relay.h"
#include "common/clock.h"

enum {
	BACKLOG = 128,
	RELAYS_MAX = 128,
	FIRST_RELAY_FD = 1 + LOOPBACK_DOORS, /* among those polled: the signal and the doors come first */
	POLLED_MAX = FIRST_RELAY_FD + RELAYS_MAX * RELAY_FDS,
	PAUSE_MS = 200,
	OVERFLOW_UID = 65534,
};

struct service {
	const struct door *door;
	struct relay_way way;
	struct relay *relays[RELAYS_MAX]; /* owned; the first n */
	size_t n;
	uint64_t paused_until_ms; /* nothing is accepted before */
	struct pollfd polled[POLLED_MAX];
};

int door_open(struct door *d, uint16_t port, struct fault *f)
{
	char why[256];

	/* In a user namespace without this user it would be everybody who is not in it. */
	if (geteuid() == OVERFLOW_UID)
		return fault_set(f, FAULT_ERROR, "LOCAL_ERROR",
				 "your uid here, %d, is what the kernel shows for all that it cannot tell: nobody "
				 "could be kept out",
				 OVERFLOW_UID);
	if (loopback_listen(port, BACKLOG, &d->listening, why, sizeof(why)) < 0)
		return fault_set(f, FAULT_ERROR, "LOCAL_ERROR", "%s", why);
	return 0;
}

void door_close(struct door *d)
{
	loopback_close(&d->listening);
}

/* False: there is no memory for it. */
static bool take_in(struct service *s, int fd, uint64_t now_ms)
{
	int one = 1;
	uid_t uid;

	if (loopback_peer_uid(fd, s->door->listening.diag, &uid) < 0 || uid != geteuid()) {
		close(fd);
		return true;
	}
	/* Small answers go out at once; a socket that cannot have that any more was reset, and nobody waits for it. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) {
		close(fd);
		return true;
	}
	s->relays[s->n] = relay_new(&s->way, fd, now_ms);
	if (!s->relays[s->n])
		return false;
	s->n++;
	return true;
}

static void accept_some(struct service *s, int listening, uint64_t now_ms)
{
	while (s->n < RELAYS_MAX) {
		int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0 && take_in(s, fd, now_ms))
			continue;
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED || errno == EPROTO))
			continue;
		if (fd < 0 && errno == EAGAIN)
			return;
		s->paused_until_ms = now_ms + PAUSE_MS;
		return;
	}
}

/* How long poll() may wait: to the first deadline. */
static int wait_ms(const struct service *s, uint64_t now_ms)
{
	uint64_t first = s->paused_until_ms > now_ms ? s->paused_until_ms : 0;

	for (size_t i = 0; i < s->n; i++) {
		uint64_t at = relay_deadline_ms(s->relays[i]);

		if (at && (!first || at < first))
			first = at;
	}
	if (!first)
		return -1;
	return first > now_ms ? (int)(first - now_ms) : 0;
}

static nfds_t prepare(struct service *s, uint64_t now_ms)
{
	bool accepts = s->n < RELAYS_MAX && now_ms >= s->paused_until_ms;

	s->polled[0] = (struct pollfd){.fd = interrupt_fd(), .events = POLLIN};
	for (size_t i = 0; i < LOOPBACK_DOORS; i++)
		s->polled[1 + i] = (struct pollfd){.fd = accepts ? s->door->listening.fds[i] : -1, .events = POLLIN};
	for (size_t i = 0; i < s->n; i++)
		relay_wants(s->relays[i], &s->polled[FIRST_RELAY_FD + i * RELAY_FDS]);
	return FIRST_RELAY_FD + s->n * RELAY_FDS;
}

/* Runs every relay and closes the gaps that those leave which are over. */
static void run_relays(struct service *s, uint64_t now_ms)
{
	size_t left = 0;

	for (size_t i = 0; i < s->n; i++) {
		if (relay_run(s->relays[i], &s->polled[FIRST_RELAY_FD + i * RELAY_FDS], now_ms))
			s->relays[left++] = s->relays[i];
		else
			relay_free(s->relays[i]);
	}
	s->n = left;
}

static int serve(struct service *s, struct fault *f)
{
	for (;;) {
		nfds_t n = prepare(s, clock_ms());

		if (interrupt_pending())
			return fault_set(f, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
		if (poll(s->polled, n, wait_ms(s, clock_ms())) < 0) {
			if (errno == EINTR)
				continue;
			return fault_errno(f, "poll", errno);
		}
		run_relays(s, clock_ms());
		for (size_t i = 0; i < LOOPBACK_DOORS; i++)
			if (s->polled[1 + i].revents)
				accept_some(s, s->door->listening.fds[i], clock_ms());
	}
}

int door_serve(struct door *d, struct str preview, const char *socket_path, struct fault *f)
{
	const struct admit admit = {.preview = preview, .port = d->listening.port};
	struct service s = {.door = d, .way = {.admit = &admit, .socket_path = socket_path}};
	int rc = serve(&s, f);

	for (size_t i = 0; i < s.n; i++)
		relay_free(s.relays[i]);
	return rc;
}
