/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/canvas.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#include "cli/term.h"

void canvas_init(struct canvas *c, size_t rows, size_t columns)
{
	*c = (struct canvas){.rows = rows, .columns = columns, .text = BUF_EMPTY};
}

void canvas_fini(struct canvas *c)
{
	buf_fini(&c->text);
	free(c->pieces);
	*c = (struct canvas){0};
}

/* ---- characters -------------------------------------------------------- */

/* The character of a valid sequence of `len` bytes. */
static wchar_t decode(const char *p, int len)
{
	static const unsigned char masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	wchar_t c = (unsigned char)p[0] & masks[len];

	for (int i = 1; i < len; i++)
		c = (c << 6) | ((unsigned char)p[i] & 0x3f);
	return c;
}

/* Takes the first character off *s; its columns, negative when it has none. */
static int take_char(struct str *s, struct str *taken)
{
	int len = str_utf8_len(*s);

	*taken = str_of(s->p, len > 0 ? (size_t)len : 1);
	*s = str_of(s->p + taken->n, s->n - taken->n);
	return len > 0 ? wcwidth(decode(taken->p, len)) : -1;
}

void canvas_visible(struct buf *out, struct str s)
{
	struct buf escaped = BUF_EMPTY;
	struct str rest, taken;

	term_escape(&escaped, s, TERM_LINE);
	for (rest = buf_str(&escaped); rest.n > 0;) {
		if (take_char(&rest, &taken) >= 0) {
			buf_add_str(out, taken);
			continue;
		}
		for (size_t i = 0; i < taken.n; i++)
			buf_addf(out, "\\x%02x", (unsigned char)taken.p[i]);
	}
	out->failed |= escaped.failed;
	buf_fini(&escaped);
}

/* How much of the text fits; *width is what that takes. */
static struct str fitting(struct str visible, size_t columns, size_t *width)
{
	struct str rest = visible, taken;

	*width = 0;
	while (rest.n > 0) {
		struct str before = rest;
		int w = take_char(&rest, &taken);
		if (w > 0 && *width + (size_t)w > columns)
			return str_of(visible.p, visible.n - before.n);
		*width += w > 0 ? (size_t)w : 0;
	}
	return visible;
}

size_t canvas_width(struct str visible)
{
	size_t width;

	fitting(visible, SIZE_MAX, &width);
	return width;
}

/* ---- pieces ------------------------------------------------------------ */

static struct canvas_piece *new_piece(struct canvas *c)
{
	if (c->n == c->room) {
		size_t room = c->room ? c->room * 2 : 64;
		struct canvas_piece *grown = realloc(c->pieces, room * sizeof(*grown));

		if (!grown) {
			c->failed = true;
			return NULL;
		}
		c->pieces = grown;
		c->room = room;
	}
	return &c->pieces[c->n++];
}

/* What is visible already, as far as there is room; returns its columns. */
static size_t put(struct canvas *c, enum canvas_style style, struct str visible, size_t columns)
{
	size_t left = c->row < c->rows && c->column < c->columns ? c->columns - c->column : 0;
	struct canvas_piece *piece;
	size_t width;

	if (left == 0)
		return 0;
	visible = fitting(visible, columns < left ? columns : left, &width);
	if (visible.n == 0)
		return 0;
	piece = new_piece(c);
	if (!piece)
		return 0;
	*piece = (struct canvas_piece){c->row, c->column, c->text.len, visible.n, style};
	buf_add_str(&c->text, visible);
	c->failed |= c->text.failed;
	c->column += width;
	return width;
}

static void pad(struct canvas *c, enum canvas_style style, size_t n)
{
	static const char spaces[] = "                                ";

	while (n > 0) {
		size_t some = n < sizeof(spaces) - 1 ? n : sizeof(spaces) - 1;
		if (put(c, style, str_of(spaces, some), some) == 0)
			return;
		n -= some;
	}
}

void canvas_add(struct canvas *c, enum canvas_style style, struct str s)
{
	struct buf visible = BUF_EMPTY;

	canvas_visible(&visible, s);
	c->failed |= visible.failed;
	put(c, style, buf_str(&visible), SIZE_MAX);
	buf_fini(&visible);
}

void canvas_addf(struct canvas *c, enum canvas_style style, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	canvas_add(c, style, str_from(text));
}

void canvas_cell(struct canvas *c, enum canvas_style style, struct str visible, size_t width, bool right)
{
	size_t wide = canvas_width(visible);
	size_t used = wide;

	if (wide > width && width > 0) {
		used = put(c, style, visible, width - 1);
		used += put(c, style, STR("+"), 1);
		pad(c, style, width - used);
		return;
	}
	if (right)
		pad(c, style, width - used);
	put(c, style, visible, width);
	if (!right)
		pad(c, style, width - used);
}

void canvas_fill(struct canvas *c, enum canvas_style style)
{
	if (c->column < c->columns)
		pad(c, style, c->columns - c->column);
}

void canvas_next_line(struct canvas *c)
{
	c->row++;
	c->column = 0;
}

size_t canvas_rows_left(const struct canvas *c)
{
	return c->row < c->rows ? c->rows - c->row : 0;
}
