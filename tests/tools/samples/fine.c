/* SPDX-License-Identifier: Apache-2.0 */
/* A test program without fault, so that the wrapper's own test sees it pass something. */
#include <criterion/criterion.h>

Test(sample, passes)
{
	cr_assert_eq(1 + 1, 2);
}
