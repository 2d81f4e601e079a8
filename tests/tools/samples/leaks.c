/* SPDX-License-Identifier: Apache-2.0 */
/* A test program that leaks on purpose: Criterion calls it good, the wrapper must not. */
#include <criterion/criterion.h>
#include <stdlib.h>

static void *volatile lost;

Test(sample, passes_and_leaks)
{
	lost = malloc(1234);
	cr_assert_not_null(lost);
	lost = NULL;
}
