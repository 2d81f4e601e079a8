/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/term.h"

#include <stdbool.h>
#include <stdlib.h>

#include "common/check.h"

static bool passes(unsigned char c, enum term_text kind)
{
	if (kind == TERM_STREAM && (c == '\n' || c == '\t' || c == '\r'))
		return true;
	return c >= 0x20 && c != 0x7f;
}

/* U+0080..U+009F: some terminals take them for ESC and another character. */
static bool is_c1(struct str s, int len)
{
	return len == 2 && (unsigned char)s.p[0] == 0xc2 && (unsigned char)s.p[1] < 0xa0;
}

void term_escape(struct buf *out, struct str s, enum term_text kind)
{
	while (s.n > 0) {
		int len = str_utf8_len(s);
		size_t take = len > 0 ? (size_t)len : 1;
		bool good = len == 1 ? passes((unsigned char)s.p[0], kind) : len > 1 && !is_c1(s, len);

		if (good) {
			buf_add(out, s.p, take);
		} else {
			for (size_t i = 0; i < take; i++)
				buf_addf(out, "\\x%02x", (unsigned char)s.p[i]);
		}
		s = str_of(s.p + take, s.n - take);
	}
}

void term_table_init(struct term_table *t, size_t columns)
{
	CHECK(columns > 0);
	*t = (struct term_table){.columns = columns, .cells = BUF_EMPTY};
}

void term_table_fini(struct term_table *t)
{
	buf_fini(&t->cells);
}

void term_table_cell(struct term_table *t, struct str text)
{
	term_escape(&t->cells, text, TERM_LINE);
	buf_add_char(&t->cells, '\n');
	t->count++;
}

/* Characters, not bytes: what takes one place on the terminal (wide ones are not told apart). */
static size_t width_of(struct str s)
{
	size_t n = 0;

	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static size_t *column_widths(const struct term_table *t)
{
	struct str rest = buf_str(&t->cells);
	size_t *widths = calloc(t->columns, sizeof(*widths));

	if (!widths)
		return NULL;
	for (size_t i = 0; i < t->count; i++) {
		size_t width = width_of(str_cut(&rest, '\n'));

		if (width > widths[i % t->columns])
			widths[i % t->columns] = width;
	}
	return widths;
}

void term_table_render(const struct term_table *t, struct buf *out)
{
	struct str rest = buf_str(&t->cells);
	size_t *widths = column_widths(t);

	if (!widths || t->cells.failed) {
		out->failed = true;
		free(widths);
		return;
	}
	for (size_t i = 0; i < t->count; i++) {
		struct str cell = str_cut(&rest, '\n');
		bool last = (i + 1) % t->columns == 0;

		buf_add_str(out, cell);
		for (size_t pad = width_of(cell); !last && pad < widths[i % t->columns] + 2; pad++)
			buf_add_char(out, ' ');
		if (last)
			buf_add_char(out, '\n');
	}
	free(widths);
}
