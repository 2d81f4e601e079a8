/* SPDX-License-Identifier: Apache-2.0 */
#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static uint64_t (*clock_source)(void);

uint64_t clock_ns(void)
{
	struct timespec ts;

	if (clock_source)
		return clock_source();
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t clock_ms(void)
{
	return clock_ns() / 1000000u;
}

int64_t clock_wall_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void clock_set_source(uint64_t (*source)(void))
{
	clock_source = source;
}

void clock_format_rfc3339(int64_t wall_ns, char out[40])
{
	int64_t sec = wall_ns / 1000000000;
	int64_t nsec = wall_ns % 1000000000;
	struct tm tm;
	size_t n;

	if (nsec < 0) {
		nsec += 1000000000;
		sec--;
	}
	time_t t = (time_t)sec;
	gmtime_r(&t, &tm);
	n = strftime(out, 32, "%Y-%m-%dT%H:%M:%S", &tm);
	if (nsec) {
		n += (size_t)snprintf(out + n, 11, ".%09d", (int)nsec);
		while (out[n - 1] == '0')
			n--;
	}
	out[n++] = 'Z';
	out[n] = '\0';
}
