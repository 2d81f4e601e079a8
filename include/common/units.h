/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes durations as Go does, and sizes with binary units. */
#ifndef COMMON_UNITS_H
#define COMMON_UNITS_H

#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

enum duration_fault {
	DURATION_OK,
	DURATION_INVALID,      /* Go: time: invalid duration "x" (also what is out of range) */
	DURATION_MISSING_UNIT, /* Go: time: missing unit in duration "30" */
	DURATION_UNKNOWN_UNIT, /* Go: time: unknown unit "d" in duration "1d" */
};

/* Go's time.ParseDuration: "1h30m", "-1.5s", "300ms", "0". Nanoseconds. On a fault *ns is unchanged. */
MUST_CHECK enum duration_fault duration_parse(struct str text, int64_t *ns);

/* Writes Go's error text for a fault: time: missing unit in duration "30". Cut to `size`. */
void duration_fault_text(enum duration_fault fault, struct str text, char *out, size_t size);

/* Go's Duration.String: "0s", "1m0s", "24h0m0s", "6.611358ms", "853.112µs". */
void duration_format(int64_t ns, char out[40]);

/* "64KiB", "1MiB", "2GiB", or plain bytes. 0, -EINVAL or -ERANGE. */
MUST_CHECK int size_parse(struct str text, uint64_t *bytes);

/* For people: "512 B", "3.4 KiB". */
void size_format(uint64_t bytes, char out[24]);

#endif
