/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/list_filter.h"

#include <errno.h>

#include "common/check.h"

static void on_element(void *arg, struct str element)
{
	struct list_filter *f = arg;
	struct sandbox_doc doc;

	if (sandbox_doc_parse(element, &doc)) {
		f->unreadable++;
		return;
	}
	if (!sandbox_doc_is_owned(&doc, f->owner))
		return;
	buf_add_char(f->out, f->kept ? ',' : '[');
	buf_add_str(f->out, element);
	f->kept++;
}

void list_filter_init(struct list_filter *f, const char *owner)
{
	size_t n = strlen(owner);

	CHECK(n && n < sizeof(f->owner));
	memcpy(f->owner, owner, n + 1);
	f->out = NULL;
	f->kept = 0;
	f->unreadable = 0;
	elements_init(&f->elements, on_element, f);
}

void list_filter_fini(struct list_filter *f)
{
	elements_fini(&f->elements);
}

int list_filter_feed(struct list_filter *f, struct str bytes, struct buf *out)
{
	int rc;

	f->out = out;
	rc = elements_feed(&f->elements, bytes);
	f->out = NULL;
	return rc ? rc : out->failed ? -ENOMEM : 0;
}

int list_filter_end(struct list_filter *f, struct buf *out)
{
	int rc = elements_end(&f->elements);

	if (rc)
		return rc;
	buf_add_str(out, f->kept ? STR("]\n") : STR("[]\n"));
	return out->failed ? -ENOMEM : 0;
}

uint64_t list_filter_skipped(const struct list_filter *f)
{
	return f->elements.skipped + f->unreadable;
}
