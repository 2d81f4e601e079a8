/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a program that is tested: its wall clock is a day ahead once the file that SG_CLOCK_JUMP names exists. The
 * monotonic clock goes on as it did, as in a machine whose time is set.
 */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
	JUMP_S = 86400
};

static char path[256];

/* The environment may be cleaned later. */
__attribute__((constructor)) static void take_path(void)
{
	const char *value = getenv("SG_CLOCK_JUMP");

	if (value && strlen(value) < sizeof(path))
		memcpy(path, value, strlen(value) + 1);
}

static time_t jump(void)
{
	return path[0] && access(path, F_OK) == 0 ? JUMP_S : 0;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	static int (*next)(clockid_t, struct timespec *);
	int rc;

	if (!next)
		next = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
	rc = next(clock, ts);
	if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
		ts->tv_sec += jump();
	return rc;
}

int gettimeofday(struct timeval *tv, void *zone)
{
	struct timespec ts;

	(void)zone;
	if (clock_gettime(CLOCK_REALTIME, &ts))
		return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *out)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_REALTIME, &ts))
		return (time_t)-1;
	if (out)
		*out = ts.tv_sec;
	return ts.tv_sec;
}
