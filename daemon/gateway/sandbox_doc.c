/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The object is gone through once, in place. The server writes each key once and in one spelling; what is not so is
 * not its, and is refused rather than guessed at.
 */
#include "gateway/sandbox_doc.h"

#include <errno.h>
#include <stdio.h>

#include "common/check.h"
#include "gateway/json_read.h"
#include "gateway/times.h"

enum doc_field {
	FIELD_ID,
	FIELD_STATE,
	FIELD_DOMAIN,
	FIELD_VM_ID,
	FIELD_EXPIRES_AT,
	FIELD_METADATA,
	FIELD_OWNER,
	FIELD_TOKEN,
	FIELD_NONE,
};

struct doc_name {
	struct str key;
	enum doc_field field;
};

static const struct doc_name outer_names[] = {
	{{"id", 2}, FIELD_ID},
	{{"state", 5}, FIELD_STATE},
	{{"preview_domain", 14}, FIELD_DOMAIN},
	{{"vm_id", 5}, FIELD_VM_ID},
	{{"expires_at", 10}, FIELD_EXPIRES_AT},
	{{"metadata", 8}, FIELD_METADATA},
};

static const struct doc_name inner_names[] = {
	{{SANDBOX_DOC_OWNER_KEY, sizeof(SANDBOX_DOC_OWNER_KEY) - 1}, FIELD_OWNER},
	{{SANDBOX_DOC_TOKEN_KEY, sizeof(SANDBOX_DOC_TOKEN_KEY) - 1}, FIELD_TOKEN},
};

struct doc_reader {
	struct sandbox_doc *out; /* borrowed */
	unsigned seen;           /* a bit for each doc_field */
};

static enum doc_field field_of(const struct doc_name *names, size_t n, struct str key)
{
	for (size_t i = 0; i < n; i++)
		if (json_read_string_is(key, names[i].key))
			return names[i].field;
	return FIELD_NONE;
}

bool sandbox_doc_id_is_good(struct str id)
{
	return str_is_id(id, SANDBOX_DOC_ID_MAX_BYTES) && id.p[0] != '.';
}

struct str sandbox_doc_target(char out[SANDBOX_DOC_TARGET_MAX_BYTES + 1], const char *id, const char *behind)
{
	int n = snprintf(out, SANDBOX_DOC_TARGET_MAX_BYTES + 1, "/api/v1/sandboxes/%s%s", id, behind);

	CHECK(n > 0 && n <= SANDBOX_DOC_TARGET_MAX_BYTES);
	return str_of(out, (size_t)n);
}

static int read_text(struct str value, char *out, size_t size)
{
	if (json_read_kind(value) == JSON_KIND_NULL)
		return 0;
	if (json_read_kind(value) != JSON_KIND_STRING)
		return -EPROTO;
	(void)json_read_copy(value, out, size); /* empty when it is not to be used */
	return 0;
}

static int read_expiry(struct str value, struct sandbox_doc *out)
{
	char text[64];
	int rc;

	if (json_read_kind(value) == JSON_KIND_NULL)
		return 0;
	text[0] = '\0';
	rc = read_text(value, text, sizeof(text));
	if (rc || rfc3339_parse(str_from(text), &out->expires_at_ms))
		return -EPROTO;
	out->has_expiry = true;
	return 0;
}

static int read_metadata(struct doc_reader *r, struct str value);

static int read_field(struct doc_reader *r, enum doc_field field, struct str value)
{
	struct sandbox_doc *out = r->out;

	if (field == FIELD_NONE)
		return 0;
	if (r->seen & 1u << field)
		return -EPROTO;
	r->seen |= 1u << field;
	switch (field) {
	case FIELD_ID:
		return read_text(value, out->id, sizeof(out->id));
	case FIELD_STATE:
		return read_text(value, out->state, sizeof(out->state));
	case FIELD_DOMAIN:
		return read_text(value, out->preview_domain, sizeof(out->preview_domain));
	case FIELD_VM_ID:
		return read_text(value, out->vm_id, sizeof(out->vm_id));
	case FIELD_EXPIRES_AT:
		return read_expiry(value, out);
	case FIELD_METADATA:
		return read_metadata(r, value);
	case FIELD_OWNER:
		return read_text(value, out->owner, sizeof(out->owner));
	case FIELD_TOKEN:
		return read_text(value, out->token, sizeof(out->token));
	case FIELD_NONE:
		break;
	}
	return 0;
}

/* Reads those members of an object that have one of the names; *behind is then what follows the object. */
static int read_object(struct doc_reader *r, struct str text, const struct doc_name *names, size_t n,
		       struct str *behind)
{
	struct json_members members = json_read_members(text);
	struct json_member m;
	int rc;

	while ((rc = json_read_member(&members, &m)) == 1) {
		rc = read_field(r, field_of(names, n, m.key), m.value);
		if (rc)
			return rc;
	}
	*behind = members.rest;
	return rc;
}

static int read_metadata(struct doc_reader *r, struct str value)
{
	struct str behind;

	if (json_read_kind(value) == JSON_KIND_NULL)
		return 0;
	if (json_read_kind(value) != JSON_KIND_OBJECT)
		return -EPROTO;
	return read_object(r, value, inner_names, sizeof(inner_names) / sizeof(inner_names[0]), &behind);
}

int sandbox_doc_parse(struct str json, struct sandbox_doc *out)
{
	struct doc_reader r = {out, 0};
	struct str text = json_read_space(json);
	struct str behind;
	int rc;

	out->id[0] = out->owner[0] = out->token[0] = out->state[0] = '\0';
	out->preview_domain[0] = out->vm_id[0] = '\0';
	out->has_expiry = false;
	out->expires_at_ms = 0;
	if (text.n == 0 || text.p[0] != '{')
		return -EPROTO;
	rc = read_object(&r, text, outer_names, sizeof(outer_names) / sizeof(outer_names[0]), &behind);
	if (rc)
		return rc;
	return json_read_space(behind).n || !sandbox_doc_id_is_good(str_from(out->id)) ? -EPROTO : 0;
}

bool sandbox_doc_is_owned(const struct sandbox_doc *doc, const char *owner)
{
	CHECK(owner[0]);
	return strcmp(doc->owner, owner) == 0;
}
