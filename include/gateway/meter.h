/* SPDX-License-Identifier: Apache-2.0 */
/* Counts requests that have ended: of each rule by class and status, and of each class how long they took. */
#ifndef GATEWAY_METER_H
#define GATEWAY_METER_H

#include <stdint.h>

#include "common/str.h"
#include "gateway/route_class.h"

enum {
	METER_STATUSES = 6, /* by first digit of the status; 0: never answered */
	METER_BOUNDS = 15
};

/* Upper bounds of the times that are counted together, ascending. */
static const uint32_t meter_bounds_ms[METER_BOUNDS] = {1,    5,    10,   25,    50,    100,   250,   500,
						       1000, 2500, 5000, 10000, 30000, 60000, 300000};

/* The requests of one rule. A reload keeps them by the rule's name. */
struct meter {
	unsigned refs;
	uint64_t requests[ROUTE_CLASSES][METER_STATUSES];
};

/* How long the requests of one class took, from their heads to their ends; zeroed at first. */
struct meter_times {
	uint64_t counts[METER_BOUNDS + 1]; /* within each bound and no smaller one; the last: above them all */
	uint64_t sum_ms;
};

/* The caller's reference; NULL without memory. */
struct meter *meter_new(void);
struct meter *meter_ref(struct meter *m);
/* NULL is fine. */
void meter_unref(struct meter *m);

/* "2xx" and the like; "none" of what was never answered. */
const char *meter_status_text(unsigned status);

/* A request has ended. In the header because it is done for every one of them. */
static inline void meter_count(struct meter *m, struct meter_times *t, enum route_class class, unsigned status,
			       uint64_t ms)
{
	const unsigned digit = status / 100;
	unsigned i = 0;

	m->requests[class][digit < METER_STATUSES ? digit : 0]++;
	while (i < METER_BOUNDS && ms > meter_bounds_ms[i])
		i++;
	t->counts[i]++;
	t->sum_ms += ms;
}

#endif
