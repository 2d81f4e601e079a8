/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/trace_context.h"

#include <string.h>

#include "common/buf.h"
#include "common/http_parse.h"
#include "gateway/random.h"

/* Where the parts of a traceparent stand (3.2.2): "00-TRACE ID-PARENT ID-FLAGS". */
enum {
	TRACE_AT = 3,
	TRACE_CHARS = 32,
	PARENT_AT = 36,
	PARENT_CHARS = 16,
	FLAGS_AT = 53,
	VALUE_CHARS = 55,
	VALUE_IN_LINE = 13, /* behind the name */
};

/* Flags that are known; the second is of level 2 of the recommendation. All others are sent as zero (3.2.2.5.2). */
enum {
	FLAG_SAMPLED = 1,
	FLAG_RANDOM = 2, /* the trace id was made of random bytes */
};

static char *value_of(struct trace_context *t)
{
	return t->line + VALUE_IN_LINE;
}

struct str trace_context_trace_id(const struct trace_context *t)
{
	return str_of(t->line + VALUE_IN_LINE + TRACE_AT, TRACE_CHARS);
}

struct str trace_context_span_id(const struct trace_context *t)
{
	return str_of(t->line + VALUE_IN_LINE + PARENT_AT, PARENT_CHARS);
}

/* Everything but the trace id, which is there. */
static void complete(struct trace_context *t, unsigned flags)
{
	char *value = value_of(t);
	unsigned char raw[16];

	random_take(raw);
	random_put_hex(value + PARENT_AT, raw);
	random_put_hex(value + PARENT_AT + 8, raw + 4);
	value[FLAGS_AT + 1] = (char)('0' + (flags & (FLAG_SAMPLED | FLAG_RANDOM)));
	t->sampled = flags & FLAG_SAMPLED;
}

void trace_context_begin(struct trace_context *t, uint64_t sample_ppb)
{
	unsigned char raw[16];
	uint32_t chance;

	memcpy(t->line, TRACE_CONTEXT_LINE, sizeof(t->line));
	t->parent[0] = '\0';
	random_take(raw);
	for (int i = 0; i < 4; i++)
		random_put_hex(value_of(t) + TRACE_AT + i * 8, raw + i * 4);
	/* The rightmost bytes decide, as in everybody's samplers of that kind. */
	memcpy(&chance, raw + 12, sizeof(chance));
	complete(t, FLAG_RANDOM | ((uint64_t)chance * TRACE_CONTEXT_ALL >> 32 < sample_ppb ? FLAG_SAMPLED : 0));
}

/* Lower-case digits; an id of zeros only is none (3.2.2.3, 3.2.2.4). */
static bool is_hex(const char *p, size_t n, bool nonzero)
{
	bool zero = true;

	for (size_t i = 0; i < n; i++) {
		if (!((p[i] >= '0' && p[i] <= '9') || (p[i] >= 'a' && p[i] <= 'f')))
			return false;
		zero = zero && p[i] == '0';
	}
	return !(nonzero && zero);
}

/*
 * Version 00 has exactly these parts (3.2.2.2), ff is forbidden (3.2.2.1), a higher one may have more behind them and is
 * otherwise read as this one (3.2.4).
 */
static bool is_valid(struct str v)
{
	if (v.n < VALUE_CHARS || !is_hex(v.p, 2, false) || memcmp(v.p, "ff", 2) == 0)
		return false;
	if (v.n > VALUE_CHARS && (memcmp(v.p, "00", 2) == 0 || v.p[VALUE_CHARS] != '-'))
		return false;
	return v.p[TRACE_AT - 1] == '-' && v.p[PARENT_AT - 1] == '-' && v.p[FLAGS_AT - 1] == '-' &&
	       is_hex(v.p + TRACE_AT, TRACE_CHARS, true) && is_hex(v.p + PARENT_AT, PARENT_CHARS, true) &&
	       is_hex(v.p + FLAGS_AT, 2, false);
}

bool trace_context_continue(struct trace_context *t, struct str traceparent)
{
	if (!is_valid(traceparent))
		return false;
	memcpy(t->line, TRACE_CONTEXT_LINE, sizeof(t->line));
	memcpy(value_of(t) + TRACE_AT, traceparent.p + TRACE_AT, TRACE_CHARS);
	memcpy(t->parent, traceparent.p + PARENT_AT, PARENT_CHARS);
	t->parent[PARENT_CHARS] = '\0';
	complete(t, (unsigned)str_hex_value(traceparent.p[FLAGS_AT + 1]));
	return true;
}

/* NULL when there is none, or more than one, of which nobody can tell which is meant. */
static const struct http_header *only_traceparent(const struct http_head *head)
{
	const struct http_header *found = NULL;

	for (size_t i = 0; i < head->nheaders; i++) {
		if (!str_eq_nocase(head->headers[i].name, STR("traceparent")))
			continue;
		if (found)
			return NULL;
		found = &head->headers[i];
	}
	return found;
}

void trace_context_of(struct trace_context *t, const struct http_head *head, uint64_t sample_ppb)
{
	const struct http_header *h = only_traceparent(head);

	if (!h || !trace_context_continue(t, h->value))
		trace_context_begin(t, sample_ppb);
}

/*
 * A tracestate whose traceparent is missing or invalid is not looked at (3.3), and goes no further (4); several lines become one
 * (3.3.1). Neither does one that was meant for us only (RFC 9110 7.6.1).
 */
char *trace_context_lines(const struct trace_context *t, const struct http_head *head)
{
	struct buf out = BUF_EMPTY;
	bool any = false;
	char *text;

	if (!t->parent[0] || !http_head_find(head, STR("tracestate")) ||
	    http_head_has_token(head, STR("connection"), STR("tracestate")))
		return NULL;
	buf_add_cstr(&out, t->line);
	for (size_t i = 0; i < head->nheaders; i++) {
		if (!str_eq_nocase(head->headers[i].name, STR("tracestate")))
			continue;
		buf_add_str(&out, any ? STR(",") : STR("tracestate: "));
		buf_add_str(&out, head->headers[i].value);
		any = true;
	}
	buf_add_str(&out, STR("\r\n"));
	text = out.failed ? NULL : str_dup(buf_str(&out));
	buf_fini(&out);
	return text;
}
