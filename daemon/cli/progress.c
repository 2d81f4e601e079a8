/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Only our own words and numbers stand in the line, and it is taken back with spaces, so no terminal needs to understand
 * anything but a carriage return. A terminal that takes nothing (it was stopped) is not waited for.
 */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/err.h"
#include "common/fd.h"
#include "common/units.h"

enum {
	SECONDS_AFTER_MS = 1000, /* what is over sooner needs no line */
	BYTES_AFTER_MS = 300,
	LINE_MAX_BYTES = 80,
};

void progress_init(struct progress *p, bool quiet)
{
	*p = (struct progress){.allowed = !quiet && isatty(2)};
}

void progress_begin(struct progress *p, const char *what, uint64_t total)
{
	p->what = what;
	p->began_ms = clock_ms();
	p->total = total;
	p->done = 0;
	p->shown_at_ms = 0;
	p->shown = 0;
}

void progress_bytes(struct progress *p, uint64_t done)
{
	p->done = done;
	progress_tick(p);
}

static void format(const struct progress *p, uint64_t now_ms, char out[LINE_MAX_BYTES])
{
	char done[24], total[24];

	if (!p->total) {
		snprintf(out, LINE_MAX_BYTES, "%s ... %llu s", p->what,
			 (unsigned long long)(now_ms - p->began_ms) / 1000);
		return;
	}
	size_format(p->done, done);
	size_format(p->total, total);
	snprintf(out, LINE_MAX_BYTES, "%s ... %s of %s, %u %%", p->what, done, total,
		 p->done < p->total ? (unsigned)((double)p->done * 100 / (double)p->total) : 100);
}

/* Over what is there now, and no shorter. */
static void put(struct progress *p, const char *text)
{
	char line[2 * LINE_MAX_BYTES];
	size_t n = strlen(text);
	int length = snprintf(line, sizeof(line), "\r%s%*s", text, (int)(p->shown > n ? p->shown - n : 0), "");

	if (fd_write_now(2, line, (size_t)length) > 0)
		p->shown = n;
}

bool progress_is_on(const struct progress *p)
{
	return p->allowed && p->what;
}

void progress_tick(struct progress *p)
{
	uint64_t now_ms = clock_ms();
	char text[LINE_MAX_BYTES];

	if (!progress_is_on(p) || now_ms - p->began_ms < (p->total ? BYTES_AFTER_MS : SECONDS_AFTER_MS) ||
	    (p->shown && now_ms - p->shown_at_ms < PROGRESS_TICK_MS))
		return;
	format(p, now_ms, text);
	put(p, text);
	p->shown_at_ms = now_ms;
}

void progress_end(struct progress *p)
{
	if (p->shown) {
		char line[2 * LINE_MAX_BYTES];
		int length = snprintf(line, sizeof(line), "\r%*s\r", (int)p->shown, "");

		if (fd_write_now(2, line, (size_t)length) < 0)
			p->allowed = false;
	}
	p->what = NULL;
	p->shown = 0;
}
