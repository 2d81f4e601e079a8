/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/lease_record.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "common/json_write.h"
#include "gateway/record.h"
#include "gateway/sandbox_doc.h"

void lease_record_write(const struct lease_record *r, struct buf *out)
{
	struct json_writer w = json_writer(out);

	json_object_begin(&w, NULL);
	json_cstr(&w, "sandbox", r->sandbox);
	json_cstr(&w, "upstream", r->upstream);
	json_cstr(&w, "url", r->url);
	if (r->credential)
		json_cstr(&w, "credential", r->credential);
	json_cstr(&w, "user", r->user_id);
	json_cstr(&w, "kind", lease_kind_name(r->spec.kind));
	json_cstr(&w, "place", r->place);
	if (r->spec.kind == LEASE_PROCESS) {
		json_int(&w, "pid", r->spec.pid);
		json_uint(&w, "start", r->start);
	}
	if (r->spec.kind == LEASE_CLOCK) {
		json_uint(&w, "span", r->spec.span_ms);
		json_uint(&w, "until_mono", r->until_mono_ms);
		json_int(&w, "until_wall", r->until_wall_ms);
	}
	if (r->ending)
		json_bool(&w, "ending", true);
	if (r->grace)
		json_bool(&w, "grace", true);
	json_uint(&w, "asked_ttl", r->asked_ttl_ms);
	json_uint(&w, "max_ttl", r->max_ttl_ms);
	json_object_end(&w);
}

static uint64_t number_of(const json_t *doc, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(doc, key));

	return v > 0 ? (uint64_t)v : 0;
}

static bool is_whole(const struct lease_record *r)
{
	if (!sandbox_doc_id_is_good(str_from(r->sandbox)) || !r->upstream[0] || !r->url[0] || !r->user_id[0])
		return false;
	return r->spec.kind != LEASE_PROCESS || r->spec.pid > 0;
}

int lease_record_read(struct str text, struct lease_record *out)
{
	json_error_t error;
	json_t *doc;

	memset(out, 0, sizeof(*out));
	doc = json_loadb(text.n ? text.p : "", text.n, 0, &error);
	if (!doc)
		return json_error_code(&error) == json_error_out_of_memory ? -ENOMEM : -EPROTO;
	out->doc = doc;
	out->sandbox = record_text(doc, "sandbox");
	out->upstream = record_text(doc, "upstream");
	out->url = record_text(doc, "url");
	out->credential = json_string_value(json_object_get(doc, "credential"));
	out->user_id = record_text(doc, "user");
	out->place = record_text(doc, "place");
	out->spec.pid = (pid_t)number_of(doc, "pid");
	out->spec.span_ms = number_of(doc, "span");
	out->start = number_of(doc, "start");
	out->until_mono_ms = number_of(doc, "until_mono");
	out->until_wall_ms = (int64_t)number_of(doc, "until_wall");
	out->ending = json_is_true(json_object_get(doc, "ending"));
	out->grace = json_is_true(json_object_get(doc, "grace"));
	out->asked_ttl_ms = number_of(doc, "asked_ttl");
	out->max_ttl_ms = number_of(doc, "max_ttl");
	return lease_kind_parse(str_from(record_text(doc, "kind")), &out->spec.kind) || !is_whole(out) ? -EPROTO : 0;
}

void lease_record_fini(struct lease_record *r)
{
	json_decref(r->doc);
	r->doc = NULL;
}
