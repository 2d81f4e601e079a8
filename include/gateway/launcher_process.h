/* SPDX-License-Identifier: Apache-2.0 */
/* The launcher's own process, and the messages it is spoken to with. */
#ifndef GATEWAY_LAUNCHER_PROCESS_H
#define GATEWAY_LAUNCHER_PROCESS_H

#include <stdbool.h>

#include "common/err.h"

/* What the launcher may run: nothing else can be asked of it. All borrowed for the call of launcher_fork. */
struct launcher_program {
	const char *program;   /* path of stacygate-local */
	const char *socket;    /* where it is to listen */
	const char *state_dir; /* for its own state */
	bool verbose;
	/*
	 * Asked in the launcher's process, which is a copy of ours as it was at the fork: whether the configuration holds
	 * this command. NULL: none may be run.
	 */
	bool (*may_run)(void *arg, char *const *argv);
	/*
	 * Called in the launcher's process once the program has been opened and before anything is started: it may be another
	 * user's from then on. The launcher ends unless it says 0. NULL: nothing to do.
	 */
	int (*settle)(void *arg);
	void *arg;
};

enum {
	LAUNCH_SERVER_FDS = 3,
	LAUNCH_ARGV_MAX_BYTES = 16384, /* of a command, each argument with its NUL */
};

enum launch_what {
	/* to the launcher */
	LAUNCH_START = 'S',        /* the server; with LAUNCH_SERVER_FDS descriptors */
	LAUNCH_KILL = 'K',         /* the server */
	LAUNCH_COMMAND = 'C',      /* id; the arguments behind the message; one descriptor for its output */
	LAUNCH_STOP_COMMAND = 'X', /* id */
	/* from it */
	LAUNCH_EXITED = 'E',         /* the server; status of waitpid */
	LAUNCH_FAILED = 'F',         /* the server; an errno */
	LAUNCH_COMMAND_ENDED = 'D',  /* id; status of waitpid */
	LAUNCH_COMMAND_FAILED = 'N', /* id; an errno */
};

struct launch_message {
	enum launch_what what;
	int status;
	unsigned id; /* of a command */
};

/* Serves the messages on `sock`, owned, until their end. */
_Noreturn void launcher_process(int sock, const struct launcher_program *program);

#endif
