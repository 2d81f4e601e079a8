/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/json_read: JSON read in place. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "gateway/json_read.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A copy of exactly that size, so that a sanitizer sees a read beyond it. */
static char *exact(struct str s)
{
	char *copy = malloc(s.n ? s.n : 1);

	cr_assert_not_null(copy);
	if (s.n)
		memcpy(copy, s.p, s.n);
	return copy;
}

static int document(struct str text)
{
	char *copy = exact(text);
	struct str value;
	int rc = json_read_document(str_of(copy, text.n), &value);

	free(copy);
	return rc;
}

/* What the grammar allows is one value, without the white space around it; cut anywhere it is none. */
Test(gateway_json_read, sound)
{
	static const char *const cases[] = {
		"{}",
		"[]",
		"\"\"",
		"null",
		"true",
		"false",
		"{ \"a\" : [ 1 , -0.5e+7 , { } , [ ] , \"\\u00e4\\\"\\\\\\/\\b\\f\\n\\r\\t\" ] , \"b\":{\"c\":null}}",
		"[[[[\"\x7f\xc3\xa4\"]],true,false,null]]",
		"{\"a\":1,\"a\":2}",
		"\"\xff\"",
		"[1E5,0,0.0,10,-1]",
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct str text = str_from(cases[i]);
		struct buf padded = BUF_EMPTY;
		struct str value;

		buf_addf(&padded, "\t\r\n %s \n", cases[i]);
		cr_expect_eq(json_read_document(buf_str(&padded), &value), 0, "%s", cases[i]);
		cr_expect(str_eq(value, text), "%s", cases[i]);
		for (size_t n = 0; n < text.n; n++)
			cr_expect_eq(document(str_of(text.p, n)), -EPROTO, "%.*s", (int)n, cases[i]);
		buf_fini(&padded);
	}
}

/* What the grammar does not allow is refused. */
Test(gateway_json_read, malformed)
{
	static const char *const cases[] = {
		"",         " ",         "01",      "-",           "+1",         ".5",
		"1.",       "1e",        "1e+",     "0x1",         "nul",        "NaN",
		"'a'",      "\"a\nb\"",  "\"\\x\"", "\"\\u12g4\"", "\"\\u1\"",   "\"\\\"",
		"[1,]",     "[,1]",      "[1 2]",   "[1}",         "{\"a\"}",    "{\"a\":}",
		"{\"a\":1", "{a:1}",     "{1:1}",   "{,}",         "{\"a\":1,}", "{\"a\":1]",
		"[[]",      "]",         "{} {}",   "1 2",         "null,",      "\xef\xbb\xbf{}",
		"/**/{}",   "{\"a\" 1}", "tru",     "[}",
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		cr_expect_eq(document(str_from(cases[i])), -EPROTO, "%s", cases[i]);
	cr_expect_eq(document(STR("\"\0\"")), -EPROTO);
}

/* Containers within containers are bounded, and a deep text costs no stack. */
Test(gateway_json_read, depth)
{
	struct buf text = BUF_EMPTY;

	for (size_t depth = JSON_READ_MAX_DEPTH - 1; depth <= JSON_READ_MAX_DEPTH + 1; depth++) {
		buf_reset(&text);
		for (size_t i = 0; i < depth; i++)
			buf_add_cstr(&text, i % 2 ? "{\"a\":" : "[");
		buf_add_cstr(&text, "1");
		for (size_t i = depth; i-- > 0;)
			buf_add_cstr(&text, i % 2 ? "}" : "]");
		cr_expect_eq(document(buf_str(&text)), depth > JSON_READ_MAX_DEPTH ? -EPROTO : 0, "%zu", depth);
	}
	buf_fini(&text);
}

/* Members come in order with key and value as written; what follows the object is left. */
Test(gateway_json_read, members)
{
	struct json_members m = json_read_members(STR("{ \"a\" : 1.50 ,\"\\u0062\":{\"c\": []} } x"));
	struct json_member got;

	cr_assert_eq(json_read_member(&m, &got), 1);
	cr_expect(str_eq(got.key, STR("\"a\"")) && str_eq(got.value, STR("1.50")));
	cr_expect_eq(json_read_kind(got.value), JSON_KIND_NUMBER);
	cr_assert_eq(json_read_member(&m, &got), 1);
	cr_expect(json_read_string_is(got.key, STR("b")) && str_eq(got.value, STR("{\"c\": []}")));
	cr_expect_eq(json_read_kind(got.value), JSON_KIND_OBJECT);
	cr_assert_eq(json_read_member(&m, &got), 0);
	cr_expect(str_eq(m.rest, STR(" x")));

	m = json_read_members(STR("{}"));
	cr_expect_eq(json_read_member(&m, &got), 0);
	static const char *const bad[] = {"{", "{\"a\":1 \"b\":2}", "{,}", "{\"a\":1,}", "{\"a\":1"};
	for (size_t i = 0; i < COUNT(bad); i++) {
		int rc;

		m = json_read_members(str_from(bad[i]));
		while ((rc = json_read_member(&m, &got)) == 1)
			;
		cr_expect_eq(rc, -EPROTO, "%s", bad[i]);
	}
}

/* Strings stand for what Go's decoder makes of them, invalid UTF-8 and lone surrogates included. */
Test(gateway_json_read, strings)
{
	static const struct {
		struct str quoted, text;
	} cases[] = {
		{{"\"\"", 2}, {"", 0}},
		{{"\"a\\u0062c\"", 10}, {"abc", 3}},
		{{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", 18}, {"\"\\/\b\f\n\r\t", 8}},
		{{"\"\\u0000x\"", 9}, {"\0x", 2}},
		{{"\"\\u00e4\\u20AC\"", 14}, {"\xc3\xa4\xe2\x82\xac", 5}},
		{{"\"\\ud83d\\ude00\"", 14}, {"\xf0\x9f\x98\x80", 4}},
		{{"\"\\ud83dx\"", 9}, {"\xef\xbf\xbdx", 4}},
		{{"\"\\ude00\"", 8}, {"\xef\xbf\xbd", 3}},
		{{"\"\\ud83d\\u0041\"", 14},
		 {"\xef\xbf\xbd"
		  "A",
		  4}},
		{{"\"\\ud83d\\ud83d\\ude00\"", 20}, {"\xef\xbf\xbd\xf0\x9f\x98\x80", 7}},
		{{"\"\xff\xc3\"", 4}, {"\xef\xbf\xbd\xef\xbf\xbd", 6}},
		{{"\"\xc3\xa4\"", 4}, {"\xc3\xa4", 2}},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf out = BUF_EMPTY;
		char copy[32];
		bool zero = memchr(cases[i].text.p, 0, cases[i].text.n);

		json_read_string(cases[i].quoted, &out);
		cr_expect(str_eq(buf_str(&out), cases[i].text), "%s", cases[i].quoted.p);
		cr_expect_eq(json_read_copy(cases[i].quoted, copy, sizeof(copy)), !zero);
		cr_expect_str_eq(copy, zero ? "" : cases[i].text.p);
		if (cases[i].text.n && !zero) {
			cr_expect(!json_read_copy(cases[i].quoted, copy, cases[i].text.n));
			cr_expect_str_eq(copy, "");
		}
		buf_fini(&out);
	}
}

/* A string is compared by what it stands for, not by how it is written. */
Test(gateway_json_read, comparison)
{
	cr_expect(json_read_string_is(STR("\"owner\""), STR("owner")));
	cr_expect(json_read_string_is(STR("\"\\u006fwner\""), STR("owner")));
	cr_expect(json_read_string_is(STR("\"\""), STR("")));
	cr_expect(!json_read_string_is(STR("\"owner\\u0000\""), STR("owner")));
	cr_expect(!json_read_string_is(STR("\"Owner\""), STR("owner")));
	cr_expect(!json_read_string_is(STR("\"owne\""), STR("owner")));
	cr_expect(!json_read_string_is(STR("\"a\\n\""), STR("a\\n")));
	cr_expect(!json_read_string_is(STR("\"\""), STR("a")));
}
