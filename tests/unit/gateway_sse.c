/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/sse and gateway/event_doc: events taken out of a stream, and what is read of them. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/event_doc.h"
#include "gateway/sse.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct heard {
	struct buf raw;  /* everything given on */
	struct buf data; /* the data of each event, a bar behind it */
};

static void on_event(void *arg, const struct sse_event *event)
{
	struct heard *h = arg;

	cr_expect_gt(event->raw.n, 0);
	buf_add_str(&h->raw, event->raw);
	if (!event->has_data)
		return;
	buf_add_str(&h->data, event->data);
	buf_add_char(&h->data, '|');
}

/* Feeds the text in pieces of `size` bytes, each a copy of exactly that size. */
static void feed(struct sse *s, struct str text, size_t size)
{
	for (size_t at = 0; at < text.n; at += size) {
		size_t n = text.n - at < size ? text.n - at : size;
		char *piece = malloc(n);

		cr_assert_not_null(piece);
		memcpy(piece, text.p + at, n);
		cr_expect_eq(sse_feed(s, str_of(piece, n)), 0);
		free(piece);
	}
}

/* Every event comes once with its data, every byte of the stream is given on or is its unfinished end. */
Test(gateway_sse, every_split)
{
	static const struct {
		const char *text, *data, *rest;
	} cases[] = {
		{"", "", ""},
		{"data: a\n\n", "a|", ""},
		{"data: a\r\n\r\n", "a|", ""},
		{"data: a\r\r", "a|", ""},
		{"data: a\n\r", "a|", ""},
		{"data: a\r\n\ndata: b\n\r\n", "a|b|", ""},
		{"data:a\ndata: b\ndata:  c\ndata\n\n", "a\nb\n c\n|", ""},
		{"data\n\n", "|", ""},
		{"data:\n\ndata: x\n\n", "|x|", ""},
		{"id: 1\nevent: e\ndata: {\"a\":1}\nretry: 5\n\n", "{\"a\":1}|", ""},
		{"event: e\n\n", "", ""},
		{": hi\n\ndata: a\n\n\n\n", "a|", ""},
		{": hi\n", "", ""},
		{"data: a\n: hi\ndata: b\n\n", "a\nb|", ""},
		{"Data: a\ndata : b\n data: c\n\n", "", ""},
		{"data: a\n\ndata: b\n", "a|", "data: b\n"},
		{"data: a\n\ndata: b", "a|", "data: b"},
		{"data: a\n\n: hi", "a|", ": hi"},
		{"\r\n\r\n\n\r", "", ""},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct str text = str_from(cases[i].text);

		for (size_t size = 1; size <= text.n || size == 1; size++) {
			struct heard h = {BUF_EMPTY, BUF_EMPTY};
			struct sse s;

			sse_init(&s, on_event, &h);
			feed(&s, text, size);
			cr_expect(str_eq(buf_str(&h.data), str_from(cases[i].data)), "%s by %zu: %.*s", cases[i].text,
				  size, STR_ARG(buf_str(&h.data)));
			cr_expect_eq(sse_is_unfinished(&s), cases[i].rest[0] != '\0', "%s by %zu", cases[i].text, size);
			if (!sse_is_unfinished(&s)) /* a late line feed stands for the next event */
				buf_add_str(&h.raw, buf_str(&s.raw));
			buf_add_cstr(&h.raw, cases[i].rest);
			cr_expect(str_eq(buf_str(&h.raw), text), "%s by %zu: %.*s", cases[i].text, size,
				  STR_ARG(buf_str(&h.raw)));
			sse_fini(&s);
			buf_fini(&h.raw);
			buf_fini(&h.data);
		}
	}
}

/* An event that came with its line ends in one piece has them all. */
Test(gateway_sse, line_end_whole)
{
	struct heard h = {BUF_EMPTY, BUF_EMPTY};
	struct sse s;

	sse_init(&s, on_event, &h);
	cr_expect_eq(sse_feed(&s, STR("data: a\r\n\r\n")), 0);
	cr_expect(str_eq(buf_str(&h.raw), STR("data: a\r\n\r\n")));
	sse_fini(&s);
	buf_fini(&h.raw);
	buf_fini(&h.data);
}

/* An event over the bound is skipped and counted, one of exactly the bound is not; what is held is bounded. */
Test(gateway_sse, too_long)
{
	static const char *const ends[] = {"\n\n", "\r\n\r\n"};

	for (size_t e = 0; e < COUNT(ends); e++) {
		for (size_t over = 0; over <= 1; over++) {
			for (size_t size = 999; size < 400000; size += 100000) {
				struct heard h = {BUF_EMPTY, BUF_EMPTY};
				struct buf text = BUF_EMPTY;
				struct sse s;

				buf_add_cstr(&text, "data: a\n\ndata: ");
				for (size_t n = 6 + strlen(ends[e]); n < SSE_MAX_BYTES + over; n++)
					buf_add_char(&text, 'x');
				buf_addf(&text, "%sdata: b\n\n", ends[e]);
				sse_init(&s, on_event, &h);
				feed(&s, buf_str(&text), size);
				cr_expect_eq(s.skipped, over, "%zu", size);
				cr_expect_eq(s.seen, 3 - over);
				cr_expect_eq(h.data.len, 4 + (over ? 0 : SSE_MAX_BYTES - 6 - strlen(ends[e]) + 1));
				cr_expect(!sse_is_unfinished(&s));
				sse_fini(&s);
				buf_fini(&text);
				buf_fini(&h.raw);
				buf_fini(&h.data);
			}
		}
	}
}

/* An event that never ends holds no more than the bound. */
Test(gateway_sse, endless)
{
	struct heard h = {BUF_EMPTY, BUF_EMPTY};
	static char piece[65536];
	struct sse s;

	memset(piece, 'a', sizeof(piece));
	memcpy(piece + 1000, "\ndata: x\n", 9);
	sse_init(&s, on_event, &h);
	for (int i = 0; i < 100; i++) {
		cr_expect_eq(sse_feed(&s, str_of(piece, sizeof(piece))), 0);
		cr_assert_leq(s.raw.cap + s.data.cap, 4 * SSE_MAX_BYTES);
	}
	cr_expect(sse_is_unfinished(&s));
	cr_expect_eq(h.raw.len, 0);
	sse_fini(&s);
	buf_fini(&h.raw);
	buf_fini(&h.data);
}

/* C11: of an event its type, sandbox and the owner in its data are read; what is not the server's is not. */
Test(gateway_sse, C11_event)
{
	static const struct {
		const char *payload, *type, *sandbox_id, *owner_id; /* type NULL: refused */
	} cases[] = {
		{"{\"id\":\"evt-1\",\"type\":\"sandbox.created\",\"sandbox_id\":\"sb-1\",\"timestamp\":\"x\"}",
		 "sandbox.created", "sb-1", ""},
		{" {\"type\":\"spawn.queued\",\"data\":{\"operation\":\"spawn\",\"owner_id\":\"alice\",\"depth\":1}} ",
		 "spawn.queued", "", "alice"},
		{"{\"type\":\"t\",\"data\":null,\"sandbox_id\":null}", "t", "", ""},
		{"{\"type\":\"t\",\"owner_id\":\"alice\",\"data\":{\"data\":{\"owner_id\":\"alice\"}}}", "t", "", ""},
		{"{\"sandbox_id\":\"../x\",\"data\":{\"owner_id\":\"a\\u0000b\"}}", "", "", ""},
		{"{}", "", "", ""},
		{"", NULL, NULL, NULL},
		{"[]", NULL, NULL, NULL},
		{"{\"type\":\"t\"", NULL, NULL, NULL},
		{"{\"type\":\"t\"} x", NULL, NULL, NULL},
		{"{\"type\":5}", NULL, NULL, NULL},
		{"{\"data\":[]}", NULL, NULL, NULL},
		{"{\"data\":{\"owner_id\":1}}", NULL, NULL, NULL},
		{"{\"sandbox_id\":\"a\",\"sandbox_id\":\"b\"}", NULL, NULL, NULL},
		{"{\"data\":{},\"data\":{\"owner_id\":\"alice\"}}", NULL, NULL, NULL},
		{"{\"data\":{\"owner_id\":\"bob\",\"owner_id\":\"alice\"}}", NULL, NULL, NULL},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct event_doc doc;
		int rc = event_doc_parse(str_from(cases[i].payload), &doc);

		cr_expect_eq(rc, cases[i].type ? 0 : -EPROTO, "%s", cases[i].payload);
		if (rc)
			continue;
		cr_expect_str_eq(doc.type, cases[i].type, "%s", cases[i].payload);
		cr_expect_str_eq(doc.sandbox_id, cases[i].sandbox_id, "%s", cases[i].payload);
		cr_expect_str_eq(doc.owner_id, cases[i].owner_id, "%s", cases[i].payload);
	}
}
