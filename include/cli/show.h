/* SPDX-License-Identifier: Apache-2.0 */
/* Prints answers of the API: as JSON, as "key: value" lines, as lines, as a table. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/fault.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/* All return 0, or -1 with the fault (also when stdout cannot be written). `answer` is JSON text. */

/* One line of compact JSON; only ASCII if `terminal`. */
MUST_CHECK int show_json(struct buf *out, struct str answer, bool terminal, struct fault *f);

/* An object, one "key: value" line for each scalar; what lies deeper has a dotted key, a list of scalars one
 * line. */
MUST_CHECK int show_pairs(struct buf *out, struct str answer, struct fault *f);

/* An array of texts, one line each; their control bytes are escaped if `terminal`. */
MUST_CHECK int show_lines(struct buf *out, struct str answer, bool terminal, struct fault *f);

/* Arrays of sandboxes, templates and leases as tables; `now_s` is the wall clock in seconds since 1970. */
MUST_CHECK int show_sandboxes(struct buf *out, struct str answer, int64_t now_s, struct fault *f);
MUST_CHECK int show_templates(struct buf *out, struct str answer, int64_t now_s, struct fault *f);
MUST_CHECK int show_leases(struct buf *out, struct str answer, int64_t now_s, struct fault *f);

/* A sandbox in one line: "ID expires in 29m". */
MUST_CHECK int show_expiry(struct buf *out, struct str answer, int64_t now_s, struct fault *f);

/* Seconds since 1970 of an RFC 3339 time with any offset. 0 or -EINVAL. */
MUST_CHECK int show_parse_time(const char *text, int64_t *seconds);

/* "12s", "5m", "3h", "2d": the largest unit that says at least 1. */
void show_age(int64_t seconds, char out[24]);

/* Writes what was collected to stdout and frees it. */
MUST_CHECK int show_flush(struct buf *out, struct fault *f);

#endif
