/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/wire.h"

#include <stdlib.h>

size_t wire_head_bytes(struct str s)
{
	const char *end = s.n ? memmem(s.p, s.n, "\r\n\r\n", 4) : NULL;

	return end ? (size_t)(end - s.p) + 4 : 0;
}

/* The next line without its CRLF; what follows it stays in *rest. */
static struct str next_line(struct str *rest)
{
	const char *end = rest->n ? memmem(rest->p, rest->n, "\r\n", 2) : NULL;
	struct str line = *rest;

	if (!end) {
		*rest = str_of(NULL, 0);
		return line;
	}
	line.n = (size_t)(end - rest->p);
	*rest = str_of(end + 2, rest->n - line.n - 2);
	return line;
}

struct str wire_first_line(struct str head)
{
	return next_line(&head);
}

unsigned wire_status(struct str head)
{
	struct str line = wire_first_line(head);
	uint64_t status;

	if (line.n < 12 || !str_starts(line, STR("HTTP/1.")) || str_parse_u64(str_of(line.p + 9, 3), &status))
		return 0;
	return (unsigned)status;
}

struct str wire_target(struct str head)
{
	struct str line = wire_first_line(head);

	str_cut(&line, ' ');
	return str_cut(&line, ' ');
}

struct str wire_header(struct str head, const char *name, unsigned nth)
{
	next_line(&head);
	while (head.n) {
		struct str line = next_line(&head);
		struct str key = str_cut(&line, ':');

		if (str_eq_nocase(key, str_from(name)) && nth-- == 0)
			return str_trim(line);
	}
	return str_of(NULL, 0);
}

unsigned wire_count(struct str head, const char *name)
{
	unsigned n = 0;

	next_line(&head);
	while (head.n) {
		struct str line = next_line(&head);

		n += str_eq_nocase(str_cut(&line, ':'), str_from(name));
	}
	return n;
}

bool wire_header_is(struct str head, const char *name, const char *value)
{
	return wire_count(head, name) == 1 && str_eq(wire_header(head, name, 0), str_from(value));
}

/* Size of the chunk whose line this is; -1 when it is none. */
static long long chunk_size(struct str line)
{
	struct str digits = str_trim(str_cut(&line, ';'));
	long long size = 0;

	if (!digits.n || digits.n > 12)
		return -1;
	for (size_t i = 0; i < digits.n; i++) {
		const char *all = "0123456789abcdef", *at = strchr(all, digits.p[i] | 0x20);

		if (!digits.p[i] || !at)
			return -1;
		size = size * 16 + (at - all);
	}
	return size;
}

/* Behind the last chunk: lines up to an empty one. */
static enum wire_extent skip_trailers(struct str *rest)
{
	for (;;) {
		if (!rest->n || !memmem(rest->p, rest->n, "\r\n", 2))
			return WIRE_MORE;
		if (next_line(rest).n == 0)
			return WIRE_COMPLETE;
	}
}

enum wire_extent wire_dechunk(struct str raw, size_t *used, struct buf *out)
{
	struct str rest = raw;

	*used = 0;
	for (;;) {
		struct str line;
		long long size;

		if (!rest.n || !memmem(rest.p, rest.n, "\r\n", 2))
			return WIRE_MORE;
		line = next_line(&rest);
		size = chunk_size(line);
		if (size < 0)
			return WIRE_BROKEN;
		if (size == 0) {
			enum wire_extent end = skip_trailers(&rest);

			if (end == WIRE_COMPLETE)
				*used = raw.n - rest.n;
			return end;
		}
		if (rest.n < (size_t)size + 2) {
			buf_add(out, rest.p, rest.n < (size_t)size ? rest.n : (size_t)size);
			return WIRE_MORE;
		}
		if (memcmp(rest.p + size, "\r\n", 2) != 0)
			return WIRE_BROKEN;
		buf_add(out, rest.p, (size_t)size);
		rest = str_of(rest.p + size + 2, rest.n - (size_t)size - 2);
	}
}

enum wire_extent wire_body(struct str head, struct str raw, bool bodiless, bool ended, size_t *used, struct buf *out)
{
	struct str length = wire_header(head, "content-length", 0);
	bool response = wire_status(head) != 0;
	uint64_t n = 0;

	buf_reset(out);
	*used = 0;
	if (bodiless)
		return WIRE_COMPLETE;
	if (wire_count(head, "transfer-encoding"))
		return wire_dechunk(raw, used, out);
	if (wire_count(head, "content-length")) {
		if (str_parse_u64(length, &n))
			return WIRE_BROKEN;
		*used = raw.n < n ? raw.n : n;
		buf_add(out, raw.p, *used);
		return *used == n ? WIRE_COMPLETE : WIRE_MORE;
	}
	if (!response)
		return WIRE_COMPLETE;
	*used = raw.n;
	buf_add(out, raw.p, raw.n);
	return ended ? WIRE_COMPLETE : WIRE_MORE;
}
