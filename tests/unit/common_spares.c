/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>

#include "common/spares.h"

/* What is put in comes out, last in first, and no more than SPARES_MAX are kept; under AddressSanitizer none. */
Test(common_spares, last_in_first_out)
{
	static struct spares s;
	static char objects[SPARES_MAX + 1];
	size_t kept = 0;

	cr_expect_null(spares_take(&s));
	while (kept <= SPARES_MAX && spares_put(&s, &objects[kept]))
		kept++;
#ifdef __SANITIZE_ADDRESS__
	cr_expect_eq(kept, 0);
#else
	cr_expect_eq(kept, SPARES_MAX);
#endif
	while (kept)
		cr_expect_eq(spares_take(&s), &objects[--kept]);
	cr_expect_null(spares_take(&s));
}
