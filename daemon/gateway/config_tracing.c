/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_tracing.h"

#include <string.h>

#include "common/str.h"
#include "common/unix_socket.h"
#include "gateway/config.h"
#include "gateway/config_upstreams.h"
#include "gateway/reader.h"
#include "gateway/trace_context.h"

enum {
	SAMPLE_DIGITS = 9, /* of the fraction: TRACE_CONTEXT_ALL is 1 */
	SERVICE_NAME_MAX_BYTES = 255,
};

/* What a collector behind a socket is asked for; the URL has no room for it. */
#define DEFAULT_PATH "/v1/traces"

static bool is_path(struct str path)
{
	for (size_t i = 0; i < path.n; i++)
		if (path.p[i] <= ' ' || path.p[i] > '~' || strchr("#?\"\\<>", path.p[i]))
			return false;
	return path.n > 0;
}

static bool read_socket(struct reader *r, struct str path, struct config_tracing *t)
{
	t->to.scheme = CONFIG_UNIX;
	t->to.path = reader_copy(r, path);
	t->path = reader_copy(r, STR(DEFAULT_PATH));
	return path.n <= UNIX_SOCKET_PATH_MAX;
}

/* The host part ends at the first slash behind the scheme. */
static bool read_http(struct reader *r, struct str url, struct config_tracing *t)
{
	size_t scheme = str_starts(url, STR("https://")) ? 8 : 7;
	const char *slash = url.n > scheme ? memchr(url.p + scheme, '/', url.n - scheme) : NULL;
	size_t n = slash ? (size_t)(slash - url.p) : url.n;

	if (!slash || !is_path(str_of(slash, url.n - n)))
		return false;
	t->path = reader_copy(r, str_of(slash, url.n - n));
	return config_upstreams_place(r, str_of(url.p, n), &t->to);
}

static void read_endpoint(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	struct config_tracing *t = to;
	struct str url;
	bool good;

	if (!reader_expect_text(r, node, f->key))
		return;
	url = reader_scalar(node);
	t->to.url = reader_copy(r, url);
	good = str_starts(url, STR("unix:///")) ? read_socket(r, str_of(url.p + 7, url.n - 7), t)
						: read_http(r, url, t);
	/* What is in a query may be a token. */
	if (!good && memchr(url.p, '?', url.n))
		reader_fault(r, node, "endpoint has a query, which may not stand in it");
	else if (!good)
		reader_fault(r, node,
			     "endpoint is \"%s\", expected http://HOST:PORT/PATH or https://HOST:PORT/PATH (a "
			     "collector's path is "
			     "/v1/traces) or unix:///PATH of at most %d bytes",
			     node->data.scalar.value, UNIX_SOCKET_PATH_MAX);
}

/* A decimal fraction as parts of a billion. */
static bool parse_sample(struct str text, uint64_t *ppb)
{
	struct str rest = text;
	struct str whole = str_cut(&rest, '.');
	uint64_t units;
	uint64_t parts = 0;

	if (str_parse_u64(whole, &units) || units > 1 || rest.n > SAMPLE_DIGITS || (rest.p && rest.n == 0) ||
	    (rest.p && str_parse_u64(rest, &parts)))
		return false;
	for (size_t i = rest.n; i < SAMPLE_DIGITS; i++)
		parts *= 10;
	*ppb = units * TRACE_CONTEXT_ALL + parts;
	return *ppb <= TRACE_CONTEXT_ALL;
}

static void read_sample(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (reader_expect_text(r, node, f->key) && !parse_sample(reader_scalar(node), to))
		reader_fault(r, node,
			     "sample is \"%s\", expected a number from 0 to 1, such as 0.01, with at most %d decimals",
			     node->data.scalar.value, SAMPLE_DIGITS);
}

static void read_service_name(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (reader_expect_text(r, node, f->key) &&
	    (reader_scalar(node).n == 0 || reader_scalar(node).n > SERVICE_NAME_MAX_BYTES))
		reader_fault(r, node, "service_name has %zu bytes, expected 1 to %d", reader_scalar(node).n,
			     SERVICE_NAME_MAX_BYTES);
	reader_text(r, node, to, f);
}

void config_tracing_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"endpoint", read_endpoint, 0, 0, 0},
		{"allow_plaintext", reader_bool, offsetof(struct config_tracing, to.allow_plaintext), 0, 0},
		{"tls", config_upstreams_tls, offsetof(struct config_tracing, to.tls), 0, 0},
		{"sample", read_sample, offsetof(struct config_tracing, sample_ppb), 0, 0},
		{"service_name", read_service_name, offsetof(struct config_tracing, service_name), 0, 0},
	};
	struct config_tracing *t = to;
	const yaml_node_t *endpoint;

	t->to.at = reader_mark(node);
	reader_mapping(r, node, fields, READER_FIELDS(fields), t, f->key);
	if (node->type != YAML_MAPPING_NODE)
		return;
	endpoint = reader_lookup(r, node, "endpoint");
	if (!endpoint) {
		reader_fault(r, node, "tracing has no endpoint, without which nothing in it has an effect");
		return;
	}
	config_upstreams_check_way(r, node, endpoint, &t->to, "what the spans say");
}
