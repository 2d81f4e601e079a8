/* SPDX-License-Identifier: Apache-2.0 */
/* Names of users and groups, looked up by a thread of its own, since a name service may take its time, and remembered. */
#ifndef GATEWAY_NAMES_H
#define GATEWAY_NAMES_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"

struct loop;
struct names;

enum names_kind {
	NAMES_USER,
	NAMES_GROUP,
};

/*
 * Asks the name service, blocking, in the thread: 0 and *name (owned by the caller), 0 and NULL when the id has none, or a
 * negative errno when the service does not answer.
 */
typedef int names_source(enum names_kind kind, uint32_t id, char **name);
names_source names_from_system;

enum names_result {
	NAMES_KNOWN,  /* *name is it, borrowed until the loop turns; NULL: the id has none */
	NAMES_WAIT,   /* on_known will be called */
	NAMES_FAILED, /* the service does not answer, or there is no memory */
};

/* Somebody who waits; embedded. */
struct names_wait {
	struct list link; /* on the entry's list while waiting; list_init before the first use */
	void (*on_known)(struct names_wait *w);
};

/* Makes it; the thread is started at the first question. NULL without memory or descriptors. */
struct names *names_new(struct loop *loop, names_source *source);
/* Nobody may be waiting. A look-up under way ends by itself. NULL is fine. */
void names_free(struct names *n);

/*
 * What the id is called. With NAMES_WAIT `w` waits until the answer has come, or 10 s have passed, which is a failure; then
 * it asks again. An answer is remembered for a minute, a failure for a second.
 */
MUST_CHECK enum names_result names_look_up(struct names *n, enum names_kind kind, uint32_t id, struct names_wait *w,
					   const char **name);
/* Waits no longer; fine when it does not wait. */
void names_cancel(struct names_wait *w);

#endif
