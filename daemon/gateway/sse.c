/* SPDX-License-Identifier: Apache-2.0 */
/*
 * As the HTML standard has it (9.2.6, interpreting an event stream), but for the byte order mark that may begin a
 * stream: the server sends none, and with one the first line has a name that nobody knows.
 */
#include "gateway/sse.h"

#include <errno.h>

void sse_init(struct sse *s, sse_on_event *on_event, void *arg)
{
	*s = (struct sse){.on_event = on_event, .arg = arg, .empty_line = true};
}

void sse_fini(struct sse *s)
{
	buf_fini(&s->raw);
	buf_fini(&s->data);
}

/* A line without its end. */
static void read_line(struct sse *s, struct str line)
{
	struct str value = line;
	struct str name = str_cut(&value, ':');

	s->has_fields = true;
	if (!str_eq(name, STR("data")))
		return;
	if (value.n && value.p[0] == ' ')
		value = str_of(value.p + 1, value.n - 1);
	if (s->has_data)
		buf_add_char(&s->data, '\n');
	s->has_data = true;
	buf_add_str(&s->data, value);
}

static void begin(struct sse *s)
{
	buf_reset(&s->raw);
	buf_reset(&s->data);
	s->line = 0;
	s->has_fields = false;
	s->has_data = false;
	s->too_long = false;
	s->empty_line = true;
}

static void give(struct sse *s)
{
	struct sse_event event = {buf_str(&s->raw), s->has_data, buf_str(&s->data)};

	s->seen++;
	s->on_event(s->arg, &event);
	begin(s);
}

/* The line that began at s->line is whole, `end` bytes of line end included. */
static void end_line(struct sse *s, size_t end)
{
	struct str line = str_of(buf_data(&s->raw) + s->line, s->raw.len - s->line - end);
	bool comment = line.n && line.p[0] == ':';

	s->line = s->raw.len;
	s->empty_line = true;
	if (line.n && !comment)
		read_line(s, line);
	else if ((!comment || !s->has_fields) && !s->data.failed)
		give(s);
}

static void end_skipped_line(struct sse *s)
{
	if (!s->empty_line) {
		s->empty_line = true;
		return;
	}
	s->skipped++;
	begin(s);
}

static void skip(struct sse *s)
{
	s->too_long = true;
	buf_fini(&s->raw);
	buf_fini(&s->data);
}

/* Bytes of one line, without its end. */
static void add(struct sse *s, struct str bytes)
{
	if (bytes.n == 0)
		return;
	s->empty_line = false;
	if (!s->too_long && s->raw.len + bytes.n > SSE_MAX_BYTES)
		skip(s);
	if (!s->too_long)
		buf_add_str(&s->raw, bytes);
}

static void add_end(struct sse *s, struct str end)
{
	if (!s->too_long && s->raw.len + end.n > SSE_MAX_BYTES)
		skip(s);
	if (s->too_long) {
		end_skipped_line(s);
		return;
	}
	buf_add_str(&s->raw, end);
	if (!s->raw.failed)
		end_line(s, end.n);
}

/* How many bytes of line end stand at the start. */
static size_t end_length(struct str bytes)
{
	return bytes.n >= 2 && bytes.p[0] == '\r' && bytes.p[1] == '\n' ? 2 : 1;
}

/* The line feed of a CRLF whose line was ended by its CR. */
static void add_late_feed(struct sse *s)
{
	if (s->too_long)
		return;
	buf_add_char(&s->raw, '\n');
	s->line = s->raw.len;
}

/* The next line or piece of one; returns how many bytes of it there are. */
static size_t take_line(struct sse *s, struct str bytes)
{
	size_t n = 0;

	if (s->behind_cr && bytes.p[0] == '\n') {
		s->behind_cr = false;
		add_late_feed(s);
		return 1;
	}
	s->behind_cr = false;
	while (n < bytes.n && bytes.p[n] != '\n' && bytes.p[n] != '\r')
		n++;
	add(s, str_of(bytes.p, n));
	if (n == bytes.n)
		return n;
	size_t end = end_length(str_of(bytes.p + n, bytes.n - n));
	s->behind_cr = bytes.p[n] == '\r' && end == 1;
	add_end(s, str_of(bytes.p + n, end));
	return n + end;
}

int sse_feed(struct sse *s, struct str bytes)
{
	size_t i = 0;

	while (i < bytes.n && !s->raw.failed && !s->data.failed)
		i += take_line(s, str_of(bytes.p + i, bytes.n - i));
	return s->raw.failed || s->data.failed ? -ENOMEM : 0;
}

bool sse_is_unfinished(const struct sse *s)
{
	return s->too_long || s->has_fields || s->raw.len > s->line;
}
