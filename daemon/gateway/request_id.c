/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/request_id.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/random.h>

#include "common/check.h"

bool request_id_is_good(struct str id)
{
	return str_is_id(id, REQUEST_ID_MAX_BYTES);
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

/*
 * Four bytes as eight digits, all at once: each of the eight bytes of x is a digit's value, and the letters are those that
 * carry into the upper half when 6 is added.
 */
static inline void put_hex(char *out, const unsigned char *raw)
{
	const uint64_t ones = UINT64_C(0x0101010101010101);
	uint32_t four;
	uint64_t x;

	memcpy(&four, raw, sizeof(four));
	x = le32toh(four);
	x = (x | x << 16) & UINT64_C(0x0000ffff0000ffff);
	x = (x | x << 8) & UINT64_C(0x00ff00ff00ff00ff);
	x = (x >> 4 & UINT64_C(0x000f000f000f000f)) | (x & UINT64_C(0x000f000f000f000f)) << 8;
	x += ones * '0' + ((x + ones * 6) >> 4 & ones) * ('a' - '0' - 10);
	x = htole64(x);
	memcpy(out, &x, sizeof(x));
}

void request_id_make(char out[REQUEST_ID_MAX_BYTES + 1])
{
	unsigned char raw[16];

	random_bytes(raw);
	raw[6] = (unsigned char)(0x40 | (raw[6] & 0x0f));
	raw[8] = (unsigned char)(0x80 | (raw[8] & 0x3f));
	put_hex(out, raw);
	put_hex(out + 9, raw + 4);
	put_hex(out + 14, raw + 6);
	put_hex(out + 19, raw + 8);
	put_hex(out + 24, raw + 10);
	put_hex(out + 28, raw + 12);
	out[8] = out[13] = out[18] = out[23] = '-';
	out[36] = '\0';
}
