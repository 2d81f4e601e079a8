/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/wait.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

uint64_t wait_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool wait_until(bool (*holds)(void *arg), void *arg, unsigned ms)
{
	const struct timespec step = {0, WAIT_STEP_MS * 1000000L};
	uint64_t end = wait_now_ms() + ms;

	while (!holds(arg)) {
		if (wait_now_ms() >= end)
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

short wait_fd(int fd, short events, unsigned ms)
{
	struct pollfd p = {.fd = fd, .events = events};
	uint64_t end = wait_now_ms() + ms;

	for (;;) {
		uint64_t now = wait_now_ms();
		int n = poll(&p, 1, now >= end ? 0 : (int)(end - now));

		if (n > 0)
			return p.revents;
		if (n == 0 || errno != EINTR)
			return 0;
	}
}

int wait_child(pid_t pid, unsigned ms)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	int status = -1;
	short ready = 0;

	if (pidfd >= 0) {
		ready = wait_fd(pidfd, POLLIN, ms);
		close(pidfd);
	}
	if (!ready || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}
