/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the text in which Prometheus reads metrics (version 0.0.4); every name begins with stacygate_. */
#ifndef GATEWAY_PROMETHEUS_H
#define GATEWAY_PROMETHEUS_H

#include <stdint.h>

#include "common/buf.h"

#define PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

/* One of a sample's labels; the value may be any text, the name is a literal of ours. */
struct prometheus_label {
	const char *name;  /* NULL ends the list */
	const char *value; /* borrowed */
};

/* For the calls below. */
#define PROMETHEUS_LABELS(...)                                                                                         \
	(const struct prometheus_label[])                                                                              \
	{                                                                                                              \
		__VA_ARGS__,                                                                                           \
		{                                                                                                      \
			NULL, NULL                                                                                     \
		}                                                                                                      \
	}

/* The two lines before a family's samples, which all follow at once. `type` is counter, gauge or histogram. */
void prometheus_family(struct buf *out, const char *name, const char *type, const char *help);

/* A sample; `suffix` is "" but in a histogram, `labels` may be NULL: none. */
void prometheus_sample(struct buf *out, const char *name, const char *suffix, const struct prometheus_label *labels,
		       uint64_t value);
/* The same of milliseconds, in seconds. */
void prometheus_seconds(struct buf *out, const char *name, const char *suffix, const struct prometheus_label *labels,
			uint64_t ms);
/* Milliseconds in seconds as they stand in le, without needless zeros: "0.25", "10". */
void prometheus_le(uint64_t ms, char out[24]);

#endif
