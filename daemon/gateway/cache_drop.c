/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cache_drop.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/ownership.h"
#include "gateway/template_cache.h"

static void on_request(struct call *c, struct str body)
{
	struct buf json = BUF_EMPTY;
	size_t n = template_cache_purge_all(c->c.templates) + ownership_forget_all(&c->c.admit->ownership);

	(void)body;
	buf_addf(&json, "{\"dropped\":%zu}", n);
	call_json(c, 200, NULL, &json);
}

static void on_free(struct call *c)
{
	call_fini(c);
	free(c);
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

int cache_drop_call_new(const struct call_case *what, struct call **out)
{
	struct call *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	if (call_init(c, &ops, what, STR("")) == 0) {
		*out = c;
		return 0;
	}
	on_free(c);
	return -ENOMEM;
}
