/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_limits.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_write.h"
#include "common/str.h"
#include "common/units.h"
#include "gateway/config.h"
#include "gateway/reader.h"

enum {
	COUNT_MAX = 1000000,
	MEMORY_MAX_MB = 16777216,
	VCPUS_MAX = 65536,
	METADATA_MAX_BYTES = 16384,
	IMAGE_MAX_BYTES = 512,
	NAME_MAX_BYTES = 128,
};

/* --- limits --------------------------------------------------------------------------------------------------------- */

static bool is_listed(char *const *list, size_t n, struct str text)
{
	for (size_t i = 0; i < n; i++)
		if (str_eq(str_from(list[i]), text))
			return true;
	return false;
}

/* A list of texts, each once. */
static void read_texts(struct reader *r, yaml_node_t *node, const char *key, char ***list, size_t *n)
{
	if (!reader_expect_sequence(r, node, key))
		return;
	*list = calloc(reader_sequence_size(node), sizeof(char *));
	if (!*list) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		yaml_node_t *value = reader_node(r, *i);
		struct str text;
		if (!reader_expect_text(r, value, key))
			continue;
		text = reader_scalar(value);
		if (text.n == 0 || text.n > IMAGE_MAX_BYTES) {
			reader_fault(r, value, "%s holds a text of %zu bytes, expected 1 to %d", key, text.n,
				     IMAGE_MAX_BYTES);
			continue;
		}
		if (is_listed(*list, *n, text)) {
			reader_fault(r, value, "%s holds \"%s\" twice", key, value->data.scalar.value);
			continue;
		}
		(*list)[*n] = reader_copy(r, text);
		*n += (*list)[*n] != NULL;
	}
}

static void read_images(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_limits *l = to;

	read_texts(r, node, f->key, &l->images, &l->nimages);
}

static void read_providers(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_limits *l = to;

	read_texts(r, node, f->key, &l->providers, &l->nproviders);
}

static void read_limits(struct reader *r, yaml_node_t *node, struct config_limits *l)
{
	static const struct reader_field fields[] = {
		{"requests_per_second", reader_uint, offsetof(struct config_limits, requests_per_second), 1, COUNT_MAX},
		{"concurrent_requests", reader_uint, offsetof(struct config_limits, concurrent_requests), 1, COUNT_MAX},
		{"connections", reader_uint, offsetof(struct config_limits, connections), 1, COUNT_MAX},
		{"sandboxes", reader_uint, offsetof(struct config_limits, sandboxes), 1, COUNT_MAX},
		READER_DURATION(config_limits, max_ttl, 1000, 365ull * READER_DAY_MS),
		{"max_memory_mb", reader_uint, offsetof(struct config_limits, max_memory_mb), 1, MEMORY_MAX_MB},
		{"max_vcpus", reader_uint, offsetof(struct config_limits, max_vcpus), 1, VCPUS_MAX},
		{"images", read_images, 0, 0, 0},
		{"providers", read_providers, 0, 0, 0},
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), l, "limits");
}

/* --- defaults of a spawn --------------------------------------------------------------------------------------------- */

struct defaults {
	char *image;    /* owned */
	char *provider; /* owned */
	char *ttl;      /* owned; as written */
	uint64_t memory_mb;
	uint64_t vcpus;
	uint64_t ttl_ms;
	struct buf metadata; /* a JSON object; empty: none */
};

static void read_name(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	reader_text(r, node, to, f);
	if (*(char **)to && (**(char **)to == '\0' || strlen(*(char **)to) > f->max))
		reader_fault(r, node, "%s must have 1 to %llu bytes", f->key, (unsigned long long)f->max);
}

static void read_ttl(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct defaults *d = to;

	reader_duration(r, node, &d->ttl_ms, f);
	if (d->ttl_ms)
		d->ttl = reader_copy(r, reader_scalar(node));
}

static void read_metadata(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct defaults *d = to;
	struct json_writer w = json_writer(&d->metadata);

	if (!reader_expect_mapping(r, node, f->key))
		return;
	json_object_begin(&w, NULL);
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		yaml_node_t *key = reader_node(r, p->key);
		yaml_node_t *value = reader_node(r, p->value);
		if (!reader_expect_text(r, key, "a key of metadata") ||
		    !reader_expect_text(r, value, "a value of metadata") || reader_repeated(r, node, p))
			continue;
		if (str_starts(reader_scalar(key), STR("stacygate.")))
			reader_fault(r, key, "metadata: stacygate.* is the gateway's own");
		json_member(&w, reader_scalar(key), reader_scalar(value));
	}
	json_object_end(&w);
	if (d->metadata.failed)
		r->no_memory = true;
	else if (d->metadata.len > METADATA_MAX_BYTES)
		reader_fault(r, node, "metadata has %zu bytes as JSON, expected at most %d", d->metadata.len,
			     METADATA_MAX_BYTES);
}

/* A default that the rule's own limits would change or refuse is not one. */
static void check_within(struct reader *r, yaml_node_t *node, const struct defaults *d, const struct config_limits *l)
{
	if (l->max_ttl_ms && d->ttl_ms > l->max_ttl_ms)
		reader_fault(r, node, "spawn_defaults: ttl is more than limits.max_ttl");
	if (l->max_memory_mb && d->memory_mb > l->max_memory_mb)
		reader_fault(r, node, "spawn_defaults: memory_mb is more than limits.max_memory_mb");
	if (l->max_vcpus && d->vcpus > l->max_vcpus)
		reader_fault(r, node, "spawn_defaults: vcpus is more than limits.max_vcpus");
	if (d->image && !config_limits_image(l, str_from(d->image)))
		reader_fault(r, node, "spawn_defaults: image \"%s\" is not one of limits.images", d->image);
	if (d->provider && l->nproviders && !is_listed(l->providers, l->nproviders, str_from(d->provider)))
		reader_fault(r, node, "spawn_defaults: provider \"%s\" is not one of limits.providers", d->provider);
}

static char *defaults_text(struct reader *r, const struct defaults *d)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);
	char *text;

	json_object_begin(&w, NULL);
	if (d->image)
		json_cstr(&w, "image", d->image);
	if (d->provider)
		json_cstr(&w, "provider", d->provider);
	if (d->memory_mb)
		json_uint(&w, "memory_mb", d->memory_mb);
	if (d->vcpus)
		json_uint(&w, "vcpus", d->vcpus);
	if (d->ttl)
		json_cstr(&w, "ttl", d->ttl);
	if (d->metadata.len)
		buf_addf(&out, "%s\"metadata\":%.*s", w.comma ? "," : "", STR_ARG(buf_str(&d->metadata)));
	json_object_end(&w);
	text = out.failed ? NULL : reader_copy(r, buf_str(&out));
	if (!text)
		r->no_memory = true;
	buf_fini(&out);
	return text;
}

static void read_defaults(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	static const struct reader_field fields[] = {
		{"image", read_name, offsetof(struct defaults, image), 1, IMAGE_MAX_BYTES},
		{"provider", read_name, offsetof(struct defaults, provider), 1, NAME_MAX_BYTES},
		{"memory_mb", reader_uint, offsetof(struct defaults, memory_mb), 1, MEMORY_MAX_MB},
		{"vcpus", reader_uint, offsetof(struct defaults, vcpus), 1, VCPUS_MAX},
		{"ttl", read_ttl, 0, 1000, 365ull * READER_DAY_MS},
		{"metadata", read_metadata, 0, 0, 0},
	};
	struct defaults d = {.metadata = BUF_EMPTY};

	reader_mapping(r, node, fields, READER_FIELDS(fields), &d, "spawn_defaults");
	check_within(r, node, &d, &rule->limits);
	rule->spawn_defaults = defaults_text(r, &d);
	free(d.image);
	free(d.provider);
	free(d.ttl);
	buf_fini(&d.metadata);
}

void config_limits_read(struct reader *r, struct config_rule *rule, yaml_node_t *limits, yaml_node_t *defaults)
{
	if (limits)
		read_limits(r, limits, &rule->limits);
	if (defaults)
		read_defaults(r, defaults, rule);
}
