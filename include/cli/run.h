/* SPDX-License-Identifier: Apache-2.0 */
/* The command `run`: one sandbox for one command, destroyed whatever happens. */
#ifndef CLI_RUN_H
#define CLI_RUN_H

#include "cli/api.h"
#include "cli/fault.h"
#include "cli/options.h"

/* Returns the exit status of the command, or -1 with the fault; in both cases the sandbox is gone, or stderr
 * names it. */
int run_command(struct api *a, const struct options *o, struct fault *f);

/* Cuts "LOCAL:REMOTE" at its first colon. */
void run_split_file(const char *pair, struct str *local, struct str *remote);

#endif
