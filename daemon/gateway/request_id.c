/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/request_id.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "common/check.h"

bool request_id_is_good(struct str id)
{
	if (id.n == 0 || id.n > REQUEST_ID_MAX_BYTES)
		return false;
	for (size_t i = 0; i < id.n; i++) {
		char c = id.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
		      c == '_' || c == '-'))
			return false;
	}
	return true;
}

/* A system call for each id would cost more than the rest of it. */
static void random_bytes(unsigned char out[16])
{
	static unsigned char pool[4096];
	static size_t left;

	if (left == 0) {
		/* Whole but for a signal in between (getrandom(2)); what did come is enough for some. */
		ssize_t n;
		do
			n = getrandom(pool, sizeof(pool), 0);
		while (n < 0 && errno == EINTR);
		CHECK(n >= 16);
		left = (size_t)n / 16 * 16;
	}
	left -= 16;
	memcpy(out, pool + left, 16);
}

void request_id_make(char out[REQUEST_ID_MAX_BYTES + 1])
{
	static const char hex[] = "0123456789abcdef";
	static const unsigned char places[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
	unsigned char raw[16];

	random_bytes(raw);
	raw[6] = (unsigned char)(0x40 | (raw[6] & 0x0f));
	raw[8] = (unsigned char)(0x80 | (raw[8] & 0x3f));
	for (size_t i = 0; i < 16; i++) {
		out[places[i]] = hex[raw[i] >> 4];
		out[places[i] + 1] = hex[raw[i] & 15];
	}
	out[8] = out[13] = out[18] = out[23] = '-';
	out[36] = '\0';
}
