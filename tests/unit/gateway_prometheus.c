/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/prometheus and gateway/meter: the text of metrics, and what is counted for it. */
#include <criterion/criterion.h>

#include "gateway/meter.h"
#include "gateway/prometheus.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void expect_text(struct buf *out, const char *want)
{
	buf_add_char(out, '\0');
	cr_assert_not(out->failed);
	cr_expect_str_eq(buf_data(out), want);
	buf_fini(out);
}

/* A family is two lines, and each sample one, with as many labels as it has. */
Test(gateway_prometheus, lines)
{
	struct buf out = BUF_EMPTY;

	prometheus_family(&out, "x_total", "counter", "Things.");
	prometheus_sample(&out, "x_total", "", NULL, UINT64_MAX);
	prometheus_sample(&out, "x_total", "", PROMETHEUS_LABELS({"a", "b"}), 0);
	prometheus_sample(&out, "h", "_bucket", PROMETHEUS_LABELS({"a", ""}, {"le", "+Inf"}), 7);
	expect_text(&out, "# HELP stacygate_x_total Things.\n# TYPE stacygate_x_total counter\n"
			  "stacygate_x_total 18446744073709551615\nstacygate_x_total{a=\"b\"} 0\n"
			  "stacygate_h_bucket{a=\"\",le=\"+Inf\"} 7\n");
}

/* The value of a label cannot end itself or its line, whatever it is. */
Test(gateway_prometheus, escapes)
{
	struct buf out = BUF_EMPTY;

	prometheus_sample(&out, "x", "", PROMETHEUS_LABELS({"a", "\"} 1\nstacygate_y 2\\"}), 3);
	expect_text(&out, "stacygate_x{a=\"\\\"} 1\\nstacygate_y 2\\\\\"} 3\n");
}

/* Times are in seconds. */
Test(gateway_prometheus, seconds)
{
	static const struct {
		uint64_t ms;
		const char *le;
	} bounds[] = {{0, "0"},      {1, "0.001"},  {10, "0.01"},    {100, "0.1"},    {250, "0.25"},  {1000, "1"},
		      {2500, "2.5"}, {10000, "10"}, {300000, "300"}, {1001, "1.001"}, {100000, "100"}};
	struct buf out = BUF_EMPTY;
	char le[24];

	prometheus_seconds(&out, "x", "_sum", NULL, 61002);
	prometheus_seconds(&out, "x", "", PROMETHEUS_LABELS({"a", "b"}), 9);
	expect_text(&out, "stacygate_x_sum 61.002\nstacygate_x{a=\"b\"} 0.009\n");
	for (size_t i = 0; i < COUNT(bounds); i++) {
		prometheus_le(bounds[i].ms, le);
		cr_expect_str_eq(le, bounds[i].le);
	}
}

/* Bounds ascend; a time counts within the first that is not below it, and beyond the last in the place behind them. */
Test(gateway_prometheus, times)
{
	struct meter *m = meter_new();
	struct meter_times t = {0};

	cr_assert(m);
	for (unsigned i = 1; i < METER_BOUNDS; i++)
		cr_expect_lt(meter_bounds_ms[i - 1], meter_bounds_ms[i]);
	for (unsigned i = 0; i < METER_BOUNDS; i++) {
		meter_count(m, &t, ROUTE_SANDBOXES, 200, meter_bounds_ms[i]);
		cr_expect_eq(t.counts[i], 1);
		meter_count(m, &t, ROUTE_SANDBOXES, 200, meter_bounds_ms[i] + 1ULL);
		cr_expect_eq(t.counts[i + 1], 1);
		t = (struct meter_times){0};
	}
	meter_count(m, &t, ROUTE_SANDBOXES, 200, 0);
	meter_count(m, &t, ROUTE_SANDBOXES, 200, 3);
	cr_expect(t.counts[0] == 1 && t.counts[1] == 1 && t.sum_ms == 3);
	meter_unref(m);
}

/* Statuses count by their first digit, and what is none as never answered; a reference keeps the numbers. */
Test(gateway_prometheus, statuses)
{
	static const unsigned statuses[] = {0, 101, 204, 304, 499, 503, 600, 999};
	static const unsigned want[METER_STATUSES] = {3, 1, 1, 1, 1, 1};
	struct meter *m = meter_new();
	struct meter_times t = {0};

	cr_assert(m);
	for (size_t i = 0; i < COUNT(statuses); i++)
		meter_count(m, &t, ROUTE_EVENTS, statuses[i], 0);
	meter_unref(meter_ref(m));
	for (unsigned i = 0; i < METER_STATUSES; i++) {
		cr_expect_eq(m->requests[ROUTE_EVENTS][i], want[i], "%s", meter_status_text(i));
		cr_expect_eq(m->requests[ROUTE_SYSTEM][i], 0);
	}
	meter_unref(m);
	meter_unref(NULL);
}
