/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: the bodies that the gateway rewrites. What stands before the first zero byte is a body, what stands
 * behind it a template. What goes to the server is read here by another parser: it must be one object without a key
 * twice, with the caller as owner once and the stamp where there is one, and nothing above the limits. The two are also a
 * template that is written and one that is answered.
 */
#include <jansson.h>
#include <stdint.h>
#include <string.h>

#include "common/check.h"
#include "common/units.h"
#include "gateway/body.h"
#include "gateway/config.h"
#include "gateway/owner_query.h"
#include "gateway/template_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_TTL_NS (INT64_C(60) * 1000000000)

static char *images[] = {"a*", "b/*:1"};
static const struct config_limits limits = {
	.max_ttl_ms = 60000, .max_memory_mb = 100, .max_vcpus = 2, .nimages = 2, .images = images};

static const struct body_policy open_policy = {.owner = "alice"};
static const struct body_policy closed_policy = {
	.owner = "alice",
	.token = "t1",
	.stamp = true,
	.limits = &limits,
	.spawn_defaults = "{\"image\":\"abc\",\"metadata\":{\"team\":\"ci\"}}",
};

/* NULL for what jansson takes less of than Go: it never finds the text malformed. */
static json_t *parse(const struct buf *out)
{
	json_error_t error;
	json_t *doc = json_loadb(buf_data(out), out->len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &error);

	enum json_error_code code = doc ? json_error_unknown : json_error_code(&error);

	if (!doc && code != json_error_invalid_utf8 && code != json_error_numeric_overflow &&
	    code != json_error_stack_overflow && code != json_error_null_byte_in_key)
		CHECK(strstr(error.text, "Unicode")); /* a lone surrogate */
	return doc;
}

/* No two keys that Go would bind to one field. */
static void check_keys(json_t *doc)
{
	const char *a;
	const char *b;
	json_t *value;
	json_t *other;
	size_t same;

	json_object_foreach(doc, a, value)
	{
		same = 0;
		json_object_foreach(doc, b, other) same += strcasecmp(a, b) == 0 ? 1 : 0;
		CHECK(same == 1);
		CHECK(strcasecmp(a, "tenant_id") != 0);
		if (strcasecmp(a, "owner_id") == 0)
			CHECK(json_is_string(value) && strcmp(json_string_value(value), "alice") == 0);
	}
}

static void check_limits(json_t *doc)
{
	json_t *metadata = json_object_get(doc, "metadata");
	json_t *memory = json_object_get(doc, "memory_mb");
	json_t *vcpus = json_object_get(doc, "vcpus");
	const char *ttl = json_string_value(json_object_get(doc, "ttl"));
	const char *image = json_string_value(json_object_get(doc, "image"));
	int64_t ns;

	CHECK(json_is_integer(memory) && json_integer_value(memory) > 0 && json_integer_value(memory) <= 100);
	CHECK(json_is_integer(vcpus) && json_integer_value(vcpus) > 0 && json_integer_value(vcpus) <= 2);
	CHECK(ttl && duration_parse(str_from(ttl), &ns) == DURATION_OK && ns > 0 && ns <= MAX_TTL_NS);
	CHECK(image && (image[0] == 'a' || (image[0] == 'b' && strlen(image) <= 512)));
	CHECK(strcmp(json_string_value(json_object_get(metadata, "stacygate.owner")), "alice") == 0);
	CHECK(strcmp(json_string_value(json_object_get(metadata, "stacygate.token")), "t1") == 0);
}

static void check_sent(const struct body_policy *policy, bool is_spawn, const struct buf *out)
{
	json_t *doc = parse(out);

	if (!doc)
		return;
	CHECK(json_is_object(doc) || (json_is_null(doc) && !policy->stamp) || !is_spawn);
	if (json_is_object(doc))
		check_keys(doc);
	if (is_spawn && policy->limits)
		check_limits(doc);
	json_decref(doc);
}

static void judge(const struct body_policy *policy, struct str body, struct str template)
{
	struct buf out = BUF_EMPTY;
	struct body_verdict v;

	for (int kind = BODY_SPAWN; kind <= BODY_ENVIRONMENT; kind++) {
		buf_reset(&out);
		body_judge((enum body_kind)kind, policy, body, &out, &v);
		CHECK((v.status == 0) == (v.why[0] == '\0'));
		if (v.status == 0 && out.len)
			check_sent(policy, kind == BODY_SPAWN || kind == BODY_ADMISSION, &out);
	}
	buf_reset(&out);
	body_from_template(policy, template, body, &out, &v);
	CHECK((v.status == 0) == (v.why[0] == '\0'));
	if (v.status == 0)
		check_sent(policy, true, &out);
	buf_fini(&out);
}

/* Once rewritten, a query has nothing left that would be rewritten into something else. */
static void rewrite_query(struct str query)
{
	struct buf once = BUF_EMPTY;
	struct buf twice = BUF_EMPTY;

	if (owner_query_rewrite(query, "al/ce", &once) && once.len &&
	    owner_query_rewrite(buf_str(&once), "al/ce", &twice))
		CHECK(str_eq(buf_str(&once), buf_str(&twice)));
	buf_fini(&once);
	buf_fini(&twice);
}

/* What is written is in the server's spelling only, what is answered in both, and both are JSON still. */
static void spell_template(struct str body, struct str template)
{
	struct buf out = BUF_EMPTY;
	struct body_verdict v = {0};
	json_t *doc = NULL;

	template_doc_translate(body, &out, &v);
	if (v.status == 0)
		doc = parse(&out);
	CHECK(!json_object_get(doc, "vcpus") && !json_object_get(doc, "ttl"));
	json_decref(doc);
	buf_reset(&out);
	if (template_doc_show(template, &out)) {
		doc = parse(&out);
		CHECK(!json_is_object(doc) || !json_object_get(doc, "cpu_cores") == !json_object_get(doc, "vcpus"));
		json_decref(doc);
	}
	buf_reset(&out);
	if (template_doc_lacks_created(template)) {
		template_doc_set_created(template, body, &out);
		CHECK(!template_doc_lacks_created(buf_str(&out)) || template_doc_lacks_created(body));
	}
	buf_reset(&out);
	template_doc_ignored(body, template, &out);
	CHECK(out.len < 256);
	buf_reset(&out);
	if (template_doc_path(body, &out))
		CHECK(!memchr(buf_data(&out) + sizeof("/api/v1/templates"), '/',
			      out.len - sizeof("/api/v1/templates")));
	buf_reset(&out);
	if (template_doc_replacement(body, &out)) {
		doc = parse(&out);
		CHECK(!doc || json_object_get(doc, "image"));
		json_decref(doc);
	}
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str template = str_of((const char *)data, size);
	struct str body = str_cut(&template, '\0');

	judge(&open_policy, body, template);
	judge(&closed_policy, body, template);
	rewrite_query(body);
	spell_template(body, template);
	return 0;
}
