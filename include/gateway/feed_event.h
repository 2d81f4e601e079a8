/* SPDX-License-Identifier: Apache-2.0 */
/* One event of a server's stream, read once and shared by all who wait to pass it on. */
#ifndef GATEWAY_FEED_EVENT_H
#define GATEWAY_FEED_EVENT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/str.h"
#include "gateway/event_doc.h"

struct sse_event;

struct feed_event {
	unsigned refs;
	bool comment;         /* it is none: a comment or a blank line, which is nobody's */
	struct event_doc doc; /* all empty when it is none that the server writes */
	size_t n;
	char raw[]; /* as it was written, n bytes */
};

/* The caller's reference, or NULL without memory. */
struct feed_event *feed_event_new(const struct sse_event *event);
/* A comment of the gateway's own; `raw` is whole lines. */
struct feed_event *feed_event_comment(struct str raw);
struct feed_event *feed_event_ref(struct feed_event *e);
void feed_event_unref(struct feed_event *e);

/* What it makes of what is remembered of its sandbox. */
enum feed_change {
	FEED_CHANGE_NONE,
	FEED_CHANGE_GONE,    /* it is destroyed */
	FEED_CHANGE_UNKNOWN, /* whatever is remembered may not hold any more */
};

enum feed_change feed_event_change(const struct feed_event *e);

#endif
