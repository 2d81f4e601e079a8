/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "gateway/lease_record.h"

static const struct lease_record sample = {
	.sandbox = "sb-1",
	.upstream = "main",
	.url = "http://h:1",
	.credential = "team",
	.user_id = "alice@host \"quoted\"",
	.place = "boot:1",
	.spec = {.kind = LEASE_PROCESS, .pid = 42},
	.start = UINT64_C(9007199254740993),
	.grace = true,
	.asked_ttl_ms = 1,
	.max_ttl_ms = 2,
};

static void there_and_back(const struct lease_record *r, struct lease_record *out)
{
	struct buf text = BUF_EMPTY;

	lease_record_write(r, &text);
	cr_assert_not(text.failed);
	cr_assert_eq(lease_record_read(buf_str(&text), out), 0, "%.*s", STR_ARG(buf_str(&text)));
	buf_fini(&text);
}

/* What was written of a lease is read again, of each kind what it has. */
Test(gateway_lease_record, there_and_back)
{
	struct lease_record r = sample;
	struct lease_record out;

	there_and_back(&r, &out);
	cr_expect_str_eq(out.sandbox, r.sandbox);
	cr_expect_str_eq(out.upstream, r.upstream);
	cr_expect_str_eq(out.url, r.url);
	cr_expect_str_eq(out.credential, r.credential);
	cr_expect_str_eq(out.user_id, r.user_id);
	cr_expect_str_eq(out.place, r.place);
	cr_expect(out.spec.kind == LEASE_PROCESS && out.spec.pid == 42 && out.start == r.start);
	cr_expect(out.grace && !out.ending && out.asked_ttl_ms == 1 && out.max_ttl_ms == 2);
	lease_record_fini(&out);

	r.spec = (struct lease_spec){.kind = LEASE_CLOCK, .span_ms = 3};
	r.credential = NULL;
	r.grace = false;
	r.ending = true;
	r.until_mono_ms = 4;
	r.until_wall_ms = 5;
	there_and_back(&r, &out);
	cr_expect(out.spec.kind == LEASE_CLOCK && out.spec.span_ms == 3 && out.until_mono_ms == 4 &&
		  out.until_wall_ms == 5);
	cr_expect(!out.credential && out.ending && !out.grace);
	lease_record_fini(&out);
}

/* What is no record, or lacks what it takes to do anything, is refused. */
Test(gateway_lease_record, bad)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"sandbox\":\"../x\",\"upstream\":\"u\",\"url\":\"l\",\"user\":\"a\",\"kind\":\"clock\"}",
		"{\"sandbox\":\"s\",\"upstream\":\"\",\"url\":\"l\",\"user\":\"a\",\"kind\":\"clock\"}",
		"{\"sandbox\":\"s\",\"upstream\":\"u\",\"url\":\"l\",\"kind\":\"clock\"}",
		"{\"sandbox\":\"s\",\"upstream\":\"u\",\"url\":\"l\",\"user\":\"a\",\"kind\":\"life\"}",
		"{\"sandbox\":\"s\",\"upstream\":\"u\",\"url\":\"l\",\"user\":\"a\",\"kind\":\"process\"}",
		"{\"sandbox\":\"s\",\"upstream\":\"u\",\"url\":\"l\",\"user\":\"a\",\"kind\":\"process\",\"pid\":-1}",
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct lease_record out;
		cr_expect_eq(lease_record_read(str_from(texts[i]), &out), -EPROTO, "%s", texts[i]);
		lease_record_fini(&out);
	}
}
