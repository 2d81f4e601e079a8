/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>

#include "common/json_write.h"

/* Commas stand between elements and nowhere else, at every depth. */
Test(common_json_write, nesting)
{
	struct buf b = BUF_EMPTY;
	struct json_writer w = json_writer(&b);

	json_object_begin(&w, NULL);
	json_array_begin(&w, "empty");
	json_array_end(&w);
	json_object_begin(&w, "o");
	json_object_end(&w);
	json_array_begin(&w, "a");
	json_int(&w, NULL, 1);
	json_object_begin(&w, NULL);
	json_nothing(&w, "n");
	json_object_end(&w);
	json_array_begin(&w, NULL);
	json_bool(&w, NULL, true);
	json_bool(&w, NULL, false);
	json_array_end(&w);
	json_cstr(&w, NULL, "s");
	json_array_end(&w);
	json_member(&w, STR("k\"ey"), STR("v"));
	json_object_end(&w);
	cr_expect(str_eq(buf_str(&b),
			 STR("{\"empty\":[],\"o\":{},\"a\":[1,{\"n\":null},[true,false],\"s\"],\"k\\\"ey\":\"v\"}")),
		  "%.*s", STR_ARG(buf_str(&b)));
	buf_fini(&b);
}

/* Numbers at their limits; what JSON cannot say is 0. */
Test(common_json_write, numbers)
{
	struct buf b = BUF_EMPTY;
	struct json_writer w = json_writer(&b);

	json_array_begin(&w, NULL);
	json_int(&w, NULL, INT64_MIN);
	json_int(&w, NULL, INT64_MAX);
	json_uint(&w, NULL, UINT64_MAX);
	json_double(&w, NULL, 0.5);
	json_double(&w, NULL, 1e30);
	json_double(&w, NULL, NAN);
	json_double(&w, NULL, -INFINITY);
	json_array_end(&w);
	cr_expect(str_eq(buf_str(&b),
			 STR("[-9223372036854775808,9223372036854775807,18446744073709551615,0.5,1e+30,0,0]")),
		  "%.*s", STR_ARG(buf_str(&b)));
	buf_fini(&b);
}

/* Strings are escaped as Go's encoder does it. */
Test(common_json_write, escapes)
{
	static const struct {
		struct str in;
		struct str out;
	} cases[] = {
		{STR(""), STR("\"\"")},
		{STR("plain / '"), STR("\"plain / '\"")},
		{STR("\"\\"), STR("\"\\\"\\\\\"")},
		{STR("\b\f\n\r\t"), STR("\"\\b\\f\\n\\r\\t\"")},
		{STR("\0\x01\x1b\x1f\x7f"), STR("\"\\u0000\\u0001\\u001b\\u001f\x7f\"")},
		{STR("<a>&"), STR("\"\\u003ca\\u003e\\u0026\"")},
		{STR("\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80"), STR("\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"")},
		{STR("\xc2\x85\xe2\x80\xa8\xe2\x80\xa9"), STR("\"\\u0085\\u2028\\u2029\"")},
		{STR("a\xff"
		     "b\xc3"),
		 STR("\"a\\ufffdb\\ufffd\"")},
		{STR("\xed\xa0\x80"), STR("\"\\ufffd\\ufffd\\ufffd\"")},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf b = BUF_EMPTY;
		json_add_quoted(&b, cases[i].in);
		cr_expect(str_eq(buf_str(&b), cases[i].out), "case %zu: %.*s", i, STR_ARG(buf_str(&b)));
		buf_fini(&b);
	}
}

/* Any bytes at all come out as JSON that another library reads, and valid UTF-8 comes back as it was. */
Test(common_json_write, any_bytes)
{
	char bytes[512];
	unsigned seed = 1;

	for (unsigned round = 0; round < 500; round++) {
		for (size_t i = 0; i < sizeof(bytes); i++) {
			seed = seed * 1103515245u + 12345u;
			bytes[i] = (char)(round % 2 ? (seed >> 16) & 0x7f : seed >> 16);
		}
		struct buf b = BUF_EMPTY;
		json_add_quoted(&b, str_of(bytes, sizeof(bytes)));
		json_error_t error;
		json_t *back = json_loadb(b.mem, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
		cr_assert_not_null(back, "%s", error.text);
		if (round % 2)
			cr_expect(str_eq(str_of(json_string_value(back), json_string_length(back)),
					 str_of(bytes, sizeof(bytes))));
		json_decref(back);
		buf_fini(&b);
	}
}

/* X13: any two bytes become printable ASCII that a parser reads, and valid text comes back as it was. */
Test(common_json_write, ascii)
{
	static const char text[] =
		"a\"\\/<>&\x01\n\x7f\xc2\x85\xe2\x80\xa8\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf";
	struct buf b = BUF_EMPTY;
	json_t *json;

	json_add_ascii(&b, STR(text));
	json = json_loadb(buf_data(&b), b.len, JSON_DECODE_ANY, NULL);
	cr_expect_str_eq(json_string_value(json), text);
	json_decref(json);
	for (unsigned pair = 0; pair < 65536; pair++) {
		const char bytes[2] = {(char)(pair >> 8), (char)(pair & 255)};

		buf_reset(&b);
		json_add_ascii(&b, str_of(bytes, 2));
		for (size_t i = 0; i < b.len; i++)
			cr_assert(buf_data(&b)[i] >= 0x20 && buf_data(&b)[i] < 0x7f, "%04x", pair);
		json = json_loadb(buf_data(&b), b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		cr_assert_not_null(json, "%04x: %.*s", pair, STR_ARG(buf_str(&b)));
		json_decref(json);
	}
	buf_fini(&b);
}
