/* SPDX-License-Identifier: Apache-2.0 */
/* Reads through the server's list of sandboxes for those of one owner, holding none of it. */
#ifndef GATEWAY_SURVEY_H
#define GATEWAY_SURVEY_H

#include "common/err.h"
#include "common/str.h"
#include "gateway/ownership.h"
#include "gateway/sandbox_doc.h"

struct loop;
struct survey;

struct survey_events {
	/* One of the owner's, in whatever state; borrowed for the call. */
	void (*on_sandbox)(void *arg, const struct sandbox_doc *doc);
	/*
	 * Once, never from within survey_start; the survey is freed afterwards. `status` 0: the list was complete, and `date` is
	 * the value of its Date (empty without one). Otherwise it is what to answer (502, 503, 504), `why` says for people.
	 */
	void (*on_done)(void *arg, unsigned status, const char *why, struct str date);
};

/* 0 or -ENOMEM. `events` is borrowed until the end. */
MUST_CHECK int survey_start(struct loop *loop, const struct fetch_caller *asker, const struct survey_events *events,
			    void *arg, struct survey **out);
/* Ends it without on_done. NULL is fine. */
void survey_cancel(struct survey *s);

#endif
