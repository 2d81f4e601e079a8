/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that walk trees: done by a child of the init, so that they keep nobody waiting; its messages are passed on. */
#ifndef LOCAL_INIT_WORKER_H
#define LOCAL_INIT_WORKER_H

#include <stdint.h>

struct init;
struct walk;

/* Runs `run` in a child; `what` names the kind of thing in an error. a and b are borrowed for the call. */
void worker_start(struct init *init, uint32_t id, int (*run)(struct walk *w), const char *what, const char *a,
		  const char *b);

#endif
