/* SPDX-License-Identifier: Apache-2.0 */
/* The two clocks: one that never jumps, for timeouts, and the wall clock, for what people read. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>
#include <sys/time.h>

/* Milliseconds, nanoseconds of the monotonic clock, since an arbitrary start. */
uint64_t clock_ms(void);
uint64_t clock_ns(void);

/* A span of so many milliseconds, as libevent takes it. */
static inline struct timeval clock_span(uint64_t ms)
{
	return (struct timeval){.tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000) * 1000};
}

/* The span and up to a fifth more, so that several processes which wait alike do not knock in step. */
uint64_t clock_spread(uint64_t ms);

/* Nanoseconds, milliseconds since 1970-01-01T00:00:00Z. */
int64_t clock_wall_ns(void);
int64_t clock_wall_ms(void);

/*
 * Makes clock_ms() and clock_ns() return what `source` says, in nanoseconds; NULL goes back to the system's.
 * This is how a program's time is injected.
 */
void clock_set_source(uint64_t (*source)(void));

/* Writes wall time as RFC 3339 in UTC, trailing zeros of the fraction cut: "2026-01-02T03:04:05.5Z". */
void clock_format_rfc3339(int64_t wall_ns, char out[40]);

/* The same with three digits of the fraction, always 24 bytes and a NUL: "2026-01-02T03:04:05.500Z". Years 0 to 9999. */
void clock_format_ms(int64_t wall_ns, char out[25]);

#endif
