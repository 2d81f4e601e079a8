/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a key from where the configuration says it is into a secret. */
#ifndef GATEWAY_CREDENTIAL_H
#define GATEWAY_CREDENTIAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

struct config_key;
struct secret;

/*
 * Reads it now: from a file (owner root or the daemon's uid, a regular file and no symlink, not writable by group or other,
 * nothing for other, group-readable only if root's and the group is one of ours; below $CREDENTIALS_DIRECTORY systemd
 * guards it instead), from a credential of systemd, or from a variable, which is then overwritten and taken out of the
 * environment. Not for commands. One trailing newline is dropped; white space and control characters are refused. 0 and
 * *out, the caller's reference; or a negative errno and `why`, which never holds a byte of the value.
 */
MUST_CHECK int credential_load(const struct config_key *k, struct secret **out, char *why, size_t why_size);

/*
 * The same checks without keeping the value, and without taking a variable out of the environment; of a command only whether
 * there is one. For -t.
 */
MUST_CHECK int credential_check(const struct config_key *k, char *why, size_t why_size);

/*
 * Whether it is a credential of systemd and this process is none that systemd gives it to: it is neither good nor bad. That
 * is so outside a unit, and in a unit's ExecReload=, which has the variable but may not look into the directory.
 */
bool credential_is_out_of_reach(const struct config_key *k);

/* What a command printed: checked alike and wiped in any case. 0 and *out, or a negative errno and `why`. */
MUST_CHECK int credential_take(const struct config_key *k, char *bytes, size_t n, struct secret **out, char *why,
			       size_t why_size);

/* Where the file of a file or systemd source is. 0 or a negative errno and `why`. */
MUST_CHECK int credential_path(const struct config_key *k, char path[PATH_MAX], char *why, size_t why_size);

#endif
