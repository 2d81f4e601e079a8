/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_log.h"

#include <limits.h>

#include "common/str.h"
#include "gateway/config.h"
#include "gateway/reader.h"

static void read_level(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (!reader_expect_text(r, node, f->key))
		return;
	if (!log_level_parse(reader_scalar(node), to))
		reader_fault(r, node, "level is \"%s\", expected error, warn, info or debug", node->data.scalar.value);
}

static void read_format(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	enum log_format *format = to;

	if (!reader_expect_text(r, node, f->key))
		return;
	if (str_eq(reader_scalar(node), STR("text")))
		*format = LOG_FORMAT_TEXT;
	else if (str_eq(reader_scalar(node), STR("json")))
		*format = LOG_FORMAT_JSON;
	else
		reader_fault(r, node, "format is \"%s\", expected text or json", node->data.scalar.value);
}

static void read_file(struct reader *r, yaml_node_t *node, struct config_output *o, const char *key)
{
	struct str path = reader_scalar(node);

	if (path.n >= PATH_MAX) {
		reader_fault(r, node, "%s has %zu bytes, a path may have at most %d", key, path.n, PATH_MAX - 1);
		return;
	}
	o->kind = CONFIG_OUTPUT_FILE;
	o->path = reader_copy(r, path);
}

static void read_output(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	/* YAML 1.1 readers take a bare off for a boolean; here it is the word. */
	static const struct {
		struct str word;
		enum config_output_kind kind;
	} words[] = {{{"off", 3}, CONFIG_OUTPUT_OFF},
		     {{"stderr", 6}, CONFIG_OUTPUT_STDERR},
		     {{"journal", 7}, CONFIG_OUTPUT_JOURNAL}};
	struct config_output *o = to;

	if (!reader_expect_text(r, node, f->key))
		return;
	o->at = reader_mark(node);
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (str_eq(reader_scalar(node), words[i].word)) {
			o->kind = words[i].kind;
			return;
		}
	}
	if (node->data.scalar.value[0] == '/')
		read_file(r, node, o, f->key);
	else
		reader_fault(r, node, "%s is \"%s\", expected off, stderr, journal or an absolute path", f->key,
			     node->data.scalar.value);
}

void config_log_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"level", read_level, offsetof(struct config, log_level), 0, 0},
		{"format", read_format, offsetof(struct config, log_format), 0, 0},
		{"access", read_output, offsetof(struct config, access), 0, 0},
		{"audit", read_output, offsetof(struct config, audit), 0, 0},
	};

	(void)to;
	reader_mapping(r, node, fields, READER_FIELDS(fields), r->c, f->key);
}
