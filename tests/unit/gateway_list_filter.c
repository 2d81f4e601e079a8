/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/list_filter: of a list, what is one owner's. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "gateway/list_filter.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define ALICE "{\"id\":\"sb-1\",\"metadata\":{\"stacygate.owner\":\"alice\"},\"image\":\"a]b\"}"
#define AGAIN "{ \"metadata\":{\"stacygate.owner\":\"alice\"}, \"id\":\"sb-2\" }"
#define BOB                                                                                                            \
	"{\"id\":\"sb-3\",\"metadata\":{\"stacygate.owner\":\"bob\",\"x\":\"\\\"stacygate.owner\\\":\\\"alice\\\"\"}}"
#define NONE "{\"id\":\"sb-4\",\"owner_id\":\"alice\"}"

/* Feeds the body in pieces of `size`; returns the first fault or what end says. */
static int filter(struct list_filter *f, struct str body, size_t size, struct buf *out)
{
	for (size_t at = 0; at < body.n; at += size) {
		size_t n = body.n - at < size ? body.n - at : size;
		int rc = list_filter_feed(f, str_of(body.p + at, n), out);
		if (rc)
			return rc;
	}
	return list_filter_end(f, out);
}

/* C11: only the owner's elements pass, as they were written, and the result is JSON, at every split. */
Test(gateway_list_filter, C11_own_only)
{
	static const struct {
		const char *body, *kept;
		unsigned skipped;
	} cases[] = {
		{"[]\n", "[]\n", 0},
		{"[" BOB "]\n", "[]\n", 0},
		{"[" ALICE "]\n", "[" ALICE "]\n", 0},
		{"[" BOB "," ALICE "," NONE "," AGAIN "," BOB "]\n", "[" ALICE "," AGAIN "]\n", 0},
		{"[ " ALICE " , " AGAIN " ]", "[" ALICE "," AGAIN "]\n", 0},
		{"[1," ALICE ",{}]\n", "[" ALICE "]\n", 2},
		{"[{\"id\":\"..\",\"metadata\":{\"stacygate.owner\":\"alice\"}}]\n", "[]\n", 1},
		{"[[" ALICE "]]\n", "[]\n", 1},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct str body = str_from(cases[i].body);

		for (size_t size = 1; size <= body.n; size++) {
			struct list_filter f;
			struct buf out = BUF_EMPTY;

			list_filter_init(&f, "alice");
			cr_expect_eq(filter(&f, body, size, &out), 0, "%s", cases[i].body);
			cr_expect(str_eq(buf_str(&out), str_from(cases[i].kept)), "%s by %zu: %.*s", cases[i].body,
				  size, STR_ARG(buf_str(&out)));
			cr_expect_eq(list_filter_skipped(&f), cases[i].skipped, "%s", cases[i].body);
			list_filter_fini(&f);
			buf_fini(&out);
		}
	}
}

/* A list that is no array, or cut off, is a fault and is not closed as if it were whole. */
Test(gateway_list_filter, faults)
{
	static const char *const cases[] = {"", "null\n", "{}", "[" ALICE, "[" ALICE ",", "[" ALICE "]x"};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct list_filter f;
		struct buf out = BUF_EMPTY;

		list_filter_init(&f, "alice");
		cr_expect_eq(filter(&f, str_from(cases[i]), 7, &out), -EPROTO, "%s", cases[i]);
		cr_expect(!str_ends(buf_str(&out), STR("]\n")), "%s", cases[i]);
		list_filter_fini(&f);
		buf_fini(&out);
	}
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A list of 10,000 sandboxes, 5 MiB, in pieces of a socket: every second is kept, in far less than it takes to send it. */
Test(gateway_list_filter, large)
{
	struct buf body = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	struct list_filter f;
	double start;

	for (int i = 0; i < 10000; i++)
		buf_addf(
			&body,
			"%c{\"id\":\"sb-%08x\",\"state\":\"running\",\"provider\":\"docker\",\"image\":\"python:3.12\","
			"\"memory_mb\":1024,\"vcpus\":1,\"owner_id\":\"%s@host\",\"worker_id\":\"local\","
			"\"created_at\":\"2026-01-02T03:04:05.123456789Z\",\"expires_at\":\"2026-01-02T04:04:05."
			"123456789Z\","
			"\"metadata\":{\"note\":\"%0200d\",\"stacygate.owner\":\"%s@host\",\"stacygate.token\":"
			"\"0123456789abcdef\"},\"preview_domain\":\"localhost\"}",
			i ? ',' : '[', (unsigned)i, i % 2 ? "alice" : "bob", i, i % 2 ? "alice" : "bob");
	buf_add_cstr(&body, "]\n");
	start = now_s();
	list_filter_init(&f, "alice@host");
	cr_expect_eq(filter(&f, buf_str(&body), 65536, &out), 0);
	double took = now_s() - start;
	printf("%zu bytes in %.1f ms\n", body.len, took * 1e3);
	cr_expect_eq(f.kept, 5000);
	cr_expect_lt(took, 2.0);
	list_filter_fini(&f);
	buf_fini(&out);
	buf_fini(&body);
}
