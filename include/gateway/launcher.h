/* SPDX-License-Identifier: Apache-2.0 */
/* The small process that starts programs for the gateway, which itself never starts one. */
#ifndef GATEWAY_LAUNCHER_H
#define GATEWAY_LAUNCHER_H

#include <stdbool.h>

#include "common/err.h"

struct launcher;

/* What the launcher may run: nothing else can be asked of it. All borrowed for the call of launcher_fork. */
struct launcher_program {
	const char *program;   /* path of stacygate-local */
	const char *socket;    /* where it is to listen */
	const char *state_dir; /* for its own state */
	bool verbose;
};

enum launcher_event {
	LAUNCHER_NOTHING, /* nothing to read now */
	LAUNCHER_EXITED,  /* the server ended; *status as from waitpid */
	LAUNCHER_FAILED,  /* it could not be started; *status is an errno */
	LAUNCHER_GONE,    /* the launcher itself is gone: nothing can be started any more */
};

/*
 * Forks it. To be called before anything that a child must not inherit exists: threads, the loop, curl, secrets. It ends
 * when the gateway does, and takes the server with it. 0 or a negative errno.
 */
MUST_CHECK int launcher_fork(const struct launcher_program *program, struct launcher **out);

/* Readable when launcher_next has something to say; borrowed. */
int launcher_fd(const struct launcher *l);
enum launcher_event launcher_next(struct launcher *l, int *status);

/*
 * Asks for the server to be started with these descriptors, which stay the caller's: one whose end of file tells it that
 * the gateway is gone, and two to read its keys from. 0 or a negative errno.
 */
MUST_CHECK int launcher_start(struct launcher *l, int life_fd, int key_fd, int admin_key_fd);

/* Has the server killed, if one runs. */
void launcher_kill(struct launcher *l);

/* Closes the connection, by which the launcher ends, and waits for that (2 s at most). NULL is fine. */
void launcher_free(struct launcher *l);

#endif
