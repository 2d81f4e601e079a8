/* SPDX-License-Identifier: Apache-2.0 */
/* The commands `leases ...`: sandboxes that die with a process, a connection or a clock. */
#ifndef CLI_LEASE_H
#define CLI_LEASE_H

#include "cli/command.h"
#include "common/err.h"

/* Each returns the exit status, or -1 with the fault. */
MUST_CHECK int lease_ls(const struct command *c);
/* With a second operand the sandbox is tied to that from now on, else what it is tied to is renewed. */
MUST_CHECK int lease_renew(const struct command *c);
MUST_CHECK int lease_release(const struct command *c);

#endif
