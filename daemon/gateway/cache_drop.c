/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/cache_drop.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/ownership.h"
#include "gateway/template_cache.h"

struct cache_drop {
	struct call call;
	struct template_cache *templates; /* borrowed */
};

static void on_request(struct call *c, struct str body)
{
	struct cache_drop *d = CONTAINER_OF(c, struct cache_drop, call);
	struct buf json = BUF_EMPTY;
	size_t n = template_cache_purge_all(d->templates) + ownership_forget_all(&c->c.admit->ownership);

	(void)body;
	buf_addf(&json, "{\"dropped\":%zu}", n);
	call_json(c, 200, NULL, &json);
}

static void on_free(struct call *c)
{
	call_fini(c);
	free(CONTAINER_OF(c, struct cache_drop, call));
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

int cache_drop_call_new(const struct call_case *what, struct template_cache *templates, struct call **out)
{
	struct cache_drop *d = calloc(1, sizeof(*d));

	if (!d)
		return -ENOMEM;
	d->templates = templates;
	*out = &d->call;
	if (call_init(&d->call, &ops, what, STR("")) == 0)
		return 0;
	on_free(&d->call);
	*out = NULL;
	return -ENOMEM;
}
