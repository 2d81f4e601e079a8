/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_document gives a tree whose nodes know where they stand. Each mapping of it is read by one table of fields;
 * what is not in the table is a fault, and so is a key written twice. Reading goes on after a fault, so that one run
 * names them all; then the parts are checked against each other.
 */
#include "gateway/config_yaml.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/unix_socket.h"
#include "gateway/config.h"
#include "gateway/config_cache.h"
#include "gateway/config_clients.h"
#include "gateway/config_credentials.h"
#include "gateway/config_document.h"
#include "gateway/config_listen.h"
#include "gateway/config_log.h"
#include "gateway/config_tracing.h"
#include "gateway/config_upstreams.h"
#include "gateway/own_user.h"
#include "gateway/reader.h"

#define SUBUID_FILE "/etc/subuid"

/* --- sections ------------------------------------------------------------------------------------------------------ */

static void read_bounds(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"connections", reader_uint, offsetof(struct config_bounds, connections), 1, 1000000},
		{"connections_per_uid", reader_uint, offsetof(struct config_bounds, connections_per_uid), 1, 1000000},
		{"body", reader_size, offsetof(struct config_bounds, body_bytes), 1024, (uint64_t)1 << 40},
		READER_DURATION(config_bounds, client_head, 10, READER_DAY_MS),
		READER_DURATION(config_bounds, client_body_idle, 10, READER_DAY_MS),
		READER_DURATION(config_bounds, idle_client, 10, READER_DAY_MS),
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), to, f->key);
}

static void read_leases(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		READER_DURATION(config_leases, ttl, 300, READER_DAY_MS),
		READER_DURATION(config_leases, extend, 100, READER_DAY_MS),
		READER_DURATION(config_leases, grace, 100, READER_DAY_MS),
	};
	const struct config_leases *l = to;

	reader_mapping(r, node, fields, READER_FIELDS(fields), to, f->key);
	if (l->ttl_ms / 3 < l->extend_ms)
		reader_fault(r, node,
			     "leases.ttl is shorter than three times leases.extend: one extend that fails would lose "
			     "sandboxes");
}

/* shared_vm speaks of rules under isolation: owner only. */
static void check_shared_vm(struct reader *r)
{
	const struct config *c = r->c;

	for (size_t i = 0; i < c->nupstreams; i++) {
		bool used = false;
		for (size_t k = 0; k < c->nrules && !used; k++)
			used = c->rules[k].upstream == i && c->rules[k].isolation == CONFIG_ISOLATION_OWNER;
		if (c->upstreams[i].shared_vm && !used)
			reader_fault_at(r, c->upstreams[i].at,
					"shared_vm: accept has no effect: no rule under isolation: owner uses the "
					"upstream \"%s\"",
					c->upstreams[i].name);
	}
}

/* An upstream or a credential that no rule uses would be ignored. */
static void check_unused(struct reader *r)
{
	const struct config *c = r->c;
	size_t locals = 0;

	for (size_t i = 0; i < c->nupstreams; i++) {
		bool used = c->nrules == 0 && c->nupstreams == 1 && c->upstreams[0].scheme == CONFIG_LOCAL;
		for (size_t k = 0; k < c->nrules && !used; k++)
			used = c->rules[k].upstream == i;
		if (!used)
			reader_fault_at(r, c->upstreams[i].at, "no client rule uses the upstream \"%s\"",
					c->upstreams[i].name);
		if (c->upstreams[i].scheme == CONFIG_LOCAL && ++locals > 1)
			reader_fault_at(r, c->upstreams[i].at, "there can be one upstream local only");
	}
	for (size_t i = 0; i < c->ncredentials; i++) {
		bool used = false;
		bool used_by_admin = false;
		for (size_t k = 0; k < c->nrules; k++) {
			bool here = c->rules[k].has_credential && c->rules[k].credential == i;
			used = used || here;
			used_by_admin = used_by_admin || (here && c->rules[k].admin);
		}
		if (!used)
			reader_fault_at(r, c->credentials[i].at, "no client rule uses the credential \"%s\"",
					c->credentials[i].name);
		else if (!used_by_admin && c->credentials[i].admin_api_key.source != CONFIG_SOURCE_NONE)
			reader_fault_at(r, c->credentials[i].at,
					"no client rule with admin: true uses the admin_api_key of \"%s\"",
					c->credentials[i].name);
	}
}

/* --- the file --------------------------------------------------------------------------------------------------------- */

static void read_host(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	(void)to;
	if (reader_expect_name(r, node, f->key)) {
		r->c->host = reader_copy(r, reader_scalar(node));
		r->c->host_written = true;
	}
}

static void read_user(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	const struct passwd *pw;

	(void)to;
	if (!reader_expect_text(r, node, f->key))
		return;
	pw = getpwnam((const char *)node->data.scalar.value);
	if (!pw || pw->pw_uid == READER_OVERFLOW_ID) {
		reader_fault(r, node,
			     pw ? "user \"%s\" has uid 65534, which the kernel shows for ids that it cannot tell"
				: "there is no user \"%s\"",
			     node->data.scalar.value);
		return;
	}
	r->c->user = reader_copy(r, reader_scalar(node));
	r->c->user_uid = pw->pw_uid;
	r->c->user_gid = pw->pw_gid;
}

/* Who is not in a group cannot give a socket to it. */
static void check_user_groups(struct reader *r)
{
	const struct config *c = r->c;

	for (size_t i = 0; i < c->nlisteners && c->user; i++)
		if (c->listeners[i].group && c->listeners[i].gid != (gid_t)-1 && c->user_uid != 0 &&
		    !own_user_is_in(c, c->listeners[i].gid))
			reader_fault_at(r, c->listeners[i].at,
					"group \"%s\" is none of user \"%s\"'s, who is to give the socket to it",
					c->listeners[i].group, c->user);
}

static void read_root(struct reader *r, yaml_node_t *root)
{
	static const struct reader_field fields[] = {
		{"user", read_user, 0, 0, 0},
		{"drain_timeout", reader_duration, offsetof(struct config, drain_timeout_ms), 0, READER_DAY_MS},
		{"host", read_host, 0, 0, 0},
		{"listen", config_listen_read, 0, 0, 0},
		{"upstreams", config_upstreams_read, 0, 0, 0},
		{"credentials", config_credentials_read, 0, 0, 0},
		{"clients", reader_skip, 0, 0, 0}, /* read last: they name the others */
		{"cache", config_cache_read, offsetof(struct config, cache), 0, 0},
		{"preview", config_preview_read, offsetof(struct config, preview), 0, 0},
		{"log", config_log_read, 0, 0, 0},
		{"bounds", read_bounds, offsetof(struct config, bounds), 0, 0},
		{"leases", read_leases, offsetof(struct config, leases), 0, 0},
		{"tracing", config_tracing_read, offsetof(struct config, tracing), 0, 0},
		{"include", reader_skip, 0, 0, 0}, /* was read first: what it names is part of the tree */
	};
	yaml_node_t *clients;

	if (root->type == YAML_SCALAR_NODE && reader_is_null(root))
		return; /* only comments: everything is the default */
	clients = root->type == YAML_MAPPING_NODE ? reader_lookup(r, root, "clients") : NULL;
	reader_mapping(r, root, fields, READER_FIELDS(fields), r->c, "the file");
	if (clients)
		config_clients_read(r, clients);
	config_listen_check(r);
	config_clients_check(r);
	check_shared_vm(r);
	check_user_groups(r);
	check_unused(r);
}

/* The default socket lies where the environment says; a listener of the file was checked when it was read. */
static int check_default_socket(const struct config *c, char *why, size_t why_size)
{
	for (size_t i = 0; i < c->nlisteners; i++) {
		size_t n = c->listeners[i].path ? strlen(c->listeners[i].path) : 0;
		if (n <= UNIX_SOCKET_PATH_MAX)
			continue;
		snprintf(why, why_size, "the default socket path has %zu bytes, a socket path may have at most %d", n,
			 UNIX_SOCKET_PATH_MAX);
		return -ENAMETOOLONG;
	}
	return 0;
}

/* Whoever holds such a range can be anybody in it: which uids are in one is part of what the rules mean. */
static int read_subuids(struct config *c, struct buf *faults)
{
	int rc = config_read_ranges(SUBUID_FILE, &c->subuids);

	if (rc && rc != -ENOMEM)
		buf_addf(faults, "%s:0:0: cannot be read: %s\n", SUBUID_FILE, strerror(-rc));
	return rc;
}

int config_read(const char *file, const struct config_places *places, struct config **out, struct buf *faults)
{
	struct reader r = {.file = file, .faults = faults, .c = config_new()};
	yaml_node_t *root;
	char why[256];
	int rc = r.c ? 0 : -ENOMEM;

	if (rc == 0)
		rc = read_subuids(r.c, faults);
	if (rc == 0 && file) {
		r.c->file = strdup(file);
		if (config_document_load(&r, &root) == 0) {
			if (root)
				read_root(&r, root);
			yaml_document_delete(&r.doc);
		}
		if (r.nfaults)
			rc = -EINVAL;
		if (r.no_memory || !r.c->file)
			rc = -ENOMEM;
	}
	if (rc == 0) {
		rc = config_complete(r.c, places, why, sizeof(why));
		if (rc == 0)
			rc = check_default_socket(r.c, why, sizeof(why));
		if (rc)
			buf_addf(faults, "%s: %s\n", file ? file : "defaults", why);
	} else if (rc == -ENOMEM) {
		buf_addf(faults, "%s:0:0: out of memory\n", file ? file : "defaults");
	}
	*out = r.c;
	return rc;
}

int config_load(const char *file, const struct config_places *places, struct config **out, struct buf *faults)
{
	struct config *c;
	int rc = config_read(file, places, &c, faults);

	if (rc)
		config_unref(c);
	else
		*out = c;
	return rc;
}
