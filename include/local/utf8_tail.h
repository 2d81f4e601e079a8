/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps characters whole that a stream of bytes delivers in pieces. */
#ifndef LOCAL_UTF8_TAIL_H
#define LOCAL_UTF8_TAIL_H

#include "common/buf.h"
#include "common/str.h"

struct utf8_tail {
	char held[3]; /* the begin of a character whose rest has not come */
	size_t n;     /* bytes in it */
};

/* Adds to `out` what was held back and the piece, but for an incomplete character at its end, which is held back. */
void utf8_tail_pass(struct utf8_tail *t, struct str piece, struct buf *out);

/* Adds what is held back: the stream has ended within a character. */
void utf8_tail_flush(struct utf8_tail *t, struct buf *out);

#endif
