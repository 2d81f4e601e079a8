/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "gateway/template_doc.h"

static struct buf out;

static void drop(void)
{
	buf_fini(&out);
}

TestSuite(gateway_template_doc, .fini = drop);

#define EXPECT_OUT(expected, what)                                                                                     \
	cr_expect(str_eq(buf_str(&out), str_from(expected)), "%s: %.*s", (what), STR_ARG(buf_str(&out)))

static const struct {
	const char *in;
	const char *shown; /* without the newline; NULL: it is no template */
} shows[] = {
	{"{\"cpu_cores\":2,\"ttl_seconds\":90}\n",
	 "{\"cpu_cores\":2,\"ttl_seconds\":90,\"vcpus\":2,\"ttl\":\"1m30s\"}"},
	{"{\"vcpus\":2,\"ttl\":\"1h\"}", "{\"vcpus\":2,\"ttl\":\"1h\",\"cpu_cores\":2,\"ttl_seconds\":3600}"},
	{"{\"cpu_cores\":2,\"vcpus\":3,\"ttl\":\"x\",\"ttl_seconds\":0}",
	 "{\"cpu_cores\":2,\"vcpus\":3,\"ttl\":\"x\",\"ttl_seconds\":0}"},
	{"{}", "{}"},
	{" {\"a\" : 1.50 }\n ", "{\"a\" : 1.50 }"},
	{"{\"ttl\":\"soon\"}", "{\"ttl\":\"soon\"}"},
	{"{\"ttl\":\"1500ms\"}", "{\"ttl\":\"1500ms\"}"},
	{"{\"ttl\":5}", "{\"ttl\":5}"},
	{"{\"ttl_seconds\":1.5}", "{\"ttl_seconds\":1.5}"},
	{"{\"ttl_seconds\":-5}", "{\"ttl_seconds\":-5}"},
	{"{\"ttl_seconds\":99999999999999}", "{\"ttl_seconds\":99999999999999}"},
	{"{\"ttl_seconds\":0}", "{\"ttl_seconds\":0,\"ttl\":\"0s\"}"},
	{"{\"metadata\":{\"cpu_cores\":1}}", "{\"metadata\":{\"cpu_cores\":1}}"},
	{"[]", "[]"},
	{" [ ] ", "[]"},
	{"[{\"cpu_cores\":1} , 5,\n{\"a\":[{}]},null]", "[{\"cpu_cores\":1,\"vcpus\":1},5,{\"a\":[{}]},null]"},
	{"null", NULL},
	{"5", NULL},
	{"", NULL},
	{"[{}", NULL},
	{"{} {}", NULL},
	{"<html>", NULL},
};

/* Both spellings in every template of an answer, and nothing else changed. */
Test(gateway_template_doc, show)
{
	for (size_t i = 0; i < sizeof(shows) / sizeof(shows[0]); i++) {
		char expected[256];
		buf_reset(&out);
		cr_expect_eq(template_doc_show(str_from(shows[i].in), &out), shows[i].shown != NULL, "%s", shows[i].in);
		snprintf(expected, sizeof(expected), "%s\n", shows[i].shown ? shows[i].shown : "");
		if (shows[i].shown)
			EXPECT_OUT(expected, shows[i].in);
	}
}

static const struct {
	const char *in;
	const char *sent; /* NULL: 400 */
} bodies[] = {
	{"{\"name\" : \"a\"}", "{\"name\" : \"a\"}"},
	{"{\"vcpus\":4,\"ttl\":\"1h\"}", "{\"cpu_cores\":4,\"ttl_seconds\":3600}"},
	{"{\"vcpus\":4,\"cpu_cores\":4}", "{\"cpu_cores\":4}"},
	{"{\"vcpus\":4,\"cpu_cores\":null}", "{\"cpu_cores\":4}"},
	{"{\"vcpus\":null,\"cpu_cores\":3}", "{\"cpu_cores\":3}"},
	{"{\"ttl\":\"60s\",\"ttl_seconds\":60}", "{\"ttl_seconds\":60}"},
	{"{\"ttl\":\"\",\"x\":1}", "{\"x\":1}"},
	{"{\"ttl\":\"0\"}", "{\"ttl_seconds\":0}"},
	{"{\"TTL\":\"1m\"}", "{\"ttl_seconds\":60}"},
	{"null", "null"},
	{"{\"vcpus\":4,\"cpu_cores\":5}", NULL},
	{"{\"ttl\":\"60s\",\"ttl_seconds\":61}", NULL},
	{"{\"ttl\":\"60s\",\"ttl_seconds\":\"60\"}", NULL},
	{"{\"ttl\":\"1.5s\"}", NULL},
	{"{\"ttl\":\"-1s\"}", NULL},
	{"{\"ttl\":60}", NULL},
	{"{\"ttl\":[]}", NULL},
	{"{\"ttl\":\"99999999999999h\"}", NULL},
	{"[]", NULL},
};

/* The documentation's spelling becomes the server's; what says two things, or no duration, is refused. */
Test(gateway_template_doc, translate)
{
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct body_verdict v = {0};
		buf_reset(&out);
		template_doc_translate(str_from(bodies[i].in), &out, &v);
		cr_expect_eq(v.status, bodies[i].sent ? 0 : 400, "%s: %u %s", bodies[i].in, v.status, v.why);
		if (bodies[i].sent)
			EXPECT_OUT(bodies[i].sent, bodies[i].in);
	}
}

/* A replacement has what a POST gives; without an image there is none. */
Test(gateway_template_doc, replacement)
{
	cr_expect(template_doc_replacement(STR("{\"name\":\"a\",\"image\":\"i\",\"memory_mb\":0,\"cpu_cores\":7}"),
					   &out));
	EXPECT_OUT(
		"{\"name\":\"a\",\"image\":\"i\",\"memory_mb\":512,\"cpu_cores\":7,\"version\":1,\"ttl_seconds\":300}",
		"fill");
	cr_expect_not(template_doc_replacement(STR("{\"name\":\"a\"}"), &out));
	cr_expect_not(template_doc_replacement(STR("{\"name\":\"a\",\"image\":\"\"}"), &out));
}

static const struct {
	const char *name; /* as JSON */
	const char *path; /* behind the prefix; NULL: none */
} paths[] = {
	{"\"abc\"", "abc"},        {"\"a b\"", "a%20b"}, {"\"a%41\"", "a%2541"},
	{"\"\\u00fc\"", "%C3%BC"}, {"\"\\n\"", "%0A"},   {"\"a:b@c\"", "a:b@c"},
	{"\"a?b\"", "a%3Fb"},      {"\"a/b\"", NULL},    {"\".\"", NULL},
	{"\"..\"", NULL},          {"\"...\"", "..."},   {"\"\"", NULL},
	{"\"a\\u0000b\"", NULL},   {"5", NULL},          {"null", NULL},
};

/* The path that the server would write itself. */
Test(gateway_template_doc, path)
{
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		char body[64], expected[64];
		snprintf(body, sizeof(body), "{\"name\":%s}", paths[i].name);
		snprintf(expected, sizeof(expected), "/api/v1/templates/%s", paths[i].path ? paths[i].path : "");
		buf_reset(&out);
		cr_expect_eq(template_doc_path(str_from(body), &out), paths[i].path != NULL, "%s", body);
		if (paths[i].path)
			EXPECT_OUT(expected, body);
	}
	cr_expect_not(template_doc_path(STR("{}"), &out));
}

static const struct {
	const char *sent;
	const char *answer;
	const char *names;
} ignores[] = {
	{"{\"provider\":\"d\",\"metadata\":{\"a\":\"b\"}}", "{\"name\":\"a\"}", "metadata, provider"},
	{"{\"provider\":\"d\",\"metadata\":{\"a\":\"b\"}}", "{\"provider\":\"d\",\"metadata\":{\"a\":\"b\"}}", ""},
	{"{\"Provider\":\"d\"}", "{\"provider\":\"\"}", "provider"},
	{"{\"vcpus\":2,\"ttl\":\"1m\"}", "{\"cpu_cores\":2,\"ttl_seconds\":60}", ""},
	{"{\"vcpus\":2,\"ttl\":\"1m\"}", "{}", "ttl, vcpus"},
	{"{\"env\":{},\"secrets\":[],\"setup\":null,\"description\":\"\",\"version\":0}", "{}", ""},
	{"{\"unknown\":1}", "{}", ""},
	{"{\"provider\":\"d\"}", "no JSON", ""},
	{"{\"owner_id\":\"bob\"}", "{}", "owner_id"},
};

/* What was sent and is not shown. */
Test(gateway_template_doc, ignored)
{
	for (size_t i = 0; i < sizeof(ignores) / sizeof(ignores[0]); i++) {
		buf_reset(&out);
		template_doc_ignored(str_from(ignores[i].sent), str_from(ignores[i].answer), &out);
		EXPECT_OUT(ignores[i].names, ignores[i].sent);
	}
}

/* A time of creation that is none is replaced by the one that is shown elsewhere, or left out. */
Test(gateway_template_doc, created)
{
	const struct str answer = STR("{\"created_at\":\"0001-01-01T00:00:00Z\",\"n\":1}\n");

	cr_expect(template_doc_lacks_created(answer));
	cr_expect_not(template_doc_lacks_created(STR("{\"created_at\":\"2026-01-01T00:00:00Z\"}")));
	cr_expect_not(template_doc_lacks_created(STR("{\"created_at\":5}")));
	cr_expect_not(template_doc_lacks_created(STR("{}")));
	cr_expect_not(template_doc_lacks_created(STR("[]")));
	cr_expect_not(template_doc_lacks_created(STR("")));
	template_doc_set_created(answer, STR("{\"created_at\":\"2026-01-01T00:00:00Z\"}"), &out);
	EXPECT_OUT("{\"created_at\":\"2026-01-01T00:00:00Z\",\"n\":1}\n", "shown");
	buf_reset(&out);
	template_doc_set_created(answer, STR("gone"), &out);
	EXPECT_OUT("{\"n\":1}\n", "not shown");
}
