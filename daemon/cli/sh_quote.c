/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sh_quote.h"

void sh_quote(struct buf *out, struct str word)
{
	buf_add_char(out, '\'');
	while (word.n > 0) {
		int len = str_utf8_len(word);
		size_t take = len > 0 ? (size_t)len : 1;

		if (len <= 0)
			/* Never a newline, so that the substitution takes nothing away. */
			buf_addf(out, "'\"$(printf '\\%03o')\"'", (unsigned char)word.p[0]);
		else if (word.p[0] == '\'')
			buf_add_cstr(out, "'\\''");
		else
			buf_add(out, word.p, take);
		word = str_of(word.p + take, word.n - take);
	}
	buf_add_char(out, '\'');
}
