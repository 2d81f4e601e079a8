/* SPDX-License-Identifier: Apache-2.0 */
/* What happens in the server, told to all who listen: numbered, written once, and kept for each in a bounded queue. */
#ifndef LOCAL_EVENTS_H
#define LOCAL_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"
#include "common/str.h"

enum {
	EVENTS_QUEUE_MAX = 64,     /* events that wait for one listener; what comes then is lost to him */
	EVENTS_LISTENERS_MAX = 64, /* at a time */
};

enum events_type {
	EVENTS_SANDBOX_CREATED,
	EVENTS_SANDBOX_RUNNING,
	EVENTS_SANDBOX_DESTROYED,
	EVENTS_EXEC_STARTED,
	EVENTS_EXEC_COMPLETED,
	EVENTS_EXEC_FAILED,
	EVENTS_EXEC_TIMEOUT,
	EVENTS_FILE_WRITTEN,
	EVENTS_FILE_READ,
	EVENTS_OPERATION_FAILED,
	EVENTS_RESOURCE_LIMIT,
	EVENTS_TYPES,
};

/* What the data of a failure says. */
struct events_fault {
	const char *operation;
	struct str error; /* for people; may hold bytes of anybody */
};

struct events;
struct events_text;

/* Embedded in who listens; the fields are the module's own but for on_event. */
struct events_listener {
	struct list link;                           /* on the list of listeners */
	struct events *events;                      /* borrowed; NULL: listens to nothing */
	struct events_text *ring[EVENTS_QUEUE_MAX]; /* references; the queue begins at `first` */
	size_t first;
	size_t n;
	/* Something waits in the queue. Called by events_tell: nothing may be told or left in it. */
	void (*on_event)(struct events_listener *l);
};

/* NULL without memory. */
struct events *events_new(void);
/* After the last listener has left. NULL is fine. */
void events_free(struct events *es);

/* False when there are too many. */
MUST_CHECK bool events_listen(struct events *es, struct events_listener *l,
			      void (*on_event)(struct events_listener *l));
/* May be called more than once; one that never listened is all zeros. */
void events_leave(struct events_listener *l);

/* The oldest event that waits, "data: {...}" with its blank line, borrowed until it is dropped; empty: none. */
struct str events_first(const struct events_listener *l);
void events_drop(struct events_listener *l);

/* Tells everybody. `sandbox_id` may be empty, `fault` NULL. Without memory the event is lost, its number is not given again. */
void events_tell(struct events *es, enum events_type type, struct str sandbox_id, const struct events_fault *fault);

#endif
