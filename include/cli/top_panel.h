/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of `stacygate top`: what each takes out of the status document. */
#ifndef CLI_TOP_PANEL_H
#define CLI_TOP_PANEL_H

#include <stddef.h>
#include <stdint.h>

#include "cli/grid.h"

struct json_t;

struct top_panel {
	const char *none; /* what stands there without a row */
	const struct grid_column *columns;
	size_t ncolumns;
	/* Adds all rows; `before` is NULL without an earlier document. */
	void (*fill)(struct grid *g, const struct json_t *now, const struct json_t *before);
	const char *left_out; /* where the document says how many rows it leaves out; NULL: it never does */
};

enum {
	TOP_PANELS_MAX = 4
};

/* Those that a document has something for: all, or those of a caller who sees his own part. `now` may be NULL. */
const struct top_panel *top_panels(const struct json_t *now, size_t *n);

/* The upstreams and their pools, which are always shown. */
const struct top_panel *top_panel_upstreams(void);

#endif
