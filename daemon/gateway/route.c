/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The path is split at its slashes once; the rows are asked in order, and one with another method or another number of
 * segments costs a few instructions, so the routes that are asked most stand first. A row with a literal stands before
 * the one that has a parameter at its place.
 */
#include "gateway/route.h"

enum {
	SEGMENTS_MAX = 8, /* more than any row has */
	SANDBOX_ID_MAX_BYTES = 128,
	GET = 1 << METHOD_GET | 1 << METHOD_HEAD,
	POST = 1 << METHOD_POST,
	PUT = 1 << METHOD_PUT,
	DELETE = 1 << METHOD_DELETE,
	PATCH = 1 << METHOD_PATCH,
};

#define ROW(n, m, text, c, o, r, which, ...)                                                                           \
	{                                                                                                              \
		.segments = (n), .methods = (m), .path = (text), .class = ROUTE_##c, .owner = ROUTE_OWNER_##o,         \
		.retry = ROUTE_RETRY_##r, .id = ROUTE_##which, __VA_ARGS__                                             \
	}
#define SPAWNS .wait = ROUTE_WAIT_SPAWN, .read_whole = true
#define WHOLE  .read_whole = true

/* clang-format off */
static const struct route_row api[] = {
	ROW(2, GET,    "/api/v1/sandboxes/{id}",             SANDBOXES, ID,  YES,  GET, ),
	ROW(2, GET,    "/api/v1/templates/{name}",           TEMPLATES_READ, NAMED, YES, TEMPLATE_GET, ),
	ROW(1, GET,    "/api/v1/templates",                  TEMPLATES_READ, ALL,   YES, TEMPLATE_LIST, ),
	ROW(3, POST,   "/api/v1/sandboxes/{id}/exec",        SANDBOXES, ID,  NO,   EXEC, .wait = ROUTE_WAIT_EXEC, .unchunk = true),
	ROW(3, GET,    "/api/v1/sandboxes/{id}/files",       SANDBOXES, ID,  YES,  FILES_READ, ),
	ROW(3, POST,   "/api/v1/sandboxes/{id}/files",       SANDBOXES, ID,  IDEM, FILES_WRITE, ),
	ROW(1, POST,   "/api/v1/sandboxes",                  SANDBOXES, NEW, NO,   SPAWN, SPAWNS),
	ROW(2, DELETE, "/api/v1/sandboxes/{id}",             SANDBOXES, ID,  YES,  DESTROY, ),
	ROW(1, GET,    "/api/v1/sandboxes",                  SANDBOXES, ALL, YES,  LIST, ),
	ROW(1, DELETE, "/api/v1/sandboxes",                  PRUNE,     ALL, YES,  PRUNE_ALL, ),
	ROW(2, POST,   "/api/v1/sandboxes/admission",        SANDBOXES, NEW, YES,  ADMISSION, WHOLE),
	ROW(3, POST,   "/api/v1/sandboxes/{id}/extend",      SANDBOXES, ID,  IDEM, EXTEND, WHOLE),
	ROW(3, GET,    "/api/v1/sandboxes/{id}/logs",        SANDBOXES, ID,  YES,  LOGS, ),
	ROW(3, GET,    "/api/v1/sandboxes/{id}/stats",       SANDBOXES, ID,  YES,  STATS, ),
	ROW(4, GET,    "/api/v1/sandboxes/{id}/exec/ws",     SANDBOXES, ID,  NO,   EXEC_WS, ),
	ROW(3, DELETE, "/api/v1/sandboxes/{id}/files",       SANDBOXES, ID,  NO,   FILES_DELETE, ),
	ROW(4, GET,    "/api/v1/sandboxes/{id}/files/list",  SANDBOXES, ID,  YES,  FILES_LIST, ),
	ROW(4, GET,    "/api/v1/sandboxes/{id}/files/stat",  SANDBOXES, ID,  YES,  FILES_STAT, ),
	ROW(4, GET,    "/api/v1/sandboxes/{id}/files/glob",  SANDBOXES, ID,  YES,  FILES_GLOB, ),
	ROW(4, POST,   "/api/v1/sandboxes/{id}/files/move",  SANDBOXES, ID,  NO,   FILES_MOVE, ),
	ROW(4, POST,   "/api/v1/sandboxes/{id}/files/chmod", SANDBOXES, ID,  IDEM, FILES_CHMOD, ),

	ROW(3, POST,   "/api/v1/templates/{name}/spawn", SANDBOXES,       NEW,   NO,   TEMPLATE_SPAWN, SPAWNS),
	ROW(1, POST,   "/api/v1/templates",              TEMPLATES_WRITE, ALL,   NO,   TEMPLATE_SAVE, WHOLE),
	ROW(2, PUT,    "/api/v1/templates/{name}",       TEMPLATES_WRITE, NAMED, IDEM, TEMPLATE_REPLACE, WHOLE),
	ROW(2, DELETE, "/api/v1/templates/{name}",       TEMPLATES_WRITE, NAMED, NO,   TEMPLATE_DELETE, ),

	ROW(1, GET, "/api/v1/health",       SYSTEM, NONE, YES, ID_OTHER, ),
	ROW(1, GET, "/api/v1/live",         SYSTEM, NONE, YES, ID_OTHER, ),
	ROW(1, GET, "/api/v1/ready",        SYSTEM, NONE, YES, ID_OTHER, ),
	ROW(2, GET, "/api/v1/pool/status",  SYSTEM, NONE, YES, POOL_STATUS, ),
	ROW(1, GET, "/api/v1/providers",    SYSTEM, NONE, YES, ID_OTHER, ),
	ROW(1, GET, "/api/v1/snapshots",    SYSTEM, NONE, YES, ID_OTHER, ),
	ROW(2, GET, "/api/v1/system/stats", SYSTEM, NONE, YES, ID_OTHER, ),
	ROW(1, GET, "/api/v1/events",       EVENTS, ALL,  YES, EVENTS_STREAM, ),

	/* The server reads /quotas/summary/ as the quota of an owner `summary` (api-contract.md 1.1). */
	ROW(2, GET,    "/api/v1/quotas/summary",       SYSTEM, NONE,  YES,  ID_OTHER, .exact = true),
	ROW(2, GET,    "/api/v1/quotas/{owner}",       QUOTAS, NAMED, YES,  QUOTA_GET, ),
	ROW(3, GET,    "/api/v1/quotas/{owner}/usage", QUOTAS, NAMED, YES,  QUOTA_USAGE, ),
	ROW(1, GET,    "/api/v1/quotas",               QUOTAS, ALL,   YES,  ID_OTHER, ),
	ROW(2, PUT,    "/api/v1/quotas/{owner}",       QUOTAS, NAMED, IDEM, ID_OTHER, ),
	ROW(2, DELETE, "/api/v1/quotas/{owner}",       QUOTAS, NAMED, NO,   ID_OTHER, ),

	ROW(1, GET,   "/api/v1/metrics",            METRICS, ALL,  YES, ID_OTHER, ),
	ROW(2, GET,   "/api/v1/metrics/prometheus", METRICS, ALL,  YES, ID_OTHER, ),
	ROW(1, GET,   "/api/v1/diagnostics",        METRICS, ALL,  YES, ID_OTHER, ),
	ROW(1, GET,   "/api/v1/workers",            WORKERS, NONE, YES, ID_OTHER, ),
	ROW(2, GET,   "/api/v1/workers/{worker}",   WORKERS, NONE, YES, ID_OTHER, ),
	ROW(1, PATCH, "/api/v1/config",             CONFIG,  NONE, NO,  ID_OTHER, ),

	ROW(2, POST,   "/api/v1/environments/specs",                     ENVIRONMENTS, NAMED, NO,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/environments/specs",                     ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(3, GET,    "/api/v1/environments/specs/{id}",                ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(4, GET,    "/api/v1/environments/specs/{id}/suggestions",    ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(2, POST,   "/api/v1/environments/builds",                    ENVIRONMENTS, NAMED, NO,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/environments/builds",                    ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(3, GET,    "/api/v1/environments/builds/{id}",               ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(4, POST,   "/api/v1/environments/builds/{id}/cancel",        ENVIRONMENTS, NAMED, NO,  ID_OTHER, ),
	ROW(4, GET,    "/api/v1/environments/builds/{id}/spawn-config",  ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(2, POST,   "/api/v1/environments/registry-connections",      ENVIRONMENTS, NAMED, NO,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/environments/registry-connections",      ENVIRONMENTS, NAMED, YES, ID_OTHER, ),
	ROW(3, DELETE, "/api/v1/environments/registry-connections/{id}", ENVIRONMENTS, NAMED, NO,  ID_OTHER, ),

	ROW(2, GET,    "/api/v1/providers/{name}",                            ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(2, POST,   "/api/v1/providers/test",                              ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/audit",                                 ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/providers",                             ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(3, GET,    "/api/v1/admin/providers/{name}",                      ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(3, POST,   "/api/v1/admin/providers/test",                        ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/quotas",                                ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(3, GET,    "/api/v1/admin/quotas/summary",                        ADMIN, NONE,  YES,  ID_OTHER, .exact = true),
	ROW(3, GET,    "/api/v1/admin/quotas/{owner}",                        ADMIN, NAMED, YES,  ID_OTHER, ),
	ROW(4, GET,    "/api/v1/admin/quotas/{owner}/usage",                  ADMIN, NAMED, YES,  ID_OTHER, ),
	ROW(3, PUT,    "/api/v1/admin/quotas/{owner}",                        ADMIN, NAMED, IDEM, ID_OTHER, ),
	ROW(3, DELETE, "/api/v1/admin/quotas/{owner}",                        ADMIN, NAMED, NO,   ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/workers",                               ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(3, GET,    "/api/v1/admin/workers/{worker}",                      ADMIN, NONE,  YES,  ID_OTHER, ),
	ROW(4, POST,   "/api/v1/admin/workers/{worker}/heartbeat",            ADMIN, NONE,  IDEM, ID_OTHER, ),
	ROW(6, POST,   "/api/v1/admin/workers/{worker}/leases/{lease}/renew", ADMIN, NONE,  NO,   ID_OTHER, ),
	ROW(3, DELETE, "/api/v1/admin/workers/{worker}",                      ADMIN, NONE,  NO,   ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/tenants",                               ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(2, POST,   "/api/v1/admin/tenants",                               ADMIN, ALL,   NO,   ID_OTHER, ),
	ROW(3, GET,    "/api/v1/admin/tenants/{tenant}",                      ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(3, PUT,    "/api/v1/admin/tenants/{tenant}",                      ADMIN, ALL,   IDEM, ID_OTHER, ),
	ROW(3, DELETE, "/api/v1/admin/tenants/{tenant}",                      ADMIN, ALL,   NO,   ID_OTHER, ),
	ROW(4, GET,    "/api/v1/admin/tenants/{tenant}/members",              ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(5, PUT,    "/api/v1/admin/tenants/{tenant}/members/{user}",       ADMIN, ALL,   IDEM, ID_OTHER, ),
	ROW(5, DELETE, "/api/v1/admin/tenants/{tenant}/members/{user}",       ADMIN, ALL,   NO,   ID_OTHER, ),
	ROW(4, GET,    "/api/v1/admin/tenants/{tenant}/audit",                ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(4, GET,    "/api/v1/admin/tenants/{tenant}/policies",             ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(4, POST,   "/api/v1/admin/tenants/{tenant}/policies",             ADMIN, ALL,   NO,   ID_OTHER, ),
	ROW(5, DELETE, "/api/v1/admin/tenants/{tenant}/policies/{policy}",    ADMIN, ALL,   NO,   ID_OTHER, ),
	ROW(2, POST,   "/api/v1/admin/worker-tokens",                         ADMIN, NONE,  NO,   ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/diagnostics",                           ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(2, GET,    "/api/v1/admin/metrics",                               ADMIN, ALL,   YES,  ID_OTHER, ),
	ROW(3, GET,    "/api/v1/admin/metrics/prometheus",                    ADMIN, ALL,   YES,  ID_OTHER, ),
};

static const struct route_row gateway[] = {
	ROW(1, GET,    "/gateway/v1/health",                        OWN,     NONE,  YES,  ID_OTHER, ),
	ROW(1, GET,    "/gateway/v1/ready",                         OWN,     NONE,  YES,  ID_OTHER, ),
	ROW(1, GET,    "/gateway/v1/whoami",                        OWN,     NONE,  YES,  ID_OTHER, ),
	ROW(1, GET,    "/gateway/v1/status",                        OWN,     NONE,  YES,  STATUS, ),
	ROW(1, GET,    "/gateway/v1/openapi.json",                  OWN,     NONE,  YES,  ID_OTHER, ),
	ROW(1, GET,    "/gateway/v1/metrics",                       METRICS, ALL,   YES,  ID_OTHER, ),
	ROW(4, GET,    "/gateway/v1/sandboxes/{id}/preview/{port}", PREVIEW, ID,    YES,  PREVIEW_URL, ),
	ROW(1, POST,   "/gateway/v1/run",                           RUN,     NEW,   NO,   RUN_ONCE, SPAWNS),
	ROW(1, GET,    "/gateway/v1/leases",                        OWN,     ALL,   YES,  LEASES, ),
	ROW(2, PUT,    "/gateway/v1/leases/{id}",                   OWN,     ID,    IDEM, LEASE_RENEW, WHOLE),
	ROW(2, DELETE, "/gateway/v1/leases/{id}",                   OWN,     ID,    YES,  LEASE_RELEASE, ),
	ROW(1, DELETE, "/gateway/v1/cache",                         OPERATE, NONE,  YES,  CACHE_DROP, ),
	ROW(1, POST,   "/gateway/v1/reload",                        OPERATE, NONE,  IDEM, RELOAD, ),
	ROW(1, PUT,    "/gateway/v1/log",                           OPERATE, NONE,  IDEM, LOG_LEVEL, WHOLE),
	ROW(0, GET,    "/gateway/v1/",                              OPERATE, NONE,  YES,  ID_OTHER, ),
};
/* clang-format on */

enum {
	API_PREFIX_BYTES = sizeof("/api/v1") - 1,
	GATEWAY_PREFIX_BYTES = sizeof("/gateway/v1") - 1,
};

/* Cuts a prefix of whole segments: "/api/v1" fits "/api/v1" and "/api/v1/x", not "/api/v1x". */
static bool cut_prefix(struct str *path, struct str prefix)
{
	if (!str_starts(*path, prefix) || (path->n > prefix.n && path->p[prefix.n] != '/'))
		return false;
	*path = str_of(path->p + prefix.n, path->n - prefix.n);
	return true;
}

/* Segments of "/a/b"; how many there are, SEGMENTS_MAX + 1 for more than there is room for. */
static unsigned split(struct str rest, struct str *out)
{
	const char *end = rest.p + rest.n;
	unsigned n = 0;

	for (const char *p = rest.p; p < end;) {
		const char *begin = ++p; /* behind the slash */
		if (n == SEGMENTS_MAX)
			return SEGMENTS_MAX + 1;
		while (p < end && *p != '/')
			p++;
		out[n++] = str_of(begin, (size_t)(p - begin));
	}
	return n;
}

/* Whether the segments are what `pattern` ("/a/{b}", as many of them) says; *parameter: the first one for a "{b}". */
static bool fits(const char *pattern, const struct str *segments, unsigned n, const struct str **parameter)
{
	*parameter = NULL;
	for (unsigned i = 0; i < n; i++) {
		const struct str *s = &segments[i];
		pattern++;
		if (*pattern == '{') {
			if (!*parameter)
				*parameter = s;
			while (*pattern && *pattern != '/')
				pattern++;
			continue;
		}
		if (strncmp(pattern, s->p, s->n) != 0 || (pattern[s->n] != '/' && pattern[s->n] != '\0'))
			return false;
		pattern += s->n;
	}
	return true;
}

static void use_row(struct route *r, const struct route_row *row, const struct str *parameter)
{
	r->id = row->id;
	r->class = row->class;
	r->owner = row->owner;
	r->wait = row->wait;
	r->retry = row->retry;
	r->read_whole = row->read_whole;
	r->unchunk = row->unchunk;
	r->template = row->path;
	if (row->owner == ROUTE_OWNER_ID) {
		r->sandbox = *parameter;
		r->sandbox_bad = !str_is_id(*parameter, SANDBOX_ID_MAX_BYTES);
	} else if (parameter) {
		r->name = *parameter;
	}
}

static void find_row(struct route *r, enum http_method method, bool slash, size_t prefix)
{
	struct str segments[SEGMENTS_MAX];
	const unsigned n = split(r->rest, segments);
	const unsigned bit = 1u << method;
	const struct str *parameter;
	size_t rows;
	const struct route_row *row = route_rows(r->place, &rows);

	if (r->place == ROUTE_API && n && str_eq(segments[0], STR("worker"))) {
		r->place = ROUTE_WORKER;
		r->template = "/api/v1/worker/*";
		return;
	}
	if (r->place == ROUTE_API && n && str_eq(segments[0], STR("admin"))) {
		r->class = ROUTE_ADMIN; /* in a row or not */
		r->template = "/api/v1/admin/*";
	}
	for (const struct route_row *end = row + rows; row < end; row++) {
		if (row->segments != n || !(row->methods & bit) || (row->exact && slash))
			continue;
		if (fits(row->path + prefix, segments, n, &parameter)) {
			use_row(r, row, parameter);
			return;
		}
	}
}

struct route route_of(enum http_method method, struct str path)
{
	struct route r = {.place = ROUTE_OTHER, .class = ROUTE_UNKNOWN, .template = "*", .rest = path};
	size_t prefix;
	bool slash;

	if (cut_prefix(&r.rest, STR("/api/v1"))) {
		r.place = ROUTE_API;
		r.template = "/api/v1/*";
		prefix = API_PREFIX_BYTES;
	} else if (cut_prefix(&r.rest, STR("/gateway/v1"))) {
		r.place = ROUTE_GATEWAY;
		r.class = ROUTE_OWN; /* whoever is admitted may hear that there is no such route */
		r.template = "/gateway/v1/*";
		prefix = GATEWAY_PREFIX_BYTES;
	} else {
		return r;
	}
	slash = r.rest.n && r.rest.p[r.rest.n - 1] == '/';
	r.rest.n -= slash;
	find_row(&r, method, slash, prefix);
	return r;
}

struct route route_of_preview(struct str sandbox)
{
	return (struct route){
		.place = ROUTE_GATEWAY,
		.id = ROUTE_ID_OTHER,
		.class = ROUTE_PREVIEW,
		.owner = ROUTE_OWNER_ID,
		.template = "{port}-{id}.{domain}",
		.sandbox = sandbox,
		.sandbox_bad = !str_is_id(sandbox, SANDBOX_ID_MAX_BYTES),
	};
}

const struct route_row *route_rows(enum route_place place, size_t *n)
{
	if (place == ROUTE_GATEWAY) {
		*n = sizeof(gateway) / sizeof(gateway[0]);
		return gateway;
	}
	*n = sizeof(api) / sizeof(api[0]);
	return api;
}

unsigned route_own_methods(struct str rest)
{
	struct str segments[SEGMENTS_MAX];
	const unsigned n = split(rest, segments);
	const struct str *parameter;
	unsigned methods = 0;

	for (size_t i = 0; i < sizeof(gateway) / sizeof(gateway[0]); i++)
		if (gateway[i].segments == n && fits(gateway[i].path + GATEWAY_PREFIX_BYTES, segments, n, &parameter))
			methods |= gateway[i].methods;
	return methods;
}

bool route_is_safe(enum http_method method)
{
	return method == METHOD_GET || method == METHOD_HEAD || method == METHOD_OPTIONS;
}
