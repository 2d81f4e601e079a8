/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/http_parse.h"
#include "gateway/trace_context.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define TRACE        "4bf92f3577b34da6a3ce929d0e0e4736"
#define PARENT       "00f067aa0ba902b7"
#define GOOD         "00-" TRACE "-" PARENT "-01"

/* Which values go on with their trace, and with which flags; NULL: they begin a new one. */
Test(gateway_trace_context, traceparents)
{
	static const struct {
		const char *value;
		const char *flags;
	} rows[] = {
		{GOOD, "01"},
		{"00-" TRACE "-" PARENT "-00", "00"},
		{"00-" TRACE "-" PARENT "-03", "03"},
		/* Flags that nobody knows are not sent. */
		{"00-" TRACE "-" PARENT "-ff", "03"},
		{"00-" TRACE "-" PARENT "-fc", "00"},
		/* Later versions are read as far as this one goes. */
		{"01-" TRACE "-" PARENT "-01", "01"},
		{"fe-" TRACE "-" PARENT "-01-what comes", "01"},
		{"cc-" TRACE "-" PARENT "-00-", "00"},
		{"01-" TRACE "-" PARENT "-01.x", NULL},
		{"01-" TRACE "-" PARENT "-0", NULL},
		/* This one has nothing behind its flags. */
		{GOOD "-x", NULL},
		{GOOD "-", NULL},
		{GOOD "0", NULL},
		{"ff-" TRACE "-" PARENT "-01", NULL},
		{"0-" TRACE "-" PARENT "-01", NULL},
		{"000-" TRACE "-" PARENT "-1", NULL},
		{"0g-" TRACE "-" PARENT "-01", NULL},
		{"0A-" TRACE "-" PARENT "-01", NULL},
		{"00-00000000000000000000000000000000-" PARENT "-01", NULL},
		{"00-" TRACE "-0000000000000000-01", NULL},
		{"00-4BF92F3577B34DA6A3CE929D0E0E4736-" PARENT "-01", NULL},
		{"00-" TRACE "-00F067AA0BA902B7-01", NULL},
		{"00-" TRACE "-" PARENT "-0A", NULL},
		{"00-4bf92f3577b34da6a3ce929d0e0e473-" PARENT "-01x", NULL},
		{"00-" TRACE "1-" PARENT "-1", NULL},
		{"00_" TRACE "-" PARENT "-01", NULL},
		{"00-" TRACE "_" PARENT "-01", NULL},
		{"00-" TRACE "-" PARENT "_01", NULL},
		{"00-" TRACE "-" PARENT "-", NULL},
		{"00-" TRACE "-" PARENT, NULL},
		{"00", NULL},
		{"", NULL},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct trace_context t = {.parent = "unchanged"};
		bool good = trace_context_continue(&t, str_from(rows[i].value));
		cr_assert_eq(good, rows[i].flags != NULL, "%s", rows[i].value);
		if (!good) {
			cr_expect_str_eq(t.parent, "unchanged");
			continue;
		}
		cr_expect_str_eq(t.parent, PARENT);
		cr_expect(str_eq(trace_context_trace_id(&t), STR(TRACE)), "%s", t.line);
		cr_expect_not(str_eq(trace_context_span_id(&t), STR(PARENT)), "%s", t.line);
		cr_expect_eq(strncmp(t.line, "traceparent: 00-" TRACE "-", 49), 0, "%s", t.line);
		cr_expect_eq(strncmp(t.line + 66, rows[i].flags, 2), 0, "%s: %s", rows[i].value, t.line);
		cr_expect_str_eq(t.line + 68, "\r\n");
		cr_expect_eq(t.sampled, rows[i].flags[1] & 1);
	}
}

/* A part of the traces is sampled, none and all are exact; what is sent is itself a valid traceparent of another trace each time. */
Test(gateway_trace_context, begins)
{
	static const struct {
		uint64_t ppb;
		unsigned least, most; /* of a thousand */
	} rows[] = {{0, 0, 0}, {1, 0, 1}, {TRACE_CONTEXT_ALL / 2, 400, 600}, {TRACE_CONTEXT_ALL, 1000, 1000}};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct trace_context last = {0};
		unsigned sampled = 0;
		for (int k = 0; k < 1000; k++) {
			struct trace_context t, next;
			trace_context_begin(&t, rows[i].ppb);
			sampled += t.sampled;
			cr_expect_str_empty(t.parent);
			cr_expect_eq(t.line[67], t.sampled ? '3' : '2');
			cr_assert(trace_context_continue(&next, str_of(t.line + 13, 55)), "%s", t.line);
			cr_expect_eq(next.sampled, t.sampled);
			cr_expect_eq(strncmp(next.parent, trace_context_span_id(&t).p, 16), 0);
			cr_expect_str_neq(t.line, last.line);
			last = t;
		}
		cr_expect(sampled >= rows[i].least && sampled <= rows[i].most, "%u of row %zu", sampled, i);
	}
}

/* The head of a request with these lines. */
static struct http_head *parse(const char *lines, char *text, size_t size)
{
	static struct http_head head;
	struct http_parser p;
	size_t used;

	snprintf(text, size, "GET / HTTP/1.1\r\nHost: x\r\n%s\r\n", lines);
	http_parser_init(&p, HTTP_REQUEST);
	cr_assert_eq(http_parse_head(&p, text, strlen(text), &head, &used), HTTP_DONE, "%s", text);
	return &head;
}

/* What a request's lines become; `state` is the line behind the traceparent, NULL: there is none. */
Test(gateway_trace_context, requests)
{
	static const struct {
		const char *lines;
		bool goes_on;
		const char *state;
	} rows[] = {
		{"", false, NULL},
		{"Traceparent: " GOOD "\r\n", true, NULL},
		{"TRACEPARENT:" GOOD "\r\nTraceState: a=1 , b=2\r\n", true, "tracestate: a=1 , b=2\r\n"},
		{"tracestate: a=1\r\ntraceparent: " GOOD "\r\ntracestate: b=2\r\n", true, "tracestate: a=1,b=2\r\n"},
		{"tracestate: a=1\r\n", false, NULL},
		{"traceparent: ff-" TRACE "-" PARENT "-01\r\ntracestate: a=1\r\n", false, NULL},
		{"traceparent: " GOOD "\r\ntraceparent: " GOOD "\r\ntracestate: a=1\r\n", false, NULL},
		{"traceparent: " GOOD "\r\nConnection: tracestate\r\ntracestate: a=1\r\n", true, NULL},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[512], want[256];
		const struct http_head *head = parse(rows[i].lines, text, sizeof(text));
		struct trace_context t;
		char *lines;

		trace_context_of(&t, head, 0);
		lines = trace_context_lines(&t, head);
		cr_expect_eq(t.parent[0] != '\0', rows[i].goes_on, "row %zu", i);
		cr_expect_eq(str_eq(trace_context_trace_id(&t), STR(TRACE)), rows[i].goes_on, "row %zu", i);
		cr_expect_eq(t.sampled, rows[i].goes_on);
		cr_assert_eq(lines != NULL, rows[i].state != NULL, "row %zu", i);
		if (lines) {
			snprintf(want, sizeof(want), "%s%s", t.line, rows[i].state);
			cr_expect_str_eq(lines, want);
		}
		free(lines);
	}
}

Test(gateway_trace_context, own_names)
{
	cr_expect(trace_context_owns(STR("TraceParent")));
	cr_expect(trace_context_owns(STR("tracestate")));
	cr_expect_not(trace_context_owns(STR("tracestat")));
	cr_expect_not(trace_context_owns(STR("trailer")));
	cr_expect_not(trace_context_owns(STR("x-tracestate")));
}
