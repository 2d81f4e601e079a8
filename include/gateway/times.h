/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the two forms in which a server writes a time. */
#ifndef GATEWAY_TIMES_H
#define GATEWAY_TIMES_H

#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

/*
 * RFC 3339: "2026-01-02T03:04:05.123456789+05:30". Any offset, up to 9 digits of a fraction, T and Z in either case, a
 * leap second counted as the second behind it. Milliseconds since 1970, rounded down. 0 or -EINVAL; *unix_ms is then
 * unchanged.
 */
MUST_CHECK int rfc3339_parse(struct str text, int64_t *unix_ms);

/*
 * The one form of Date that may be sent (RFC 9110 5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT". The two obsolete ones are
 * -EINVAL, as is everything else; *unix_ms is then unchanged. The name of the day is not checked against the date.
 */
MUST_CHECK int http_date_parse(struct str text, int64_t *unix_ms);

#endif
