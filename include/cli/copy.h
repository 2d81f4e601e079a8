/* SPDX-License-Identifier: Apache-2.0 */
/* Copies one file into a sandbox or out of it, byte for byte, or leaves no file behind. */
#ifndef CLI_COPY_H
#define CLI_COPY_H

#include <stdint.h>

#include "cli/api.h"
#include "cli/fault.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/*
 * Into the sandbox. `local` is a file or "-" for standard input; `remote` a path there, below /workspace
 * unless it begins with '/'; a directory gets the file under its own name. Mode and bytes are the local
 * file's; an existing file is replaced at once, at the end. 0 and *bytes is its size, or -1 with the fault,
 * and then the target is as it was.
 */
MUST_CHECK int copy_up(struct api *a, const char *id, const char *local, const char *remote, uint64_t *bytes,
		       struct fault *f);

/* Out of the sandbox, in the same way; "-" is standard output. */
MUST_CHECK int copy_down(struct api *a, const char *id, const char *remote, const char *local, uint64_t *bytes,
			 struct fault *f);

/*
 * Asks the sandbox for size and checksum of a file: *has_crc is false where it has no cksum. 0, or -1 with
 * the fault.
 */
MUST_CHECK int copy_remote_cksum(struct api *a, const char *id, struct str path, bool *has_crc, uint32_t *crc,
				 uint64_t *bytes, struct fault *f);

/* Adds the absolute form of a remote path. */
void copy_remote_path(struct buf *out, struct str path);

/* Adds the name of a temporary file beside `path`: ".NAME.stacygate-RANDOM" with a suffix. 0 or negative
 * errno. */
MUST_CHECK int copy_temp_name(struct buf *out, struct str path, const char *suffix);

/* What stands behind the last '/', trailing ones left out; empty for "/". */
struct str copy_base_name(struct str path);

#endif
