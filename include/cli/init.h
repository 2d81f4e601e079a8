/* SPDX-License-Identifier: Apache-2.0 */
/* Writes a configuration to begin with, from options or from answers on the terminal; the daemon must find it good. */
#ifndef CLI_INIT_H
#define CLI_INIT_H

#include "cli/fault.h"
#include "cli/options.h"
#include "common/err.h"

/* 0, or -1 with the fault, and no file is written or changed. */
MUST_CHECK int init_write(const struct options *o, struct fault *f);

#endif
