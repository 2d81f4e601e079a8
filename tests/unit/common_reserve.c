/* SPDX-License-Identifier: Apache-2.0 */
/* malloc and its family are wrapped here, so that there is no memory when a test says so. */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/reserve.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *old, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *old, size_t n);

static bool none;

void *__wrap_malloc(size_t n)
{
	return none ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return none ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *old, size_t n)
{
	return none ? NULL : __real_realloc(old, n);
}

/* With memory nothing of the reserve is used, and nothing changes. */
Test(common_reserve, not_needed)
{
	char *p = reserve_malloc(RESERVE_BYTES * 2), *q;

	cr_assert_not_null(p);
	memset(p, 1, RESERVE_BYTES * 2);
	p = reserve_realloc(p, 10);
	q = reserve_strdup("text");
	cr_expect_str_eq(q, "text");
	cr_expect_not(reserve_is_low());
	reserve_free(p);
	reserve_free(q);
	reserve_free(NULL);
	p = reserve_realloc(NULL, 5);
	cr_assert_not_null(p);
	reserve_free(p);
}

/* Without it small pieces are there, zeroed where that was asked for, apart from each other and aligned. */
Test(common_reserve, pieces)
{
	char *a, *b, *c;

	none = true;
	a = reserve_malloc(100);
	b = reserve_calloc(10, 10);
	c = reserve_strdup("text");
	none = false;
	cr_assert(a && b && c);
	cr_expect_eq((uintptr_t)a % 16 + (uintptr_t)b % 16 + (uintptr_t)c % 16, 0);
	memset(a, 0xff, 100);
	for (unsigned i = 0; i < 100; i++)
		cr_assert_eq(b[i], 0);
	memset(b, 0xff, 100);
	cr_expect_str_eq(c, "text");
	reserve_free(a);
	reserve_free(b);
	reserve_free(c);
}

/* What cannot be had is refused, as by malloc: large pieces, sizes beyond all, and anything when it is used up. */
Test(common_reserve, bounds)
{
	void *all[RESERVE_BYTES / RESERVE_PIECE_BYTES];
	unsigned n = 0;

	for (unsigned round = 0; round < 2; round++) {
		none = true;
		cr_expect_null(reserve_malloc(RESERVE_PIECE_BYTES + 1));
		cr_expect_null(reserve_malloc(SIZE_MAX));
		cr_expect_null(reserve_calloc(SIZE_MAX / 2, 4));
		for (n = 0; (all[n] = reserve_malloc(RESERVE_PIECE_BYTES)); n++)
			memset(all[n], 7, RESERVE_PIECE_BYTES);
		none = false;
		cr_expect_eq(n, RESERVE_BYTES / RESERVE_PIECE_BYTES - 1);
		cr_expect(reserve_is_low());
		while (n)
			reserve_free(all[--n]);
		cr_expect_not(reserve_is_low(), "what came back is not there again");
	}
}

/* A piece that changes its size keeps its bytes, with memory again or without. */
Test(common_reserve, realloc)
{
	char *p, *q;

	none = true;
	p = reserve_realloc(NULL, 4);
	cr_assert_not_null(p);
	memcpy(p, "abc", 4);
	p = reserve_realloc(p, 1000);
	cr_assert_not_null(p);
	cr_expect_str_eq(p, "abc");
	cr_expect_null(reserve_realloc(p, RESERVE_BYTES));
	none = false;
	p = reserve_realloc(p, RESERVE_BYTES);
	cr_assert_not_null(p);
	cr_expect_str_eq(p, "abc");
	none = true;
	q = reserve_realloc(p, RESERVE_BYTES * 2);
	none = false;
	cr_expect_null(q, "how large it was is not known");
	reserve_free(p);
	cr_expect_not(reserve_is_low());
}
