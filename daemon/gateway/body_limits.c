/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/body_limits.h"

#include "common/units.h"
#include "gateway/config.h"
#include "gateway/json_read.h"

enum {
	TEXT_MAX_BYTES = 512 /* of a ttl or a name; body.c refuses longer images */
};

/* --- ttl ---------------------------------------------------------------------------------------------------------- */

/* The duration that a JSON string holds. */
static enum duration_fault read_ttl(struct str value, int64_t *ns)
{
	char text[TEXT_MAX_BYTES + 1];

	if (json_read_kind(value) != JSON_KIND_STRING || !json_read_copy(value, text, sizeof(text)))
		return DURATION_INVALID;
	return duration_parse(str_from(text), ns);
}

static int64_t max_ttl_ns(const struct config_limits *limits)
{
	uint64_t most = INT64_MAX / 1000000;

	return (int64_t)(limits->max_ttl_ms < most ? limits->max_ttl_ms : most) * 1000000;
}

static void put_ttl(struct body_fields *f, int64_t ns)
{
	char text[40];
	struct buf *put = body_fields_put(f, BODY_FIELD_TTL);

	duration_format(ns, text);
	buf_add_char(put, '"');
	buf_add_cstr(put, text);
	buf_add_char(put, '"');
}

void body_limits_ttl(struct body_fields *f, const struct config_limits *limits, struct body_verdict *v)
{
	struct str value = body_fields_get(f, BODY_FIELD_TTL);
	int64_t ns;

	if (v->status || limits->max_ttl_ms == 0 || value.n == 0 || json_read_kind(value) == JSON_KIND_NULL ||
	    str_eq(value, STR("\"\"")))
		return;
	if (read_ttl(value, &ns) != DURATION_OK) {
		body_refuse(v, 400, "ttl is no duration such as \"30m\"");
	} else if (ns < 0) {
		body_refuse(v, 400, "ttl is negative");
	} else if (ns > max_ttl_ns(limits)) {
		put_ttl(f, max_ttl_ns(limits));
		v->clamped |= BODY_CLAMPED_TTL;
	}
}

/* Under a limit a ttl of no time is none, or it would be the one spelling that is not made explicit. */
static bool is_no_ttl(struct str value)
{
	int64_t ns;

	return body_fields_is_unset(value) || (read_ttl(value, &ns) == DURATION_OK && ns == 0);
}

/* --- defaults ----------------------------------------------------------------------------------------------------- */

static bool is_missing(const struct body_fields *f, enum body_field field, const struct config_limits *limits)
{
	struct str value = body_fields_get(f, field);

	return field == BODY_FIELD_TTL && limits && limits->max_ttl_ms ? is_no_ttl(value) : body_fields_is_unset(value);
}

void body_limits_default(struct body_fields *f, const struct config_limits *limits, const char *defaults)
{
	static const enum body_field spawn[] = {BODY_FIELD_IMAGE,       BODY_FIELD_PROVIDER, BODY_FIELD_MEMORY_MB,
						BODY_FIELD_VCPUS,       BODY_FIELD_TTL,      BODY_FIELD_TEMPLATE,
						BODY_FIELD_NETWORK_MODE};
	struct json_members members = json_read_members(json_read_space(str_from(defaults)));
	struct json_member m;

	while (json_read_member(&members, &m) == 1)
		for (size_t i = 0; i < sizeof(spawn) / sizeof(spawn[0]); i++)
			if (json_read_string_is(m.key, body_field_name(spawn[i])) && is_missing(f, spawn[i], limits))
				buf_add_str(body_fields_put(f, spawn[i]), m.value);
}

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static void limit_number(struct body_fields *f, enum body_field field, uint64_t limit, unsigned bit,
			 struct body_verdict *v)
{
	struct str value = body_fields_get(f, field);
	const char *name = body_field_name(field).p;
	uint64_t number = 0;

	if (v->status || limit == 0)
		return;
	bool missing = body_fields_is_unset(value);
	bool negative = !missing && value.p[0] == '-';
	if (negative)
		value = str_of(value.p + 1, value.n - 1);
	if (!missing && (str_parse_u64(value, &number) || number > INT64_MAX)) {
		body_refuse(v, 400, "%s is no whole number that the server can hold", name);
	} else if (negative) {
		body_refuse(v, 400, "%s is negative", name);
	} else if (missing || number > limit) {
		buf_add_u64(body_fields_put(f, field), limit);
		if (!missing)
			v->clamped |= bit;
	}
}

/* --- names -------------------------------------------------------------------------------------------------------- */

bool body_limits_match(struct str pattern, struct str text)
{
	size_t p = 0;
	size_t t = 0;
	size_t star = SIZE_MAX; /* behind the last star, within one segment */
	size_t from = 0;        /* what of the text comes behind what that star stands for */

	while (t < text.n) {
		if (p < pattern.n && pattern.p[p] == '*') {
			star = ++p;
			from = t;
		} else if (p < pattern.n && pattern.p[p] == text.p[t]) {
			if (text.p[t] == '/')
				star = SIZE_MAX; /* no star before a slash can stand for anything behind it */
			p++;
			t++;
		} else if (star != SIZE_MAX && text.p[from] != '/') {
			p = star;
			t = ++from;
		} else {
			return false;
		}
	}
	while (p < pattern.n && pattern.p[p] == '*')
		p++;
	return p == pattern.n;
}

static void limit_name(const struct body_fields *f, enum body_field field, char *const *patterns, size_t n,
		       const char *limit, struct body_verdict *v)
{
	struct str value = body_fields_get(f, field);
	const char *name = body_field_name(field).p;
	char text[TEXT_MAX_BYTES + 1];

	if (v->status || n == 0)
		return;
	if (body_fields_is_unset(value)) {
		body_refuse(v, 400, "%s is required: the rule has limits.%s and no default", name, limit);
		return;
	}
	if (json_read_kind(value) != JSON_KIND_STRING || !json_read_copy(value, text, sizeof(text))) {
		body_refuse(v, 400, "%s is no name", name);
		return;
	}
	for (size_t i = 0; i < n; i++)
		if (body_limits_match(str_from(patterns[i]), str_from(text)))
			return;
	body_refuse(v, 403, "%s is not permitted by limits.%s of the rule", name, limit);
}

void body_limits_apply(struct body_fields *f, const struct config_limits *limits, struct body_verdict *v)
{
	limit_name(f, BODY_FIELD_IMAGE, limits->images, limits->nimages, "images", v);
	limit_name(f, BODY_FIELD_PROVIDER, limits->providers, limits->nproviders, "providers", v);
	limit_number(f, BODY_FIELD_MEMORY_MB, limits->max_memory_mb, BODY_CLAMPED_MEMORY_MB, v);
	limit_number(f, BODY_FIELD_VCPUS, limits->max_vcpus, BODY_CLAMPED_VCPUS, v);
	if (limits->max_ttl_ms && is_no_ttl(body_fields_get(f, BODY_FIELD_TTL)))
		put_ttl(f, max_ttl_ns(limits));
	body_limits_ttl(f, limits, v);
}

void body_limits_lease(struct body_fields *f, uint64_t lease_ttl_ms, struct body_verdict *v)
{
	struct str value = body_fields_get(f, BODY_FIELD_TTL);
	bool missing = body_fields_is_unset(value);
	int64_t ns = 0;

	if (!missing && (read_ttl(value, &ns) != DURATION_OK || ns <= 0))
		return;
	v->ttl_ms = (uint64_t)(ns / 1000000);
	if (lease_ttl_ms && (missing || v->ttl_ms > lease_ttl_ms))
		put_ttl(f, (int64_t)lease_ttl_ms * 1000000);
}
