/* SPDX-License-Identifier: Apache-2.0 */
/* Random bytes for ids, many of one system call, and bytes as hexadecimal digits. */
#ifndef GATEWAY_RANDOM_H
#define GATEWAY_RANDOM_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

void random_take(unsigned char out[16]);

/*
 * Four bytes as eight digits, all at once: each of the eight bytes of x is a digit's value, and the letters are those that
 * carry into the upper half when 6 is added. In the header because it is done for every request.
 */
static inline void random_put_hex(char *out, const unsigned char *raw)
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

#endif
