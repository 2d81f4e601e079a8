/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal as `stacygate top` has it, by ncurses: all of the screen, single keys, and back as it was whatever happens. */
#ifndef CLI_TOP_SCREEN_H
#define CLI_TOP_SCREEN_H

#include <stdbool.h>

#include "cli/canvas.h"
#include "cli/fault.h"
#include "common/err.h"

struct top_screen;

enum {
	TOP_SCREEN_FDS = 2
};

/* Whether both standard input and output are a terminal. */
bool top_screen_is_possible(void);

/* Takes the terminal over; LC_CTYPE is the environment's from then on. 0, or -1 with the fault. */
MUST_CHECK int top_screen_open(struct top_screen **out, struct fault *f);

/* Gives it back. NULL is fine. */
void top_screen_close(struct top_screen *s);

/* What to wait for until top_screen_read() has something. Borrowed. */
void top_screen_fds(const struct top_screen *s, int fds[TOP_SCREEN_FDS]);

/*
 * Does what signals ask for (another size, stop, go on), then gives the next key, a character or one of enum top_key: 1, or 0 when
 * there is none left, or -1 with the fault when the terminal has gone. *redraw is set when everything has to be drawn anew.
 */
MUST_CHECK int top_screen_read(struct top_screen *s, int *key, bool *redraw, struct fault *f);

/* An empty canvas of its size. */
void top_screen_begin(const struct top_screen *s, struct canvas *c);

/* Shows it instead of what is there. */
void top_screen_show(const struct top_screen *s, const struct canvas *c);

#endif
