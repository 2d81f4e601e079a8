/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/feed_event.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/sse.h"

static struct feed_event *copy(struct str raw, bool comment)
{
	struct feed_event *e = calloc(1, sizeof(*e) + raw.n);

	if (!e)
		return NULL;
	e->refs = 1;
	e->comment = comment;
	e->n = raw.n;
	memcpy(e->raw, raw.p, raw.n);
	return e;
}

struct feed_event *feed_event_new(const struct sse_event *event)
{
	struct feed_event *e = copy(event->raw, !event->has_data);

	if (e && event->has_data && event_doc_parse(event->data, &e->doc))
		memset(&e->doc, 0, sizeof(e->doc));
	return e;
}

struct feed_event *feed_event_comment(struct str raw)
{
	return copy(raw, true);
}

struct feed_event *feed_event_ref(struct feed_event *e)
{
	e->refs++;
	return e;
}

void feed_event_unref(struct feed_event *e)
{
	if (--e->refs == 0)
		free(e);
}

/* The set of types is open: one that is not known may mean anything. */
static bool changes_nothing(struct str type)
{
	static const char *const types[] = {"sandbox.created", "sandbox.running", "operation.failed", "resource.limit",
					    "provider.failed"};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (str_eq(type, str_from(types[i])))
			return true;
	return str_starts(type, STR("exec.")) || str_starts(type, STR("file."));
}

enum feed_change feed_event_change(const struct feed_event *e)
{
	struct str type = str_from(e->doc.type);

	if (!e->doc.sandbox_id[0] || changes_nothing(type))
		return FEED_CHANGE_NONE;
	return str_eq(type, STR("sandbox.destroyed")) ? FEED_CHANGE_GONE : FEED_CHANGE_UNKNOWN;
}
