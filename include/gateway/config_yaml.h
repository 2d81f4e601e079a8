/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a configuration file: every fault is named with its line and column, and nothing is ignored. */
#ifndef GATEWAY_CONFIG_YAML_H
#define GATEWAY_CONFIG_YAML_H

#include "common/buf.h"
#include "common/err.h"

struct config;
struct config_places;

/*
 * Reads `file` and what it includes (at most 1 MiB) and completes it with the defaults; file NULL gives the configuration of a daemon without
 * one. 0 and *out, the caller's reference; or -EINVAL and one line per fault in `faults`, each
 * "FILE:LINE:COLUMN: what is wrong, what was expected\n"; or -ENAMETOOLONG when the default socket's path is too long.
 * Resolves user and group names (blocking).
 */
MUST_CHECK int config_load(const char *file, const struct config_places *places, struct config **out,
			   struct buf *faults);

/*
 * The same for -t, which looks for more faults: *out is also what could be read of a faulty file, not completed with the
 * defaults; NULL without memory.
 */
MUST_CHECK int config_read(const char *file, const struct config_places *places, struct config **out,
			   struct buf *faults);

#endif
