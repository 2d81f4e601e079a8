/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every body must be, then what its kind asks for, then it is written (body_fields.c). The stamp comes last and
 * into the object itself, so that no default and no client can have set its keys: those were refused before.
 */
#include "gateway/body.h"

#include "common/json_write.h"
#include "gateway/body_limits.h"
#include "gateway/config.h"
#include "gateway/json_keys.h"
#include "gateway/json_read.h"
#include "gateway/sandbox_doc.h"

/* --- every body --------------------------------------------------------------------------------------------------- */

static void check_reserved(struct str metadata, struct body_verdict *v)
{
	struct str prefix = STR(SANDBOX_DOC_RESERVED);
	struct json_members members = json_read_members(metadata);
	struct json_member m;
	struct buf key = BUF_EMPTY;

	while (json_read_member(&members, &m) == 1) {
		buf_reset(&key);
		json_read_string(m.key, &key);
		if (key.failed)
			body_refuse(v, 503, "out of memory");
		else if (key.len >= prefix.n && str_eq_nocase_n(buf_data(&key), prefix.p, prefix.n))
			body_refuse(v, 400, "metadata keys that begin with " SANDBOX_DOC_RESERVED " are the gateway's");
		if (v->status)
			break;
	}
	buf_fini(&key);
}

static bool is_object(struct str value)
{
	return value.n && json_read_kind(value) == JSON_KIND_OBJECT;
}

static void check_metadata(const struct body_fields *f, struct body_verdict *v)
{
	struct str given = f->values[BODY_FIELD_METADATA].given;

	if (given.n > BODY_METADATA_MAX_BYTES)
		body_refuse(v, 400, "metadata is longer than %d bytes", BODY_METADATA_MAX_BYTES);
	else if (is_object(given))
		check_reserved(given, v);
}

static void check_image(const struct body_fields *f, struct body_verdict *v)
{
	struct str given = f->values[BODY_FIELD_IMAGE].given;
	struct buf text = BUF_EMPTY;

	if (v->status || given.n <= BODY_IMAGE_MAX_BYTES || json_read_kind(given) != JSON_KIND_STRING)
		return;
	json_read_string(given, &text);
	if (text.failed)
		body_refuse(v, 503, "out of memory");
	else if (text.len > BODY_IMAGE_MAX_BYTES)
		body_refuse(v, 400, "image is longer than %d bytes", BODY_IMAGE_MAX_BYTES);
	buf_fini(&text);
}

static void set_owner(struct body_fields *f, enum body_kind kind, const struct body_policy *policy)
{
	bool reads = kind == BODY_SPAWN || kind == BODY_ADMISSION || kind == BODY_ENVIRONMENT;

	f->values[BODY_FIELD_TENANT_ID].drop = true;
	if (!reads)
		f->values[BODY_FIELD_OWNER_ID].drop = true;
	else if (f->values[BODY_FIELD_OWNER_ID].given.n)
		json_add_quoted(body_fields_put(f, BODY_FIELD_OWNER_ID), str_from(policy->owner));
}

/* --- metadata of a spawn ------------------------------------------------------------------------------------------ */

/* The metadata of the defaults; n 0 without any. */
static struct str default_metadata(const struct body_policy *policy)
{
	struct json_members members;
	struct json_member m;

	if (!policy->spawn_defaults)
		return STR("");
	members = json_read_members(json_read_space(str_from(policy->spawn_defaults)));
	while (json_read_member(&members, &m) == 1)
		if (json_read_string_is(m.key, body_field_name(BODY_FIELD_METADATA)))
			return m.value;
	return STR("");
}

/* Before a member that is not the first; without memory there may be nothing before it. */
static void add_comma(struct buf *out)
{
	if (out->len && buf_data(out)[out->len - 1] != '{')
		buf_add_char(out, ',');
}

static void add_member(struct buf *out, struct str key, struct str value)
{
	add_comma(out);
	buf_add_str(out, key);
	buf_add_char(out, ':');
	buf_add_str(out, value);
}

/*
 * Adds the members of `from` whose keys are not among those of `over`; either may be something else than an object,
 * then without any. What there is no memory for is marked in *out.
 */
static void add_members(struct buf *out, struct str from, struct str over)
{
	struct json_keys keys = {.n = 0};
	struct json_members members;
	struct json_member m;
	struct buf key = BUF_EMPTY;

	if (!is_object(from))
		return;
	if (is_object(over) && json_keys_init(&keys, over, JSON_KEYS_EXACT)) {
		out->failed = true; /* a duplicate was refused before, so there was no memory */
		return;
	}
	members = json_read_members(from);
	while (json_read_member(&members, &m) == 1) {
		buf_reset(&key);
		json_read_string(m.key, &key);
		out->failed = out->failed || key.failed;
		if (!json_keys_has(&keys, buf_str(&key)))
			add_member(out, m.key, m.value);
	}
	buf_fini(&key);
	json_keys_fini(&keys);
}

static void add_text(struct buf *out, const char *key, const char *value)
{
	add_comma(out);
	json_add_quoted(out, str_from(key));
	buf_add_char(out, ':');
	json_add_quoted(out, str_from(value));
}

/* Whether metadata is there and can have no members: for the server to refuse, where it is not taken apart here. */
static bool is_no_map(struct str metadata)
{
	return metadata.n && json_read_kind(metadata) != JSON_KIND_OBJECT && json_read_kind(metadata) != JSON_KIND_NULL;
}

/* Writes the metadata that goes to the server: the client's, the defaults', the stamp. */
static void set_metadata(struct body_fields *f, const struct body_policy *policy, struct body_verdict *v)
{
	struct str given = f->values[BODY_FIELD_METADATA].given;
	struct str defaults = default_metadata(policy);
	struct buf *put;

	if (!policy->stamp && defaults.n == 0)
		return;
	if (is_no_map(given)) {
		if (policy->stamp)
			body_refuse(v, 400, "invalid request body");
		return;
	}
	put = body_fields_put(f, BODY_FIELD_METADATA);
	buf_add_char(put, '{');
	add_members(put, given, STR(""));
	add_members(put, defaults, given);
	if (policy->stamp)
		add_text(put, SANDBOX_DOC_OWNER_KEY, policy->owner);
	if (policy->stamp && policy->token)
		add_text(put, SANDBOX_DOC_TOKEN_KEY, policy->token);
	buf_add_char(put, '}');
}

/* --- kinds -------------------------------------------------------------------------------------------------------- */

static void judge_spawn(struct body_fields *f, const struct body_policy *policy, struct body_verdict *v)
{
	if (policy->spawn_defaults)
		body_limits_default(f, policy->limits, policy->spawn_defaults);
	if (policy->limits && policy->limits->nimages && f->values[BODY_FIELD_TEMPLATE].given.n)
		f->values[BODY_FIELD_TEMPLATE].drop = true; /* it could bring an image that the limits do not name */
	if (policy->limits)
		body_limits_apply(f, policy->limits, v);
	if (v->status == 0)
		body_limits_lease(f, policy->lease_ttl_ms, v);
	if (v->status == 0)
		set_metadata(f, policy, v);
}

static void judge_kind(struct body_fields *f, enum body_kind kind, const struct body_policy *policy,
		       struct body_verdict *v)
{
	switch (kind) {
	case BODY_SPAWN:
	case BODY_ADMISSION:
		judge_spawn(f, policy, v);
		return;
	case BODY_EXTEND:
	case BODY_TEMPLATE_SPAWN:
		if (policy->limits)
			body_limits_ttl(f, policy->limits, v);
		return;
	case BODY_EXEC:
	case BODY_TEMPLATE:
	case BODY_ENVIRONMENT:
		return;
	}
}

void body_judge(enum body_kind kind, const struct body_policy *policy, struct str in, struct buf *out,
		struct body_verdict *v)
{
	enum body_field known = kind == BODY_ENVIRONMENT ? BODY_FIELD_IMAGE : BODY_FIELD_COUNT;
	struct body_fields f;

	*v = (struct body_verdict){.status = 0};
	if (kind == BODY_TEMPLATE_SPAWN && json_read_space(in).n == 0)
		return;
	body_fields_init(&f, in, known, v);
	if (v->status == 0)
		check_metadata(&f, v);
	check_image(&f, v);
	if (v->status == 0) {
		set_owner(&f, kind, policy);
		judge_kind(&f, kind, policy, v);
	}
	if (v->status == 0)
		body_fields_write(&f, in, out, v);
	body_fields_fini(&f);
}

/* --- template spawn ----------------------------------------------------------------------------------------------- */

/* What one of the sources says, or n 0. */
static struct str value_of(const struct body_fields *f, enum body_field field)
{
	struct str value = body_fields_get(f, field);

	return body_fields_is_unset(value) ? STR("") : value;
}

static void add_field(struct buf *out, enum body_field field, struct str value)
{
	if (value.n == 0)
		return;
	add_comma(out);
	json_add_quoted(out, body_field_name(field));
	buf_add_char(out, ':');
	buf_add_str(out, value);
}

static struct str first_of(struct str a, struct str b)
{
	return a.n ? a : b;
}

/* The template's own ttl, in which 0 seconds are 0 seconds, quoted in `text`. */
static struct str template_ttl(const struct body_fields *t, struct buf *text)
{
	struct str seconds = body_fields_get(t, BODY_FIELD_TTL_SECONDS);

	if (seconds.n == 0 || json_read_kind(seconds) != JSON_KIND_NUMBER)
		return value_of(t, BODY_FIELD_TTL);
	buf_add_char(text, '"');
	buf_add_str(text, seconds);
	buf_add_cstr(text, "s\"");
	return buf_str(text);
}

/* Members of the template, those of the overrides over them, and the template's name over both. */
static void add_template_metadata(struct buf *out, const struct body_fields *t, const struct body_fields *o)
{
	struct buf name = BUF_EMPTY;
	struct buf own = BUF_EMPTY;
	struct str over = body_fields_get(o, BODY_FIELD_METADATA);

	buf_add_cstr(&name, "{\"template\":");
	buf_add_str(&name, body_fields_get(t, BODY_FIELD_NAME));
	buf_add_char(&name, '}');
	buf_add_char(&own, '{');
	add_members(&own, over, buf_str(&name));
	add_members(&own, buf_str(&name), STR(""));
	buf_add_char(&own, '}');
	if (!name.failed && !own.failed) {
		add_field(out, BODY_FIELD_METADATA, STR("{"));
		add_members(out, body_fields_get(t, BODY_FIELD_METADATA), buf_str(&own));
		add_members(out, buf_str(&own), STR(""));
		buf_add_char(out, '}');
	}
	out->failed = out->failed || name.failed || own.failed;
	buf_fini(&name);
	buf_fini(&own);
}

static void compose(struct buf *out, const struct body_fields *t, const struct body_fields *o)
{
	struct buf ttl = BUF_EMPTY;

	buf_add_char(out, '{');
	add_field(out, BODY_FIELD_IMAGE, value_of(t, BODY_FIELD_IMAGE));
	add_field(out, BODY_FIELD_PROVIDER,
		  first_of(value_of(o, BODY_FIELD_PROVIDER), value_of(t, BODY_FIELD_PROVIDER)));
	add_field(out, BODY_FIELD_MEMORY_MB,
		  first_of(value_of(o, BODY_FIELD_MEMORY_MB), value_of(t, BODY_FIELD_MEMORY_MB)));
	add_field(out, BODY_FIELD_VCPUS,
		  first_of(value_of(o, BODY_FIELD_VCPUS),
			   first_of(value_of(t, BODY_FIELD_CPU_CORES), value_of(t, BODY_FIELD_VCPUS))));
	add_field(out, BODY_FIELD_TTL, first_of(value_of(o, BODY_FIELD_TTL), template_ttl(t, &ttl)));
	add_template_metadata(out, t, o);
	buf_add_char(out, '}');
	out->failed = out->failed || ttl.failed;
	buf_fini(&ttl);
}

static void read_template(struct body_fields *t, struct str text, struct body_verdict *v)
{
	struct str name;

	body_fields_init(t, text, BODY_FIELD_COUNT, v);
	name = body_fields_get(t, BODY_FIELD_NAME);
	if (v->status == 400 || (v->status == 0 && (name.n == 0 || json_read_kind(name) != JSON_KIND_STRING ||
						    is_no_map(body_fields_get(t, BODY_FIELD_METADATA)))))
		body_refuse(v, 502, "the server's answer for the template cannot be read");
}

/* The overrides have been judged as what they are; here they are only taken apart. */
static void spawn_from(const struct body_policy *policy, struct str template_json, struct str overrides,
		       struct buf *out, struct body_verdict *v)
{
	struct body_fields t;
	struct body_fields o;
	struct buf composed = BUF_EMPTY;

	read_template(&t, template_json, v);
	if (v->status == 0)
		body_fields_init(&o, overrides, BODY_FIELD_COUNT, v);
	else
		memset(&o, 0, sizeof(o));
	if (v->status == 0 && is_no_map(body_fields_get(&o, BODY_FIELD_METADATA)))
		body_refuse(v, 400, "invalid request body");
	if (v->status == 0) {
		compose(&composed, &t, &o);
		if (composed.failed)
			body_refuse(v, 503, "out of memory");
		else
			body_judge(BODY_SPAWN, policy, buf_str(&composed), out, v);
	}
	buf_fini(&composed);
	body_fields_fini(&o);
	body_fields_fini(&t);
}

void body_from_template(const struct body_policy *policy, struct str template_json, struct str overrides,
			struct buf *out, struct body_verdict *v)
{
	const struct body_policy no_limits = {.owner = policy->owner};
	struct buf judged = BUF_EMPTY;

	body_judge(BODY_TEMPLATE_SPAWN, &no_limits, overrides, &judged, v);
	if (v->status == 0)
		spawn_from(policy, template_json, judged.len ? buf_str(&judged) : STR("{}"), out, v);
	buf_fini(&judged);
}

/* --- what was lowered --------------------------------------------------------------------------------------------- */

void body_add_clamped(unsigned clamped, struct buf *head)
{
	static const struct {
		unsigned bit;
		enum body_field field;
	} bits[] = {
		{BODY_CLAMPED_TTL, BODY_FIELD_TTL},
		{BODY_CLAMPED_MEMORY_MB, BODY_FIELD_MEMORY_MB},
		{BODY_CLAMPED_VCPUS, BODY_FIELD_VCPUS},
	};
	const char *before = "Stacygate-Clamped: ";

	if (!clamped)
		return;
	for (size_t i = 0; i < sizeof(bits) / sizeof(bits[0]); i++) {
		if (!(clamped & bits[i].bit))
			continue;
		buf_add_cstr(head, before);
		buf_add_str(head, body_field_name(bits[i].field));
		before = ", ";
	}
	buf_add_cstr(head, "\r\n");
}
