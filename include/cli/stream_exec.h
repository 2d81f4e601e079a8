/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a command in a sandbox, its output shown as it comes, and finds out how it ended. */
#ifndef CLI_STREAM_EXEC_H
#define CLI_STREAM_EXEC_H

#include <stdbool.h>

#include "cli/api.h"
#include "cli/fault.h"
#include "cli/options.h"
#include "common/buf.h"
#include "common/err.h"

/* Exit statuses for what is no exit code of the command itself. */
enum {
	STREAM_EXEC_TIMED_OUT = 124, /* as timeout(1) */
	STREAM_EXEC_UNKNOWN = 255,   /* it left no status behind: its shell was killed, say */
};

/*
 * Runs the command of the options (command, env, workdir, timeout; json: the records themselves) in sandbox
 * `id`. 0 and *code is the exit code (128+n for signal n, as a shell says it; a timeout and an unknown end
 * are told on stderr), or -1 with the fault.
 */
MUST_CHECK int stream_exec(struct api *a, const char *id, const struct options *o, int *code, struct fault *f);

/*
 * Adds the script that runs the words as one program and leaves its status, in decimal, in the file
 * `status_path`. For tests.
 */
void stream_exec_script(struct buf *out, char **command, const char *status_path);

#endif
