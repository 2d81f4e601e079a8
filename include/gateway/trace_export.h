/* SPDX-License-Identifier: Apache-2.0 */
/* Takes spans of requests to a collector, many at a time, by OTLP over HTTP; no request ever waits for it. */
#ifndef GATEWAY_TRACE_EXPORT_H
#define GATEWAY_TRACE_EXPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/sm.h"

struct config_tracing;
struct loop;
struct snapshot;
struct trace_export;
struct trace_span;

/* What became of spans. One row each in trace_export.c. */
enum trace_export_result {
	TRACE_EXPORT_EXPORTED,
	TRACE_EXPORT_REJECTED,    /* the collector wants none such */
	TRACE_EXPORT_UNDELIVERED, /* tried for long, or until the daemon stopped or the endpoint changed */
	TRACE_EXPORT_OVERFLOWED,  /* too many waited, or there was no memory */
	TRACE_EXPORT_RESULTS,
};

/* The word for it, a literal. */
const char *trace_export_result_text(enum trace_export_result result);

/* Does nothing until trace_export_use. NULL without memory. */
struct trace_export *trace_export_new(struct loop *loop);
/* What waits is lost. NULL is fine. */
void trace_export_free(struct trace_export *x);

/* From now on as this snapshot has it; a reference is taken. What waits for the same endpoint goes on waiting. */
void trace_export_use(struct trace_export *x, struct snapshot *snapshot);

/* How traces are made now, borrowed until the next trace_export_use; NULL: they are not. */
const struct config_tracing *trace_export_settings(const struct trace_export *x);

/* A request has ended that is sampled. Harmless when traces are not made any more. */
void trace_export_add(struct trace_export *x, const struct trace_span *s);

/*
 * The daemon stops: what waits is sent at once and until it is gone, a try fails or so many milliseconds have passed. True:
 * on_finished will be called, from the loop; false: there is nothing to wait for.
 */
bool trace_export_finish(struct trace_export *x, uint64_t ms, void (*on_finished)(void *arg), void *arg);

uint64_t trace_export_count(const struct trace_export *x, enum trace_export_result result);
/* Spans that wait now, those on their way included. */
size_t trace_export_waiting(const struct trace_export *x);

/* The table of its states, for the test that walks it. */
const struct sm *trace_export_sm(void);

#endif
