/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_upstreams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/str.h"
#include "common/unix_socket.h"
#include "gateway/config.h"
#include "gateway/reader.h"

enum {
	CA_MAX_BYTES = 1048576
};

/* --- upstreams ------------------------------------------------------------------------------------------------------ */

static bool host_is_loopback(struct str host)
{
	return str_eq_nocase(host, STR("localhost")) || str_eq(host, STR("[::1]")) ||
	       (str_starts(host, STR("127.")) && strspn(host.p, "0123456789.") >= host.n);
}

static bool host_chars(struct str host)
{
	if (host.n == 0 || host.n > 255)
		return false;
	for (size_t i = 0; i < host.n; i++) {
		char c = host.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._", c)))
			return false;
	}
	return true;
}

/* Splits "host:port" or "[v6]:port". */
static bool split_authority(struct str authority, uint16_t default_port, struct str *host, uint16_t *port)
{
	struct str rest = str_of(NULL, 0);
	uint64_t number = default_port;
	size_t n;

	if (authority.n && authority.p[0] == '[') {
		const char *end = memchr(authority.p, ']', authority.n);
		if (!end || end == authority.p + 1)
			return false;
		n = (size_t)(end - authority.p) + 1;
		for (size_t i = 1; i + 1 < n; i++)
			if (!strchr("0123456789abcdefABCDEF:.", authority.p[i]))
				return false;
	} else {
		const char *colon = authority.n ? memchr(authority.p, ':', authority.n) : NULL;
		n = colon ? (size_t)(colon - authority.p) : authority.n;
		if (!host_chars(str_of(authority.p, n)))
			return false;
	}
	*host = str_of(authority.p, n);
	if (n < authority.n) {
		if (authority.p[n] != ':')
			return false;
		rest = str_of(authority.p + n + 1, authority.n - n - 1);
		if (str_parse_u64(rest, &number) || number < 1 || number > 65535)
			return false;
	}
	*port = (uint16_t)number;
	return true;
}

/* What an http:// or https:// URL of a host says; false when it is none. */
static bool split_url(struct str url, enum config_scheme *scheme, struct str *host, uint16_t *port)
{
	bool tls = str_starts(url, STR("https://"));
	struct str authority;

	if (!tls && !str_starts(url, STR("http://")))
		return false;
	authority = str_of(url.p + 7 + tls, url.n - 7 - tls);
	if (str_ends(authority, STR("/")))
		authority.n--;
	*scheme = tls ? CONFIG_HTTPS : CONFIG_HTTP;
	return split_authority(authority, tls ? 443 : 80, host, port);
}

bool config_upstreams_place(struct reader *r, struct str url, struct config_upstream *u)
{
	struct str host;

	if (!split_url(url, &u->scheme, &host, &u->port))
		return false;
	u->host = reader_copy(r, host);
	u->is_loopback = host_is_loopback(host);
	return true;
}

/* A user or password in it may be a secret, and is sent nowhere. */
static void refuse_url(struct reader *r, const yaml_node_t *node, const char *key, const char *expected)
{
	struct str url = reader_scalar(node);

	if (memchr(url.p, '@', url.n))
		reader_fault(r, node, "%s has a user or password, which may not stand in it: expected %s", key,
			     expected);
	else
		reader_fault(r, node, "%s is \"%s\", expected %s", key, node->data.scalar.value, expected);
}

static void read_url(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_upstream *u = to;
	struct str url;

	if (!reader_expect_text(r, node, f->key))
		return;
	url = reader_scalar(node);
	u->url = reader_copy(r, url);
	if (str_eq(url, STR("local"))) {
		u->scheme = CONFIG_LOCAL;
	} else if (str_starts(url, STR("unix:///"))) {
		u->scheme = CONFIG_UNIX;
		u->path = reader_copy(r, str_of(url.p + 7, url.n - 7));
		if (url.n - 7 > UNIX_SOCKET_PATH_MAX)
			reader_fault(r, node, "the socket path is longer than the %d bytes that one may have",
				     UNIX_SOCKET_PATH_MAX);
	} else if (str_starts(url, STR("http://")) || str_starts(url, STR("https://"))) {
		bool tls = url.p[4] == 's';
		if (!config_upstreams_place(r, url, u))
			refuse_url(r, node, f->key,
				   tls ? "https://HOST:PORT without user, path or query"
				       : "http://HOST:PORT without user, path or query");
	} else {
		refuse_url(r, node, f->key, "local, unix:///PATH, http://HOST:PORT or https://HOST:PORT");
	}
}

/* A file that libcurl reads at each dial: it must be there now. */
static void read_tls_file(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	const char *path = (const char *)node->data.scalar.value;

	if (reader_is_null(node) || !reader_expect_text(r, node, f->key))
		return; /* written without a value: none */
	if (path[0] != '/')
		reader_fault(r, node, "%s is \"%s\", expected an absolute path", f->key, path);
	else if (access(path, R_OK) < 0)
		reader_fault(r, node, "%s: %s cannot be read: %s", f->key, path, strerror(errno));
	reader_text(r, node, to, f);
}

static void read_server_name(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (reader_is_null(node))
		return;
	if (reader_expect_text(r, node, f->key) && !host_chars(reader_scalar(node)))
		reader_fault(r, node, "server_name is \"%s\", expected a host name", node->data.scalar.value);
	reader_text(r, node, to, f);
}

/* What a change of the file changes: a reload with another certificate is another upstream. */
static uint64_t file_stamp(const char *path)
{
	struct stat st;

	if (!path || stat(path, &st) < 0)
		return 0;
	return (uint64_t)st.st_mtim.tv_sec * 1000003u ^ (uint64_t)st.st_mtim.tv_nsec ^ (uint64_t)st.st_ino << 20 ^
	       (uint64_t)st.st_size;
}

/* The authorities are kept as they are now: a dial must not depend on what the file is then. */
static void load_ca(struct reader *r, const yaml_node_t *node, struct config_tls *tls)
{
	int fd = tls->ca_file ? open(tls->ca_file, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;

	if (fd < 0)
		return;
	if (fd_read_all(fd, CA_MAX_BYTES, &tls->ca))
		reader_fault(r, node, "ca_file: %s cannot be read, or is larger than 1 MiB", tls->ca_file);
	else if (!memmem(buf_data(&tls->ca), tls->ca.len, "-----BEGIN CERTIFICATE-----", 27))
		reader_fault(r, node, "ca_file: %s holds no certificate in PEM", tls->ca_file);
	close(fd);
}

void config_upstreams_tls(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"ca_file", read_tls_file, offsetof(struct config_tls, ca_file), 0, 0},
		{"cert_file", read_tls_file, offsetof(struct config_tls, cert_file), 0, 0},
		{"key_file", read_tls_file, offsetof(struct config_tls, key_file), 0, 0},
		{"server_name", read_server_name, offsetof(struct config_tls, server_name), 0, 0},
	};
	struct config_tls *tls = to;

	reader_mapping(r, node, fields, READER_FIELDS(fields), tls, f->key);
	load_ca(r, node, tls);
	if (tls->key_file && !tls->cert_file)
		reader_fault(r, node, "key_file without cert_file has no effect");
	tls->files = file_stamp(tls->cert_file) * 31 + file_stamp(tls->key_file);
}

static void read_proxy(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct str url;
	struct str host;
	uint16_t port;
	size_t scheme;

	if (!reader_expect_text(r, node, f->key))
		return;
	url = reader_scalar(node);
	scheme = str_starts(url, STR("http://")) ? 7 : str_starts(url, STR("socks5h://")) ? 10 : 0;
	if (scheme == 0 || !split_authority(str_of(url.p + scheme, url.n - scheme), 1080, &host, &port))
		refuse_url(r, node, f->key, "http://HOST:PORT or socks5h://HOST:PORT");
	reader_text(r, node, to, f);
}

/* What was written and could not be kept to; a default gives way to what was written (config_upstream_complete). */
static void check_idle(struct reader *r, const yaml_node_t *node, const struct config_pool *p)
{
	const yaml_node_t *max = reader_lookup(r, node, "max_idle");
	const yaml_node_t *min = reader_lookup(r, node, "min_idle");

	if (max && p->max_idle > p->max_connections)
		reader_fault(r, max, "max_idle is more than max_connections, which is %llu",
			     (unsigned long long)p->max_connections);
	if (min && p->min_idle > p->max_idle)
		reader_fault(r, min, "min_idle is more than max_idle, which is %llu", (unsigned long long)p->max_idle);
}

void config_upstreams_check_way(struct reader *r, const yaml_node_t *node, const yaml_node_t *url,
				const struct config_upstream *u, const char *what)
{
	const yaml_node_t *plaintext = reader_lookup(r, node, "allow_plaintext");
	const yaml_node_t *tls = reader_lookup(r, node, "tls");

	if (u->scheme == CONFIG_HTTP && u->host && !u->is_loopback && !u->allow_plaintext)
		reader_fault(r, url,
			     "http:// to %s carries %s in clear: write allow_plaintext: true "
			     "if that is meant",
			     u->host, what);
	if (u->allow_plaintext && (u->scheme != CONFIG_HTTP || !u->host || u->is_loopback))
		reader_fault(r, plaintext, "allow_plaintext has no effect here: it is for http:// to other hosts");
	if (tls && u->scheme != CONFIG_HTTPS)
		reader_fault(r, tls, "tls has no effect here: it is for https://");
}

/* Settings of a way that this upstream does not take. */
static void check_ways(struct reader *r, const yaml_node_t *node, const struct config_upstream *u)
{
	const yaml_node_t *proxy = reader_lookup(r, node, "proxy");
	const yaml_node_t *shared_vm = reader_lookup(r, node, "shared_vm");

	if (proxy && u->scheme != CONFIG_HTTP && u->scheme != CONFIG_HTTPS)
		reader_fault(r, proxy, "proxy has no effect here: it is for http:// and https:// upstreams");
	if (shared_vm && u->scheme == CONFIG_LOCAL)
		reader_fault(r, shared_vm, "shared_vm has no effect here: the embedded server has no pool mode");
}

static void read_pool(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"max_connections", reader_uint, offsetof(struct config_pool, max_connections), 1, 65535},
		{"max_per_identity", reader_uint, offsetof(struct config_pool, max_per_identity), 1, 65535},
		{"min_idle", reader_uint, offsetof(struct config_pool, min_idle), 0, 65535},
		{"max_idle", reader_uint, offsetof(struct config_pool, max_idle), 0, 65535},
		READER_DURATION(config_pool, idle_timeout, 10, READER_DAY_MS),
		READER_DURATION(config_pool, lifetime, 0, 30ull * READER_DAY_MS),
		{"max_waiting", reader_uint, offsetof(struct config_pool, max_waiting), 0, 1000000},
		READER_DURATION(config_pool, wait_timeout, 10, READER_DAY_MS),
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), to, f->key);
}

static void read_timeouts(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		READER_DURATION(config_timeouts, connect, 10, 3600000),
		READER_DURATION(config_timeouts, response, 10, READER_DAY_MS),
		READER_DURATION(config_timeouts, spawn, 10, READER_DAY_MS),
		READER_DURATION(config_timeouts, exec, 10, READER_DAY_MS),
		READER_DURATION(config_timeouts, body_idle, 10, READER_DAY_MS),
		READER_DURATION(config_timeouts, stream_idle, 0, READER_DAY_MS),
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), to, f->key);
}

static void read_shared_vm(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (!reader_expect_text(r, node, f->key))
		return;
	if (str_eq(reader_scalar(node), STR("accept")))
		*(bool *)to = true;
	else if (!str_eq(reader_scalar(node), STR("refuse")))
		reader_fault(r, node, "shared_vm is \"%s\", expected refuse or accept", node->data.scalar.value);
}

static void read_upstream(struct reader *r, yaml_node_t *node, struct config_upstream *u)
{
	static const struct reader_field fields[] = {
		{"url", read_url, 0, 0, 0},
		{"allow_plaintext", reader_bool, offsetof(struct config_upstream, allow_plaintext), 0, 0},
		{"shared_vm", read_shared_vm, offsetof(struct config_upstream, shared_vm), 0, 0},
		{"tls", config_upstreams_tls, offsetof(struct config_upstream, tls), 0, 0},
		{"proxy", read_proxy, offsetof(struct config_upstream, proxy), 0, 0},
		{"pool", read_pool, offsetof(struct config_upstream, pool), 0, 0},
		{"timeouts", read_timeouts, offsetof(struct config_upstream, timeouts), 0, 0},
	};
	yaml_node_t *pool;

	u->at = reader_mark(node);
	config_upstream_defaults(u);
	reader_mapping(r, node, fields, READER_FIELDS(fields), u, "an upstream");
	if (node->type != YAML_MAPPING_NODE)
		return;
	if (!reader_lookup(r, node, "url"))
		reader_fault(r, node, "the upstream has no url");
	config_upstreams_check_way(r, node, reader_lookup(r, node, "url"), u, "the key");
	check_ways(r, node, u);
	if (u->pool.max_per_identity > u->pool.max_connections || u->pool.min_idle > u->pool.max_connections)
		reader_fault(r, node, "pool: max_per_identity and min_idle are at most max_connections, which is %llu",
			     (unsigned long long)u->pool.max_connections);
	pool = reader_lookup(r, node, "pool");
	if (pool && pool->type == YAML_MAPPING_NODE)
		check_idle(r, pool, &u->pool);
	config_upstream_complete(u);
}
void config_upstreams_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config *c = r->c;

	(void)to;
	if (!reader_expect_mapping(r, node, f->key))
		return;
	c->upstreams = calloc(reader_mapping_size(node) + 1, sizeof(*c->upstreams));
	if (!c->upstreams) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		yaml_node_t *key = reader_node(r, p->key);
		if (reader_repeated(r, node, p) || !reader_expect_name(r, key, "the name of an upstream"))
			continue;
		struct config_upstream *u = &c->upstreams[c->nupstreams++];
		u->name = reader_copy(r, reader_scalar(key));
		read_upstream(r, reader_node(r, p->value), u);
	}
	if (c->nupstreams == 0)
		reader_fault(r, node, "upstreams is empty: leave it out for the embedded server");
}

/* --- previews ------------------------------------------------------------------------------------------------------- */

static void read_preview_url(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_preview *p = to;
	struct str host;

	if (reader_is_null(node) || !reader_expect_text(r, node, f->key))
		return; /* written without a value: by DNS */
	p->url = reader_copy(r, reader_scalar(node));
	if (split_url(reader_scalar(node), &p->scheme, &host, &p->port))
		p->host = reader_copy(r, host);
	else
		refuse_url(r, node, f->key, "http://HOST:PORT or https://HOST:PORT");
}

void config_preview_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"url", read_preview_url, 0, 0, 0},
	};

	reader_mapping(r, node, fields, READER_FIELDS(fields), to, f->key);
}
