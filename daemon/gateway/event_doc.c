/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/event_doc.h"

#include <errno.h>

#include "gateway/json_read.h"

struct wanted {
	struct str key;
	char *out; /* empty until it is read */
	size_t size;
	bool seen;
};

/* What is too long for it stays empty. */
static int read_text(struct wanted *t, struct str value)
{
	if (t->seen)
		return -EPROTO;
	t->seen = true;
	if (json_read_kind(value) == JSON_KIND_NULL)
		return 0;
	if (json_read_kind(value) != JSON_KIND_STRING)
		return -EPROTO;
	(void)json_read_copy(value, t->out, t->size);
	return 0;
}

/* Reads what is wanted out of an object; *data is its member of that name, when asked for; *behind what follows it. */
static int read_object(struct str text, struct wanted *wanted, size_t n, struct str *data, struct str *behind)
{
	struct json_members members = json_read_members(text);
	struct json_member m;
	int rc;

	while ((rc = json_read_member(&members, &m)) == 1) {
		for (size_t i = 0; i < n; i++)
			if (json_read_string_is(m.key, wanted[i].key) && read_text(&wanted[i], m.value))
				return -EPROTO;
		if (!data || !json_read_string_is(m.key, STR("data")))
			continue;
		if (data->n)
			return -EPROTO;
		*data = m.value;
	}
	*behind = members.rest;
	return rc;
}

int event_doc_parse(struct str payload, struct event_doc *out)
{
	struct wanted outer[] = {
		{STR("type"), out->type, sizeof(out->type), false},
		{STR("sandbox_id"), out->sandbox_id, sizeof(out->sandbox_id), false},
	};
	struct wanted inner = {STR("owner_id"), out->owner_id, sizeof(out->owner_id), false};
	struct str text = json_read_space(payload);
	struct str data = STR("");
	struct str behind;

	out->type[0] = out->sandbox_id[0] = out->owner_id[0] = '\0';
	if (text.n == 0 || text.p[0] != '{' || read_object(text, outer, 2, &data, &behind) || json_read_space(behind).n)
		return -EPROTO;
	if (!sandbox_doc_id_is_good(str_from(out->sandbox_id)))
		out->sandbox_id[0] = '\0';
	if (data.n == 0 || json_read_kind(data) == JSON_KIND_NULL)
		return 0;
	return json_read_kind(data) == JSON_KIND_OBJECT ? read_object(data, &inner, 1, NULL, &behind) : -EPROTO;
}
