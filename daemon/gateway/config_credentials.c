/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_credentials.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "gateway/config.h"
#include "gateway/reader.h"

enum {
	ARGUMENTS_MAX = 64,
	COMMAND_MAX_BYTES = 16384, /* all arguments together: they go to the launcher in one message */
	TTL_MS = 600000,
	TIMEOUT_MS = 10000
};

/* What was written of one key; which of it may stand together is decided when all of it has been seen. */
struct key_nodes {
	yaml_node_t *file;
	yaml_node_t *env;
	yaml_node_t *systemd;
	yaml_node_t *command;
	yaml_node_t *ttl;
	yaml_node_t *timeout;
};

static void read_path(struct reader *r, yaml_node_t *node, const char *what, char **out)
{
	if (!reader_expect_text(r, node, what))
		return;
	if (node->data.scalar.value[0] != '/')
		reader_fault(r, node, "%s is \"%s\", expected an absolute path", what, node->data.scalar.value);
	else
		*out = reader_copy(r, reader_scalar(node));
}

static void read_argument(struct reader *r, yaml_node_t *node, char **out)
{
	/* An empty argument is one; only the kind of node matters. */
	if (node->type != YAML_SCALAR_NODE || memchr(reader_scalar(node).p, '\0', reader_scalar(node).n))
		reader_fault(r, node, "an argument of command must be a text");
	else
		*out = reader_copy(r, reader_scalar(node));
}

static void read_command(struct reader *r, yaml_node_t *node, struct config_key *k)
{
	size_t n;
	size_t bytes = 0;

	if (!reader_expect_sequence(r, node, "command"))
		return;
	n = reader_sequence_size(node);
	if (n > ARGUMENTS_MAX) {
		reader_fault(r, node, "command has %zu words, expected at most %d", n, ARGUMENTS_MAX);
		return;
	}
	k->argv = calloc(n + 1, sizeof(char *));
	if (!k->argv) {
		r->no_memory = true;
		return;
	}
	read_path(r, reader_node(r, node->data.sequence.items.start[0]), "the program of command", &k->argv[0]);
	for (size_t i = 1; i < n && k->argv[i - 1]; i++)
		read_argument(r, reader_node(r, node->data.sequence.items.start[i]), &k->argv[i]);
	for (size_t i = 0; k->argv[i]; i++)
		bytes += strlen(k->argv[i]) + 1;
	if (bytes > COMMAND_MAX_BYTES)
		reader_fault(r, node, "command has %zu bytes, expected at most %d", bytes, COMMAND_MAX_BYTES);
	k->from = k->argv[0] ? reader_copy(r, str_from(k->argv[0])) : NULL;
}

/* How a command is run; with another source it would be ignored. */
static void read_times(struct reader *r, const struct key_nodes *nodes, struct config_key *k)
{
	static const struct reader_field ttl = {"ttl", reader_duration, 0, 100, READER_DAY_MS};
	static const struct reader_field timeout = {"timeout", reader_duration, 0, 100, 600000};

	if (!nodes->command) {
		if (nodes->ttl)
			reader_fault(r, nodes->ttl, "ttl has no effect without command");
		if (nodes->timeout)
			reader_fault(r, nodes->timeout, "timeout has no effect without command");
		return;
	}
	k->ttl_ms = TTL_MS;
	k->timeout_ms = TIMEOUT_MS;
	if (nodes->ttl)
		reader_duration(r, nodes->ttl, &k->ttl_ms, &ttl);
	if (nodes->timeout)
		reader_duration(r, nodes->timeout, &k->timeout_ms, &timeout);
}

static void read_source(struct reader *r, const struct key_nodes *nodes, struct config_key *k)
{
	if (nodes->file) {
		k->source = CONFIG_SOURCE_FILE;
		read_path(r, nodes->file, "file", &k->from);
	} else if (nodes->env) {
		k->source = CONFIG_SOURCE_ENV;
		if (reader_expect_text(r, nodes->env, "env"))
			k->from = reader_copy(r, reader_scalar(nodes->env));
	} else if (nodes->systemd) {
		k->source = CONFIG_SOURCE_SYSTEMD;
		if (!reader_expect_name(r, nodes->systemd, "systemd"))
			return;
		k->from = reader_copy(r, reader_scalar(nodes->systemd));
		if (k->from && (strcmp(k->from, ".") == 0 || strcmp(k->from, "..") == 0))
			reader_fault(r, nodes->systemd, "systemd is \"%s\", expected the name of a credential",
				     k->from);
	} else {
		k->source = CONFIG_SOURCE_COMMAND;
		read_command(r, nodes->command, k);
	}
}

static void read_key(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"file", reader_keep_node, offsetof(struct key_nodes, file), 0, 0},
		{"env", reader_keep_node, offsetof(struct key_nodes, env), 0, 0},
		{"systemd", reader_keep_node, offsetof(struct key_nodes, systemd), 0, 0},
		{"command", reader_keep_node, offsetof(struct key_nodes, command), 0, 0},
		{"ttl", reader_keep_node, offsetof(struct key_nodes, ttl), 0, 0},
		{"timeout", reader_keep_node, offsetof(struct key_nodes, timeout), 0, 0},
	};
	struct key_nodes nodes = {0};
	int sources;

	reader_mapping(r, node, fields, READER_FIELDS(fields), &nodes, f->key);
	if (node->type != YAML_MAPPING_NODE)
		return;
	sources = !!nodes.file + !!nodes.env + !!nodes.systemd + !!nodes.command;
	if (sources != 1) {
		reader_fault(r, node, "%s names %s source, expected one of file, env, systemd and command", f->key,
			     sources ? "more than one" : "no");
		return;
	}
	read_source(r, &nodes, to);
	read_times(r, &nodes, to);
}

static void read_credential(struct reader *r, yaml_node_t *node, struct config_credential *k)
{
	static const struct reader_field fields[] = {
		{"api_key", read_key, offsetof(struct config_credential, api_key), 0, 0},
		{"admin_api_key", read_key, offsetof(struct config_credential, admin_api_key), 0, 0},
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), k, "a credential");
	if (node->type == YAML_MAPPING_NODE && !reader_lookup(r, node, "api_key"))
		reader_fault(r, node, "the credential has no api_key");
}

void config_credentials_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
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
		read_credential(r, value, k);
	}
}
