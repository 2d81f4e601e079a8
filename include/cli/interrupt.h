/* SPDX-License-Identifier: Apache-2.0 */
/* Turns SIGINT, SIGTERM and SIGHUP into something that can be waited for, so that a command can clean up. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

/* Once, at the start. A signal that the parent has set to be ignored (nohup) stays ignored. 0 or negative
 * errno. */
MUST_CHECK int interrupt_init(void);

/* Readable for good after the first of them; borrowed. -1 before interrupt_init(). */
int interrupt_fd(void);
bool interrupt_pending(void);

/* Ends the process by the signal that came (SIGPIPE if none), as if it had never been caught; does not
 * return. */
_Noreturn void interrupt_die(void);

/*
 * Writes all of it to a blocking descriptor unless a signal comes first.
 * 0, -EINTR, or another negative errno (-EPIPE: the reader has gone).
 */
MUST_CHECK int interrupt_write(int fd, const void *p, size_t n);

#endif
