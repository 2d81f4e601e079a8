/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/template_doc.h"

#include <inttypes.h>

#include "common/units.h"
#include "gateway/json_read.h"

enum {
	SECOND_NS = 1000000000,
	TTL_MAX_BYTES = 64,
	NAME_MAX_BYTES = 1024,
};

/* --- answers ---------------------------------------------------------------------------------------------------------- */

/* The value of a member; n 0 without one. */
static struct str member_of(struct str object, struct str key)
{
	struct json_members members = json_read_members(object);
	struct json_member m;

	while (json_read_member(&members, &m) == 1)
		if (json_read_string_is(m.key, key))
			return m.value;
	return STR("");
}

/* A duration of whole seconds from 0 on; false for anything else. */
static bool read_ttl(struct str value, uint64_t *seconds)
{
	char text[TTL_MAX_BYTES];
	int64_t ns;

	if (value.n == 0 || json_read_kind(value) != JSON_KIND_STRING || !json_read_copy(value, text, sizeof(text)) ||
	    duration_parse(str_from(text), &ns) != DURATION_OK || ns < 0 || ns % SECOND_NS)
		return false;
	*seconds = (uint64_t)(ns / SECOND_NS);
	return true;
}

static void add_member(struct buf *out, struct str key, struct str value)
{
	buf_addf(out, ",\"%.*s\":", STR_ARG(key));
	buf_add_str(out, value);
}

static void add_ttl(struct buf *out, struct str seconds)
{
	uint64_t s;
	char text[40];

	if (str_parse_u64(seconds, &s) || s > INT64_MAX / SECOND_NS)
		return;
	duration_format((int64_t)s * SECOND_NS, text);
	buf_addf(out, ",\"ttl\":\"%s\"", text);
}

/* What one template shows in one spelling it gets in the other as well. */
static void show_one(struct str object, struct buf *out)
{
	struct str vcpus = member_of(object, STR("vcpus"));
	struct str cores = member_of(object, STR("cpu_cores"));
	struct str ttl = member_of(object, STR("ttl"));
	struct str seconds = member_of(object, STR("ttl_seconds"));
	uint64_t s;

	buf_add_str(out, str_of(object.p, object.n - 1));
	if (vcpus.n == 0 && cores.n)
		add_member(out, STR("vcpus"), cores);
	if (cores.n == 0 && vcpus.n)
		add_member(out, STR("cpu_cores"), vcpus);
	if (ttl.n == 0 && seconds.n)
		add_ttl(out, seconds);
	if (seconds.n == 0 && read_ttl(ttl, &s))
		buf_addf(out, ",\"ttl_seconds\":%" PRIu64, s);
	buf_add_char(out, '}');
}

static bool show_list(struct str list, struct buf *out)
{
	struct str rest = json_read_space(str_of(list.p + 1, list.n - 1));
	struct str value;
	bool first = true;

	buf_add_char(out, '[');
	while (rest.n && rest.p[0] != ']') {
		if (!first)
			rest = str_of(rest.p + 1, rest.n - 1); /* the comma: the list was checked */
		if (json_read_value(&rest, &value))
			return false;
		if (!first)
			buf_add_char(out, ',');
		first = false;
		if (json_read_kind(value) == JSON_KIND_OBJECT)
			show_one(value, out);
		else
			buf_add_str(out, value);
		rest = json_read_space(rest);
	}
	buf_add_char(out, ']');
	return true;
}

bool template_doc_show(struct str body, struct buf *out)
{
	struct str value;

	if (json_read_document(body, &value))
		return false;
	if (json_read_kind(value) == JSON_KIND_OBJECT)
		show_one(value, out);
	else if (json_read_kind(value) != JSON_KIND_ARRAY || !show_list(value, out))
		return false;
	buf_add_char(out, '\n');
	return !out->failed;
}

/* --- bodies ------------------------------------------------------------------------------------------------------------ */

static bool is_null(struct str value)
{
	return value.n == 0 || json_read_kind(value) == JSON_KIND_NULL;
}

static void translate_vcpus(struct body_fields *f, struct body_verdict *v)
{
	struct str vcpus = body_fields_get(f, BODY_FIELD_VCPUS);
	struct str cores = body_fields_get(f, BODY_FIELD_CPU_CORES);

	f->values[BODY_FIELD_VCPUS].drop = true;
	if (is_null(vcpus))
		return;
	if (!is_null(cores) && !str_eq(vcpus, cores))
		body_refuse(v, 400, "vcpus and cpu_cores are both given and differ");
	else
		buf_add_str(body_fields_put(f, BODY_FIELD_CPU_CORES), vcpus);
}

static void translate_ttl(struct body_fields *f, struct body_verdict *v)
{
	struct str ttl = body_fields_get(f, BODY_FIELD_TTL);
	struct str seconds = body_fields_get(f, BODY_FIELD_TTL_SECONDS);
	uint64_t given;
	uint64_t s;

	f->values[BODY_FIELD_TTL].drop = true;
	if (is_null(ttl) || str_eq(ttl, STR("\"\"")))
		return;
	if (!read_ttl(ttl, &s))
		body_refuse(v, 400, "ttl must be a duration of whole seconds, such as 30s or 1h30m");
	else if (!is_null(seconds) && (str_parse_u64(seconds, &given) || given != s))
		body_refuse(v, 400, "ttl and ttl_seconds are both given and differ");
	else
		buf_add_u64(body_fields_put(f, BODY_FIELD_TTL_SECONDS), s);
}

void template_doc_translate(struct str body, struct buf *out, struct body_verdict *v)
{
	struct body_fields f;

	body_fields_init(&f, body, BODY_FIELD_COUNT, v);
	if (v->status == 0)
		translate_vcpus(&f, v);
	if (v->status == 0)
		translate_ttl(&f, v);
	if (v->status == 0)
		body_fields_write(&f, body, out, v);
	body_fields_fini(&f);
}

static void fill(struct body_fields *f, enum body_field field, struct str value)
{
	if (body_fields_is_unset(body_fields_get(f, field)))
		buf_add_str(body_fields_put(f, field), value);
}

bool template_doc_replacement(struct str body, struct buf *out)
{
	struct body_verdict v = {0};
	struct body_fields f;

	body_fields_init(&f, body, BODY_FIELD_COUNT, &v);
	if (v.status == 0 && body_fields_is_unset(body_fields_get(&f, BODY_FIELD_IMAGE)))
		v.status = 400;
	if (v.status == 0) {
		/* api-contract.md 1.6 */
		fill(&f, BODY_FIELD_VERSION, STR("1"));
		fill(&f, BODY_FIELD_MEMORY_MB, STR("512"));
		fill(&f, BODY_FIELD_CPU_CORES, STR("1"));
		fill(&f, BODY_FIELD_TTL_SECONDS, STR("300"));
		body_fields_write(&f, body, out, &v);
	}
	body_fields_fini(&f);
	out->failed = out->failed || v.status == 503;
	return v.status == 0;
}

/*
 * As Go's url.URL.EscapedPath does it, with '/' left to the caller: what is escaped otherwise, the server's router does not
 * decode.
 */
static void add_segment(struct str name, struct buf *out)
{
	static const char digits[] = "0123456789ABCDEF";

	for (size_t i = 0; i < name.n; i++) {
		unsigned char c = (unsigned char)name.p[i];
		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr("-_.~$&+,:;=@", c))) {
			buf_add_char(out, (char)c);
		} else {
			buf_add_char(out, '%');
			buf_add_char(out, digits[c >> 4]);
			buf_add_char(out, digits[c & 15]);
		}
	}
}

bool template_doc_path(struct str body, struct buf *out)
{
	struct body_verdict v = {0};
	struct body_fields f;
	struct str quoted;
	char name[NAME_MAX_BYTES + 1] = "";

	body_fields_init(&f, body, BODY_FIELD_COUNT, &v);
	quoted = f.values[BODY_FIELD_NAME].given;
	if (v.status || quoted.n == 0 || json_read_kind(quoted) != JSON_KIND_STRING ||
	    !json_read_copy(quoted, name, sizeof(name)))
		name[0] = '\0';
	body_fields_fini(&f);
	out->failed = out->failed || v.status == 503;
	if (!name[0] || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return false;
	buf_add_str(out, STR("/api/v1/templates/"));
	add_segment(str_from(name), out);
	return !out->failed;
}

/* --- what was not stored ----------------------------------------------------------------------------------------------- */

static bool is_nothing(struct str value)
{
	return body_fields_is_unset(value) || str_eq(value, STR("{}")) || str_eq(value, STR("[]")) ||
	       str_eq(value, STR("false"));
}

/* The other spelling of a field; itself for those that have one. */
static enum body_field twin_of(enum body_field field)
{
	switch ((int)field) {
	case BODY_FIELD_VCPUS:
		return BODY_FIELD_CPU_CORES;
	case BODY_FIELD_CPU_CORES:
		return BODY_FIELD_VCPUS;
	case BODY_FIELD_TTL:
		return BODY_FIELD_TTL_SECONDS;
	case BODY_FIELD_TTL_SECONDS:
		return BODY_FIELD_TTL;
	default:
		return field;
	}
}

void template_doc_ignored(struct str sent, struct str answer, struct buf *out)
{
	static const enum body_field fields[] = {
		BODY_FIELD_ALLOWED_HOSTS, BODY_FIELD_CPU_CORES, BODY_FIELD_DESCRIPTION, BODY_FIELD_ENV,
		BODY_FIELD_IMAGE,         BODY_FIELD_MEMORY_MB, BODY_FIELD_METADATA,    BODY_FIELD_OWNER_ID,
		BODY_FIELD_POOL_SIZE,     BODY_FIELD_PROVIDER,  BODY_FIELD_SECRETS,     BODY_FIELD_SETUP,
		BODY_FIELD_TENANT_ID,     BODY_FIELD_TTL,       BODY_FIELD_TTL_SECONDS, BODY_FIELD_VCPUS,
		BODY_FIELD_VERSION,
	};
	struct body_verdict v = {0};
	struct body_fields f;
	struct str object;

	body_fields_init(&f, sent, BODY_FIELD_COUNT, &v);
	if (v.status == 0 && json_read_document(answer, &object) == 0 && json_read_kind(object) == JSON_KIND_OBJECT) {
		for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
			if (is_nothing(f.values[fields[i]].given) ||
			    !is_nothing(member_of(object, body_field_name(fields[i]))) ||
			    !is_nothing(member_of(object, body_field_name(twin_of(fields[i])))))
				continue;
			if (out->len)
				buf_add_str(out, STR(", "));
			buf_add_str(out, body_field_name(fields[i]));
		}
	}
	body_fields_fini(&f);
}

/* --- time of creation ---------------------------------------------------------------------------------------------------- */

bool template_doc_lacks_created(struct str answer)
{
	struct str object;
	struct str created;

	if (json_read_document(answer, &object) || json_read_kind(object) != JSON_KIND_OBJECT)
		return false;
	created = member_of(object, STR("created_at"));
	return created.n && json_read_kind(created) == JSON_KIND_STRING &&
	       json_read_string_is(created, STR("0001-01-01T00:00:00Z"));
}

static struct str created_of(struct str shown)
{
	struct str object;

	if (json_read_document(shown, &object) || json_read_kind(object) != JSON_KIND_OBJECT)
		return STR("");
	return member_of(object, STR("created_at"));
}

void template_doc_set_created(struct str answer, struct str shown, struct buf *out)
{
	struct str created = created_of(shown);
	struct json_members members;
	struct json_member m;
	bool comma = false;

	members = json_read_members(json_read_space(answer));
	buf_add_char(out, '{');
	while (json_read_member(&members, &m) == 1) {
		bool is_it = json_read_string_is(m.key, STR("created_at"));
		if (is_it && created.n == 0)
			continue;
		if (comma)
			buf_add_char(out, ',');
		comma = true;
		buf_add_str(out, m.key);
		buf_add_char(out, ':');
		buf_add_str(out, is_it ? created : m.value);
	}
	buf_add_str(out, STR("}\n"));
}
