/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "common/clock.h"

static uint64_t injected;

static uint64_t injected_ns(void)
{
	return injected;
}

/* An injected source rules both clocks until it is taken away. */
Test(common_clock, source)
{
	clock_set_source(injected_ns);
	injected = 5999999;
	cr_expect_eq(clock_ns(), 5999999);
	cr_expect_eq(clock_ms(), 5);
	clock_set_source(NULL);
	uint64_t first = clock_ns();
	cr_expect_leq(first, clock_ns());
	cr_expect_gt(first, 6000000);
}

/* Times are written in UTC, without trailing zeros, also before 1970. */
Test(common_clock, rfc3339)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "1970-01-01T00:00:00Z"},
		{1767323045500000000, "2026-01-02T03:04:05.5Z"},
		{1767323045000000001, "2026-01-02T03:04:05.000000001Z"},
		{1767323045123456789, "2026-01-02T03:04:05.123456789Z"},
		{1709210096000000000, "2024-02-29T12:34:56Z"},
		{-1, "1969-12-31T23:59:59.999999999Z"},
		{INT64_MAX, "2262-04-11T23:47:16.854775807Z"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[40];
		clock_format_rfc3339(cases[i].ns, text);
		cr_expect_str_eq(text, cases[i].text);
	}
}

/* A line's time always has three digits of the fraction, cut and not rounded, also before 1970. */
Test(common_clock, ms)
{
	static const struct {
		int64_t ns;
		const char *text;
	} rows[] = {
		{0, "1970-01-01T00:00:00.000Z"},
		{1582934400999999999, "2020-02-29T00:00:00.999Z"},
		{1767323045500000000, "2026-01-02T03:04:05.500Z"},
		{-1, "1969-12-31T23:59:59.999Z"},
		{-1000000000, "1969-12-31T23:59:59.000Z"},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char text[25];
		clock_format_ms(rows[i].ns, text);
		cr_expect_str_eq(text, rows[i].text);
	}
}
