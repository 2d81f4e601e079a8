/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/meter.h"

#include <stdlib.h>

#include "common/check.h"

struct meter *meter_new(void)
{
	struct meter *m = calloc(1, sizeof(*m));

	if (m)
		m->refs = 1;
	return m;
}

struct meter *meter_ref(struct meter *m)
{
	m->refs++;
	return m;
}

void meter_unref(struct meter *m)
{
	if (!m)
		return;
	CHECK(m->refs > 0);
	if (--m->refs == 0)
		free(m);
}

const char *meter_status_text(unsigned status)
{
	static const char *const texts[METER_STATUSES] = {"none", "1xx", "2xx", "3xx", "4xx", "5xx"};

	CHECK(status < METER_STATUSES);
	return texts[status];
}
