/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_listen.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/unix_socket.h"
#include "gateway/config.h"
#include "gateway/reader.h"

static void read_mode(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct str s;
	mode_t mode = 0;
	bool ok;

	if (!reader_expect_text(r, node, f->key))
		return;
	s = reader_scalar(node);
	ok = s.n == 3 || (s.n == 4 && s.p[0] == '0');
	for (size_t i = 0; i < s.n && ok; i++) {
		ok = s.p[i] >= '0' && s.p[i] <= '7';
		mode = mode * 8 + (mode_t)(s.p[i] - '0');
	}
	if (ok)
		*(mode_t *)to = mode;
	else
		reader_fault(r, node, "mode is \"%s\", expected octal permissions such as \"0660\"",
			     node->data.scalar.value);
}
/* --- listeners ------------------------------------------------------------------------------------------------------ */

static void read_path(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (!reader_expect_text(r, node, f->key))
		return;
	if (node->data.scalar.value[0] != '/')
		reader_fault(r, node, "path is \"%s\", expected an absolute path", node->data.scalar.value);
	else if (node->data.scalar.length > UNIX_SOCKET_PATH_MAX)
		reader_fault(r, node, "path has %zu bytes, a socket path may have at most %d", node->data.scalar.length,
			     UNIX_SOCKET_PATH_MAX);
	*(char **)to = reader_copy(r, reader_scalar(node));
}

static void read_group(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_listener *l = to;
	const struct group *gr;

	if (!reader_expect_text(r, node, f->key))
		return;
	l->group = reader_copy(r, reader_scalar(node));
	gr = l->group ? getgrnam(l->group) : NULL;
	if (!gr)
		reader_fault(r, node, "there is no group \"%s\"", node->data.scalar.value);
	else
		l->gid = gr->gr_gid;
}

static void read_listener(struct reader *r, yaml_node_t *node, struct config_listener *l)
{
	static const struct reader_field fields[] = {
		{"path", read_path, offsetof(struct config_listener, path), 0, 0},
		{"name", reader_text, offsetof(struct config_listener, name), 0, 0},
		{"mode", read_mode, offsetof(struct config_listener, mode), 0, 0},
		{"group", read_group, 0, 0, 0},
	};

	l->at = reader_mark(node);
	l->mode = 0600;
	l->gid = (gid_t)-1;
	reader_mapping(r, node, fields, READER_FIELDS(fields), l, "a listener");
	if (node->type == YAML_MAPPING_NODE && !reader_lookup(r, node, "path"))
		reader_fault(r, node, "the listener has no path");
	if (!l->name && l->path)
		l->name = reader_copy(r, str_from(l->path));
}
void config_listen_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config *c = r->c;

	(void)to;
	if (!reader_expect_sequence(r, node, f->key))
		return;
	c->listeners = calloc(reader_sequence_size(node), sizeof(*c->listeners));
	if (!c->listeners) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
		read_listener(r, reader_node(r, *i), &c->listeners[c->nlisteners++]);
}
void config_listen_check(struct reader *r)
{
	const struct config *c = r->c;

	for (size_t i = 0; i < c->nlisteners; i++) {
		for (size_t k = 0; k < i; k++) {
			const struct config_listener *a = &c->listeners[k];
			const struct config_listener *b = &c->listeners[i];
			if (a->path && b->path && strcmp(a->path, b->path) == 0)
				reader_fault_at(r, b->at, "path %s is used twice, first in line %u", b->path,
						a->at.line);
			else if (a->name && b->name && strcmp(a->name, b->name) == 0)
				reader_fault_at(r, b->at, "listener name \"%s\" is used twice, first in line %u",
						b->name, a->at.line);
		}
	}
}
