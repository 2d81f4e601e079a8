/* SPDX-License-Identifier: Apache-2.0 */
#include "common/base64.h"

#include <errno.h>
#include <stdint.h>

/* 0 to 63, or -1. */
static int value_of(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

int base64_decode(struct str text, struct buf *out)
{
	uint32_t bits = 0;
	unsigned n = 0;   /* characters of the present group of four */
	unsigned pad = 0; /* of them, padding */

	for (size_t i = 0; i < text.n; i++) {
		int v = value_of(text.p[i]);
		if (is_space(text.p[i]))
			continue;
		if (text.p[i] == '=' && n >= 2)
			pad++;
		else if (v < 0 || pad)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)(v < 0 ? 0 : v);
		if (++n < 4)
			continue;
		const char bytes[3] = {(char)(bits >> 16), (char)(bits >> 8), (char)bits};
		if (pad > 2)
			return -EINVAL;
		buf_add(out, bytes, 3 - pad);
		n = 0;
		bits = 0;
		if (pad) /* then only white space may follow */
			for (i++; i < text.n; i++)
				if (!is_space(text.p[i]))
					return -EINVAL;
	}
	return n ? -EINVAL : 0;
}
