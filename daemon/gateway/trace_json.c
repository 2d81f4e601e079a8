/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One span for a request, whose id the server sees as its parent. A second one for the way upstream would say the same twice: what
 * a server takes is in its own span, and a request that is answered from several looks at servers has no one way.
 */
#include "gateway/trace_json.h"

#include <stdio.h>

#include "config.h"

#include "common/json_write.h"
#include "gateway/audit.h"
#include "gateway/trace_context.h"

enum {
	KIND_SERVER = 2,
	STATUS_ERROR = 2,
	NUMBER_CHARS = 24,
};

/* 64-bit numbers are strings in the JSON of protobuf. */
static void add_number(struct json_writer *w, const char *key, uint64_t value)
{
	char text[NUMBER_CHARS];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
	json_cstr(w, key, text);
}

static void begin_attribute(struct json_writer *w, const char *key)
{
	json_object_begin(w, NULL);
	json_cstr(w, "key", key);
	json_object_begin(w, "value");
}

static void end_attribute(struct json_writer *w)
{
	json_object_end(w);
	json_object_end(w);
}

static void add_text(struct json_writer *w, const char *key, const char *value)
{
	if (!value || !value[0])
		return;
	begin_attribute(w, key);
	json_cstr(w, "stringValue", value);
	end_attribute(w);
}

static void add_status(struct json_writer *w, const char *key, unsigned status)
{
	if (!status)
		return;
	begin_attribute(w, key);
	add_number(w, "intValue", status);
	end_attribute(w);
}

/* Of a server's span only what the server is to blame for, and an answer that the client can see is not whole. */
static bool is_error(const struct audit_record *r)
{
	return r->status >= 500 || (r->is_error && r->status < 400);
}

static void add_error(struct json_writer *w, const struct audit_record *r)
{
	char status[NUMBER_CHARS];

	if (!is_error(r))
		return;
	snprintf(status, sizeof(status), "%u", r->status);
	add_text(w, "error.type", r->is_error && r->end ? r->end : r->code ? r->code : status);
}

static void add_name(struct json_writer *w, const struct audit_record *r)
{
	char name[128];

	snprintf(name, sizeof(name), "%s%s%s", r->method_text, r->template ? " " : "", r->template ? r->template : "");
	json_cstr(w, "name", name);
}

void trace_json_span(struct buf *out, const struct trace_span *s)
{
	struct json_writer w = json_writer_ascii(out);
	const struct audit_record *r = s->record;

	json_object_begin(&w, NULL);
	json_str(&w, "traceId", trace_context_trace_id(s->context));
	json_str(&w, "spanId", trace_context_span_id(s->context));
	if (s->context->parent[0])
		json_cstr(&w, "parentSpanId", s->context->parent);
	add_name(&w, r);
	json_uint(&w, "kind", KIND_SERVER);
	add_number(&w, "startTimeUnixNano", s->start_ns);
	add_number(&w, "endTimeUnixNano", s->end_ns);
	json_array_begin(&w, "attributes");
	add_text(&w, "http.request.method", r->method_text);
	add_text(&w, "http.route", r->template);
	add_status(&w, "http.response.status_code", r->status);
	add_text(&w, "url.scheme", "http");
	add_error(&w, r);
	add_text(&w, "stacygate.rule", r->rule);
	add_text(&w, "stacygate.user_id", r->user_id);
	add_text(&w, "stacygate.upstream", r->upstream);
	add_status(&w, "stacygate.upstream_status", r->upstream_status);
	add_text(&w, "stacygate.request_id", r->request_id);
	add_text(&w, "stacygate.end", r->end);
	json_array_end(&w);
	if (is_error(r)) {
		json_object_begin(&w, "status");
		json_uint(&w, "code", STATUS_ERROR);
		json_object_end(&w);
	}
	json_object_end(&w);
}

void trace_json_begin(struct buf *out, const char *service_name)
{
	struct json_writer w = json_writer(out);

	json_object_begin(&w, NULL);
	json_array_begin(&w, "resourceSpans");
	json_object_begin(&w, NULL);
	json_object_begin(&w, "resource");
	json_array_begin(&w, "attributes");
	add_text(&w, "service.name", service_name);
	add_text(&w, "service.version", PACKAGE_VERSION);
	json_array_end(&w);
	json_object_end(&w);
	json_array_begin(&w, "scopeSpans");
	json_object_begin(&w, NULL);
	json_object_begin(&w, "scope");
	json_cstr(&w, "name", "stacygated");
	json_cstr(&w, "version", PACKAGE_VERSION);
	json_object_end(&w);
	json_array_begin(&w, "spans");
}

void trace_json_end(struct buf *out)
{
	buf_add_str(out, STR("]}]}]}"));
}
