/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a service manager how the daemon is (sd_notify(3)): ready, reloading, stopping, alive, and a line for people. */
#ifndef GATEWAY_NOTIFY_H
#define GATEWAY_NOTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct loop;
struct notify;

/* The name that stored connections have when they are passed to the next start. */
#define NOTIFY_STORED_NAME "client"

enum {
	NOTIFY_TEXT_MAX_BYTES = 256, /* of a status line; what is longer is cut */
	NOTIFY_STORE_MAX = 128       /* descriptors of one notify_store */
};

/*
 * Takes NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and FDSTORE out of the environment, so that no child has them. Without
 * NOTIFY_SOCKET there is nobody to tell, and all that follows does nothing. NULL without memory. An address that is none is a
 * warning, and counts as not set.
 */
struct notify *notify_new(void);
/* NULL is fine. */
void notify_free(struct notify *n);

/*
 * From now on the loop says that it turns, twice in each WATCHDOG_USEC, and asks for the status line now and then: `status`
 * writes it to text, at most NOTIFY_TEXT_MAX_BYTES with its end. 0, also when there is nobody to tell, or -ENOMEM. `loop` is
 * borrowed until notify_unwatch.
 */
MUST_CHECK int notify_watch(struct notify *n, struct loop *loop, void (*status)(void *arg, char *text, size_t size),
			    void *arg);

/* Before the loop goes; also when it was never watched. What was not taken until now is sent once more. */
void notify_unwatch(struct notify *n);

/* It serves: after the start and after each reload, whatever came of it. */
void notify_ready(struct notify *n);
/* A reload begins. */
void notify_reloading(struct notify *n);
/* It stops; that may take so long. */
void notify_stopping(struct notify *n, uint64_t within_ms);
/*
 * Hands copies of client connections to the manager, which passes them to the next start (the file descriptor store), unless it is
 * told to stop for good: then it closes them. False when that was not taken now.
 */
MUST_CHECK bool notify_store(struct notify *n, const int *fds, size_t nfds);
/* What was stored has arrived: the manager closes its copies, or no close of ours would be seen by a client. */
void notify_unstore(struct notify *n);
/* Why it could not start, for people. */
void notify_failed(struct notify *n, const char *why);

#endif
