/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: the streams that the gateway takes apart. The first byte says how they are cut; however that is, the
 * elements and events are those of the whole in one piece. What a list filter lets through must be JSON again.
 */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "common/check.h"
#include "gateway/elements.h"
#include "gateway/event_doc.h"
#include "gateway/list_filter.h"
#include "gateway/sse.h"
#include "gateway/times.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was given on, and what became of the stream. */
struct told {
	struct buf text;
	int rc;
};

static void add_piece(struct told *t, struct str piece)
{
	buf_add_str(&t->text, piece);
	buf_add_char(&t->text, '\0');
}

static void on_element(void *arg, struct str element)
{
	CHECK(element.n);
	add_piece(arg, element);
}

static void on_event(void *arg, const struct sse_event *event)
{
	struct event_doc doc;

	CHECK(event->raw.n);
	if (event->has_data) {
		add_piece(arg, event->data);
		(void)!event_doc_parse(event->data, &doc);
	}
}

/* The next piece, a copy of exactly its size, freed by the caller. */
static char *cut(struct str text, size_t at, size_t step, size_t *n)
{
	char *copy;

	*n = text.n - at < step ? text.n - at : step;
	copy = malloc(*n);
	CHECK(copy);
	memcpy(copy, text.p + at, *n);
	return copy;
}

static void split_elements(struct str text, size_t step, struct told *t)
{
	struct elements e;
	size_t n = 0;

	elements_init(&e, on_element, t);
	for (size_t at = 0; at < text.n && t->rc == 0; at += n) {
		char *piece = cut(text, at, step, &n);
		t->rc = elements_feed(&e, str_of(piece, n));
		free(piece);
	}
	if (t->rc == 0)
		t->rc = elements_end(&e);
	elements_fini(&e);
}

static void split_events(struct str text, size_t step, struct told *t)
{
	struct sse s;
	size_t n = 0;

	sse_init(&s, on_event, t);
	for (size_t at = 0; at < text.n; at += n) {
		char *piece = cut(text, at, step, &n);
		CHECK(sse_feed(&s, str_of(piece, n)) == 0);
		free(piece);
	}
	t->rc = sse_is_unfinished(&s);
	sse_fini(&s);
}

static void compare(void (*split)(struct str text, size_t step, struct told *t), struct str text, size_t step)
{
	struct told whole = {BUF_EMPTY, 0};
	struct told pieces = {BUF_EMPTY, 0};

	split(text, text.n ? text.n : 1, &whole);
	split(text, step, &pieces);
	CHECK(whole.rc == pieces.rc);
	CHECK(str_eq(buf_str(&whole.text), buf_str(&pieces.text)));
	buf_fini(&whole.text);
	buf_fini(&pieces.text);
}

static void filter(struct str text, size_t step)
{
	struct list_filter f;
	struct buf out = BUF_EMPTY;
	size_t n = 0;
	int rc = 0;

	list_filter_init(&f, "alice");
	for (size_t at = 0; at < text.n && rc == 0; at += n) {
		n = text.n - at < step ? text.n - at : step;
		rc = list_filter_feed(&f, str_of(text.p + at, n), &out);
	}
	if (rc == 0 && list_filter_end(&f, &out) == 0) {
		json_error_t error;
		json_t *array = json_loadb(buf_data(&out), out.len, JSON_ALLOW_NUL, &error);
		/* jansson is stricter about text and numbers than what passes byte for byte. */
		CHECK(!array || json_array_size(array) == f.kept);
		CHECK(array || f.kept);
		json_decref(array);
	}
	list_filter_fini(&f);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t step = size ? 1 + data[0] % 16 : 1;
	struct str text = size ? str_of((const char *)data + 1, size - 1) : str_of("", 0);
	int64_t ms;

	compare(split_elements, text, step);
	compare(split_events, text, step);
	filter(text, step);
	(void)!rfc3339_parse(text, &ms);
	(void)!http_date_parse(text, &ms);
	return 0;
}
