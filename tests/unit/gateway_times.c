/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/times: the two forms of a time. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "gateway/times.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* RFC 3339 with any offset and fraction. */
Test(gateway_times, rfc3339)
{
	static const struct {
		const char *text;
		int64_t ms;
	} cases[] = {
		{"1970-01-01T00:00:00Z", 0},
		{"1970-01-01t00:00:00z", 0},
		{"1970-01-01T00:00:00.001Z", 1},
		{"1969-12-31T23:59:59.999Z", -1},
		{"1970-01-01T05:30:00+05:30", 0},
		{"1969-12-31T19:00:00-05:00", 0},
		{"2026-01-02T03:04:05Z", 1767323045000},
		{"2026-01-02T03:04:05.5Z", 1767323045500},
		{"2026-01-02T03:04:05.123456789Z", 1767323045123},
		{"2026-01-02T08:34:05.999999999+05:30", 1767323045999},
		{"2024-02-29T12:00:00Z", 1709208000000},
		{"2000-02-29T00:00:00Z", 951782400000},
		{"2016-12-31T23:59:60Z", 1483228800000},
		{"0001-01-01T00:00:00Z", -62135596800000},
		{"0000-03-01T00:00:00Z", -62162035200000},
		{"0000-01-01T00:00:00Z", -62167219200000},
		{"9999-12-31T23:59:59Z", 253402300799000},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t ms = 42;

		cr_expect_eq(rfc3339_parse(str_from(cases[i].text), &ms), 0, "%s", cases[i].text);
		cr_expect_eq(ms, cases[i].ms, "%s is %lld", cases[i].text, (long long)ms);
	}
}

/* What is not RFC 3339, or no day of the calendar, is refused and changes nothing. */
Test(gateway_times, rfc3339_refused)
{
	static const char *const cases[] = {
		"",
		"2026",
		"2026-01-02",
		"2026-01-02T03:04:05",
		"2026-01-02 03:04:05Z",
		"2026-1-02T03:04:05Z",
		"2026-13-02T03:04:05Z",
		"2026-00-02T03:04:05Z",
		"2026-02-29T03:04:05Z",
		"1900-02-29T00:00:00Z",
		"2026-04-31T03:04:05Z",
		"2026-01-00T03:04:05Z",
		"2026-01-02T24:04:05Z",
		"2026-01-02T03:60:05Z",
		"2026-01-02T03:04:61Z",
		"2026-01-02T03:04:05.Z",
		"2026-01-02T03:04:05.1234567890Z",
		"2026-01-02T03:04:05+0530",
		"2026-01-02T03:04:05+24:00",
		"2026-01-02T03:04:05+05:60",
		"2026-01-02T03:04:05Zx",
		"2026-01-02T03:04:05+05",
		" 2026-01-02T03:04:05Z",
		"2026-01-02T+3:04:05Z",
		"-026-01-02T03:04:05Z",
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		int64_t ms = 42;

		cr_expect_eq(rfc3339_parse(str_from(cases[i]), &ms), -EINVAL, "%s", cases[i]);
		cr_expect_eq(ms, 42);
	}
}

/* The form of HTTP's Date, and no other. */
Test(gateway_times, http_date)
{
	static const char *const refused[] = {
		"",
		"Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994",
		"Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 6 Nov 1994 08:49:37 GMT",
		"Xxx, 06 Nov 1994 08:49:37 GMT",
		"Sun, 31 Feb 1994 08:49:37 GMT",
		"Sun, 06 nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994 08:49:37 GMT ",
	};
	int64_t ms = 42;

	for (size_t i = 0; i < COUNT(refused); i++) {
		cr_expect_eq(http_date_parse(str_from(refused[i]), &ms), -EINVAL, "%s", refused[i]);
		cr_expect_eq(ms, 42);
	}
	cr_expect_eq(http_date_parse(STR("Sun, 06 Nov 1994 08:49:37 GMT"), &ms), 0);
	cr_expect_eq(ms, 784111777000);
}

/* Both agree with the C library over four centuries and more, in steps that meet every month and hour. */
Test(gateway_times, agree_with_the_library)
{
	for (int64_t t = -2208988800; t < 13569465600; t += 9999991) {
		time_t at = (time_t)t;
		struct tm tm;
		char text[64];
		int64_t ms;

		gmtime_r(&at, &tm);
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
		cr_assert_eq(rfc3339_parse(str_from(text), &ms), 0, "%s", text);
		cr_assert_eq(ms, t * 1000, "%s", text);
		strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		cr_assert_eq(http_date_parse(str_from(text), &ms), 0, "%s", text);
		cr_assert_eq(ms, t * 1000, "%s", text);
	}
}
