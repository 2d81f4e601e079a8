/* SPDX-License-Identifier: Apache-2.0 */
#include "local/file_mode.h"

#include <errno.h>
#include <stdint.h>

int file_mode_parse(struct str text, unsigned *mode)
{
	uint64_t bits = 0;

	if (text.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] < '0' || text.p[i] > '7')
			return -EINVAL;
		if (bits <= UINT32_MAX)
			bits = bits * 8 + (uint64_t)(text.p[i] - '0');
	}
	if (bits > UINT32_MAX)
		return -ERANGE;
	*mode = (unsigned)bits & 0777;
	return 0;
}

unsigned file_mode_for_write(struct str text)
{
	unsigned mode;

	if (str_eq(text, STR("executable")))
		return 0755;
	return file_mode_parse(text, &mode) ? 0644 : mode;
}
