/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/random.h"

#include <errno.h>
#include <stddef.h>
#include <sys/random.h>
#include <sys/types.h>

#include "common/check.h"

/* A system call for each id would cost more than the rest of it. */
void random_take(unsigned char out[16])
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
