/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "common/buf.h"
#include "local/go_json.h"

struct bound {
	struct str text;
	int64_t number;
	bool flag;
	json_t *list;
	json_t *map;
	json_t *objects;
};

static const struct go_field table[] = {
	{"text", GO_STR, offsetof(struct bound, text)},  {"number", GO_INT, offsetof(struct bound, number)},
	{"flag", GO_BOOL, offsetof(struct bound, flag)}, {"list", GO_LIST, offsetof(struct bound, list)},
	{"map", GO_MAP, offsetof(struct bound, map)},    {"objects", GO_OBJECTS, offsetof(struct bound, objects)},
};

/* Parses and binds; -1000 when already the parsing fails. The document is the caller's. */
static int bind_text(struct str text, struct bound *b, json_t **doc)
{
	*b = (struct bound){.text = STR("default"), .number = 7};
	*doc = NULL;
	if (go_json_parse(text, doc))
		return -1000;
	return go_json_bind(*doc, table, sizeof(table) / sizeof(table[0]), b);
}

static void expect_text(struct str json, struct str want)
{
	struct bound b;
	json_t *doc;

	cr_expect_eq(bind_text(json, &b, &doc), 0, "%.*s", STR_ARG(json));
	cr_expect(str_eq(b.text, want), "%.*s gave \"%.*s\"", STR_ARG(json), STR_ARG(b.text));
	json_decref(doc);
}

/* Only an object or null is a body; what stands behind the first value does not matter. */
Test(go_json, what_is_a_body)
{
	static const char *const good[] = {
		"{}", "null", " {} ", "{}{", "null x", "{\"a\":[1,{\"b\":null}]} trailing", "{}\n\n"};
	static const char *const bad[] = {"",         " ",  "{", "[]", "1", "\"x\"", "true", "{bad", "\xef\xbb\xbf{}",
					  "{\"a\":}", "nul"};
	json_t *doc;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		cr_expect_eq(go_json_parse(str_from(good[i]), &doc), 0, "%s", good[i]);
		cr_expect(json_is_object(doc), "%s", good[i]);
		json_decref(doc);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(go_json_parse(str_from(bad[i]), &doc), -EINVAL, "%s", bad[i]);
}

/* Keys match without case, null leaves the default, the last spelling wins, unknown keys do not matter. */
Test(go_json, keys)
{
	expect_text(STR("{\"TEXT\":\"a\"}"), STR("a"));
	expect_text(STR("{\"text\":null}"), STR("default"));
	expect_text(STR("{\"text\":\"a\",\"Text\":\"b\"}"), STR("b"));
	expect_text(STR("{\"other\":[1,2,{}],\"text\":\"a\"}"), STR("a"));
	expect_text(STR("{}"), STR("default"));
}

/* What is not valid UTF-8 becomes U+FFFD, one for each byte, as do surrogates that stand alone. */
Test(go_json, repairs)
{
	expect_text(STR("{\"text\":\"a\xff"
			"b\"}"),
		    STR("a\xef\xbf\xbd"
			"b"));
	expect_text(STR("{\"text\":\"\xe2\x82\"}"), STR("\xef\xbf\xbd\xef\xbf\xbd"));
	expect_text(STR("{\"text\":\"\\ud800\"}"), STR("\xef\xbf\xbd"));
	expect_text(STR("{\"text\":\"\\udc00x\"}"), STR("\xef\xbf\xbdx"));
	expect_text(STR("{\"text\":\"\\ud83d\\ude00\"}"), STR("\xf0\x9f\x98\x80"));
	expect_text(STR("{\"text\":\"\\\\ud800\"}"), STR("\\ud800"));
	expect_text(STR("{\"text\":\"\\ud800\\u0041\"}"), STR("\xef\xbf\xbd"
							      "A"));
	expect_text(STR("{\"text\":\"a\\u0000b\"}"), STR("a\0b"));
	expect_text(STR("{\"text\":\"h\xc3\xa9llo\"}"), STR("h\xc3\xa9llo"));
}

/* A member of another type than its field is refused. */
Test(go_json, wrong_types)
{
	static const char *const bad[] = {
		"{\"text\":1}",        "{\"text\":true}",
		"{\"number\":\"1\"}",  "{\"number\":1.5}",
		"{\"number\":1e3}",    "{\"flag\":\"true\"}",
		"{\"flag\":1}",        "{\"list\":{}}",
		"{\"list\":[1]}",      "{\"map\":[]}",
		"{\"map\":{\"a\":1}}", "{\"objects\":[[]]}",
		"{\"objects\":{}}",    "{\"objects\":[{\"a\":1}]}",
		"{\"TEXT\":1}",
	};
	struct bound b;
	json_t *doc;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cr_expect_eq(bind_text(str_from(bad[i]), &b, &doc), -EINVAL, "%s", bad[i]);
		json_decref(doc);
	}
	/* More than 64 bits fail already in the parser. */
	cr_expect_eq(bind_text(STR("{\"number\":99999999999999999999}"), &b, &doc), -1000);
}

/* Lists and maps come back as they were, null members as empty strings. */
Test(go_json, emit)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);
	struct bound b;
	json_t *doc;
	struct str json = STR("{\"list\":[\"a\",null],\"map\":{\"k\":\"<\",\"n\":null},\"objects\":[{\"x\":\"y\"}],"
			      "\"number\":-5,\"flag\":true}");

	cr_assert_eq(bind_text(json, &b, &doc), 0);
	cr_expect_eq(b.number, -5);
	cr_expect(b.flag);
	json_object_begin(&w, NULL);
	go_json_emit(&w, "list", b.list);
	go_json_emit(&w, "none", NULL);
	go_json_emit(&w, "map", b.map);
	go_json_emit(&w, "objects", b.objects);
	json_object_end(&w);
	cr_expect(str_eq(buf_str(&out), STR("{\"list\":[\"a\",\"\"],\"map\":{\"k\":\"\\u003c\",\"n\":\"\"},"
					    "\"objects\":[{\"x\":\"y\"}]}")),
		  "%.*s", STR_ARG(buf_str(&out)));
	buf_fini(&out);
	json_decref(doc);
}
