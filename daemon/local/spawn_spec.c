/* SPDX-License-Identifier: Apache-2.0 */
#include "local/spawn_spec.h"

#include <stddef.h>

#include "local/go_json.h"
#include "local/templates.h"

enum {
	OWNER_MAX_BYTES = 128
};

#define FIELD(key, type)                                                                                               \
	{                                                                                                              \
#key, type, offsetof(struct spawn_fields, key)                                                         \
	}

static const struct go_field table[] = {
	FIELD(image, GO_STR),    FIELD(provider, GO_STR), FIELD(ttl, GO_STR),       FIELD(template, GO_STR),
	FIELD(owner_id, GO_STR), FIELD(metadata, GO_MAP), FIELD(memory_mb, GO_INT), FIELD(vcpus, GO_INT),
};

const struct go_field *spawn_fields_table(size_t *n)
{
	*n = sizeof(table) / sizeof(table[0]);
	return table;
}

bool spawn_provider_known(struct str name)
{
	return name.n == 0 || str_eq(name, STR(SPAWN_PROVIDER));
}

const char *spawn_owner_fault(struct str owner)
{
	if (owner.n > OWNER_MAX_BYTES)
		return "owner_id must be 128 characters or fewer";
	for (size_t i = 0; i < owner.n; i++)
		if (owner.p[i] == '/' || owner.p[i] == '\\')
			return "owner_id cannot contain path separators";
	for (size_t i = 0; i < owner.n; i++)
		if ((unsigned char)owner.p[i] <= 0x20 || owner.p[i] == 0x7f)
			return "owner_id cannot contain whitespace or control characters";
	return "";
}

void spawn_fields_complete(struct spawn_fields *f, const struct template *t)
{
	/* The SDKs always send an image, so their default one means that the user named none. */
	if (t && t->fields.image.n && (f->image.n == 0 || str_eq(f->image, STR(SPAWN_DEFAULT_IMAGE))))
		f->image = t->fields.image;
	if (f->image.n == 0)
		f->image = STR(SPAWN_DEFAULT_IMAGE);
	if (t && f->provider.n == 0)
		f->provider = t->fields.provider;
	if (t && f->memory_mb == 0)
		f->memory_mb = t->fields.memory_mb;
	if (f->memory_mb == 0)
		f->memory_mb = SPAWN_DEFAULT_MEMORY_MB;
	if (t && f->vcpus == 0)
		f->vcpus = t->fields.cpu_cores;
	if (f->vcpus == 0)
		f->vcpus = SPAWN_DEFAULT_VCPUS;
}

enum duration_fault spawn_ttl(const struct spawn_fields *f, const struct template *t, int64_t *ns)
{
	if (f->ttl.n)
		return duration_parse(f->ttl, ns);
	if (!t)
		*ns = SPAWN_DEFAULT_TTL_NS;
	else if (t->fields.ttl_seconds > SPAWN_MAX_TTL_NS / 1000000000)
		*ns = SPAWN_MAX_TTL_NS + 1; /* too long, whatever it is exactly */
	else
		*ns = t->fields.ttl_seconds > 0 ? t->fields.ttl_seconds * 1000000000 : 0;
	return DURATION_OK;
}

json_t *spawn_metadata(const struct spawn_fields *f, const struct template *t)
{
	json_t *all = json_object();
	int rc = all ? 0 : -1;

	if (rc == 0 && t && t->fields.metadata)
		rc = json_object_update(all, t->fields.metadata);
	if (rc == 0 && t)
		rc = json_object_set_new(all, "template", json_stringn_nocheck(t->name.p, t->name.n));
	if (rc == 0 && f->metadata)
		rc = json_object_update(all, f->metadata);
	if (rc == 0)
		return all;
	json_decref(all);
	return NULL;
}
