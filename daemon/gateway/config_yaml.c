/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libyaml gives a tree whose nodes know where they stand. Each mapping of the file is read by one table of fields;
 * what is not in the table is a fault, and so is a key written twice. Reading goes on after a fault, so that one run
 * names them all; then the parts are checked against each other.
 */
#include "gateway/config_yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "common/fd.h"
#include "common/str.h"
#include "common/units.h"
#include "common/unix_socket.h"
#include "gateway/config.h"

enum {
	FILE_MAX_BYTES = 1048576,
	USER_ID_MAX_BYTES = 128,
	OVERFLOW_ID = 65534,
	DEPTH_MAX = 100
};

struct reader {
	yaml_document_t doc;
	const char *file;   /* borrowed */
	struct buf *faults; /* borrowed */
	struct config *c;   /* borrowed */
	unsigned nfaults;
	bool no_memory;
};

struct field {
	const char *key;
	void (*read)(struct reader *r, yaml_node_t *value, void *object, const struct field *field);
	size_t offset; /* of the member in the object */
	uint64_t min;
	uint64_t max;
};

static void fault_at(struct reader *r, struct config_mark at, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void fault_at(struct reader *r, struct config_mark at, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	/* One line per fault, and none that moves a terminal's cursor. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	buf_addf(r->faults, "%s:%u:%u: %s\n", r->file, at.line, at.column, text);
	r->nfaults++;
}

static struct config_mark mark_of(const yaml_node_t *node)
{
	return (struct config_mark){(unsigned)node->start_mark.line + 1, (unsigned)node->start_mark.column + 1};
}

#define fault(r, node, ...) fault_at(r, mark_of(node), __VA_ARGS__)

static yaml_node_t *node_of(struct reader *r, int index)
{
	return yaml_document_get_node(&r->doc, index);
}

/* A scalar's text; a NUL inside ends it here, which no value of ours survives. */
static struct str scalar(const yaml_node_t *node)
{
	return str_of((const char *)node->data.scalar.value, node->data.scalar.length);
}

static bool is_null(const yaml_node_t *node)
{
	struct str s;

	if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	s = scalar(node);
	return s.n == 0 || str_eq(s, STR("~")) || str_eq(s, STR("null"));
}

static bool expect_text(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (node->type != YAML_SCALAR_NODE || is_null(node)) {
		fault(r, node, "%s is missing or not a single value", what);
		return false;
	}
	if (memchr(node->data.scalar.value, '\0', node->data.scalar.length)) {
		fault(r, node, "%s holds a NUL byte", what);
		return false;
	}
	return true;
}

static char *copy(struct reader *r, struct str s)
{
	char *text = str_dup(s);

	if (!text)
		r->no_memory = true;
	return text;
}

/* --- mappings ---------------------------------------------------------------------------------------------------- */

static void list_keys(const struct field *fields, size_t n, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", fields[i].key);
}

static const struct field *find_field(struct reader *r, const yaml_node_t *key, const struct field *fields, size_t n)
{
	char known[320];

	if (key->type != YAML_SCALAR_NODE) {
		fault(r, key, "a key must be a single word");
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		if (str_eq(scalar(key), str_from(fields[i].key)))
			return &fields[i];
	list_keys(fields, n, known, sizeof(known));
	fault(r, key, "unknown key \"%.*s\", expected one of: %s", (int)key->data.scalar.length, key->data.scalar.value,
	      known);
	return NULL;
}

/* Whether the key of this pair stands in the mapping before; that is a fault. */
static bool repeated(struct reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair)
{
	const yaml_node_t *key = node_of(r, pair->key);

	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < pair; p++) {
		const yaml_node_t *other = node_of(r, p->key);
		if (key->type == YAML_SCALAR_NODE && other->type == YAML_SCALAR_NODE &&
		    str_eq(scalar(key), scalar(other))) {
			fault(r, key, "key \"%.*s\" is written twice, first in line %u", (int)key->data.scalar.length,
			      key->data.scalar.value, mark_of(other).line);
			return true;
		}
	}
	return false;
}

static bool expect_mapping(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (node->type == YAML_MAPPING_NODE)
		return true;
	fault(r, node, "%s must be a mapping of keys to values", what);
	return false;
}

static void read_mapping(struct reader *r, yaml_node_t *node, const struct field *fields, size_t n, void *object,
			 const char *what)
{
	if (!expect_mapping(r, node, what))
		return;
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const struct field *f;
		if (repeated(r, node, p))
			continue;
		f = find_field(r, node_of(r, p->key), fields, n);
		if (f)
			f->read(r, node_of(r, p->value), (char *)object + f->offset, f);
	}
}

/* The value of a key, or NULL. */
static yaml_node_t *lookup(struct reader *r, const yaml_node_t *map, const char *key)
{
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
		yaml_node_t *k = node_of(r, p->key);
		if (k->type == YAML_SCALAR_NODE && str_eq(scalar(k), str_from(key)))
			return node_of(r, p->value);
	}
	return NULL;
}

/* --- single values ------------------------------------------------------------------------------------------------ */

static void read_text(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	char **out = to;

	if (!expect_text(r, node, f->key))
		return;
	free(*out);
	*out = copy(r, scalar(node));
}

static void read_uint(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	uint64_t v;

	if (!expect_text(r, node, f->key))
		return;
	if (str_parse_u64(scalar(node), &v) || v < f->min || v > f->max)
		fault(r, node, "%s is \"%s\", expected a whole number from %llu to %llu", f->key,
		      node->data.scalar.value, (unsigned long long)f->min, (unsigned long long)f->max);
	else
		*(uint64_t *)to = v;
}

static void read_size(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	uint64_t v;

	if (!expect_text(r, node, f->key))
		return;
	if (size_parse(scalar(node), &v) || v < f->min || v > f->max)
		fault(r, node, "%s is \"%s\", expected a size from %llu to %llu bytes, such as 64KiB, 1MiB or 2GiB",
		      f->key, node->data.scalar.value, (unsigned long long)f->min, (unsigned long long)f->max);
	else
		*(uint64_t *)to = v;
}

/* Milliseconds; min and max too. */
static void read_duration(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	int64_t ns;
	char low[40];
	char high[40];

	if (!expect_text(r, node, f->key))
		return;
	if (duration_parse(scalar(node), &ns) == DURATION_OK && ns >= 0 && ns % 1000000 == 0 &&
	    (uint64_t)ns / 1000000 >= f->min && (uint64_t)ns / 1000000 <= f->max) {
		*(uint64_t *)to = (uint64_t)ns / 1000000;
		return;
	}
	duration_format((int64_t)f->min * 1000000, low);
	duration_format((int64_t)f->max * 1000000, high);
	fault(r, node, "%s is \"%s\", expected a duration from %s to %s, such as 500ms, 45s or 1h30m", f->key,
	      node->data.scalar.value, low, high);
}

static void read_bool(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	if (!expect_text(r, node, f->key))
		return;
	if (str_eq(scalar(node), STR("true")))
		*(bool *)to = true;
	else if (str_eq(scalar(node), STR("false")))
		*(bool *)to = false;
	else
		fault(r, node, "%s is \"%s\", expected true or false", f->key, node->data.scalar.value);
}

static void read_mode(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct str s;
	mode_t mode = 0;
	bool ok;

	if (!expect_text(r, node, f->key))
		return;
	s = scalar(node);
	ok = s.n == 3 || (s.n == 4 && s.p[0] == '0');
	for (size_t i = 0; i < s.n && ok; i++) {
		ok = s.p[i] >= '0' && s.p[i] <= '7';
		mode = mode * 8 + (mode_t)(s.p[i] - '0');
	}
	if (ok)
		*(mode_t *)to = mode;
	else
		fault(r, node, "mode is \"%s\", expected octal permissions such as \"0660\"", node->data.scalar.value);
}

static void read_level(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct {
		struct str name;
		enum log_level level;
	} levels[] = {{{"error", 5}, LOG_LEVEL_ERROR},
		      {{"warn", 4}, LOG_LEVEL_WARN},
		      {{"info", 4}, LOG_LEVEL_INFO},
		      {{"debug", 5}, LOG_LEVEL_DEBUG}};

	if (!expect_text(r, node, f->key))
		return;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
		if (str_eq(scalar(node), levels[i].name)) {
			*(enum log_level *)to = levels[i].level;
			return;
		}
	}
	fault(r, node, "level is \"%s\", expected error, warn, info or debug", node->data.scalar.value);
}

static void read_output(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	if (!expect_text(r, node, f->key))
		return;
	/* YAML 1.1 readers take a bare off for a boolean; here it is the word. */
	if (str_eq(scalar(node), STR("off")))
		*(enum config_output *)to = CONFIG_OUTPUT_OFF;
	else if (str_eq(scalar(node), STR("stderr")))
		*(enum config_output *)to = CONFIG_OUTPUT_STDERR;
	else
		fault(r, node, "%s is \"%s\", expected off or stderr", f->key, node->data.scalar.value);
}

/* A key that this version knows with one value only. */
static void read_only_text(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	(void)to;
	if (expect_text(r, node, f->key) && !str_eq(scalar(node), STR("text")))
		fault(r, node, "format is \"%s\", expected text: this version writes no other",
		      node->data.scalar.value);
}

#define NFIELDS(table) (sizeof(table) / sizeof((table)[0]))
#define DURATION(type, key, min, max)                                                                                  \
	{                                                                                                              \
#key, read_duration, offsetof(struct type, key##_ms), min, max                                         \
	}

enum {
	DAY_MS = 86400000
};

/* --- sections ------------------------------------------------------------------------------------------------------ */

static void read_log(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {
		{"level", read_level, offsetof(struct config, log_level), 0, 0},
		{"format", read_only_text, 0, 0, 0},
		{"access", read_output, offsetof(struct config, access), 0, 0},
	};

	(void)to;
	read_mapping(r, node, fields, NFIELDS(fields), r->c, f->key);
}

static void read_bounds(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {
		{"connections", read_uint, offsetof(struct config_bounds, connections), 1, 1000000},
		{"connections_per_uid", read_uint, offsetof(struct config_bounds, connections_per_uid), 1, 1000000},
		{"body", read_size, offsetof(struct config_bounds, body_bytes), 1024, (uint64_t)1 << 40},
		DURATION(config_bounds, client_head, 10, DAY_MS),
		DURATION(config_bounds, client_body_idle, 10, DAY_MS),
		DURATION(config_bounds, idle_client, 10, DAY_MS),
	};

	read_mapping(r, node, fields, NFIELDS(fields), to, f->key);
}

static void read_pool(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {
		{"max_connections", read_uint, offsetof(struct config_pool, max_connections), 1, 65535},
		{"max_per_identity", read_uint, offsetof(struct config_pool, max_per_identity), 1, 65535},
		{"min_idle", read_uint, offsetof(struct config_pool, min_idle), 0, 65535},
		{"max_idle", read_uint, offsetof(struct config_pool, max_idle), 0, 65535},
		DURATION(config_pool, idle_timeout, 10, DAY_MS),
		DURATION(config_pool, lifetime, 0, 30ull * DAY_MS),
		{"max_waiting", read_uint, offsetof(struct config_pool, max_waiting), 0, 1000000},
		DURATION(config_pool, wait_timeout, 10, DAY_MS),
	};

	read_mapping(r, node, fields, NFIELDS(fields), to, f->key);
}

static void read_timeouts(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {
		DURATION(config_timeouts, connect, 10, 3600000),  DURATION(config_timeouts, response, 10, DAY_MS),
		DURATION(config_timeouts, spawn, 10, DAY_MS),     DURATION(config_timeouts, exec, 10, DAY_MS),
		DURATION(config_timeouts, body_idle, 10, DAY_MS), DURATION(config_timeouts, stream_idle, 0, DAY_MS),
	};

	read_mapping(r, node, fields, NFIELDS(fields), to, f->key);
}

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

static void read_url(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct config_upstream *u = to;
	struct str url;
	struct str host;

	if (!expect_text(r, node, f->key))
		return;
	url = scalar(node);
	u->url = copy(r, url);
	if (str_eq(url, STR("local"))) {
		u->scheme = CONFIG_LOCAL;
	} else if (str_starts(url, STR("unix:///"))) {
		u->scheme = CONFIG_UNIX;
		u->path = copy(r, str_of(url.p + 7, url.n - 7));
		if (url.n - 7 > UNIX_SOCKET_PATH_MAX)
			fault(r, node, "the socket path is longer than the %d bytes that one may have",
			      UNIX_SOCKET_PATH_MAX);
	} else if (str_starts(url, STR("http://")) || str_starts(url, STR("https://"))) {
		bool tls = url.p[4] == 's';
		struct str authority = str_of(url.p + 7 + tls, url.n - 7 - tls);
		if (str_ends(authority, STR("/")))
			authority.n--;
		u->scheme = tls ? CONFIG_HTTPS : CONFIG_HTTP;
		if (split_authority(authority, tls ? 443 : 80, &host, &u->port))
			u->host = copy(r, host);
		else
			fault(r, node, "url is \"%s\", expected %s://HOST:PORT without user, path or query",
			      u->url ? u->url : "", tls ? "https" : "http");
	} else {
		fault(r, node, "url is \"%s\", expected local, unix:///PATH, http://HOST:PORT or https://HOST:PORT",
		      u->url ? u->url : "");
	}
}

/* A file that libcurl reads at each dial: it must be there now. */
static void read_tls_file(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	const char *path = (const char *)node->data.scalar.value;

	if (is_null(node) || !expect_text(r, node, f->key))
		return; /* written without a value: none */
	if (path[0] != '/')
		fault(r, node, "%s is \"%s\", expected an absolute path", f->key, path);
	else if (access(path, R_OK) < 0)
		fault(r, node, "%s: %s cannot be read: %s", f->key, path, strerror(errno));
	read_text(r, node, to, f);
}

static void read_server_name(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	if (is_null(node))
		return;
	if (expect_text(r, node, f->key) && !host_chars(scalar(node)))
		fault(r, node, "server_name is \"%s\", expected a host name", node->data.scalar.value);
	read_text(r, node, to, f);
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
	if (fd_read_all(fd, FILE_MAX_BYTES, &tls->ca))
		fault(r, node, "ca_file: %s cannot be read, or is larger than 1 MiB", tls->ca_file);
	else if (!memmem(buf_data(&tls->ca), tls->ca.len, "-----BEGIN CERTIFICATE-----", 27))
		fault(r, node, "ca_file: %s holds no certificate in PEM", tls->ca_file);
	close(fd);
}

static void read_tls(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {
		{"ca_file", read_tls_file, offsetof(struct config_tls, ca_file), 0, 0},
		{"cert_file", read_tls_file, offsetof(struct config_tls, cert_file), 0, 0},
		{"key_file", read_tls_file, offsetof(struct config_tls, key_file), 0, 0},
		{"server_name", read_server_name, offsetof(struct config_tls, server_name), 0, 0},
	};
	struct config_tls *tls = to;

	read_mapping(r, node, fields, NFIELDS(fields), tls, f->key);
	load_ca(r, node, tls);
	if (tls->key_file && !tls->cert_file)
		fault(r, node, "key_file without cert_file has no effect");
	tls->files = file_stamp(tls->cert_file) * 31 + file_stamp(tls->key_file);
}

static void read_proxy(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct str url;
	struct str host;
	uint16_t port;
	size_t scheme;

	if (!expect_text(r, node, f->key))
		return;
	url = scalar(node);
	scheme = str_starts(url, STR("http://")) ? 7 : str_starts(url, STR("socks5h://")) ? 10 : 0;
	if (scheme == 0 || !split_authority(str_of(url.p + scheme, url.n - scheme), 1080, &host, &port))
		fault(r, node, "proxy is \"%s\", expected http://HOST:PORT or socks5h://HOST:PORT",
		      node->data.scalar.value);
	read_text(r, node, to, f);
}

/* What was written and could not be kept to; a default gives way to what was written (config_upstream_complete). */
static void check_idle(struct reader *r, const yaml_node_t *node, const struct config_pool *p)
{
	const yaml_node_t *max = lookup(r, node, "max_idle");
	const yaml_node_t *min = lookup(r, node, "min_idle");

	if (max && p->max_idle > p->max_connections)
		fault(r, max, "max_idle is more than max_connections, which is %llu",
		      (unsigned long long)p->max_connections);
	if (min && p->min_idle > p->max_idle)
		fault(r, min, "min_idle is more than max_idle, which is %llu", (unsigned long long)p->max_idle);
}

/* Settings of a way that this upstream does not take. */
static void check_ways(struct reader *r, const yaml_node_t *node, const struct config_upstream *u)
{
	const yaml_node_t *tls = lookup(r, node, "tls");
	const yaml_node_t *proxy = lookup(r, node, "proxy");

	if (tls && u->scheme != CONFIG_HTTPS)
		fault(r, tls, "tls has no effect here: it is for https:// upstreams");
	if (proxy && u->scheme != CONFIG_HTTP && u->scheme != CONFIG_HTTPS)
		fault(r, proxy, "proxy has no effect here: it is for http:// and https:// upstreams");
}

static void read_upstream(struct reader *r, yaml_node_t *node, struct config_upstream *u)
{
	static const struct field fields[] = {
		{"url", read_url, 0, 0, 0},
		{"allow_plaintext", read_bool, offsetof(struct config_upstream, allow_plaintext), 0, 0},
		{"tls", read_tls, offsetof(struct config_upstream, tls), 0, 0},
		{"proxy", read_proxy, offsetof(struct config_upstream, proxy), 0, 0},
		{"pool", read_pool, offsetof(struct config_upstream, pool), 0, 0},
		{"timeouts", read_timeouts, offsetof(struct config_upstream, timeouts), 0, 0},
	};
	yaml_node_t *plaintext;
	yaml_node_t *pool;

	u->at = mark_of(node);
	config_upstream_defaults(u);
	read_mapping(r, node, fields, NFIELDS(fields), u, "an upstream");
	if (node->type != YAML_MAPPING_NODE)
		return;
	plaintext = lookup(r, node, "allow_plaintext");
	if (!lookup(r, node, "url"))
		fault(r, node, "the upstream has no url");
	if (u->scheme == CONFIG_HTTP && u->host && !host_is_loopback(str_from(u->host)) && !u->allow_plaintext)
		fault(r, lookup(r, node, "url"),
		      "http:// to %s carries the key in clear: write allow_plaintext: true "
		      "if that is meant",
		      u->host);
	if (u->allow_plaintext && (u->scheme != CONFIG_HTTP || !u->host || host_is_loopback(str_from(u->host))))
		fault(r, plaintext, "allow_plaintext has no effect here: it is for http:// to other hosts");
	check_ways(r, node, u);
	if (u->pool.max_per_identity > u->pool.max_connections || u->pool.min_idle > u->pool.max_connections)
		fault(r, node, "pool: max_per_identity and min_idle are at most max_connections, which is %llu",
		      (unsigned long long)u->pool.max_connections);
	pool = lookup(r, node, "pool");
	if (pool && pool->type == YAML_MAPPING_NODE)
		check_idle(r, pool, &u->pool);
	config_upstream_complete(u);
}

/* Names are used in messages, in status and in other keys. */
static bool good_name(struct str s)
{
	if (s.n == 0 || s.n > 64)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._", c)))
			return false;
	}
	return true;
}

static bool expect_name(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (!expect_text(r, node, what))
		return false;
	if (good_name(scalar(node)))
		return true;
	fault(r, node, "%s is \"%s\", expected 1 to 64 letters, digits, '-', '_' or '.'", what,
	      node->data.scalar.value);
	return false;
}

/*
 * A mapping of names to entries: makes room for all, then each is read. The entry's first members need not be known
 * here, so the caller's callback fills it.
 */
static size_t mapping_size(const yaml_node_t *node)
{
	return (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
}

static size_t sequence_size(const yaml_node_t *node)
{
	return (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
}

static void read_upstreams(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct config *c = r->c;

	(void)to;
	if (!expect_mapping(r, node, f->key))
		return;
	c->upstreams = calloc(mapping_size(node) + 1, sizeof(*c->upstreams));
	if (!c->upstreams) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		yaml_node_t *key = node_of(r, p->key);
		if (repeated(r, node, p) || !expect_name(r, key, "the name of an upstream"))
			continue;
		struct config_upstream *u = &c->upstreams[c->nupstreams++];
		u->name = copy(r, scalar(key));
		read_upstream(r, node_of(r, p->value), u);
	}
	if (c->nupstreams == 0)
		fault(r, node, "upstreams is empty: leave it out for the embedded server");
}

/* --- credentials ---------------------------------------------------------------------------------------------------- */

static void read_from(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct config_credential *k = to;

	if (!expect_text(r, node, f->key))
		return;
	if (k->from) {
		fault(r, node, "file and env in one api_key: expected one of them");
		return;
	}
	k->source = strcmp(f->key, "file") == 0 ? CONFIG_SOURCE_FILE : CONFIG_SOURCE_ENV;
	if (k->source == CONFIG_SOURCE_FILE && node->data.scalar.value[0] != '/')
		fault(r, node, "file is \"%s\", expected an absolute path", node->data.scalar.value);
	k->from = copy(r, scalar(node));
}

static void read_api_key(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {{"file", read_from, 0, 0, 0}, {"env", read_from, 0, 0, 0}};
	struct config_credential *k = to;

	read_mapping(r, node, fields, NFIELDS(fields), k, f->key);
	if (!k->from && node->type == YAML_MAPPING_NODE)
		fault(r, node, "api_key names no source, expected { file: PATH } or { env: NAME }");
}

static void read_credentials(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {{"api_key", read_api_key, 0, 0, 0}};
	struct config *c = r->c;

	(void)to;
	if (!expect_mapping(r, node, f->key))
		return;
	c->credentials = calloc(mapping_size(node) + 1, sizeof(*c->credentials));
	if (!c->credentials) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		yaml_node_t *key = node_of(r, p->key);
		yaml_node_t *value = node_of(r, p->value);
		if (repeated(r, node, p) || !expect_name(r, key, "the name of a credential"))
			continue;
		struct config_credential *k = &c->credentials[c->ncredentials++];
		k->at = mark_of(value);
		k->name = copy(r, scalar(key));
		read_mapping(r, value, fields, NFIELDS(fields), k, "a credential");
		if (value->type == YAML_MAPPING_NODE && !lookup(r, value, "api_key"))
			fault(r, value, "the credential has no api_key");
	}
}

/* --- listeners ------------------------------------------------------------------------------------------------------ */

static void read_path(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	if (!expect_text(r, node, f->key))
		return;
	if (node->data.scalar.value[0] != '/')
		fault(r, node, "path is \"%s\", expected an absolute path", node->data.scalar.value);
	else if (node->data.scalar.length > UNIX_SOCKET_PATH_MAX)
		fault(r, node, "path has %zu bytes, a socket path may have at most %d", node->data.scalar.length,
		      UNIX_SOCKET_PATH_MAX);
	*(char **)to = copy(r, scalar(node));
}

static void read_group(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct config_listener *l = to;
	const struct group *gr;

	if (!expect_text(r, node, f->key))
		return;
	l->group = copy(r, scalar(node));
	gr = l->group ? getgrnam(l->group) : NULL;
	if (!gr)
		fault(r, node, "there is no group \"%s\"", node->data.scalar.value);
	else
		l->gid = gr->gr_gid;
}

static void read_listener(struct reader *r, yaml_node_t *node, struct config_listener *l)
{
	static const struct field fields[] = {
		{"path", read_path, offsetof(struct config_listener, path), 0, 0},
		{"name", read_text, offsetof(struct config_listener, name), 0, 0},
		{"mode", read_mode, offsetof(struct config_listener, mode), 0, 0},
		{"group", read_group, 0, 0, 0},
	};

	l->at = mark_of(node);
	l->mode = 0600;
	l->gid = (gid_t)-1;
	read_mapping(r, node, fields, NFIELDS(fields), l, "a listener");
	if (node->type == YAML_MAPPING_NODE && !lookup(r, node, "path"))
		fault(r, node, "the listener has no path");
	if (!l->name && l->path)
		l->name = copy(r, str_from(l->path));
}

static bool expect_sequence(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (node->type == YAML_SEQUENCE_NODE && sequence_size(node))
		return true;
	fault(r, node, "%s must be a list with at least one entry", what);
	return false;
}

static void read_listen(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	struct config *c = r->c;

	(void)to;
	if (!expect_sequence(r, node, f->key))
		return;
	c->listeners = calloc(sequence_size(node), sizeof(*c->listeners));
	if (!c->listeners) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
		read_listener(r, node_of(r, *i), &c->listeners[c->nlisteners++]);
}

/* --- client rules --------------------------------------------------------------------------------------------------- */

struct match {
	yaml_node_t *user;
	yaml_node_t *uid;
	yaml_node_t *group;
	yaml_node_t *gid;
	yaml_node_t *listener;
};

/* Read elsewhere, when what it refers to has been read. */
static void skip_node(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	(void)r;
	(void)node;
	(void)to;
	(void)f;
}

static void keep_node(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	(void)r;
	(void)f;
	*(yaml_node_t **)to = node;
}

/* Calls `each` for a single value or for every element of a list. */
static void for_each_value(struct reader *r, yaml_node_t *node, struct config_rule *rule, const char *key,
			   void (*each)(struct reader *r, yaml_node_t *value, struct config_rule *rule))
{
	if (node->type != YAML_SEQUENCE_NODE) {
		if (expect_text(r, node, key))
			each(r, node, rule);
		return;
	}
	if (!expect_sequence(r, node, key))
		return;
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
		if (expect_text(r, node_of(r, *i), key))
			each(r, node_of(r, *i), rule);
}

static void add_id(struct reader *r, struct config_ids *set, uint32_t id)
{
	uint32_t *ids;

	for (size_t i = 0; i < set->n; i++)
		if (set->ids[i] == id)
			return;
	ids = reallocarray(set->ids, set->n + 1, sizeof(*ids));
	if (!ids) {
		r->no_memory = true;
		return;
	}
	ids[set->n++] = id;
	set->ids = ids;
}

static void add_number(struct reader *r, yaml_node_t *node, struct config_ids *set, const char *key)
{
	uint64_t id;

	if (str_parse_u64(scalar(node), &id) || id >= UINT32_MAX)
		fault(r, node, "%s is \"%s\", expected a number", key, node->data.scalar.value);
	else if (id == OVERFLOW_ID)
		fault(r, node, "%s 65534 is what the kernel shows for ids that it cannot tell: it matches nothing",
		      key);
	else
		add_id(r, set, (uint32_t)id);
}

static void add_uid(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	add_number(r, node, &rule->uids, "uid");
}

static void add_gid(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	add_number(r, node, &rule->gids, "gid");
}

static void add_user(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	const struct passwd *pw = getpwnam((const char *)node->data.scalar.value);

	if (!pw)
		fault(r, node, "there is no user \"%s\"", node->data.scalar.value);
	else if (pw->pw_uid == OVERFLOW_ID)
		fault(r, node,
		      "user \"%s\" has uid 65534, which the kernel shows for ids that it cannot tell: it "
		      "matches nothing",
		      node->data.scalar.value);
	else
		add_id(r, &rule->uids, pw->pw_uid);
}

static void add_group(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	const struct group *gr = getgrnam((const char *)node->data.scalar.value);

	if (!gr)
		fault(r, node, "there is no group \"%s\"", node->data.scalar.value);
	else if (gr->gr_gid == OVERFLOW_ID)
		fault(r, node,
		      "group \"%s\" has gid 65534, which the kernel shows for ids that it cannot tell: it "
		      "matches nothing",
		      node->data.scalar.value);
	else
		add_id(r, &rule->gids, gr->gr_gid);
}

static void add_listener(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	char **names = reallocarray(rule->listeners, rule->nlisteners + 1, sizeof(char *));

	if (!names) {
		r->no_memory = true;
		return;
	}
	rule->listeners = names;
	names[rule->nlisteners] = copy(r, scalar(node));
	if (names[rule->nlisteners])
		rule->nlisteners++;
}

static void read_match(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	static const struct field fields[] = {
		{"user", keep_node, offsetof(struct match, user), 0, 0},
		{"uid", keep_node, offsetof(struct match, uid), 0, 0},
		{"group", keep_node, offsetof(struct match, group), 0, 0},
		{"gid", keep_node, offsetof(struct match, gid), 0, 0},
		{"listener", keep_node, offsetof(struct match, listener), 0, 0},
	};
	struct config_rule *rule = to;
	struct match m = {0};

	read_mapping(r, node, fields, NFIELDS(fields), &m, f->key);
	if (m.user && m.uid)
		fault(r, m.uid, "user and uid in one rule: expected one of them, a list means any of");
	if (m.group && m.gid)
		fault(r, m.gid, "group and gid in one rule: expected one of them, a list means any of");
	rule->match_uids = m.user || m.uid;
	rule->match_gids = m.group || m.gid;
	rule->match_listeners = m.listener;
	if (m.user)
		for_each_value(r, m.user, rule, "user", add_user);
	if (m.uid)
		for_each_value(r, m.uid, rule, "uid", add_uid);
	if (m.group)
		for_each_value(r, m.group, rule, "group", add_group);
	if (m.gid)
		for_each_value(r, m.gid, rule, "gid", add_gid);
	if (m.listener)
		for_each_value(r, m.listener, rule, "listener", add_listener);
}

/* What one rule names by name; resolved when the whole file has been read. */
struct rule_names {
	yaml_node_t *upstream;
	yaml_node_t *credential;
	yaml_node_t *user_id;
	yaml_node_t *name;
	yaml_node_t *match;
	yaml_node_t *allow;
	yaml_node_t *isolation;
	yaml_node_t *heartbeat;
};

static void find_upstream(struct reader *r, yaml_node_t *rule, yaml_node_t *node, size_t *out)
{
	if (!node) {
		if (r->c->nupstreams > 1)
			fault(r, rule, "the rule names no upstream, and there are several");
		return;
	}
	if (!expect_text(r, node, "upstream"))
		return;
	if (r->c->nupstreams == 0 && str_eq(scalar(node), STR("local")))
		return; /* the one that is there when none is written */
	for (size_t i = 0; i < r->c->nupstreams; i++) {
		if (str_eq(scalar(node), str_from(r->c->upstreams[i].name))) {
			*out = i;
			return;
		}
	}
	fault(r, node, "there is no upstream \"%s\"", node->data.scalar.value);
}

static void find_credential(struct reader *r, yaml_node_t *rule_node, yaml_node_t *node, struct config_rule *rule)
{
	bool local = r->c->nupstreams == 0 || r->c->upstreams[rule->upstream].scheme == CONFIG_LOCAL;

	if (!node) {
		if (!local)
			fault(r, rule_node, "the rule names no credential for its upstream");
		return;
	}
	if (!expect_text(r, node, "credential"))
		return;
	if (local) {
		fault(r, node, "credential has no effect with upstream local: the daemon makes the key for it");
		return;
	}
	for (size_t i = 0; i < r->c->ncredentials; i++) {
		if (str_eq(scalar(node), str_from(r->c->credentials[i].name))) {
			rule->credential = i;
			rule->has_credential = true;
			return;
		}
	}
	fault(r, node, "there is no credential \"%s\"", node->data.scalar.value);
}

/* One {word} of a user_id; false after a fault. */
static bool check_placeholder(struct reader *r, yaml_node_t *node, struct str word, const struct config_rule *rule)
{
	if (str_eq(word, STR("{uid}")) || str_eq(word, STR("{host}")) || str_eq(word, STR("{client}")))
		return true;
	if (!str_eq(word, STR("{user}"))) {
		fault(r, node, "user_id holds %.*s, expected {user}, {uid}, {host} or {client}", STR_ARG(word));
		return false;
	}
	if (rule->match_uids)
		return true;
	fault(r, node, "{user} needs a rule that names its users (match: user or uid) in this version: write {uid}");
	return false;
}

static void check_user_id(struct reader *r, yaml_node_t *node, const struct config_rule *rule)
{
	struct str s = str_from(rule->user_id);

	if (s.n == 0 || s.n > USER_ID_MAX_BYTES) {
		fault(r, node, "user_id must have 1 to %d bytes", USER_ID_MAX_BYTES);
		return;
	}
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '/' || c == '\\' || c == '}') {
			fault(r, node,
			      "user_id may hold neither white space, control characters, path separators, "
			      "non-ASCII characters nor a single brace");
			return;
		}
		if (c != '{')
			continue;
		const char *end = memchr(s.p + i, '}', s.n - i);
		struct str word = end ? str_of(s.p + i, (size_t)(end - s.p) - i + 1) : str_of(s.p + i, s.n - i);
		if (!check_placeholder(r, node, word, rule))
			return;
		i += word.n - 1;
	}
}

static void read_user_id(struct reader *r, yaml_node_t *rule_node, yaml_node_t *node, struct config_rule *rule)
{
	int rc;

	if (node && !expect_text(r, node, "user_id"))
		return;
	rule->user_id = copy(r, node ? scalar(node) : STR("{user}@{host}"));
	if (!rule->user_id)
		return;
	check_user_id(r, node ? node : rule_node, rule);
	if (!rule->match_uids)
		return;
	rc = config_rule_resolve_users(rule);
	if (rc == -ENOMEM)
		r->no_memory = true;
	else if (rc)
		fault(r, node ? node : rule_node, "the name service does not answer, so {user} is unknown");
}

/* Until route classes and ownership exist, what a rule grants must be written in full, so that nobody expects less. */
static void check_grants(struct reader *r, yaml_node_t *rule, const struct rule_names *names)
{
	yaml_node_t *allow = names->allow;
	bool all = allow && allow->type == YAML_SEQUENCE_NODE && sequence_size(allow) == 1;

	if (all) {
		yaml_node_t *only = node_of(r, *allow->data.sequence.items.start);
		all = only->type == YAML_SCALAR_NODE && str_eq(scalar(only), STR("all"));
	}
	if (!all)
		fault(r, allow ? allow : rule, "expected allow: [all]: this version has no route classes yet");
	if (!names->isolation || names->isolation->type != YAML_SCALAR_NODE ||
	    !str_eq(scalar(names->isolation), STR("none")))
		fault(r, names->isolation ? names->isolation : rule,
		      "expected isolation: none: this version does not keep owners apart yet");
}

static void read_rule(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	static const struct field fields[] = {
		{"name", keep_node, offsetof(struct rule_names, name), 0, 0},
		{"match", keep_node, offsetof(struct rule_names, match), 0, 0},
		{"upstream", keep_node, offsetof(struct rule_names, upstream), 0, 0},
		{"credential", keep_node, offsetof(struct rule_names, credential), 0, 0},
		{"user_id", keep_node, offsetof(struct rule_names, user_id), 0, 0},
		{"allow", keep_node, offsetof(struct rule_names, allow), 0, 0},
		{"isolation", keep_node, offsetof(struct rule_names, isolation), 0, 0},
		{"heartbeat", keep_node, offsetof(struct rule_names, heartbeat), 0, 0},
	};
	static const struct field match_field = {"match", read_match, 0, 0, 0};
	static const struct field heartbeat_field = {"heartbeat", read_duration, 0, 100, DAY_MS};
	struct rule_names names = {0};

	rule->at = mark_of(node);
	read_mapping(r, node, fields, NFIELDS(fields), &names, "a client rule");
	if (node->type != YAML_MAPPING_NODE)
		return;
	if (!names.name)
		fault(r, node, "the rule has no name");
	else if (expect_name(r, names.name, "name"))
		rule->name = copy(r, scalar(names.name));
	if (!names.match)
		fault(r, node, "the rule has no match: write match: {} for everyone who can open the socket");
	else
		read_match(r, names.match, rule, &match_field);
	find_upstream(r, node, names.upstream, &rule->upstream);
	find_credential(r, node, names.credential, rule);
	read_user_id(r, node, names.user_id, rule);
	if (names.heartbeat)
		read_duration(r, names.heartbeat, &rule->heartbeat_ms, &heartbeat_field);
	check_grants(r, node, &names);
}

static void read_clients(struct reader *r, yaml_node_t *node)
{
	struct config *c = r->c;

	if (!expect_sequence(r, node, "clients"))
		return;
	c->rules = calloc(sequence_size(node), sizeof(*c->rules));
	if (!c->rules) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
		read_rule(r, node_of(r, *i), &c->rules[c->nrules++]);
}

/* --- checks between the parts ---------------------------------------------------------------------------------------- */

static bool ids_within(const struct config_ids *inner, const struct config_ids *outer)
{
	for (size_t i = 0; i < inner->n; i++) {
		bool found = false;
		for (size_t k = 0; k < outer->n && !found; k++)
			found = inner->ids[i] == outer->ids[k];
		if (!found)
			return false;
	}
	return true;
}

static bool names_within(const struct config_rule *inner, const struct config_rule *outer)
{
	for (size_t i = 0; i < inner->nlisteners; i++) {
		bool found = false;
		for (size_t k = 0; k < outer->nlisteners && !found; k++)
			found = strcmp(inner->listeners[i], outer->listeners[k]) == 0;
		if (!found)
			return false;
	}
	return true;
}

/* Whether every peer that `later` matches is matched by `earlier`. */
static bool covers(const struct config_rule *earlier, const struct config_rule *later)
{
	if (earlier->match_uids && !(later->match_uids && ids_within(&later->uids, &earlier->uids)))
		return false;
	if (earlier->match_gids && !(later->match_gids && ids_within(&later->gids, &earlier->gids)))
		return false;
	return !earlier->match_listeners || (later->match_listeners && names_within(later, earlier));
}

static void check_rules(struct reader *r)
{
	struct config *c = r->c;

	for (size_t i = 0; i < c->nrules; i++) {
		struct config_rule *rule = &c->rules[i];
		for (size_t k = 0; k < i; k++) {
			const struct config_rule *earlier = &c->rules[k];
			if (rule->name && earlier->name && strcmp(rule->name, earlier->name) == 0)
				fault_at(r, rule->at, "rule name \"%s\" is used twice, first in line %u", rule->name,
					 earlier->at.line);
			if (covers(earlier, rule)) {
				fault_at(r, rule->at, "the rule can never match: the one in line %u covers it",
					 earlier->at.line);
				break;
			}
		}
		for (size_t n = 0; n < rule->nlisteners; n++) {
			bool found = false;
			for (size_t k = 0; k < c->nlisteners && !found; k++)
				found = c->listeners[k].name && strcmp(c->listeners[k].name, rule->listeners[n]) == 0;
			if (!found)
				fault_at(r, rule->at, "there is no listener \"%s\"", rule->listeners[n]);
		}
	}
}

static void check_listeners(struct reader *r)
{
	const struct config *c = r->c;

	for (size_t i = 0; i < c->nlisteners; i++) {
		for (size_t k = 0; k < i; k++) {
			const struct config_listener *a = &c->listeners[k];
			const struct config_listener *b = &c->listeners[i];
			if (a->path && b->path && strcmp(a->path, b->path) == 0)
				fault_at(r, b->at, "path %s is used twice, first in line %u", b->path, a->at.line);
			else if (a->name && b->name && strcmp(a->name, b->name) == 0)
				fault_at(r, b->at, "listener name \"%s\" is used twice, first in line %u", b->name,
					 a->at.line);
		}
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
			fault_at(r, c->upstreams[i].at, "no client rule uses the upstream \"%s\"",
				 c->upstreams[i].name);
		if (c->upstreams[i].scheme == CONFIG_LOCAL && ++locals > 1)
			fault_at(r, c->upstreams[i].at, "there can be one upstream local only");
	}
	for (size_t i = 0; i < c->ncredentials; i++) {
		bool used = false;
		for (size_t k = 0; k < c->nrules && !used; k++)
			used = c->rules[k].has_credential && c->rules[k].credential == i;
		if (!used)
			fault_at(r, c->credentials[i].at, "no client rule uses the credential \"%s\"",
				 c->credentials[i].name);
	}
}

/* --- the file --------------------------------------------------------------------------------------------------------- */

static void read_host(struct reader *r, yaml_node_t *node, void *to, const struct field *f)
{
	(void)to;
	if (expect_name(r, node, f->key)) {
		r->c->host = copy(r, scalar(node));
		r->c->host_written = true;
	}
}

static void read_root(struct reader *r, yaml_node_t *root)
{
	static const struct field fields[] = {
		{"drain_timeout", read_duration, offsetof(struct config, drain_timeout_ms), 0, DAY_MS},
		{"host", read_host, 0, 0, 0},
		{"listen", read_listen, 0, 0, 0},
		{"upstreams", read_upstreams, 0, 0, 0},
		{"credentials", read_credentials, 0, 0, 0},
		{"clients", skip_node, 0, 0, 0}, /* read last: they name the others */
		{"log", read_log, 0, 0, 0},
		{"bounds", read_bounds, offsetof(struct config, bounds), 0, 0},
	};
	yaml_node_t *clients;

	if (root->type == YAML_SCALAR_NODE && is_null(root))
		return; /* only comments: everything is the default */
	clients = root->type == YAML_MAPPING_NODE ? lookup(r, root, "clients") : NULL;
	read_mapping(r, root, fields, NFIELDS(fields), r->c, "the file");
	if (clients)
		read_clients(r, clients);
	check_listeners(r);
	check_rules(r);
	check_unused(r);
}

static int read_file(const char *file, struct buf *text, struct buf *faults)
{
	struct stat st;
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0) {
		buf_addf(faults, "%s:0:0: cannot be opened: %s\n", file, strerror(errno));
		return -EINVAL;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		buf_addf(faults, "%s:0:0: is not a regular file\n", file);
		return -EINVAL;
	}
	rc = fd_read_all(fd, FILE_MAX_BYTES, text);
	close(fd);
	if (rc)
		buf_addf(faults, "%s:0:0: cannot be read: %s\n", file,
			 rc == -EFBIG ? "larger than 1 MiB" : strerror(-rc));
	return rc ? -EINVAL : 0;
}

static void bad_yaml(struct reader *r, const yaml_parser_t *parser)
{
	struct config_mark at = {(unsigned)parser->problem_mark.line + 1, (unsigned)parser->problem_mark.column + 1};

	fault_at(r, at, "not valid YAML: %s", parser->problem ? parser->problem : "unreadable");
}

/*
 * libyaml's time grows with the square of the depth of brackets: a mebibyte of them takes minutes, in a reload too. No key
 * of ours needs more than a few; brackets in strings and comments are counted as well, which is harmless.
 */
static bool nests_too_deep(struct reader *r, struct str text)
{
	struct config_mark at = {1, 0};
	unsigned depth = 0;

	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		at.column++;
		if (c == '\n')
			at = (struct config_mark){at.line + 1, 0};
		if ((c == ']' || c == '}') && depth)
			depth--;
		if ((c == '[' || c == '{') && ++depth > DEPTH_MAX) {
			fault_at(r, at, "more than %d brackets are open here", DEPTH_MAX);
			return true;
		}
	}
	return false;
}

static void parse(struct reader *r, const struct buf *text)
{
	yaml_parser_t parser;
	yaml_node_t *root;

	if (nests_too_deep(r, buf_str(text)))
		return;
	if (!yaml_parser_initialize(&parser)) {
		r->no_memory = true;
		return;
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)buf_data(text), text->len);
	if (!yaml_parser_load(&parser, &r->doc)) {
		bad_yaml(r, &parser);
		yaml_parser_delete(&parser);
		return;
	}
	root = yaml_document_get_root_node(&r->doc);
	if (root) {
		read_root(r, root);
		yaml_document_t second;
		if (yaml_parser_load(&parser, &second)) {
			if (yaml_document_get_root_node(&second))
				fault(r, yaml_document_get_root_node(&second), "a second document, expected one");
			yaml_document_delete(&second);
		} else {
			bad_yaml(r, &parser);
		}
	}
	yaml_document_delete(&r->doc);
	yaml_parser_delete(&parser);
}

/* The default socket lies where the environment says; a listener of the file was checked when it was read. */
static int check_default_socket(const struct config *c, char *why, size_t why_size)
{
	for (size_t i = 0; i < c->nlisteners; i++) {
		size_t n = strlen(c->listeners[i].path);
		if (n <= UNIX_SOCKET_PATH_MAX)
			continue;
		snprintf(why, why_size, "the default socket path has %zu bytes, a socket path may have at most %d", n,
			 UNIX_SOCKET_PATH_MAX);
		return -ENAMETOOLONG;
	}
	return 0;
}

int config_load(const char *file, const struct config_places *places, struct config **out, struct buf *faults)
{
	struct reader r = {.file = file, .faults = faults, .c = config_new()};
	struct buf text = BUF_EMPTY;
	char why[256];
	int rc = r.c ? 0 : -ENOMEM;

	if (rc == 0 && file) {
		r.c->file = strdup(file);
		rc = read_file(file, &text, faults);
		if (rc == 0)
			parse(&r, &text);
		if (r.nfaults)
			rc = -EINVAL;
		if (r.no_memory || !r.c->file)
			rc = -ENOMEM;
	}
	buf_fini(&text);
	if (rc == 0) {
		rc = config_complete(r.c, places, why, sizeof(why));
		if (rc == 0)
			rc = check_default_socket(r.c, why, sizeof(why));
		if (rc)
			buf_addf(faults, "%s: %s\n", file ? file : "defaults", why);
	} else if (rc == -ENOMEM) {
		buf_addf(faults, "%s:0:0: out of memory\n", file ? file : "defaults");
	}
	if (rc == 0) {
		*out = r.c;
		return 0;
	}
	config_unref(r.c);
	return rc;
}
