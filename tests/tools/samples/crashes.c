/* SPDX-License-Identifier: Apache-2.0 */
/* A test program that fails a CHECK: the wrapper must say so. */
#include <criterion/criterion.h>

#include "common/check.h"

Test(sample, fails_a_check)
{
	volatile int one = 1;

	CHECK(one == 2);
}
