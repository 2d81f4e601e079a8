/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a request target apart and refuses every spelling that two parties could read differently. */
#ifndef GATEWAY_TARGET_H
#define GATEWAY_TARGET_H

#include "common/err.h"
#include "common/str.h"

struct target {
	struct str origin; /* path and query, byte for byte as sent */
	struct str path;   /* begins with '/' */
	struct str query;  /* without '?'; p NULL when there is none */
};

/*
 * `text` is the target as sent, `host` the value of Host. Origin form and the absolute form of the same host are
 * accepted (RFC 9112 3.2). 0, or the status to answer (400, 421) and *why, a literal.
 */
MUST_CHECK unsigned target_parse(struct str text, struct str host, struct target *out, const char **why);
/*
 * The same for a target that is somebody else's to read: the path passes however it is spelt, and `*` for OPTIONS is its own
 * path.
 */
MUST_CHECK unsigned target_parse_foreign(struct str text, struct str host, struct target *out, const char **why);

#endif
