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

/* One port on both loopback addresses, whichever of them is written: nobody else is to hold the other. */
static void read_tcp(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct str hosts[] = {{"127.0.0.1:", 10}, {"[::1]:", 6}, {"localhost:", 10}};
	struct str s;
	uint64_t port = 0;

	if (!reader_expect_text(r, node, f->key))
		return;
	s = reader_scalar(node);
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]) && port == 0; i++)
		if (str_starts(s, hosts[i]) && str_parse_u64(str_of(s.p + hosts[i].n, s.n - hosts[i].n), &port))
			port = 0;
	if (port == 0 || port > UINT16_MAX) {
		reader_fault(
			r, node,
			"tcp is \"%s\", expected 127.0.0.1:PORT (loopback only, a port from 1 to 65535): whoever is "
			"not on this machine cannot be told apart",
			node->data.scalar.value);
		return;
	}
	*(uint16_t *)to = (uint16_t)port;
}

/* Whether it is a name or address as it stands in Host, without port. */
static bool is_host(struct str s)
{
	bool bracketed = s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']';
	struct str inner = bracketed ? str_of(s.p + 1, s.n - 2) : s;

	for (size_t i = 0; i < inner.n; i++) {
		char c = inner.p[i];
		bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!plain && !strchr(bracketed ? ":." : "-._", c))
			return false;
	}
	return inner.n && inner.n < 256;
}

/* Whether it is an origin as browsers write it: scheme, host, port if it is not the scheme's own, and nothing more. */
static bool is_origin(struct str s)
{
	struct str rest = s;
	struct str scheme = str_cut(&rest, ':');
	const char *colon;
	uint64_t port;

	if ((!str_eq(scheme, STR("http")) && !str_eq(scheme, STR("https"))) || !str_starts(rest, STR("//")))
		return false;
	rest = str_of(rest.p + 2, rest.n - 2);
	colon = memrchr(rest.p, ':', rest.n);
	if (colon && memchr(colon, ']', (size_t)(rest.p + rest.n - colon)))
		colon = NULL;
	if (colon && (str_parse_u64(str_of(colon + 1, (size_t)(rest.p + rest.n - colon) - 1), &port) || port == 0 ||
		      port > UINT16_MAX))
		return false;
	return is_host(colon ? str_of(rest.p, (size_t)(colon - rest.p)) : rest);
}

static void read_names(struct reader *r, yaml_node_t *node, struct config_names *to, const char *key,
		       bool (*is_good)(struct str s), const char *expected)
{
	if (node->type == YAML_SEQUENCE_NODE && reader_sequence_size(node) == 0 && to->n == 0 && is_good == is_origin)
		return;
	if (!reader_expect_sequence(r, node, key))
		return;
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		yaml_node_t *item = reader_node(r, *i);
		if (!reader_expect_text(r, item, key))
			continue;
		if (!is_good(reader_scalar(item)))
			reader_fault(r, item, "%s holds \"%s\", expected %s", key, item->data.scalar.value, expected);
		else if (config_names_add(to, reader_scalar(item)))
			r->no_memory = true;
	}
}

static void read_hosts(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	read_names(r, node, to, f->key, is_host, "a host name or address without port, IPv6 in brackets");
}

static void read_origins(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	read_names(r, node, to, f->key, is_origin,
		   "an origin such as https://app.example.com or http://localhost:3000");
}

/* Keys that only the other kind of listener has would be ignored. */
static void check_kind(struct reader *r, yaml_node_t *node)
{
	static const char *const unix_only[] = {"mode", "group"};
	static const char *const tcp_only[] = {"hosts", "origins"};
	bool tcp = reader_lookup(r, node, "tcp");
	const char *const *others = tcp ? unix_only : tcp_only;

	if (tcp && reader_lookup(r, node, "path"))
		reader_fault(r, node, "the listener has path and tcp: expected one of them");
	else if (!tcp && !reader_lookup(r, node, "path"))
		reader_fault(r, node, "the listener has no path: expected path or tcp");
	for (size_t i = 0; i < 2; i++) {
		yaml_node_t *value = reader_lookup(r, node, others[i]);
		if (value)
			reader_fault(r, value, "%s has no effect on a listener with %s", others[i],
				     tcp ? "tcp" : "path");
	}
}

static void read_listener(struct reader *r, yaml_node_t *node, struct config_listener *l)
{
	static const struct reader_field fields[] = {
		{"path", read_path, offsetof(struct config_listener, path), 0, 0},
		{"tcp", read_tcp, offsetof(struct config_listener, port), 0, 0},
		{"name", reader_text, offsetof(struct config_listener, name), 0, 0},
		{"mode", read_mode, offsetof(struct config_listener, mode), 0, 0},
		{"group", read_group, 0, 0, 0},
		{"hosts", read_hosts, offsetof(struct config_listener, hosts), 0, 0},
		{"origins", read_origins, offsetof(struct config_listener, origins), 0, 0},
	};

	l->at = reader_mark(node);
	l->mode = 0600;
	l->gid = (gid_t)-1;
	reader_mapping(r, node, fields, READER_FIELDS(fields), l, "a listener");
	if (node->type == YAML_MAPPING_NODE)
		check_kind(r, node);
	if ((l->port || l->path) && config_listener_complete(l))
		r->no_memory = true;
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
	char place[READER_PLACE_SIZE];

	for (size_t i = 0; i < c->nlisteners; i++) {
		for (size_t k = 0; k < i; k++) {
			const struct config_listener *a = &c->listeners[k];
			const struct config_listener *b = &c->listeners[i];
			if (a->path && b->path && strcmp(a->path, b->path) == 0)
				reader_fault_at(r, b->at, "path %s is used twice, first %s", b->path,
						reader_place(r, a->at, b->at, place));
			else if (a->port && a->port == b->port)
				reader_fault_at(r, b->at, "port %u is used twice, first %s", (unsigned)b->port,
						reader_place(r, a->at, b->at, place));
			else if (a->name && b->name && strcmp(a->name, b->name) == 0)
				reader_fault_at(r, b->at, "listener name \"%s\" is used twice, first %s", b->name,
						reader_place(r, a->at, b->at, place));
		}
	}
}
