/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/recent: the last things that went wrong. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/json_write.h"
#include "gateway/recent.h"

static struct recent recent;

static const char *written(void)
{
	static struct buf out;
	struct json_writer w = json_writer(&out);

	buf_reset(&out);
	json_object_begin(&w, NULL);
	recent_write(&recent, &w, "errors");
	json_object_end(&w);
	buf_add_char(&out, '\0');
	return buf_str(&out).p;
}

/* Nothing went wrong: an empty list. */
Test(gateway_recent, none)
{
	cr_expect_str_eq(written(), "{\"errors\":[]}");
}

/* The newest stands first; one that comes again counts, and stands first again. */
Test(gateway_recent, again)
{
	recent_add(&recent, 0, "error", STR("a"));
	recent_add(&recent, 1500000000, "warning", STR("b"));
	recent_add(&recent, 2000000000, "error", STR("a"));
	cr_expect_str_eq(written(),
			 "{\"errors\":[{\"time\":\"1970-01-01T00:00:02.000Z\",\"level\":\"error\",\"count\":2,\"text\":"
			 "\"a\"},{\"time\":\"1970-01-01T00:00:01.500Z\",\"level\":\"warning\",\"count\":1,"
			 "\"text\":\"b\"}]}");
}

/* The oldest makes room, and comes back as new. */
Test(gateway_recent, full)
{
	char text[32];

	for (unsigned i = 0; i <= RECENT_MAX; i++) {
		snprintf(text, sizeof(text), "text %u", i);
		recent_add(&recent, i, "error", str_from(text));
	}
	cr_expect_eq(recent.n, (size_t)RECENT_MAX);
	cr_expect_not(strstr(written(), "\"text 0\""));
	cr_expect(strstr(written(), "\"text 1\""));
	recent_add(&recent, 99, "error", STR("text 0"));
	cr_expect(strstr(written(), "\"count\":1,\"text\":\"text 0\""));
	cr_expect_not(strstr(written(), "\"text 1\""));
}

/* What is too long is cut, also for the comparison; bytes that are no text are no harm. */
Test(gateway_recent, any_bytes)
{
	char text[RECENT_TEXT_MAX_BYTES + 10];

	memset(text, 'x', sizeof(text));
	recent_add(&recent, 0, "error", str_of(text, sizeof(text)));
	text[RECENT_TEXT_MAX_BYTES + 5] = 'y';
	recent_add(&recent, 0, "error", str_of(text, sizeof(text)));
	cr_expect_eq(recent.n, 1u);
	cr_expect_eq(recent.entries[0].bytes, (unsigned)RECENT_TEXT_MAX_BYTES);
	recent_add(&recent, 0, "error", str_of("\0\x1b[31m\xff<", 8));
	cr_expect(strstr(written(), "\\u0000\\u001b[31m\\ufffd\\u003c"));
	recent_add(&recent, 0, "error", str_of(NULL, 0));
	cr_expect_eq(recent.n, 3u);
}
