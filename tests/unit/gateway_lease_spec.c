/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "gateway/lease_spec.h"

/* Each form is read for what it is. */
Test(gateway_lease_spec, good)
{
	static const struct {
		const char *text;
		struct lease_spec want;
	} rows[] = {
		{"connection", {LEASE_CONNECTION, 0, 0}},
		{" connection\t", {LEASE_CONNECTION, 0, 0}},
		{"process", {LEASE_PROCESS, 0, 0}},
		{"process=1", {LEASE_PROCESS, 1, 0}},
		{"process=4194304", {LEASE_PROCESS, 4194304, 0}},
		{"90s", {LEASE_CLOCK, 0, 90000}},
		{"1h30m", {LEASE_CLOCK, 0, 5400000}},
		{"1s", {LEASE_CLOCK, 0, 1000}},
		{"1500ms", {LEASE_CLOCK, 0, 1500}},
		{"8784h", {LEASE_CLOCK, 0, LEASE_SPAN_MAX_MS}},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct lease_spec got;
		const char *why = NULL;
		cr_expect(lease_spec_parse(str_from(rows[i].text), &got, &why), "%s: %s", rows[i].text, why);
		cr_expect_eq(got.kind, rows[i].want.kind, "%s", rows[i].text);
		cr_expect_eq(got.pid, rows[i].want.pid, "%s", rows[i].text);
		cr_expect_eq(got.span_ms, rows[i].want.span_ms, "%s", rows[i].text);
	}
}

/* Everything else is refused with a reason. */
Test(gateway_lease_spec, bad)
{
	static const char *const texts[] = {
		"",
		"Connection",
		"connections",
		"process=",
		"process=0",
		"process=-1",
		"process=4194305",
		"process=1a",
		"process= 1",
		"process =1",
		"process=99999999999999999999",
		"90",
		"0",
		"999ms",
		"-90s",
		"8784h1ms",
		"1d",
		"forever",
		"run",
		"clock",
		"90s, connection",
		"connection process",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct lease_spec got;
		const char *why = NULL;
		cr_expect_not(lease_spec_parse(str_from(texts[i]), &got, &why), "%s", texts[i]);
		cr_expect_not_null(why, "%s", texts[i]);
	}
}

/* Kinds have names that are read again. */
Test(gateway_lease_spec, names)
{
	enum lease_kind kind;

	for (unsigned i = 0; i < LEASE_KINDS; i++) {
		cr_expect_eq(lease_kind_parse(str_from(lease_kind_name((enum lease_kind)i)), &kind), 0);
		cr_expect_eq(kind, (enum lease_kind)i);
	}
	cr_expect_eq(lease_kind_parse(STR("life"), &kind), -EINVAL);
	cr_expect_eq(lease_kind_parse(STR(""), &kind), -EINVAL);
}
