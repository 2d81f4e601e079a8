/* SPDX-License-Identifier: Apache-2.0 */
/* Spans as OTLP says them in JSON (opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest). */
#ifndef GATEWAY_TRACE_JSON_H
#define GATEWAY_TRACE_JSON_H

#include <stdint.h>

#include "common/buf.h"

struct audit_record;
struct trace_context;

/* A request that has ended; everything is borrowed. */
struct trace_span {
	const struct trace_context *context;
	uint64_t start_ns; /* wall time, since 1970 */
	uint64_t end_ns;
	const struct audit_record *record; /* with method_text */
};

/*
 * One span, from the head of a request to the end of its answer. By the semantic conventions for HTTP servers and names of our own;
 * it holds nothing that the audit does not.
 */
void trace_json_span(struct buf *out, const struct trace_span *s);

/* What stands before and behind the spans of one request to a collector; commas between them. */
void trace_json_begin(struct buf *out, const char *service_name);
void trace_json_end(struct buf *out);

#endif
