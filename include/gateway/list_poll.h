/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a server's list of sandboxes again and again, in somebody's name, for those who wait for one to appear in it. */
#ifndef GATEWAY_LIST_POLL_H
#define GATEWAY_LIST_POLL_H

#include <stdbool.h>

#include "common/err.h"
#include "common/str.h"
#include "gateway/fetch.h"
#include "gateway/sandbox_doc.h"

struct list_poll;

struct list_poll_events {
	/* One of the list; both borrowed for the call. `json` is the record as the server wrote it. */
	void (*on_sandbox)(void *arg, const struct sandbox_doc *doc, struct str json);
	/*
	 * The list has been read, or could not be. How long to wait before it is read again, in ms; 0: not until
	 * list_poll_hurry. list_poll_free is allowed from within; the result is then ignored.
	 */
	uint64_t (*on_round)(void *arg, bool complete);
};

/* Reads nothing before list_poll_hurry. NULL without memory. */
struct list_poll *list_poll_new(struct loop *loop, const struct fetch_caller *caller,
				const struct list_poll_events *events, void *arg);
void list_poll_free(struct list_poll *p);
/* Reads it now, or once more when it is being read. */
void list_poll_hurry(struct list_poll *p);
/* What it asks with. */
const struct fetch_caller *list_poll_caller(const struct list_poll *p);

#endif
