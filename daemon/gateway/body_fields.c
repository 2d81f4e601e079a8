/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text is gone through twice: once to find the known fields, once to write it again. Values are spans, so that
 * numbers keep their digits and strings their escapes. A body in which two readers could see different values for one
 * field is refused before anything is read from it.
 */
#include "gateway/body_fields.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "gateway/json_keys.h"
#include "gateway/json_read.h"

enum {
	NAME_MAX_BYTES = 32 /* longer than every name below */
};

static const char *const names[BODY_FIELD_COUNT] = {
	[BODY_FIELD_OWNER_ID] = "owner_id",
	[BODY_FIELD_TENANT_ID] = "tenant_id",
	[BODY_FIELD_IMAGE] = "image",
	[BODY_FIELD_PROVIDER] = "provider",
	[BODY_FIELD_MEMORY_MB] = "memory_mb",
	[BODY_FIELD_VCPUS] = "vcpus",
	[BODY_FIELD_TTL] = "ttl",
	[BODY_FIELD_METADATA] = "metadata",
	[BODY_FIELD_TEMPLATE] = "template",
	[BODY_FIELD_NETWORK_MODE] = "network_mode",
	[BODY_FIELD_NAME] = "name",
	[BODY_FIELD_VERSION] = "version",
	[BODY_FIELD_DESCRIPTION] = "description",
	[BODY_FIELD_SETUP] = "setup",
	[BODY_FIELD_ALLOWED_HOSTS] = "allowed_hosts",
	[BODY_FIELD_CPU_CORES] = "cpu_cores",
	[BODY_FIELD_TTL_SECONDS] = "ttl_seconds",
	[BODY_FIELD_SECRETS] = "secrets",
	[BODY_FIELD_POOL_SIZE] = "pool_size",
	[BODY_FIELD_COMMAND] = "command",
	[BODY_FIELD_ARGS] = "args",
	[BODY_FIELD_MODE] = "mode",
	[BODY_FIELD_ENV] = "env",
	[BODY_FIELD_WORKDIR] = "workdir",
	[BODY_FIELD_TIMEOUT] = "timeout",
	[BODY_FIELD_STREAM] = "stream",
};

struct str body_field_name(enum body_field field)
{
	return str_from(names[field]);
}

void body_refuse(struct body_verdict *v, unsigned status, const char *fmt, ...)
{
	va_list ap;

	v->status = status;
	va_start(ap, fmt);
	vsnprintf(v->why, sizeof(v->why), fmt, ap);
	va_end(ap);
}

/* BODY_FIELD_COUNT when the key is none of the known ones. */
static enum body_field field_of(const struct body_fields *f, struct str key)
{
	char name[NAME_MAX_BYTES];

	if (!json_read_copy(key, name, sizeof(name)))
		return BODY_FIELD_COUNT;
	for (unsigned i = 0; i < f->known; i++)
		if (str_eq_nocase(str_from(name), str_from(names[i])))
			return (enum body_field)i;
	return BODY_FIELD_COUNT;
}

static bool is_spelled(struct str key, enum body_field field)
{
	return str_eq(str_of(key.p + 1, key.n - 2), str_from(names[field]));
}

static void check_keys(struct str object, enum json_keys_rule rule, const char *where, struct body_verdict *v)
{
	int rc = json_keys_check(object, rule);

	if (rc == -EEXIST)
		body_refuse(v, 400, "malformed JSON: duplicate key in %s", where);
	else if (rc == -E2BIG)
		body_refuse(v, 400, "more than %d keys in %s", JSON_KEYS_MAX, where);
	else if (rc == -EILSEQ)
		body_refuse(v, 400, "malformed JSON: key with a character that is not ASCII in %s", where);
	else if (rc)
		body_refuse(v, 503, "out of memory");
}

static void read_members(struct body_fields *f)
{
	struct json_members members = json_read_members(f->object);
	struct json_member m;

	while (json_read_member(&members, &m) == 1) {
		enum body_field field = field_of(f, m.key);
		if (field == BODY_FIELD_COUNT)
			continue;
		f->values[field].given = m.value;
		f->respelled = f->respelled || !is_spelled(m.key, field);
	}
}

/* Of the fields that are maps; whatever else they are is the server's to refuse. */
static void check_map(const struct body_fields *f, enum body_field field, struct body_verdict *v)
{
	struct str given = f->values[field].given;

	if (v->status == 0 && given.n && json_read_kind(given) == JSON_KIND_OBJECT)
		check_keys(given, JSON_KEYS_EXACT, names[field], v);
}

void body_fields_init(struct body_fields *f, struct str text, enum body_field known, struct body_verdict *v)
{
	memset(f, 0, sizeof(*f));
	f->known = known;
	if (json_read_document(text, &f->object)) {
		body_refuse(v, 400, "invalid request body");
		return;
	}
	if (json_read_kind(f->object) == JSON_KIND_NULL)
		f->object = STR("{}"); /* to the server it is the same */
	if (json_read_kind(f->object) != JSON_KIND_OBJECT) {
		body_refuse(v, 400, "invalid request body");
		return;
	}
	check_keys(f->object, JSON_KEYS_FOLDED, "the request body", v);
	if (v->status)
		return;
	read_members(f);
	check_map(f, BODY_FIELD_METADATA, v);
	check_map(f, BODY_FIELD_ENV, v);
}

void body_fields_fini(struct body_fields *f)
{
	for (unsigned i = 0; i < BODY_FIELD_COUNT; i++)
		buf_fini(&f->values[i].put);
}

struct str body_fields_get(const struct body_fields *f, enum body_field field)
{
	const struct body_value *value = &f->values[field];

	return value->put.len ? buf_str(&value->put) : value->given;
}

bool body_fields_is_unset(struct str value)
{
	return value.n == 0 || str_eq(value, STR("null")) || str_eq(value, STR("\"\"")) || str_eq(value, STR("0")) ||
	       str_eq(value, STR("-0"));
}

struct buf *body_fields_put(struct body_fields *f, enum body_field field)
{
	buf_reset(&f->values[field].put);
	return &f->values[field].put;
}

static bool is_changed(const struct body_fields *f)
{
	bool changed = f->respelled;

	for (unsigned i = 0; i < BODY_FIELD_COUNT; i++)
		changed = changed || f->values[i].put.len || (f->values[i].drop && f->values[i].given.n);
	return changed;
}

static void write_member(struct buf *out, struct str key, struct str value, bool *comma)
{
	if (*comma)
		buf_add_char(out, ',');
	*comma = true;
	buf_add_str(out, key);
	buf_add_char(out, ':');
	buf_add_str(out, value);
}

static void write_field(const struct body_fields *f, enum body_field field, struct buf *out, bool *comma)
{
	char key[NAME_MAX_BYTES + 2];
	int n = snprintf(key, sizeof(key), "\"%s\"", names[field]);

	if (!f->values[field].drop)
		write_member(out, str_of(key, (size_t)n), body_fields_get(f, field), comma);
}

static void write_object(const struct body_fields *f, struct buf *out)
{
	struct json_members members = json_read_members(f->object);
	struct json_member m;
	bool comma = false;

	buf_add_char(out, '{');
	while (json_read_member(&members, &m) == 1) {
		enum body_field field = field_of(f, m.key);
		if (field == BODY_FIELD_COUNT)
			write_member(out, m.key, m.value, &comma);
		else
			write_field(f, field, out, &comma);
	}
	for (unsigned i = 0; i < BODY_FIELD_COUNT; i++)
		if (f->values[i].given.n == 0 && f->values[i].put.len)
			write_field(f, (enum body_field)i, out, &comma);
	buf_add_char(out, '}');
}

void body_fields_write(const struct body_fields *f, struct str text, struct buf *out, struct body_verdict *v)
{
	bool failed = false;

	for (unsigned i = 0; i < BODY_FIELD_COUNT; i++)
		failed = failed || f->values[i].put.failed;
	if (is_changed(f))
		write_object(f, out);
	else
		buf_add_str(out, text);
	if (failed || out->failed)
		body_refuse(v, 503, "out of memory");
}
