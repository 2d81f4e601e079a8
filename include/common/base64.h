/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648 section 4), as text that somebody else made. */
#ifndef COMMON_BASE64_H
#define COMMON_BASE64_H

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/*
 * Appends the bytes that `text` stands for. White space between characters is passed over; padding is required, and nothing may
 * follow it. 0, or -EINVAL: what was appended is then to be dropped. Without memory `out` fails as additions do.
 */
MUST_CHECK int base64_decode(struct str text, struct buf *out);

#endif
