/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "gateway/spawn_record.h"

static const struct spawn_record sample = {
	.state = "kept",
	.upstream = "main",
	.url = "http://h:1",
	.credential = "team",
	.user_id = "alice@host \"quoted\"",
	.id = "sb-1",
	.sent_wall_ms = INT64_C(1767323045500),
	.until_wall_ms = INT64_C(1767323045501),
	.keep = true,
	.keep_ms = 7,
};

static void there_and_back(const struct spawn_record *r, struct spawn_record *out)
{
	struct buf text = BUF_EMPTY;

	spawn_record_write(r, &text);
	cr_assert_not(text.failed);
	cr_assert_eq(spawn_record_read(buf_str(&text), out), 0, "%.*s", STR_ARG(buf_str(&text)));
	buf_fini(&text);
}

/* What was written of a spawn is read again, with and without what not each one has. */
Test(gateway_spawn_record, there_and_back)
{
	struct spawn_record r = sample;
	struct spawn_record out;

	there_and_back(&r, &out);
	cr_expect_str_eq(out.state, r.state);
	cr_expect_str_eq(out.upstream, r.upstream);
	cr_expect_str_eq(out.url, r.url);
	cr_expect_str_eq(out.credential, r.credential);
	cr_expect_str_eq(out.user_id, r.user_id);
	cr_expect_str_eq(out.id, r.id);
	cr_expect(out.sent_wall_ms == r.sent_wall_ms && out.until_wall_ms == r.until_wall_ms);
	cr_expect(out.keep && out.keep_ms == 7);
	spawn_record_fini(&out);

	r.credential = NULL;
	r.id = "";
	r.keep = false;
	there_and_back(&r, &out);
	cr_expect_null(out.credential);
	cr_expect_str_eq(out.id, "");
	cr_expect_not(out.keep);
	spawn_record_fini(&out);
}

/* An id that could be no part of a path is none. */
Test(gateway_spawn_record, bad_id)
{
	struct spawn_record out;

	cr_assert_eq(spawn_record_read(STR("{\"user\":\"alice\",\"state\":\"kept\",\"id\":\"../x\"}"), &out), 0);
	cr_expect_str_eq(out.id, "");
	spawn_record_fini(&out);
}

/* What is no record is refused, with texts that can be looked at all the same. */
Test(gateway_spawn_record, bad)
{
	static const char *const texts[] = {"", "{", "[]", "{}", "{\"user\":\"\"}", "{\"user\":7,\"state\":\"kept\"}"};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct spawn_record out;
		cr_expect_eq(spawn_record_read(str_from(texts[i]), &out), -EPROTO, "%s", texts[i]);
		cr_expect_str_eq(out.user_id, "");
		cr_expect_eq(out.sent_wall_ms, 0);
		spawn_record_fini(&out);
	}
}
