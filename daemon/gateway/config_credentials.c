/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "gateway/config.h"
#include "gateway/reader.h"

/* --- credentials ---------------------------------------------------------------------------------------------------- */

static void read_from(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_credential *k = to;

	if (!reader_expect_text(r, node, f->key))
		return;
	if (k->from) {
		reader_fault(r, node, "file and env in one api_key: expected one of them");
		return;
	}
	k->source = strcmp(f->key, "file") == 0 ? CONFIG_SOURCE_FILE : CONFIG_SOURCE_ENV;
	if (k->source == CONFIG_SOURCE_FILE && node->data.scalar.value[0] != '/')
		reader_fault(r, node, "file is \"%s\", expected an absolute path", node->data.scalar.value);
	k->from = reader_copy(r, reader_scalar(node));
}

static void read_api_key(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {{"file", read_from, 0, 0, 0}, {"env", read_from, 0, 0, 0}};
	struct config_credential *k = to;

	reader_mapping(r, node, fields, READER_FIELDS(fields), k, f->key);
	if (!k->from && node->type == YAML_MAPPING_NODE)
		reader_fault(r, node, "api_key names no source, expected { file: PATH } or { env: NAME }");
}

void config_credentials_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {{"api_key", read_api_key, 0, 0, 0}};
	struct config *c = r->c;

	(void)to;
	if (!reader_expect_mapping(r, node, f->key))
		return;
	c->credentials = calloc(reader_mapping_size(node) + 1, sizeof(*c->credentials));
	if (!c->credentials) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		yaml_node_t *key = reader_node(r, p->key);
		yaml_node_t *value = reader_node(r, p->value);
		if (reader_repeated(r, node, p) || !reader_expect_name(r, key, "the name of a credential"))
			continue;
		struct config_credential *k = &c->credentials[c->ncredentials++];
		k->at = reader_mark(value);
		k->name = reader_copy(r, reader_scalar(key));
		reader_mapping(r, value, fields, READER_FIELDS(fields), k, "a credential");
		if (value->type == YAML_MAPPING_NODE && !reader_lookup(r, value, "api_key"))
			reader_fault(r, value, "the credential has no api_key");
	}
}
