/* SPDX-License-Identifier: Apache-2.0 */
#include "local/utf8_tail.h"

/* How many bytes at the end of s begin a character that is valid so far. */
static size_t incomplete_end(struct str s)
{
	for (size_t k = 1; k <= 3 && k <= s.n; k++) {
		unsigned char c = (unsigned char)s.p[s.n - k];

		if (c < 0x80)
			return 0;
		if (c >= 0xc0)
			return str_utf8_len(str_of(s.p + s.n - k, k)) < 0 ? k : 0;
	}
	return 0;
}

void utf8_tail_pass(struct utf8_tail *t, struct str piece, struct buf *out)
{
	size_t keep;

	utf8_tail_flush(t, out);
	buf_add_str(out, piece);
	keep = incomplete_end(buf_str(out));
	if (keep == 0 || out->failed)
		return;
	memcpy(t->held, buf_data(out) + out->len - keep, keep);
	t->n = keep;
	out->len -= keep;
}

void utf8_tail_flush(struct utf8_tail *t, struct buf *out)
{
	buf_add(out, t->held, t->n);
	t->n = 0;
}
