/* SPDX-License-Identifier: Apache-2.0 */
/* Makes text of others safe for a terminal, and lines up tables. */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include <stddef.h>

#include "common/buf.h"
#include "common/str.h"

enum term_text {
	TERM_LINE,   /* one line: every control byte is escaped */
	TERM_STREAM, /* a program's output: newline, tab and carriage return pass */
};

/*
 * Adds s to out with control characters (C0, DEL, C1) and bytes that are not UTF-8 as \xNN; so nothing in it
 * can move the cursor, change the title or answer for the user. A backslash stays one.
 */
void term_escape(struct buf *out, struct str s, enum term_text kind);

/* A table is collected cell by cell, then laid out with each column as wide as its widest cell. */
struct term_table {
	size_t columns;
	size_t count;     /* cells so far */
	struct buf cells; /* owned; escaped texts, each ended by a newline */
};

void term_table_init(struct term_table *t, size_t columns);
void term_table_fini(struct term_table *t);
/* Row by row, left to right. The text is escaped here. */
void term_table_cell(struct term_table *t, struct str text);
/* Adds the table to out, two spaces between columns, none at the end of a line. */
void term_table_render(const struct term_table *t, struct buf *out);

#endif
