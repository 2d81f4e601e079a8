/* SPDX-License-Identifier: Apache-2.0 */
/* malloc is wrapped here (-Wl,--wrap=malloc), so that the n-th allocation can fail. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>

#include "common/buf.h"
#include "common/json_write.h"

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

static long allocations_left = -1; /* -1: no limit */
static size_t malloc_max_bytes = SIZE_MAX;

void *__wrap_malloc(size_t n)
{
	if (n > malloc_max_bytes || allocations_left == 0)
		return NULL;
	if (allocations_left > 0)
		allocations_left--;
	return __real_malloc(n);
}

/* Nothing added: no memory, no content, and releasing it is fine. */
Test(common_buf, empty)
{
	struct buf b = BUF_EMPTY;

	cr_expect_null(buf_data(&b));
	cr_expect_eq(buf_str(&b).n, 0);
	buf_consume(&b, 0);
	buf_add(&b, NULL, 0);
	cr_expect_null(b.mem);
	buf_reset(&b);
	buf_wipe(&b);
	buf_fini(&b);
}

/* All ways of adding make one run of bytes. */
Test(common_buf, additions)
{
	struct buf b = BUF_EMPTY;

	buf_add(&b, "a\0b", 3);
	buf_add_str(&b, STR("cd"));
	buf_add_cstr(&b, "ef");
	buf_add_char(&b, 'g');
	buf_add_u64(&b, 0);
	buf_add_u64(&b, 18446744073709551615ull);
	buf_addf(&b, "%s-%d", "x", -7);
	cr_expect(str_eq(buf_str(&b), STR("a\0bcdefg018446744073709551615x--7")));
	cr_expect_not(b.failed);
	buf_fini(&b);
	cr_expect_null(b.mem);
}

/* A million bytes added and consumed in uneven pieces come out in order, in memory that stays small. */
Test(common_buf, moving_window)
{
	struct buf b = BUF_EMPTY;
	unsigned char in = 0;
	unsigned char out = 0;
	size_t moved = 0;

	for (unsigned i = 0; moved < 1000000; i++) {
		for (unsigned k = 0; k < i % 97; k++)
			buf_add_char(&b, (char)in++);
		size_t take = i % 89 < b.len ? i % 89 : b.len;
		for (size_t k = 0; k < take; k++)
			cr_assert_eq((unsigned char)buf_data(&b)[k], out++);
		buf_consume(&b, take);
		moved += take;
		if (b.len > 5000) {
			for (size_t k = 0; k < b.len; k++)
				cr_assert_eq((unsigned char)buf_data(&b)[k], out++);
			buf_consume(&b, b.len);
		}
	}
	cr_expect_leq(b.cap, 16384);
	buf_fini(&b);
}

/* Reserved room is content only after the commit. */
Test(common_buf, reserve_and_commit)
{
	struct buf b = BUF_EMPTY;

	buf_add_cstr(&b, "head");
	buf_consume(&b, 2);
	char *room = buf_reserve(&b, 5000);
	cr_assert_not_null(room);
	cr_expect_eq(b.len, 2);
	memset(room, 'x', 5000);
	buf_commit(&b, 3);
	cr_expect(str_eq(buf_str(&b), STR("adxxx")));
	buf_fini(&b);
}

/* Growing wipes what it leaves behind, since a head with a credential may be in it. */
Test(common_buf, wipes_on_growth)
{
	struct buf b = BUF_EMPTY;

	buf_add_cstr(&b, "SEKRET");
	buf_wipe(&b);
	cr_expect_null(b.mem);
	cr_expect_eq(b.cap, 0);
	buf_add_cstr(&b, "again");
	cr_expect(str_eq(buf_str(&b), STR("again")));
	buf_fini(&b);
}

/* More than any machine has is refused, not computed around. */
Test(common_buf, absurd_size)
{
	struct buf b = BUF_EMPTY;

	buf_add_cstr(&b, "x");
	cr_expect_null(buf_reserve(&b, SIZE_MAX - 4));
	cr_expect(b.failed);
	cr_expect_eq(b.len, 1);
	buf_fini(&b);
}

/* Without memory an addition changes nothing and says so, and so do all after it. */
Test(common_buf, failed_addition_sticks)
{
	struct buf b = BUF_EMPTY;

	buf_add_cstr(&b, "kept");
	malloc_max_bytes = 1000;
	for (unsigned i = 0; i < 2000; i++)
		buf_add_char(&b, 'x');
	malloc_max_bytes = SIZE_MAX;
	cr_expect(b.failed);
	size_t len = b.len;
	buf_add_cstr(&b, "later");
	buf_addf(&b, "%d", 5);
	cr_expect_eq(b.len, len, "a gap would look like content");
	cr_expect(str_starts(buf_str(&b), STR("kept")));
	buf_reset(&b);
	cr_expect_not(b.failed);
	buf_add_cstr(&b, "anew");
	cr_expect(str_eq(buf_str(&b), STR("anew")));
	buf_fini(&b);
}

static void write_document(struct buf *out)
{
	struct json_writer w = json_writer(out);
	char key[16];

	json_object_begin(&w, NULL);
	for (int i = 0; i < 200; i++) {
		snprintf(key, sizeof(key), "key%d", i);
		json_member(&w, str_from(key), STR("value \xe2\x80\xa8 <&> \x01"));
	}
	json_object_end(&w);
}

/* With the n-th allocation failing, n swept, a writer either completes the document or says that it did not. */
Test(common_buf, nth_allocation_fails)
{
	struct buf whole = BUF_EMPTY;
	bool completed = false;

	write_document(&whole);
	cr_assert_not(whole.failed);
	for (long n = 0; n < 50 && !completed; n++) {
		struct buf b = BUF_EMPTY;
		allocations_left = n;
		write_document(&b);
		allocations_left = -1;
		completed = !b.failed;
		if (completed)
			cr_expect(str_eq(buf_str(&b), buf_str(&whole)));
		else
			cr_expect(str_starts(buf_str(&whole), buf_str(&b)), "allocation %ld: not a prefix", n);
		buf_fini(&b);
	}
	cr_expect(completed);
	buf_fini(&whole);
}
