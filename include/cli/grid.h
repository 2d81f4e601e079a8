/* SPDX-License-Identifier: Apache-2.0 */
/* A table that is fitted into the columns that there are: texts give way to numbers. */
#ifndef CLI_GRID_H
#define CLI_GRID_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/canvas.h"

enum {
	GRID_COLUMNS_MAX = 12
};

enum grid_kind {
	GRID_TEXT,   /* to the left, cut when the table is too wide */
	GRID_WORD,   /* to the left, whole */
	GRID_NUMBER, /* to the right, whole */
};

struct grid_column {
	const char *title;
	enum grid_kind kind;
	size_t min; /* columns that it takes at least, so that it does not move with each number; the title's width anyway */
};

struct grid_cell {
	size_t at; /* in the grid's text */
	size_t bytes;
	enum canvas_style style;
};

struct grid {
	const struct grid_column *columns; /* borrowed */
	size_t ncolumns;
	struct buf text;         /* owned */
	struct grid_cell *cells; /* owned; the first n, row by row */
	size_t n;
	size_t room;
	bool failed; /* something found no memory */
};

/* At most GRID_COLUMNS_MAX columns. */
void grid_init(struct grid *g, const struct grid_column *columns, size_t ncolumns);
void grid_fini(struct grid *g);

/* The next cell, left to right; the text is made visible here. An empty one is shown as "-". */
void grid_add(struct grid *g, enum canvas_style style, struct str text);
void grid_addf(struct grid *g, enum canvas_style style, const char *fmt, ...) PRINTF_LIKE(3, 4);

size_t grid_rows(const struct grid *g);

/*
 * Draws the titles in the style of headings, then `count` rows from the row `first` on, as far as there are such. `title` stands
 * instead of the first column's.
 */
void grid_draw(const struct grid *g, struct canvas *c, enum canvas_style heading, const char *title, size_t first,
	       size_t count);

#endif
