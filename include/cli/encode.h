/* SPDX-License-Identifier: Apache-2.0 */
/* How bytes travel through the API: text as it is, anything else as base64; and the checksum that proves it.
 */
#ifndef CLI_ENCODE_H
#define CLI_ENCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/* Largest file that is written as one JSON string, and the raw bytes of one piece of base64 (1 MiB encoded).
 */
enum {
	ENCODE_TEXT_MAX = 1 << 20,
	ENCODE_PIECE_BYTES = 768 << 10
};

/* Whether the API's write keeps these bytes: valid UTF-8 without NUL. */
bool encode_is_text(struct str bytes);

/* Adds bytes as base64 (RFC 4648 section 4), padded, without line ends. */
void encode_base64(struct buf *out, struct str bytes);

/* The CRC of POSIX cksum(1), which every sandbox with base utilities can compute. */
struct encode_cksum {
	uint32_t crc;
	uint64_t bytes;
};

#define ENCODE_CKSUM_EMPTY ((struct encode_cksum){0})

void encode_cksum_add(struct encode_cksum *c, struct str bytes);
/* The value that cksum prints; more may be added afterwards. */
uint32_t encode_cksum_value(const struct encode_cksum *c);

/*
 * Reads what `cksum` printed, "CRC BYTES", or "- BYTES" from a sandbox without it: then *has_crc is false.
 * 0 or -EINVAL.
 */
MUST_CHECK int encode_cksum_parse(struct str text, bool *has_crc, uint32_t *crc, uint64_t *bytes);

#endif
