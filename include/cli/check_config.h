/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a configuration of the gateway: the daemon does it, beside us or where it is installed. */
#ifndef CLI_CHECK_CONFIG_H
#define CLI_CHECK_CONFIG_H

#include "cli/fault.h"
#include "cli/options.h"
#include "common/buf.h"
#include "common/err.h"

/*
 * Becomes "stacygated -t -c FILE"; with --json runs it and prints {"ok":...,"faults":[...],"warnings":[...]}. The
 * daemon's exit status, or -1 with the fault.
 */
MUST_CHECK int check_config(const struct options *o, struct fault *f);

/* Runs "stacygated -t -c FILE": its exit status, with what it wrote in `report`; or -1 with the fault. */
MUST_CHECK int check_config_gather(const char *file, struct buf *report, struct fault *f);

#endif
