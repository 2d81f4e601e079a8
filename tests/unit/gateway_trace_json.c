/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <jansson.h>
#include <string.h>

#include "common/buf.h"
#include "gateway/audit.h"
#include "gateway/trace_context.h"
#include "gateway/trace_json.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TRACE        "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT       "00f067aa0ba902b7"

static const struct audit_record full = {
	.connection = 7,
	.has_peer = true,
	.uid = 1000,
	.user_id = "alice@build",
	.rule = "ci",
	.listener = "host",
	.method = METHOD_POST,
	.method_text = "POST",
	.template = "/api/v1/sandboxes/{id}/exec",
	.path = "/api/v1/sandboxes/sb-secret/exec",
	.sandbox = "sb-secret",
	.status = 200,
	.reached = true,
	.upstream = "main",
	.upstream_status = 201,
	.request_id = "r-1",
	.end = "done",
};

/* The request of these records as JSON, owned by the caller. */
static json_t *written(const struct audit_record *records, size_t n, bool goes_on)
{
	struct trace_context t;
	struct buf out = BUF_EMPTY;
	json_error_t fault;
	json_t *json;

	trace_json_begin(&out, "front \"door\"");
	for (size_t i = 0; i < n; i++) {
		const struct trace_span span = {&t, 1700000000123456789u, 1700000001000000001u, &records[i]};
		if (goes_on)
			cr_assert(trace_context_continue(&t, STR("00-" TRACE "-" PARENT "-01")));
		else
			trace_context_begin(&t, TRACE_CONTEXT_ALL);
		if (i)
			buf_add_char(&out, ',');
		trace_json_span(&out, &span);
	}
	trace_json_end(&out);
	cr_assert_not(out.failed);
	json = json_loadb(buf_data(&out), out.len, JSON_REJECT_DUPLICATES, &fault);
	cr_assert_not_null(json, "%s: %.*s", fault.text, STR_ARG(buf_str(&out)));
	cr_assert_null(memmem(buf_data(&out), out.len, "sb-secret", 9));
	buf_fini(&out);
	return json;
}

static json_t *spans_of(json_t *json)
{
	json_t *resource = json_array_get(json_object_get(json, "resourceSpans"), 0);
	json_t *scope = json_array_get(json_object_get(resource, "scopeSpans"), 0);

	return json_object_get(scope, "spans");
}

/* The value of an attribute, borrowed; "(none)" without it. */
static const char *attribute(json_t *of, const char *key)
{
	size_t i;
	json_t *a;

	json_array_foreach(json_object_get(of, "attributes"), i, a)
	{
		json_t *value = json_object_get(a, "value");
		if (strcmp(json_string_value(json_object_get(a, "key")), key) != 0)
			continue;
		cr_assert_eq(json_object_size(value), 1);
		return json_string_value(
			json_object_get(value, json_object_get(value, "intValue") ? "intValue" : "stringValue"));
	}
	return "(none)";
}

static const char *text_of(json_t *of, const char *key)
{
	const char *text = json_string_value(json_object_get(of, key));

	return text ? text : "(none)";
}

/* Every field, and no other. */
Test(gateway_trace_json, fields)
{
	json_t *json = written(&full, 1, true);
	json_t *span = json_array_get(spans_of(json), 0);
	json_t *resource = json_object_get(json_array_get(json_object_get(json, "resourceSpans"), 0), "resource");

	cr_expect_str_eq(attribute(resource, "service.name"), "front \"door\"");
	cr_expect_str_neq(attribute(resource, "service.version"), "(none)");
	cr_expect_eq(json_array_size(spans_of(json)), 1);
	cr_expect_str_eq(text_of(span, "traceId"), TRACE);
	cr_expect_eq(strlen(text_of(span, "spanId")), 16);
	cr_expect_str_eq(text_of(span, "parentSpanId"), PARENT);
	cr_expect_str_eq(text_of(span, "name"), "POST /api/v1/sandboxes/{id}/exec");
	cr_expect_eq(json_integer_value(json_object_get(span, "kind")), 2);
	cr_expect_str_eq(text_of(span, "startTimeUnixNano"), "1700000000123456789");
	cr_expect_str_eq(text_of(span, "endTimeUnixNano"), "1700000001000000001");
	cr_expect_str_eq(attribute(span, "http.request.method"), "POST");
	cr_expect_str_eq(attribute(span, "http.route"), "/api/v1/sandboxes/{id}/exec");
	cr_expect_str_eq(attribute(span, "http.response.status_code"), "200");
	cr_expect_str_eq(attribute(span, "url.scheme"), "http");
	cr_expect_str_eq(attribute(span, "stacygate.rule"), "ci");
	cr_expect_str_eq(attribute(span, "stacygate.user_id"), "alice@build");
	cr_expect_str_eq(attribute(span, "stacygate.upstream"), "main");
	cr_expect_str_eq(attribute(span, "stacygate.upstream_status"), "201");
	cr_expect_str_eq(attribute(span, "stacygate.request_id"), "r-1");
	cr_expect_str_eq(attribute(span, "stacygate.end"), "done");
	cr_expect_eq(json_array_size(json_object_get(span, "attributes")), 10);
	cr_expect_eq(json_object_size(span), 8);
	json_decref(json);
}

/* What is not known is left out. */
Test(gateway_trace_json, little)
{
	const struct audit_record r = {.method_text = "GET", .request_id = "r"};
	json_t *json = written(&r, 1, false);
	json_t *span = json_array_get(spans_of(json), 0);

	cr_expect_str_eq(text_of(span, "name"), "GET");
	cr_expect_null(json_object_get(span, "parentSpanId"));
	cr_expect_eq(json_array_size(json_object_get(span, "attributes")), 3);
	json_decref(json);
}

/* Which ends are errors, and what they are called. */
Test(gateway_trace_json, errors)
{
	static const struct {
		unsigned status;
		bool is_error;
		const char *end;
		const char *code;
		const char *type; /* NULL: it is none */
	} rows[] = {
		{200, false, "done", NULL, NULL},
		{404, false, "done", NULL, NULL},
		{403, false, NULL, "FORBIDDEN", NULL},
		{413, true, "request-fault", "TOO_LARGE", NULL},
		{0, false, "client-gone", NULL, NULL},
		{200, true, "response-cut", NULL, "response-cut"},
		{0, true, "response-cut", NULL, "response-cut"},
		{502, true, "upstream-broke", "CONNECTION_ERROR", "upstream-broke"},
		{503, false, NULL, "UNAVAILABLE", "UNAVAILABLE"},
		{500, false, "done", NULL, "500"},
	};
	struct audit_record records[COUNT(rows)];
	json_t *json;

	for (size_t i = 0; i < COUNT(rows); i++)
		records[i] = (struct audit_record){
			.method_text = "GET",
			.status = rows[i].status,
			.is_error = rows[i].is_error,
			.end = rows[i].end,
			.code = rows[i].code,
		};
	json = written(records, COUNT(rows), false);
	cr_assert_eq(json_array_size(spans_of(json)), COUNT(rows));
	for (size_t i = 0; i < COUNT(rows); i++) {
		json_t *span = json_array_get(spans_of(json), i);
		json_t *code = json_object_get(json_object_get(span, "status"), "code");
		cr_expect_str_eq(attribute(span, "error.type"), rows[i].type ? rows[i].type : "(none)");
		cr_expect_eq(json_integer_value(code), rows[i].type ? 2 : 0, "row %zu", i);
	}
	json_decref(json);
}
