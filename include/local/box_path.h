/* SPDX-License-Identifier: Apache-2.0 */
/* Paths as seen inside a sandbox: made absolute and clean, and matched against patterns. Pure. */
#ifndef LOCAL_BOX_PATH_H
#define LOCAL_BOX_PATH_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/str.h"

enum {
	BOX_PATH_MAX = 4095
};

/*
 * Writes the terminated absolute form into out (BOX_PATH_MAX + 1 bytes): relative paths start at /workspace, empty
 * and `.` segments go, `..` takes the segment before it (by name, and stops at the root). Returns its length, -EINVAL
 * for an empty path or one with a NUL, -ENAMETOOLONG.
 */
MUST_CHECK int box_path_clean(struct str path, char *out);

/* Whether the segment has any of * ? [ \ and so must be matched. */
bool box_path_is_pattern(struct str segment);

/*
 * Whether a name matches one segment of a pattern: `*` any bytes, `?` one character, [a-z] and [^a-z] or [!a-z] one of a
 * set, `\` takes the next as it is. -EINVAL for a bad pattern (a set without an end, a lone backslash at the end), whatever the name.
 */
MUST_CHECK int box_path_match(struct str pattern, struct str name);

#endif
