/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An element that arrives in one piece is given on from there; of one that does not, what came is held. Only what finds
 * its end is looked at: quotes, backslashes within them, brackets. Who takes an element for something reads it with a
 * parser, which finds whatever else is wrong with it.
 */
#include "gateway/elements.h"

#include <errno.h>

void elements_init(struct elements *e, elements_on_element *on_element, void *arg)
{
	*e = (struct elements){.on_element = on_element, .arg = arg, .state = ELEMENTS_BEFORE};
}

void elements_fini(struct elements *e)
{
	buf_fini(&e->held);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Bytes up to the end of the string in which p is, its quote included; *in_string says whether it ended. */
static size_t pass_string(struct elements *e, const char *p, size_t n)
{
	size_t i = 0;

	if (e->escaped && n) {
		e->escaped = false;
		i = 1;
	}
	for (; i < n; i++) {
		if (p[i] == '"') {
			e->in_string = false;
			return i + 1;
		}
		if (p[i] == '\\' && ++i == n) {
			e->escaped = true;
			return n;
		}
	}
	return n;
}

/* Whether the byte, outside of strings, stands behind the element: only a scalar is ended by what follows it. */
static bool is_behind(const struct elements *e, char c)
{
	return e->depth == 0 && (c == ',' || c == ']' || is_space(c));
}

/* How many of the bytes belong to the element; *whole says whether it ends there. */
static size_t pass_element(struct elements *e, struct str bytes, bool *whole)
{
	size_t i = 0;

	*whole = false;
	while (i < bytes.n) {
		char c = bytes.p[i];
		if (e->in_string) {
			i += pass_string(e, bytes.p + i, bytes.n - i);
			*whole = !e->in_string && e->depth == 0;
		} else if (is_behind(e, c)) {
			*whole = true;
		} else {
			i++;
			if (c == '"')
				e->in_string = true;
			else if (c == '{' || c == '[')
				e->depth++;
			else if (e->depth && (c == '}' || c == ']'))
				*whole = --e->depth == 0;
		}
		if (*whole)
			return i;
	}
	return i;
}

static void give(struct elements *e, struct str piece)
{
	e->seen++;
	if (e->size > ELEMENTS_MAX_BYTES) {
		e->skipped++;
		return;
	}
	if (e->held.len) {
		buf_add_str(&e->held, piece);
		piece = buf_str(&e->held);
	}
	if (e->held.failed)
		e->no_memory = true;
	else
		e->on_element(e->arg, piece);
}

static size_t pass_inside(struct elements *e, struct str bytes)
{
	bool whole;
	size_t n = pass_element(e, bytes, &whole);

	e->size += n;
	if (whole) {
		give(e, str_of(bytes.p, n));
		buf_reset(&e->held);
		e->state = ELEMENTS_BEHIND;
	} else if (e->size > ELEMENTS_MAX_BYTES) {
		buf_fini(&e->held);
	} else {
		buf_add(&e->held, bytes.p, n);
		e->no_memory = e->held.failed;
	}
	return n;
}

static void begin(struct elements *e)
{
	e->state = ELEMENTS_INSIDE;
	e->depth = 0;
	e->in_string = false;
	e->escaped = false;
	e->size = 0;
}

/* A byte that is no white space, between elements. True when it is passed, false when it begins an element. */
static bool pass_between(struct elements *e, char c)
{
	switch (e->state) {
	case ELEMENTS_BEFORE:
		e->state = c == '[' ? ELEMENTS_OPEN : ELEMENTS_BROKEN;
		return true;
	case ELEMENTS_BEHIND:
		e->state = c == ',' ? ELEMENTS_COMMA : c == ']' ? ELEMENTS_DONE : ELEMENTS_BROKEN;
		return true;
	case ELEMENTS_OPEN:
	case ELEMENTS_COMMA:
		if (c != ',' && c != ']' && c != '}') {
			begin(e);
			return false;
		}
		e->state = c == ']' && e->state == ELEMENTS_OPEN ? ELEMENTS_DONE : ELEMENTS_BROKEN;
		return true;
	case ELEMENTS_INSIDE:
	case ELEMENTS_DONE:
	case ELEMENTS_BROKEN:
		break;
	}
	e->state = ELEMENTS_BROKEN;
	return true;
}

static int fault(const struct elements *e)
{
	return e->no_memory ? -ENOMEM : e->state == ELEMENTS_BROKEN ? -EPROTO : 0;
}

int elements_feed(struct elements *e, struct str bytes)
{
	size_t i = 0;

	while (i < bytes.n && fault(e) == 0) {
		if (e->state == ELEMENTS_INSIDE)
			i += pass_inside(e, str_of(bytes.p + i, bytes.n - i));
		else if (is_space(bytes.p[i]) || pass_between(e, bytes.p[i]))
			i++;
	}
	return fault(e);
}

int elements_end(const struct elements *e)
{
	int rc = fault(e);

	return rc ? rc : e->state == ELEMENTS_DONE ? 0 : -EPROTO;
}
