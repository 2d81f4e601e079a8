/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#include "common/buf.h"
#include "gateway/audit.h"
#include "gateway/route.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The line as JSON, owned by the caller; fails the test unless it is one line of printable ASCII. */
static json_t *parse(const struct buf *line)
{
	json_error_t fault;
	json_t *json;

	cr_assert(!line->failed && line->len > 2);
	for (size_t i = 0; i + 1 < line->len; i++)
		cr_assert(buf_data(line)[i] >= 0x20 && buf_data(line)[i] < 0x7f, "byte %02x",
			  (unsigned char)buf_data(line)[i]);
	cr_assert_eq(buf_data(line)[line->len - 1], '\n');
	json = json_loadb(buf_data(line), line->len - 1, JSON_REJECT_DUPLICATES, &fault);
	cr_assert_not_null(json, "%s: %.*s", fault.text, STR_ARG(buf_str(line)));
	return json;
}

static const char *text_of(json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? text : "(none)";
}

static json_int_t number_of(json_t *json, const char *key)
{
	json_t *value = json_object_get(json, key);

	return json_is_integer(value) ? json_integer_value(value) : -1;
}

static const struct audit_record full = {
	.connection = 7,
	.has_peer = true,
	.uid = 1000,
	.gid = 100,
	.pid = 42,
	.user_id = "alice@build",
	.rule = "ci",
	.listener = "host",
	.method = METHOD_POST,
	.method_text = "POST",
	.template = "/api/v1/sandboxes/{id}/exec",
	.path = "/api/v1/sandboxes/sb-1/exec",
	.sandbox = "sb-1",
	.status = 200,
	.reached = true,
	.upstream = "main",
	.upstream_status = 200,
	.latency_ms = 12,
	.bytes_up = 3,
	.bytes_down = 4,
	.request_id = "r-1",
	.end = "done",
};

/* Every field has its key, and there is no other. */
Test(gateway_audit, fields)
{
	struct buf line = BUF_EMPTY;
	json_t *json;

	audit_line(&line, AUDIT_CHANGE, &full);
	json = parse(&line);
	cr_expect_eq(strlen(text_of(json, "time")), 24);
	cr_expect_str_eq(text_of(json, "kind"), "change");
	cr_expect_eq(number_of(json, "connection"), 7);
	cr_expect_eq(number_of(json, "uid"), 1000);
	cr_expect_eq(number_of(json, "gid"), 100);
	cr_expect_eq(number_of(json, "pid"), 42);
	cr_expect_str_eq(text_of(json, "user_id"), "alice@build");
	cr_expect_str_eq(text_of(json, "rule"), "ci");
	cr_expect_str_eq(text_of(json, "listener"), "host");
	cr_expect_str_eq(text_of(json, "method"), "POST");
	cr_expect_str_eq(text_of(json, "route"), "/api/v1/sandboxes/{id}/exec");
	cr_expect_str_eq(text_of(json, "sandbox"), "sb-1");
	cr_expect_eq(number_of(json, "status"), 200);
	cr_expect_str_eq(text_of(json, "upstream"), "main");
	cr_expect_eq(number_of(json, "upstream_status"), 200);
	cr_expect_eq(number_of(json, "latency_ms"), 12);
	cr_expect_eq(number_of(json, "bytes_up"), 3);
	cr_expect_eq(number_of(json, "bytes_down"), 4);
	cr_expect_str_eq(text_of(json, "request_id"), "r-1");
	cr_expect_str_eq(text_of(json, "reason"), "done");
	cr_expect_eq(json_object_size(json), 20);
	json_decref(json);
	buf_fini(&line);
}

/* A connection that was turned away has no request, and a peer only if the kernel told. */
Test(gateway_audit, connection)
{
	const struct audit_record r = {.listener = "host", .code = "bounds"};
	struct buf line = BUF_EMPTY;
	json_t *json;

	audit_line(&line, AUDIT_REFUSAL, &r);
	json = parse(&line);
	cr_expect_str_eq(text_of(json, "kind"), "refusal");
	cr_expect_str_eq(text_of(json, "listener"), "host");
	cr_expect_str_eq(text_of(json, "reason"), "bounds");
	cr_expect_eq(json_object_size(json), 4);
	json_decref(json);
	buf_fini(&line);
}

/* X13: whatever a name or path holds, a line stays a line of ASCII, and its reader gets back what was meant. */
Test(gateway_audit, X13_injection)
{
	static const struct {
		const char *given;
		const char *read;
	} rows[] = {
		{"a\nb", "a\nb"},
		{"\",\"uid\":0,\"x\":\"", "\",\"uid\":0,\"x\":\""},
		{"\\\r\t\x1b[31m\x7f", "\\\r\t\x1b[31m\x7f"},
		{"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80"},
		{"\xe2\x80\xa8", "\xe2\x80\xa8"},
		{"\xff\xc3(\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd(\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
		{"\xf0\x9f", "\xef\xbf\xbd\xef\xbf\xbd"},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct audit_record r = full;
		struct buf line = BUF_EMPTY;
		json_t *json;

		r.user_id = r.rule = r.listener = r.method_text = r.path = r.sandbox = r.request_id = rows[i].given;
		audit_line(&line, AUDIT_CHANGE, &r);
		json = parse(&line);
		cr_expect_str_eq(text_of(json, "user_id"), rows[i].read, "row %zu", i);
		cr_expect_str_eq(text_of(json, "sandbox"), rows[i].read, "row %zu", i);
		cr_expect_eq(number_of(json, "uid"), 1000);
		json_decref(json);
		buf_reset(&line);
		audit_access_json(&line, &r);
		json = parse(&line);
		cr_expect_str_eq(text_of(json, "path"), rows[i].read, "row %zu", i);
		json_decref(json);
		buf_reset(&line);
		audit_journal_fields(&line, audit_kind_text(AUDIT_CHANGE), &r);
		for (struct str rest = buf_str(&line); rest.n;)
			cr_expect(str_starts(str_cut(&rest, '\n'), STR("STACYGATE_")), "row %zu", i);
		buf_fini(&line);
	}
}

/* Which requests are worth a line. */
Test(gateway_audit, kinds)
{
	static const struct {
		struct audit_record r;
		enum audit_kind kind;
	} rows[] = {
		{{.method = METHOD_GET, .reached = true, .status = 200, .upstream_status = 200}, AUDIT_NOTHING},
		{{.method = METHOD_GET, .reached = true, .status = 404, .upstream_status = 404}, AUDIT_NOTHING},
		{{.method = METHOD_GET, .reached = true}, AUDIT_NOTHING},
		{{.method = METHOD_GET, .reached = true, .status = 101, .upstream_status = 101}, AUDIT_CHANGE},
		{{.method = METHOD_POST, .reached = true, .status = 201, .upstream_status = 201}, AUDIT_CHANGE},
		{{.method = METHOD_DELETE, .reached = true}, AUDIT_CHANGE},
		{{.method = METHOD_POST, .reached = true, .status = 504, .code = "UPSTREAM_TIMEOUT"}, AUDIT_CHANGE},
		{{.method = METHOD_POST, .status = 502, .code = "CONNECTION_ERROR"}, AUDIT_REFUSAL},
		{{.method = METHOD_GET, .reached = true, .status = 504, .code = "UPSTREAM_TIMEOUT"}, AUDIT_REFUSAL},
		{{.method = METHOD_GET, .status = 403, .code = "FORBIDDEN"}, AUDIT_REFUSAL},
		{{.method = METHOD_GET, .status = 200}, AUDIT_NOTHING},
		{{.method = METHOD_OPTIONS, .status = 204}, AUDIT_NOTHING},
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		cr_expect_eq(audit_kind_of(&rows[i].r), rows[i].kind, "row %zu", i);
}

/* Trouble is what was refused, failed or cut; that there is no such thing is none, and so is what the server says itself below 500. */
Test(gateway_audit, trouble)
{
	static const struct {
		struct audit_record r;
		const char *text; /* NULL: no trouble */
	} rows[] = {
		{{.status = 200, .upstream_status = 200}, NULL},
		{{.status = 404, .code = "NOT_FOUND"}, NULL},
		{{.status = 400, .upstream_status = 400}, NULL},
		{{.status = 403,
		  .code = "FORBIDDEN",
		  .method_text = "GET",
		  .template = "/t",
		  .user_id = "a",
		  .rule = "r"},
		 "a (rule r): GET /t was answered 403 FORBIDDEN"},
		{{.status = 500,
		  .upstream_status = 500,
		  .method_text = "GET",
		  .template = "/t",
		  .user_id = "a",
		  .rule = "r",
		  .upstream = "main",
		  .reached = true,
		  .end = "done"},
		 "a (rule r): GET /t was answered 500 (upstream main)"},
		{{.status = 200,
		  .upstream_status = 200,
		  .method_text = "GET",
		  .template = "/t",
		  .user_id = "a",
		  .rule = "r",
		  .upstream = "main",
		  .reached = true,
		  .end = "response-cut",
		  .is_error = true},
		 "a (rule r): GET /t was answered 200: response-cut (upstream main)"},
		{{.is_error = true, .end = "no-memory"}, "somebody (rule none): ? ? was not answered: no-memory"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf text = BUF_EMPTY;
		cr_expect_eq(audit_is_trouble(&rows[i].r), rows[i].text != NULL, "row %zu", i);
		audit_trouble_text(&text, &rows[i].r);
		if (rows[i].text)
			cr_expect(str_eq(buf_str(&text), str_from(rows[i].text)), "row %zu: %.*s", i,
				  STR_ARG(buf_str(&text)));
		buf_fini(&text);
	}
}
