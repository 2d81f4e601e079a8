/* SPDX-License-Identifier: Apache-2.0 */
/* Brings a credential from where the configuration says it is into a secret. */
#ifndef GATEWAY_CREDENTIAL_H
#define GATEWAY_CREDENTIAL_H

#include <stddef.h>

#include "common/err.h"

struct config_credential;
struct secret;

/*
 * Loads it: from a file (owner root or the daemon's uid, a regular file and no symlink, not writable by group or other,
 * nothing for other, group-readable only if root's and the group is one of ours; below $CREDENTIALS_DIRECTORY systemd
 * guards it instead), or from a variable, which is then overwritten and taken out of the environment: a second load of
 * the same variable gives `previous` again. One trailing newline is dropped; white space and control characters are
 * refused. 0 and *out, the caller's reference; or a negative errno and `why`, which never holds a byte of the value.
 */
MUST_CHECK int credential_load(const struct config_credential *k, struct secret *previous, struct secret **out,
			       char *why, size_t why_size);

/*
 * The same checks without keeping the value, and without taking a variable out of the environment; for -t.
 */
MUST_CHECK int credential_check(const struct config_credential *k, char *why, size_t why_size);

#endif
