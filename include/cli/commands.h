/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the command that the command line names. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/command.h"
#include "cli/verb.h"

/* The exit status, or -1 with the fault. */
int commands_run(const struct command *c, enum verb verb);

#endif
