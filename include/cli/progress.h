/* SPDX-License-Identifier: Apache-2.0 */
/* A line on a terminal that says that something is still going on, and is gone when that is over. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	bool allowed;         /* stderr is a terminal, and people read it */
	const char *what;     /* a literal; NULL: nothing is going on */
	uint64_t began_ms;    /* when it began */
	uint64_t total;       /* bytes in all; 0: it is no matter of bytes */
	uint64_t done;        /* of them */
	uint64_t shown_at_ms; /* when the line was last written */
	size_t shown;         /* places that it takes up on the terminal */
};

/* Nothing is ever shown where stderr is no terminal, nor when `quiet`. */
void progress_init(struct progress *p, bool quiet);

/* `what` is one word, "copying"; with a total it counts bytes, else seconds. Every begin is followed by an end. */
void progress_begin(struct progress *p, const char *what, uint64_t total);
void progress_bytes(struct progress *p, uint64_t done);

/* Shows what there is to show, if it is time. Called now and then by whoever waits, PROGRESS_TICK_MS apart or less. */
enum {
	PROGRESS_TICK_MS = 200
};
void progress_tick(struct progress *p);

/* Whether there is, or may soon be, something to show. */
bool progress_is_on(const struct progress *p);

/* Takes the line off the terminal. */
void progress_end(struct progress *p);

#endif
