/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/elements: an array taken apart while it arrives. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "gateway/elements.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Writes each element with a bar behind it. */
static void note(void *arg, struct str element)
{
	buf_add_str(arg, element);
	buf_add_char(arg, '|');
}

/* Feeds text in pieces of `size` bytes, each a copy of exactly that size; returns what end says. */
static int split(struct str text, size_t size, struct buf *got)
{
	struct elements e;
	int rc = 0;

	elements_init(&e, note, got);
	for (size_t at = 0; at < text.n && rc == 0; at += size) {
		size_t n = text.n - at < size ? text.n - at : size;
		char *piece = malloc(n);

		cr_assert_not_null(piece);
		memcpy(piece, text.p + at, n);
		rc = elements_feed(&e, str_of(piece, n));
		free(piece);
	}
	cr_expect(rc == 0 || elements_end(&e) == rc, "a fault is forgotten");
	if (rc == 0)
		rc = elements_end(&e);
	elements_fini(&e);
	return rc;
}

/* Every element comes once, whole and as written, whatever the pieces are. */
Test(gateway_elements, every_split)
{
	static const struct {
		const char *text, *elements;
	} cases[] = {
		{"[]", ""},
		{" \r\n\t[ ] \n", ""},
		{"[1]", "1|"},
		{"[ 1 , -2.5e3,null ,true, false]\n", "1|-2.5e3|null|true|false|"},
		{"[{\"a\":1},{\"b\":[1,2,{}]}]", "{\"a\":1}|{\"b\":[1,2,{}]}|"},
		{"[ {\"a\" : \"]},{[\" } , [ [ ] ] ]", "{\"a\" : \"]},{[\" }|[ [ ] ]|"},
		{"[\"\\\"\",\"\\\\\",\"a\\\\\\\"]\"]", "\"\\\"\"|\"\\\\\"|\"a\\\\\\\"]\"|"},
		{"[{\"a\":\"\\\\\"},{\"\\\"}\":0}]", "{\"a\":\"\\\\\"}|{\"\\\"}\":0}|"},
		{"[\"\",\"\xc3\xa4\",\"\\u005d\"]", "\"\"|\"\xc3\xa4\"|\"\\u005d\"|"},
		{"[[],[[]],{}]", "[]|[[]]|{}|"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct str text = str_from(cases[i].text);

		for (size_t size = 1; size <= text.n; size++) {
			struct buf got = BUF_EMPTY;

			cr_expect_eq(split(text, size, &got), 0, "%s by %zu", cases[i].text, size);
			cr_expect(str_eq(buf_str(&got), str_from(cases[i].elements)), "%s by %zu: %.*s", cases[i].text,
				  size, STR_ARG(buf_str(&got)));
			buf_fini(&got);
		}
	}
}

/* What is no array, not complete, or followed by something is a fault, whatever the pieces are. */
Test(gateway_elements, faults)
{
	static const char *const cases[] = {
		"",          " ",
		"[",         "[1",
		"[1,",       "[{}",
		"[{},",      "[\"a",
		"[\"a\\\"]", "{}",
		"null",      "1",
		"x[]",       "[]]",
		"[] []",     "[],",
		"[,]",       "[1,]",
		"[1,,2]",    "[1 2]",
		"[{}{}]",    "[\"a\"\"b\"]",
		"[}",        "[{}}",
		"[{]",       "[[]",
		"[1]x",      "{\"code\":\"INTERNAL_ERROR\",\"message\":\"x\"}\n",
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct str text = str_from(cases[i]);

		for (size_t size = 1; size <= text.n || size == 1; size++) {
			struct buf got = BUF_EMPTY;

			cr_expect_eq(split(text, size, &got), -EPROTO, "%s by %zu", cases[i], size);
			buf_fini(&got);
		}
	}
}

/* Nothing but the whole array is complete: every text cut short is a fault. */
Test(gateway_elements, cut)
{
	struct str text = STR("[{\"a\":[1,\"]\"]}, \"x\", 12]");

	for (size_t n = 0; n < text.n; n++) {
		struct buf got = BUF_EMPTY;

		cr_expect_eq(split(str_of(text.p, n), 3, &got), -EPROTO, "%zu bytes", n);
		buf_fini(&got);
	}
}

/* "[1,STRING,2]" with a string of `size` bytes, quotes included. */
static void add_array(struct buf *b, size_t size)
{
	buf_reset(b);
	buf_add_cstr(b, "[1,\"");
	for (size_t i = 2; i < size; i++)
		buf_add_char(b, ',');
	buf_add_cstr(b, "\",2]");
}

static void count(void *arg, struct str element)
{
	*(size_t *)arg += element.n;
}

/* An element over the bound is skipped and counted, those beside it are not; what is held is bounded. */
Test(gateway_elements, too_long)
{
	struct buf text = BUF_EMPTY;

	for (size_t over = 0; over <= 1; over++) {
		for (size_t piece = 1000; piece <= 400000; piece += 133000) {
			struct elements e;
			size_t bytes = 0;

			add_array(&text, ELEMENTS_MAX_BYTES + over);
			elements_init(&e, count, &bytes);
			for (size_t at = 0; at < text.len; at += piece) {
				size_t n = text.len - at < piece ? text.len - at : piece;
				cr_assert_eq(elements_feed(&e, str_of(buf_data(&text) + at, n)), 0);
				cr_assert_leq(e.held.cap, 2 * ELEMENTS_MAX_BYTES);
			}
			cr_expect_eq(elements_end(&e), 0);
			cr_expect_eq(e.seen, 3);
			cr_expect_eq(e.skipped, over);
			cr_expect_eq(bytes, 2 + (over ? 0 : (size_t)ELEMENTS_MAX_BYTES));
			elements_fini(&e);
		}
	}
	buf_fini(&text);
}

/* A string that never ends holds no more than the bound. */
Test(gateway_elements, endless)
{
	static char piece[65536];
	struct elements e;
	size_t bytes = 0;

	memset(piece, 'a', sizeof(piece));
	elements_init(&e, count, &bytes);
	cr_assert_eq(elements_feed(&e, STR("[\"")), 0);
	for (int i = 0; i < 200; i++) {
		cr_assert_eq(elements_feed(&e, str_of(piece, sizeof(piece))), 0);
		cr_assert_leq(e.held.cap, 2 * ELEMENTS_MAX_BYTES);
	}
	cr_expect_eq(elements_end(&e), -EPROTO);
	elements_fini(&e);
}
