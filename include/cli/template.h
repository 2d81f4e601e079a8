/* SPDX-License-Identifier: Apache-2.0 */
/* The commands `template ...`: sandboxes made by a name that stands for their fields. */
#ifndef CLI_TEMPLATE_H
#define CLI_TEMPLATE_H

#include "cli/command.h"
#include "common/err.h"

/* Each returns the exit status, or -1 with the fault. */
MUST_CHECK int template_ls(const struct command *c);
MUST_CHECK int template_get(const struct command *c);
/* Makes the template, or replaces the one of that name. */
MUST_CHECK int template_save(const struct command *c);
MUST_CHECK int template_rm(const struct command *c);
MUST_CHECK int template_spawn(const struct command *c);

#endif
