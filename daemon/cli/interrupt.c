/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* The least that POLLOUT promises of a pipe: PIPE_BUF bytes go in without waiting. */
enum {
	WRITE_STEP = 4096
};

/* Process-wide because signals are; written by the handler only. */
static volatile sig_atomic_t caught;
static int wake_fd = -1;

static void on_signal(int sig)
{
	uint64_t one = 1;
	int saved = errno;

	caught = sig;
	if (write(wake_fd, &one, sizeof(one)) < 0) {
		/* Full: it is readable already. */
	}
	errno = saved;
}

static int catch_one(int sig)
{
	struct sigaction old;
	struct sigaction act = {.sa_handler = on_signal};

	if (sigaction(sig, NULL, &old) < 0)
		return -errno;
	if (old.sa_handler == SIG_IGN)
		return 0;
	return sigaction(sig, &act, NULL) < 0 ? -errno : 0;
}

int interrupt_init(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP};

	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (wake_fd < 0)
		return -errno;
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		int rc = catch_one(signals[i]);

		if (rc < 0)
			return rc;
	}
	/* A reader that has gone is told by EPIPE. */
	return signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -errno : 0;
}

int interrupt_fd(void)
{
	return wake_fd;
}

bool interrupt_pending(void)
{
	return caught != 0;
}

void interrupt_die(void)
{
	int sig = caught ? caught : SIGPIPE;
	sigset_t set;

	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(sig);
	_exit(128 + sig);
}

int interrupt_write(int fd, const void *p, size_t n)
{
	const char *at = p;

	while (n > 0) {
		struct pollfd fds[2] = {{.fd = fd, .events = POLLOUT}, {.fd = wake_fd, .events = POLLIN}};
		ssize_t done;

		if (interrupt_pending())
			return -EINTR;
		if (poll(fds, 2, -1) < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (fds[0].revents == 0)
			continue;
		done = write(fd, at, n < WRITE_STEP ? n : WRITE_STEP);
		if (done < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (done < 0)
			return -errno;
		at += done;
		n -= (size_t)done;
	}
	return 0;
}
