/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of the server's own making, in files for a gateway that runs as a service beside it. */
#ifndef LOCAL_KEY_FILES_H
#define LOCAL_KEY_FILES_H

#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

struct api_keys;

/*
 * Reads api.key and admin.key of the directory; one that is missing is made there, with mode 0640 for the group (0600 when `gid`
 * is -1). 0 and the keys, which are the caller's, or a negative errno and `why` for people.
 */
MUST_CHECK int key_files_keep(const char *dir, gid_t gid, struct api_keys *out, char *why, size_t why_size);

/* Puts the same files into the directory in which that socket lies, in place of what is there. 0, or as above. */
MUST_CHECK int key_files_lay_beside(const char *socket, gid_t gid, const struct api_keys *keys, char *why,
				    size_t why_size);

#endif
