/* SPDX-License-Identifier: Apache-2.0 */
/* Tells when a process ends: the one that connected a socket, one of its ancestors, or one of which a record was kept. */
#ifndef GATEWAY_PROCESS_WATCH_H
#define GATEWAY_PROCESS_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/list.h"

struct identity;
struct loop;
struct process;

enum {
	PROCESS_PLACE_MAX_BYTES = 63
};

/* All processes that are watched, one descriptor each however many wait for its end. */
struct process_watch {
	struct loop *loop;     /* borrowed */
	struct list processes; /* struct process */
	char place[PROCESS_PLACE_MAX_BYTES +
		   1]; /* of this boot and pid namespace, within which a pid means something; "": not known */
};

/* Embedded in who waits. */
struct process_wait {
	struct list link;                       /* on its process's list while waiting */
	struct process *process;                /* owned reference while waiting or ended; NULL: none */
	void (*on_end)(struct process_wait *w); /* once, from the loop, never from within a call */
};

void process_watch_init(struct process_watch *p, struct loop *loop);
/* When nobody waits any more. */
void process_watch_fini(struct process_watch *p);

void process_wait_init(struct process_wait *w, void (*on_end)(struct process_wait *w));
/* No longer waits. Harmless when it does not. */
void process_wait_cancel(struct process_wait *w);

/*
 * Waits for the end of the process that connected the socket `fd`, or, with `pid` other than 0, for that of its ancestor (or
 * itself) with that number, as the process itself sees it, which must have the peer's uid. 0; or *why says for the client what
 * is wrong: -EACCES, nobody can tell for certain which process it is; -ESRCH, there is no such ancestor, or it has ended; -EPERM, it is
 * another user's; -ENOMEM or another errno, it cannot be watched now.
 */
MUST_CHECK int process_wait_peer(struct process_watch *p, int fd, const struct identity *peer, pid_t pid,
				 struct process_wait *w, const char **why);

/*
 * Waits for the end of a process of which these were kept. 0; -ESRCH, it has ended for certain; any other errno: nobody can
 * tell.
 */
MUST_CHECK int process_wait_again(struct process_watch *p, pid_t pid, uint64_t start, const char *place,
				  struct process_wait *w);

/* What tells the awaited process from another that has its pid; 0 without one. */
pid_t process_wait_pid(const struct process_wait *w);
uint64_t process_wait_start(const struct process_wait *w);

#endif
