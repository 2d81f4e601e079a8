/* SPDX-License-Identifier: Apache-2.0 */
/* `stacygate top`: how the gateway is, now and on; on a terminal all over it, with --json line by line. */
#ifndef CLI_TOP_H
#define CLI_TOP_H

#include "cli/command.h"

/* 0 when the user has seen enough, or -1 with the fault. */
int top_command(const struct command *c);

#endif
