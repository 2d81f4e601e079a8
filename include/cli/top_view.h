/* SPDX-License-Identifier: Apache-2.0 */
/* What `stacygate top` shows: a status document laid out for a screen of any size, and what the keys do to that. */
#ifndef CLI_TOP_VIEW_H
#define CLI_TOP_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/canvas.h"
#include "cli/top_panel.h"

struct json_t;

/* Keys that are no character; a character is its own number. */
enum top_key {
	TOP_KEY_UP = 256,
	TOP_KEY_DOWN,
	TOP_KEY_PAGE_UP,
	TOP_KEY_PAGE_DOWN,
	TOP_KEY_HOME,
	TOP_KEY_END,
	TOP_KEY_BACK_TAB,
};

struct top_view {
	struct json_t *now;           /* owned; the document that is shown; NULL: none yet */
	struct json_t *before;        /* owned; the one before, of the same run of the gateway; may be NULL */
	size_t panel;                 /* the chosen one */
	size_t first[TOP_PANELS_MAX]; /* of each panel the row that is shown first */
	size_t page;                  /* how many rows of the chosen one were last drawn */
	bool paused;                  /* what comes is not shown */
	bool help;                    /* the keys are explained instead of the panels */
	uint64_t heard_ms;            /* when the last document came, shown or not */
	bool lost;                    /* there is no connection: */
	char why[256];                /* ... why not; may be empty */
	char news[64];                /* what has become of the gateway, shown ... */
	uint64_t news_until_ms;       /* ... until then */
};

#define TOP_VIEW_EMPTY ((struct top_view){0})

void top_view_fini(struct top_view *v);

/* Takes over a document, an object. */
void top_view_take(struct top_view *v, struct json_t *document, uint64_t now_ms);

/* The connection is gone, or cannot be made again; `why` is NULL when the gateway has ended it. */
void top_view_lost(struct top_view *v, const char *why);

/* What the user wants; true: to leave. Keys that mean nothing are ignored. */
bool top_view_key(struct top_view *v, int key);

/* Lays everything out, whatever the size. */
void top_view_draw(struct top_view *v, struct canvas *c, uint64_t now_ms);

#endif
