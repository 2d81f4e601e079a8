/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trace that a request belongs to, as its headers say it: W3C Trace Context (https://www.w3.org/TR/trace-context/), whose
 * sections are meant where one is named here.
 */
#ifndef GATEWAY_TRACE_CONTEXT_H
#define GATEWAY_TRACE_CONTEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

struct http_head;

/* Parts of a billion: of the traces that begin here, how many are sampled. */
enum {
	TRACE_CONTEXT_ALL = 1000000000
};

#define TRACE_CONTEXT_LINE "traceparent: 00-0123456789abcdef0123456789abcdef-0123456789abcdef-00\r\n"

struct trace_context {
	char line[sizeof(TRACE_CONTEXT_LINE)]; /* the header line that a server is sent; the span in it is ours */
	char parent[17];                       /* the span that the request was sent by; empty: the trace begins here */
	bool sampled;
};

/* Begins one. */
void trace_context_begin(struct trace_context *t, uint64_t sample_ppb);

/* Goes on with the one of a traceparent. False when that is invalid; *t is then unchanged. */
bool trace_context_continue(struct trace_context *t, struct str traceparent);

/* The one of a request: that of its only traceparent when it is valid, else a new one. */
void trace_context_of(struct trace_context *t, const struct http_head *head, uint64_t sample_ppb);

/*
 * The header lines of a request that has a tracestate that goes on with its trace, t's own first; owned by the caller. NULL: it is
 * t's own line only, also without memory.
 */
char *trace_context_lines(const struct trace_context *t, const struct http_head *head);

/* Whether a header is one of the two, which are ours to write. In the header because every header is asked. */
static inline bool trace_context_owns(struct str name)
{
	return str_eq_nocase(name, STR("traceparent")) || str_eq_nocase(name, STR("tracestate"));
}

/* In hexadecimal digits, borrowed from t. */
struct str trace_context_trace_id(const struct trace_context *t);
struct str trace_context_span_id(const struct trace_context *t);

#endif
