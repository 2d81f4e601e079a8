/* SPDX-License-Identifier: Apache-2.0 */
/* The small process that starts programs for the gateway, which itself never starts one: the gateway's side of it. */
#ifndef GATEWAY_LAUNCHER_H
#define GATEWAY_LAUNCHER_H

#include <stdbool.h>

#include "common/err.h"
#include "common/list.h"

struct launcher;
struct launcher_program;
struct loop;

enum launcher_event {
	LAUNCHER_EXITED, /* the server ended; status as from waitpid */
	LAUNCHER_FAILED, /* it could not be started; status is an errno */
	LAUNCHER_GONE,   /* the launcher itself is gone: nothing can be started any more */
};

/* A command under way; embedded in the object that waits for it. */
struct launcher_command {
	struct list link; /* on the launcher's list while it runs */
	unsigned id;
	/* Once, when it has ended (status as from waitpid) or could not be started (a negative errno). */
	void (*on_end)(struct launcher_command *c, int status);
};

/*
 * Forks it. To be called before anything that a child must not inherit exists: threads, the loop, curl, secrets. It ends
 * when the gateway does, and takes the server and all commands with it. 0 or a negative errno.
 */
MUST_CHECK int launcher_fork(const struct launcher_program *program, struct launcher **out);

/* From now on what it says is heard. 0 or a negative errno. `loop` is borrowed for its life. */
MUST_CHECK int launcher_attach(struct launcher *l, struct loop *loop);

/* Who is told of the server; NULL: nobody. */
void launcher_on_server(struct launcher *l, void (*on_event)(void *arg, enum launcher_event event, int status),
			void *arg);

/*
 * Asks for the server to be started with these descriptors, which stay the caller's: one whose end of file tells it that
 * the gateway is gone, and two to read its keys from. 0 or a negative errno.
 */
MUST_CHECK int launcher_start(struct launcher *l, int life_fd, int key_fd, int admin_key_fd);

/* The path of the server's program, for people. */
const char *launcher_server(const struct launcher *l);

/* Has the server killed, if one runs. */
void launcher_kill(struct launcher *l);

/*
 * Asks for a command of the configuration: argv as it is, without a shell, a clean environment, no input, its output into
 * out_fd, which stays the caller's. 0, and on_end follows in any case; or a negative errno.
 */
MUST_CHECK int launcher_run(struct launcher *l, char *const *argv, int out_fd, struct launcher_command *c);
/* Has it killed with all that it started; on_end follows. */
void launcher_stop_command(struct launcher *l, const struct launcher_command *c);
/* The same, and on_end does not follow. Nothing if it does not run. */
void launcher_forget(struct launcher *l, struct launcher_command *c);

/* Closes the connection, by which the launcher ends, and waits for that (2 s at most). NULL is fine. */
void launcher_free(struct launcher *l);

#endif
