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

int64_t clock_wall_ms(void)
{
	return clock_wall_ns() / 1000000;
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

static char *put_digits(char *to, int value, int digits)
{
	for (int i = digits - 1; i >= 0; i--, value /= 10)
		to[i] = (char)('0' + value % 10);
	return to + digits;
}

/* Without printf: this is done for each line of a log. */
void clock_format_ms(int64_t wall_ns, char out[25])
{
	int64_t ms = wall_ns / 1000000 - (wall_ns % 1000000 < 0);
	int64_t rest = (ms % 1000 + 1000) % 1000;
	time_t t = (time_t)((ms - rest) / 1000);
	struct tm tm;

	gmtime_r(&t, &tm);
	const struct {
		int value;
		int digits;
		char behind;
	} parts[] = {{tm.tm_year + 1900, 4, '-'}, {tm.tm_mon + 1, 2, '-'}, {tm.tm_mday, 2, 'T'}, {tm.tm_hour, 2, ':'},
		     {tm.tm_min, 2, ':'},         {tm.tm_sec, 2, '.'},     {(int)rest, 3, 'Z'}};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		out = put_digits(out, parts[i].value, parts[i].digits);
		*out++ = parts[i].behind;
	}
	*out = '\0';
}

uint64_t clock_spread(uint64_t ms)
{
	return ms + clock_ns() / 1000 % (ms / 5 + 1);
}
