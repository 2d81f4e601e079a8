/* SPDX-License-Identifier: Apache-2.0 */
/* A screen's worth of text in styled pieces, cut at its edges. No byte of it can do anything to a terminal but be seen. */
#ifndef CLI_CANVAS_H
#define CLI_CANVAS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/str.h"

enum canvas_style {
	CANVAS_PLAIN,
	CANVAS_STRONG,
	CANVAS_FAINT,
	CANVAS_HEADING, /* the line above a table */
	CANVAS_CHOSEN,  /* the same above the one that the keys move */
	CANVAS_GOOD,
	CANVAS_BAD,
	CANVAS_STYLES
};

struct canvas_piece {
	size_t row;
	size_t column;
	size_t at; /* in the canvas's text */
	size_t bytes;
	enum canvas_style style;
};

struct canvas {
	size_t rows;
	size_t columns;
	size_t row; /* where the next piece goes; rows and more: nowhere */
	size_t column;
	struct buf text;             /* owned */
	struct canvas_piece *pieces; /* owned; the first n */
	size_t n;
	size_t room;
	bool failed; /* something found no memory */
};

void canvas_init(struct canvas *c, size_t rows, size_t columns);
void canvas_fini(struct canvas *c);

/*
 * Adds s as it can be seen: term_escape(), and what the locale (LC_CTYPE) has no width for as \xNN too. So in a locale without
 * UTF-8 it is ASCII.
 */
void canvas_visible(struct buf *out, struct str s);

/* How many columns a text takes that canvas_visible() made. */
size_t canvas_width(struct str visible);

/* Adds any text, made visible, as far as the line has room. */
void canvas_add(struct canvas *c, enum canvas_style style, struct str s);
void canvas_addf(struct canvas *c, enum canvas_style style, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Adds a visible text in exactly `width` columns, padded on one side; one that is too long ends with '+'. */
void canvas_cell(struct canvas *c, enum canvas_style style, struct str visible, size_t width, bool right);

/* Adds spaces up to the edge. */
void canvas_fill(struct canvas *c, enum canvas_style style);

void canvas_next_line(struct canvas *c);

/* How many lines are left, the one that is written to among them. */
size_t canvas_rows_left(const struct canvas *c);

#endif
