/* SPDX-License-Identifier: Apache-2.0 */
/* Reads file modes as API requests write them. */
#ifndef LOCAL_FILE_MODE_H
#define LOCAL_FILE_MODE_H

#include "common/err.h"
#include "common/str.h"

/* Octal digits ("755", "0755"); bits above 0777 are dropped. 0, -EINVAL, or -ERANGE beyond 32 bits. */
MUST_CHECK int file_mode_parse(struct str text, unsigned *mode);

/* The mode of a file to write: "executable" is 0755, what cannot be read is 0644. */
unsigned file_mode_for_write(struct str text);

#endif
