/* SPDX-License-Identifier: Apache-2.0 */
/* The command `preview`: where a port of a sandbox is seen. */
#ifndef CLI_PREVIEW_H
#define CLI_PREVIEW_H

#include "cli/command.h"
#include "common/err.h"
#include "common/str.h"

/* Prints the URL, or serves it on loopback with --open-port. The exit status, or -1 with the fault. */
MUST_CHECK int preview_command(const struct command *c);

/*
 * Takes the host, without a port, out of a preview's URL. It must be the one of that sandbox's port, PORT-ID.DOMAIN with
 * an ID sb-HEX, all of it such as may stand in a Host line. 0 and *host, which lies in the URL, or -EINVAL.
 */
MUST_CHECK int preview_host(struct str url, struct str id, struct str port, struct str *host);

#endif
