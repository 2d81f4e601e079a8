/* SPDX-License-Identifier: Apache-2.0 */
/* What a run is made of: its body, base64, and the exit record within a stream. */
#include <criterion/criterion.h>
#include <errno.h>
#include <jansson.h>

#include "common/base64.h"
#include "gateway/exit_record.h"
#include "gateway/run_body.h"

/* RFC 4648 section 10, white space between, and what is none. */
Test(gateway_run, base64)
{
	static const struct {
		const char *text;
		const char *bytes; /* NULL: refused */
	} rows[] = {
		{"", ""},
		{"Zg==", "f"},
		{"Zm8=", "fo"},
		{"Zm9v", "foo"},
		{"Zm9vYg==", "foob"},
		{"Zm9vYmE=", "fooba"},
		{"Zm 9v\r\nYmFy", "foobar"},
		{"Zg==\n", "f"},
		{"Zg=", NULL},
		{"Zg", NULL},
		{"Z", NULL},
		{"Zg===", NULL},
		{"Zg==Zg==", NULL},
		{"Z===", NULL},
		{"=Zg=", NULL},
		{"Zm-_", NULL},
		{"Zm9v!", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf out = BUF_EMPTY;
		int rc = base64_decode(str_from(rows[i].text), &out);

		cr_expect_eq(rc, rows[i].bytes ? 0 : -EINVAL, "%s", rows[i].text);
		if (rows[i].bytes)
			cr_expect(str_eq(buf_str(&out), str_from(rows[i].bytes)), "%s", rows[i].text);
		buf_fini(&out);
	}
}

static void expect_split(const char *stream, size_t at, const char *passed, const char *record)
{
	struct exit_record r = {.found = false};
	struct buf out = BUF_EMPTY;

	exit_record_feed(&r, str_of(stream, at), &out);
	exit_record_feed(&r, str_from(stream + at), &out);
	exit_record_end(&r, &out);
	cr_expect(str_eq(buf_str(&out), str_from(passed)), "%s at %zu: %.*s", stream, at, STR_ARG(buf_str(&out)));
	cr_expect_eq(r.found, record != NULL, "%s at %zu", stream, at);
	if (record)
		cr_expect(str_eq(buf_str(&r.line), str_from(record)), "%s at %zu", stream, at);
	exit_record_fini(&r);
	buf_fini(&out);
}

/* The record is taken out wherever the stream is cut; everything else passes, whole lines in the end. */
Test(gateway_run, exit_record)
{
	static const struct {
		const char *stream;
		const char *passed;
		const char *record; /* NULL: there is none */
	} rows[] = {
		{"", "", NULL},
		{"{\"stream\":\"stdout\",\"data\":\"a\"}\n{\"exit_code\":3,\"duration\":\"1s\"}\n",
		 "{\"stream\":\"stdout\",\"data\":\"a\"}\n", "{\"exit_code\":3,\"duration\":\"1s\"}"},
		{"{\"exit_code\":0}\n", "", "{\"exit_code\":0}"},
		{"{\"exit_code\":0}", "", "{\"exit_code\":0}"},
		{"\n{\"stream\":\"x\"}\n\n", "\n{\"stream\":\"x\"}\n\n", NULL},
		{"{\"stream\":\"cut", "{\"stream\":\"cut\n", NULL},
		{"{\"exit_co", "{\"exit_co\n", NULL},
		{"{\"exit_cods\":1}\n", "{\"exit_cods\":1}\n", NULL},
		{"{\"exit_code\":1}\n{\"stream\":\"late\"}\n", "{\"stream\":\"late\"}\n", "{\"exit_code\":1}"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (size_t at = 0; at <= strlen(rows[i].stream); at++)
			expect_split(rows[i].stream, at, rows[i].passed, rows[i].record);
}

static json_t *made(const struct run_body *b, void (*make)(const struct run_body *b, struct buf *out))
{
	struct buf out = BUF_EMPTY;
	json_t *json;

	make(b, &out);
	cr_assert(!out.failed);
	json = json_loadb(buf_data(&out), out.len, 0, NULL);
	cr_assert_not_null(json);
	buf_fini(&out);
	return json;
}

static void exec_plain(const struct run_body *b, struct buf *out)
{
	run_body_exec(b, NULL, out);
}

static void exec_wrapped(const struct run_body *b, struct buf *out)
{
	run_body_exec(b, "/f", out);
}

/* Fields go where they belong and nowhere else. */
Test(gateway_run, parts_of_the_body)
{
	struct run_body b;
	char why[160];
	json_t *json;

	cr_assert_eq(
		run_body_parse(
			&b,
			STR("{\"image\":\"i\",\"memory_mb\":5,\"command\":\"c\",\"args\":[\"a\"],\"env\":{\"k\":\"v\"},"
			    "\"stream\":true,\"files\":[]}"),
			why, sizeof(why)),
		0);
	json = made(&b, run_body_spawn);
	cr_expect_eq(json_object_size(json), 2);
	cr_expect_eq(json_integer_value(json_object_get(json, "memory_mb")), 5);
	json_decref(json);
	json = made(&b, exec_plain);
	cr_expect_eq(json_object_size(json), 4);
	cr_expect(json_is_true(json_object_get(json, "stream")));
	cr_expect_str_eq(json_string_value(json_object_get(json, "command")), "c");
	json_decref(json);
	json = made(&b, exec_wrapped);
	cr_expect_str_eq(json_string_value(json_object_get(json, "mode")), "argv");
	cr_expect_str_eq(json_string_value(json_array_get(json_object_get(json, "args"), 4)), "c 'a'");
	cr_expect_str_eq(json_string_value(json_object_get(json_object_get(json, "env"), "k")), "v");
	json_decref(json);
	run_body_fini(&b);
}
