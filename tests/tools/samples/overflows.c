/* SPDX-License-Identifier: Apache-2.0 */
/* A test program with undefined behaviour on purpose: the wrapper must not call it good. */
#include <criterion/criterion.h>
#include <limits.h>

Test(sample, overflows)
{
	volatile int n = INT_MAX;

	n = n + 1;
	cr_assert_lt(n, 0);
}
