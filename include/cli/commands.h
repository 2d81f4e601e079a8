/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the client, one function each. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/api.h"
#include "cli/fault.h"
#include "cli/options.h"

/* What a command works with; all borrowed. */
struct commands {
	struct api *api;
	const struct options *options;
	struct fault *fault; /* where it says what went wrong */
};

/* Runs the command; the exit status, or -1 with the fault. */
int commands_run(const struct commands *c, enum verb verb);

#endif
