/* SPDX-License-Identifier: Apache-2.0 */
/* A few objects of one kind that are not in use, kept for the next that is needed: a request asks malloc for little. */
#ifndef COMMON_SPARES_H
#define COMMON_SPARES_H

#include <stdbool.h>
#include <stddef.h>

enum {
	SPARES_MAX = 64
};

/* Zero is empty. What is left in it at the end of the process is not released. */
struct spares {
	void *items[SPARES_MAX]; /* owned */
	size_t n;
};

/* One that was put there, in the state in which it was put; NULL when there is none. */
void *spares_take(struct spares *s);

/*
 * Keeps an object that is not in use; false when there are enough and the caller frees it. Under AddressSanitizer that is
 * always so: it is to see objects freed.
 */
bool spares_put(struct spares *s, void *object);

#endif
