/* SPDX-License-Identifier: Apache-2.0 */
/* What --help prints. */
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "cli/verb.h"

/* Of the program. */
const char *help_program(void);
/* Of one command. */
const char *help_verb(enum verb verb);

#endif
