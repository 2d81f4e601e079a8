/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/spawn_record.h"

#include <errno.h>
#include <jansson.h>

#include "common/json_write.h"
#include "gateway/record.h"
#include "gateway/sandbox_doc.h"

void spawn_record_write(const struct spawn_record *r, struct buf *out)
{
	struct json_writer w = json_writer(out);

	json_object_begin(&w, NULL);
	json_cstr(&w, "state", r->state);
	json_cstr(&w, "upstream", r->upstream);
	json_cstr(&w, "url", r->url);
	if (r->credential)
		json_cstr(&w, "credential", r->credential);
	json_cstr(&w, "user", r->user_id);
	json_int(&w, "sent", r->sent_wall_ms);
	json_int(&w, "until", r->until_wall_ms);
	json_bool(&w, "keep", r->keep);
	json_uint(&w, "keep_ms", r->keep_ms);
	if (r->id[0])
		json_cstr(&w, "id", r->id);
	json_object_end(&w);
}

int spawn_record_read(struct str text, struct spawn_record *out)
{
	json_error_t error;
	json_t *doc = json_loadb(text.n ? text.p : "", text.n, 0, &error);

	out->doc = doc;
	out->state = record_text(doc, "state");
	out->upstream = record_text(doc, "upstream");
	out->url = record_text(doc, "url");
	out->credential = json_string_value(json_object_get(doc, "credential"));
	out->user_id = record_text(doc, "user");
	out->id = record_text(doc, "id");
	if (!sandbox_doc_id_is_good(str_from(out->id)))
		out->id = "";
	out->sent_wall_ms = json_integer_value(json_object_get(doc, "sent"));
	out->until_wall_ms = json_integer_value(json_object_get(doc, "until"));
	out->keep = json_is_true(json_object_get(doc, "keep"));
	out->keep_ms = (uint64_t)json_integer_value(json_object_get(doc, "keep_ms"));
	if (doc)
		return out->user_id[0] ? 0 : -EPROTO;
	return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EPROTO;
}

void spawn_record_fini(struct spawn_record *r)
{
	json_decref(r->doc);
	r->doc = NULL;
}
