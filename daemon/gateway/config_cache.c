/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_cache.h"

#include "gateway/config.h"
#include "gateway/reader.h"

/* What would be ignored is a fault; what was not written is nothing then. */
static void check_span(struct reader *r, yaml_node_t *node, const char *key, uint64_t *ms)
{
	if (reader_lookup(r, node, key) && *ms)
		reader_fault(r, node, "templates: %s has no effect with a ttl of 0s", key);
	*ms = 0;
}

static void read_templates(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		READER_DURATION(config_cache_templates, ttl, 0, READER_DAY_MS),
		READER_DURATION(config_cache_templates, stale_while_revalidate, 0, READER_DAY_MS),
		READER_DURATION(config_cache_templates, stale_if_error, 0, 30ull * READER_DAY_MS),
	};
	struct config_cache_templates *t = to;

	reader_mapping(r, node, fields, READER_FIELDS(fields), t, f->key);
	if (t->ttl_ms || node->type != YAML_MAPPING_NODE)
		return;
	check_span(r, node, "stale_while_revalidate", &t->stale_while_revalidate_ms);
	check_span(r, node, "stale_if_error", &t->stale_if_error_ms);
}

static void read_previews(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"ttl", reader_duration, offsetof(struct config_cache, preview_ttl_ms), 0, READER_DAY_MS},
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), to, f->key);
}

void config_cache_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"templates", read_templates, offsetof(struct config_cache, templates), 0, 0},
		{"previews", read_previews, 0, 0, 0},
		{"max_entries", reader_uint, offsetof(struct config_cache, max_entries), 1, 1000000},
		{"max_bytes", reader_size, offsetof(struct config_cache, max_bytes), 65536, (uint64_t)1 << 34},
		{"keep", reader_bool, offsetof(struct config_cache, keep), 0, 0},
	};
	struct config_cache *c = to;

	reader_mapping(r, node, fields, READER_FIELDS(fields), c, f->key);
	if (c->keep && c->templates.stale_if_error_ms == 0)
		reader_fault(r, node, "cache: keep has no effect without templates: stale_if_error");
}
