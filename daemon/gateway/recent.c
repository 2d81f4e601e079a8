/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/recent.h"

#include <stdbool.h>
#include <string.h>

#include "common/clock.h"
#include "common/json_write.h"

static bool is_text(const struct recent_entry *e, struct str text)
{
	return e->bytes == text.n && memcmp(e->text, text.p, text.n) == 0;
}

/* Takes the entry at i out: those behind it move up. */
static void take_out(struct recent *r, size_t i)
{
	r->n--;
	memmove(&r->entries[i], &r->entries[i + 1], (r->n - i) * sizeof(r->entries[0]));
}

void recent_add(struct recent *r, int64_t wall_ns, const char *level, struct str text)
{
	struct recent_entry *e;
	uint64_t count = 0;

	if (text.n > RECENT_TEXT_MAX_BYTES)
		text.n = RECENT_TEXT_MAX_BYTES;
	for (size_t i = r->n; i-- > 0;) {
		if (!is_text(&r->entries[i], text))
			continue;
		count = r->entries[i].count;
		take_out(r, i);
		break;
	}
	if (r->n == RECENT_MAX)
		take_out(r, 0);
	e = &r->entries[r->n++];
	e->wall_ns = wall_ns;
	e->count = count + 1;
	e->level = level;
	e->bytes = (uint16_t)text.n;
	if (text.n)
		memcpy(e->text, text.p, text.n);
}

void recent_write(const struct recent *r, struct json_writer *w, const char *key)
{
	char when[25];

	json_array_begin(w, key);
	for (size_t i = r->n; i-- > 0;) {
		const struct recent_entry *e = &r->entries[i];
		clock_format_ms(e->wall_ns, when);
		json_object_begin(w, NULL);
		json_cstr(w, "time", when);
		json_cstr(w, "level", e->level);
		json_uint(w, "count", e->count);
		json_str(w, "text", str_of(e->text, e->bytes));
		json_object_end(w);
	}
	json_array_end(w);
}
