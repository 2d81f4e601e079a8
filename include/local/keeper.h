/* SPDX-License-Identifier: Apache-2.0 */
/* The process that holds on to sandboxes while their server restarts. */
#ifndef LOCAL_KEEPER_H
#define LOCAL_KEEPER_H

#include "common/err.h"

/*
 * Forks it, before there is a secret in memory that it would keep. The socket by which keep_open() makes it work, CLOEXEC; it
 * ends when that is closed unused. Or a negative errno.
 */
MUST_CHECK int keeper_start(void);

#endif
