/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "common/units.h"

#define SECOND 1000000000ll

/* What Go's time.ParseDuration accepts (its own test table), with the same values. */
Test(common_units, durations_go_accepts)
{
	static const struct {
		const char *text;
		int64_t ns;
	} cases[] = {
		{"0", 0},
		{"5s", 5 * SECOND},
		{"30s", 30 * SECOND},
		{"1478s", 1478 * SECOND},
		{"-5s", -5 * SECOND},
		{"+5s", 5 * SECOND},
		{"-0", 0},
		{"+0", 0},
		{"5.0s", 5 * SECOND},
		{"5.6s", 5 * SECOND + 600000000},
		{"5.s", 5 * SECOND},
		{".5s", 500000000},
		{"1.0s", SECOND},
		{"1.004s", SECOND + 4000000},
		{"1.0040s", SECOND + 4000000},
		{"100.00100s", 100 * SECOND + 1000000},
		{"10ns", 10},
		{"11us", 11000},
		{"12\xc2\xb5s", 12000},
		{"12\xce\xbcs", 12000},
		{"13ms", 13000000},
		{"14s", 14 * SECOND},
		{"15m", 900 * SECOND},
		{"16h", 57600 * SECOND},
		{"3h30m", 12600 * SECOND},
		{"10.5s4m", 250 * SECOND + 500000000},
		{"-2m3.4s", -123 * SECOND - 400000000},
		{"1h2m3s4ms5us6ns", 3723 * SECOND + 4005006},
		{"39h9m14.425s", 140954 * SECOND + 425000000},
		{"52763797000ns", 52763797000ll},
		{"0.3333333333333333333h", 1200 * SECOND},
		{"9007199254740993ns", 9007199254740993ll},
		{"9223372036854775807ns", INT64_MAX},
		{"9223372036854775.807us", INT64_MAX},
		{"9223372036s854ms775us807ns", INT64_MAX},
		{"-9223372036854775808ns", INT64_MIN},
		{"-9223372036854775.808us", INT64_MIN},
		{"-2562047h47m16.854775808s", INT64_MIN},
		{"0.100000000000000000000h", 360 * SECOND},
		{"0.830103483285477580700h", 2988 * SECOND + 372539827},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 77;
		cr_expect_eq(duration_parse(str_from(cases[i].text), &ns), DURATION_OK, "%s", cases[i].text);
		cr_expect_eq(ns, cases[i].ns, "%s: %lld", cases[i].text, (long long)ns);
	}
}

/* What Go refuses, with Go's own words. */
Test(common_units, durations_go_refuses)
{
	static const struct {
		const char *text;
		const char *words;
	} cases[] = {
		{"", "time: invalid duration \"\""},
		{"3", "time: missing unit in duration \"3\""},
		{"30", "time: missing unit in duration \"30\""},
		{"-", "time: invalid duration \"-\""},
		{"s", "time: invalid duration \"s\""},
		{".", "time: invalid duration \".\""},
		{"-.", "time: invalid duration \"-.\""},
		{".s", "time: invalid duration \".s\""},
		{"+.s", "time: invalid duration \"+.s\""},
		{"1d", "time: unknown unit \"d\" in duration \"1d\""},
		{"1h2d", "time: unknown unit \"d\" in duration \"1h2d\""},
		{"5 s", "time: unknown unit \" s\" in duration \"5 s\""},
		{"1s ", "time: unknown unit \"s \" in duration \"1s \""},
		{"3000000h", "time: invalid duration \"3000000h\""},
		{"9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""},
		{"9223372036854775.808us", "time: invalid duration \"9223372036854775.808us\""},
		{"9223372036854ms775us808ns", "time: invalid duration \"9223372036854ms775us808ns\""},
		{"-9223372036854775809ns", "time: invalid duration \"-9223372036854775809ns\""},
		{"--5s", "time: invalid duration \"--5s\""},
		{"a\"b", "time: invalid duration \"a\\\"b\""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t ns = 77;
		char words[160];
		enum duration_fault fault = duration_parse(str_from(cases[i].text), &ns);
		cr_assert_neq(fault, DURATION_OK, "%s", cases[i].text);
		cr_expect_eq(ns, 77, "%s: changed", cases[i].text);
		duration_fault_text(fault, str_from(cases[i].text), words, sizeof(words));
		cr_expect_str_eq(words, cases[i].words);
	}
}

/* Two terms whose sum leaves 64 bits are out of range, not zero. */
Test(common_units, durations_do_not_wrap)
{
	int64_t ns = 77;

	cr_expect_eq(duration_parse(STR("-9223372036854775808ns9223372036854775808ns"), &ns), DURATION_INVALID);
	cr_expect_eq(ns, 77);
}

/* The text of a fault is cut to its room, and what it quotes is bounded. */
Test(common_units, fault_text_is_bounded)
{
	char small[12];
	char large[400];
	char text[1000];

	memset(text, 'x', sizeof(text));
	duration_fault_text(DURATION_INVALID, str_of(text, sizeof(text)), small, sizeof(small));
	cr_expect_str_eq(small, "time: inval");
	memset(text, '\n', sizeof(text));
	duration_fault_text(DURATION_INVALID, str_of(text, sizeof(text)), large, sizeof(large));
	cr_expect_lt(strlen(large), 130);
	text[0] = '1';
	memset(text + 1, 'z', sizeof(text) - 1);
	duration_fault_text(DURATION_UNKNOWN_UNIT, str_of(text, sizeof(text)), large, sizeof(large));
	cr_expect_lt(strlen(large), 200);
}

/* Go's Duration.String (its own test table). */
Test(common_units, durations_as_go_writes_them)
{
	static const struct {
		int64_t ns;
		const char *text;
	} cases[] = {
		{0, "0s"},
		{1, "1ns"},
		{999, "999ns"},
		{1100, "1.1\xc2\xb5s"},
		{853112, "853.112\xc2\xb5s"},
		{2200000, "2.2ms"},
		{6611358, "6.611358ms"},
		{3300000000ll, "3.3s"},
		{SECOND, "1s"},
		{60 * SECOND, "1m0s"},
		{245 * SECOND, "4m5s"},
		{245 * SECOND + 1000000, "4m5.001s"},
		{18367 * SECOND + 1000000, "5h6m7.001s"},
		{480 * SECOND + 1, "8m0.000000001s"},
		{86400 * SECOND, "24h0m0s"},
		{INT64_MAX, "2562047h47m16.854775807s"},
		{INT64_MIN, "-2562047h47m16.854775808s"},
		{-1500000, "-1.5ms"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char text[40];
		duration_format(cases[i].ns, text);
		cr_expect_str_eq(text, cases[i].text);
	}
}

/* What is written is read back as the same. */
Test(common_units, durations_round_trip)
{
	uint64_t ns = 1;

	for (unsigned i = 0; i < 2000; i++) {
		char text[40];
		int64_t back = 0;
		int64_t value = (int64_t)(ns >> (i % 50));
		duration_format(value, text);
		cr_assert_eq(duration_parse(str_from(text), &back), DURATION_OK, "%s", text);
		cr_assert_eq(back, value, "%s: %lld", text, (long long)(back - value));
		ns = ns * 6364136223846793005ull + 1442695040888963407ull;
	}
}

/* Sizes: bytes or a binary unit, nothing else, and within 64 bits. */
Test(common_units, sizes)
{
	static const char *const bad[] = {"", "KiB", "1kib", "1 KiB", "1KB", "1.5MiB", "-1", "1TiB", "1KiBKiB", "0x10"};
	uint64_t bytes = 77;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(size_parse(str_from(bad[i]), &bytes), -EINVAL, "%s", bad[i]);
	cr_expect_eq(size_parse(STR("17179869184GiB"), &bytes), -ERANGE);
	cr_expect_eq(bytes, 77);
	cr_expect_eq(size_parse(STR("17179869183GiB"), &bytes), 0);
	cr_expect_eq(bytes, 17179869183ull << 30);
	cr_expect_eq(size_parse(STR("64KiB"), &bytes), 0);
	cr_expect_eq(bytes, 65536);
	cr_expect_eq(size_parse(STR("1MiB"), &bytes), 0);
	cr_expect_eq(bytes, 1048576);
	cr_expect_eq(size_parse(STR("123"), &bytes), 0);
	cr_expect_eq(bytes, 123);
}

/* For people: bytes up to a KiB, then one digit of the unit that fits, up to TiB. */
Test(common_units, size_format)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} cases[] = {{0, "0 B"},        {1023, "1023 B"},     {1024, "1.0 KiB"},
		     {3482, "3.4 KiB"}, {5 << 20, "5.0 MiB"}, {UINT64_MAX, "16777216.0 TiB"}};
	char text[24];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_format(cases[i].bytes, text);
		cr_expect_str_eq(text, cases[i].text);
	}
}
