/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting in tests: always for a condition, always with an end. */
#ifndef LIB_WAIT_H
#define LIB_WAIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	WAIT_MS = 10000, /* what must happen, happens within this on a slow machine with sanitizers */
	WAIT_STEP_MS = 5,
};

/* Milliseconds of the monotonic clock, whatever clock_set_source() says. */
uint64_t wait_now_ms(void);

/* Asks `holds` until it says true; false when that did not happen within `ms`. */
bool wait_until(bool (*holds)(void *arg), void *arg, unsigned ms);

/*
 * Waits for a child to end. Its wait status, or -1 when it still runs after `ms`.
 */
int wait_child(pid_t pid, unsigned ms);

/* poll(2) for `events` on one descriptor; what came back, or 0 after `ms`. */
short wait_fd(int fd, short events, unsigned ms);

#endif
