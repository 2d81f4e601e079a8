/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/grid.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/check.h"

enum {
	GAP = 2 /* between columns */
};

void grid_init(struct grid *g, const struct grid_column *columns, size_t ncolumns)
{
	CHECK(ncolumns > 0 && ncolumns <= GRID_COLUMNS_MAX);
	*g = (struct grid){.columns = columns, .ncolumns = ncolumns, .text = BUF_EMPTY};
}

void grid_fini(struct grid *g)
{
	buf_fini(&g->text);
	free(g->cells);
	*g = (struct grid){0};
}

static struct grid_cell *new_cell(struct grid *g)
{
	if (g->n == g->room) {
		size_t room = g->room ? g->room * 2 : 128;
		struct grid_cell *grown = realloc(g->cells, room * sizeof(*grown));

		if (!grown) {
			g->failed = true;
			return NULL;
		}
		g->cells = grown;
		g->room = room;
	}
	return &g->cells[g->n++];
}

void grid_add(struct grid *g, enum canvas_style style, struct str text)
{
	size_t at = g->text.len;
	struct grid_cell *cell = new_cell(g);

	canvas_visible(&g->text, text.n ? text : STR("-"));
	g->failed |= g->text.failed;
	if (cell)
		*cell = (struct grid_cell){at, g->text.len - at, style};
}

void grid_addf(struct grid *g, enum canvas_style style, const char *fmt, ...)
{
	char text[128];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	grid_add(g, style, str_from(text));
}

size_t grid_rows(const struct grid *g)
{
	return g->n / g->ncolumns;
}

static struct str text_of(const struct grid *g, size_t row, size_t column)
{
	const struct grid_cell *cell = &g->cells[row * g->ncolumns + column];

	return str_of(buf_data(&g->text) + cell->at, cell->bytes);
}

static const char *title_of(const struct grid *g, size_t column, const char *first)
{
	return column == 0 ? first : g->columns[column].title;
}

static size_t wanted_width(const struct grid *g, size_t column, const char *title)
{
	size_t width = canvas_width(str_from(title));

	if (width < g->columns[column].min)
		width = g->columns[column].min;
	for (size_t row = 0; row < grid_rows(g); row++) {
		size_t wide = canvas_width(text_of(g, row, column));
		if (wide > width)
			width = wide;
	}
	return width;
}

/* The widest of the texts that may still be cut, which is to the width of its title; ncolumns if there is none. */
static size_t widest_text(const struct grid *g, const size_t *widths, const char *title)
{
	size_t found = g->ncolumns;

	for (size_t i = 0; i < g->ncolumns; i++)
		if (g->columns[i].kind == GRID_TEXT && widths[i] > canvas_width(str_from(title_of(g, i, title))) &&
		    (found == g->ncolumns || widths[i] > widths[found]))
			found = i;
	return found;
}

static void fit(const struct grid *g, size_t columns, size_t *widths, const char *title)
{
	size_t total = GAP * (g->ncolumns - 1);

	for (size_t i = 0; i < g->ncolumns; i++) {
		widths[i] = wanted_width(g, i, title_of(g, i, title));
		total += widths[i];
	}
	for (; total > columns; total--) {
		size_t widest = widest_text(g, widths, title);
		if (widest == g->ncolumns)
			return;
		widths[widest]--;
	}
}

static void draw_heading(const struct grid *g, struct canvas *c, const size_t *widths, enum canvas_style style,
			 const char *first)
{
	for (size_t i = 0; i < g->ncolumns; i++) {
		if (i > 0)
			canvas_cell(c, style, STR(""), GAP, false);
		canvas_cell(c, style, str_from(title_of(g, i, first)), widths[i], g->columns[i].kind == GRID_NUMBER);
	}
	canvas_fill(c, style);
	canvas_next_line(c);
}

static void draw_row(const struct grid *g, struct canvas *c, const size_t *widths, size_t row)
{
	for (size_t i = 0; i < g->ncolumns; i++) {
		if (i > 0)
			canvas_cell(c, CANVAS_PLAIN, STR(""), GAP, false);
		canvas_cell(c, g->cells[row * g->ncolumns + i].style, text_of(g, row, i), widths[i],
			    g->columns[i].kind == GRID_NUMBER);
	}
	canvas_next_line(c);
}

void grid_draw(const struct grid *g, struct canvas *c, enum canvas_style heading, const char *title, size_t first,
	       size_t count)
{
	size_t widths[GRID_COLUMNS_MAX];

	if (g->failed) {
		c->failed = true;
		return;
	}
	fit(g, c->columns, widths, title);
	draw_heading(g, c, widths, heading, title);
	for (size_t row = first; row < grid_rows(g) && row - first < count; row++)
		draw_row(g, c, widths, row);
}
