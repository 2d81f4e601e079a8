/* SPDX-License-Identifier: Apache-2.0 */
#include "common/spares.h"

void *spares_take(struct spares *s)
{
	return s->n ? s->items[--s->n] : NULL;
}

bool spares_put(struct spares *s, void *object)
{
#ifdef __SANITIZE_ADDRESS__
	(void)s;
	(void)object;
	return false;
#else
	if (s->n == SPARES_MAX)
		return false;
	s->items[s->n++] = object;
	return true;
#endif
}
