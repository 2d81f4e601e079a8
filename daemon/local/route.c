/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One table, in the order in which it is searched: a literal stands before the parameter that would also match. The
 * raw path is compared; nothing is normalised, so "//health" and "/x/../health" are unknown.
 */
#include "local/route.h"

#include <errno.h>

static const struct {
	enum http_method method;
	bool slash;          /* one trailing slash is accepted */
	const char *pattern; /* segments below the base path; {} is a parameter */
	enum route route;
} table[] = {
	{METHOD_GET, false, "health", ROUTE_HEALTH},
	{METHOD_GET, false, "live", ROUTE_LIVE},
	{METHOD_GET, false, "ready", ROUTE_READY},
	{METHOD_GET, false, "pool/status", ROUTE_POOL_STATUS},
	{METHOD_GET, true, "snapshots", ROUTE_SNAPSHOTS},
	{METHOD_GET, false, "system/stats", ROUTE_SYSTEM_STATS},
	{METHOD_GET, false, "quotas/summary", ROUTE_QUOTA_SUMMARY},
	{METHOD_GET, false, "events", ROUTE_EVENTS},
	{METHOD_GET, true, "providers", ROUTE_PROVIDERS},
	{METHOD_POST, false, "providers/test", ROUTE_PROVIDERS_TEST},
	{METHOD_GET, false, "providers/{}", ROUTE_PROVIDER},
	{METHOD_GET, true, "templates", ROUTE_TEMPLATES},
	{METHOD_POST, true, "templates", ROUTE_TEMPLATE_CREATE},
	{METHOD_GET, true, "templates/{}", ROUTE_TEMPLATE},
	{METHOD_PUT, true, "templates/{}", ROUTE_TEMPLATE_REPLACE},
	{METHOD_DELETE, true, "templates/{}", ROUTE_TEMPLATE_DELETE},
	{METHOD_POST, false, "templates/{}/spawn", ROUTE_TEMPLATE_SPAWN},
	{METHOD_POST, false, "sandboxes/admission", ROUTE_ADMISSION},
	{METHOD_GET, true, "sandboxes", ROUTE_SANDBOXES},
	{METHOD_POST, true, "sandboxes", ROUTE_SPAWN},
	{METHOD_DELETE, true, "sandboxes", ROUTE_PRUNE},
	{METHOD_GET, true, "sandboxes/{}", ROUTE_SANDBOX},
	{METHOD_DELETE, true, "sandboxes/{}", ROUTE_DESTROY},
	{METHOD_POST, false, "sandboxes/{}/extend", ROUTE_EXTEND},
	{METHOD_POST, false, "sandboxes/{}/exec", ROUTE_EXEC},
	{METHOD_GET, false, "sandboxes/{}/exec/ws", ROUTE_EXEC_WS},
	{METHOD_GET, false, "sandboxes/{}/files", ROUTE_FILE_READ},
	{METHOD_POST, false, "sandboxes/{}/files", ROUTE_FILE_WRITE},
	{METHOD_DELETE, false, "sandboxes/{}/files", ROUTE_FILE_DELETE},
	{METHOD_GET, false, "sandboxes/{}/files/list", ROUTE_FILE_LIST},
	{METHOD_GET, false, "sandboxes/{}/files/stat", ROUTE_FILE_STAT},
	{METHOD_GET, false, "sandboxes/{}/files/glob", ROUTE_FILE_GLOB},
	{METHOD_POST, false, "sandboxes/{}/files/move", ROUTE_FILE_MOVE},
	{METHOD_POST, false, "sandboxes/{}/files/chmod", ROUTE_FILE_CHMOD},
	{METHOD_GET, false, "sandboxes/{}/logs", ROUTE_LOGS},
	{METHOD_GET, false, "sandboxes/{}/stats", ROUTE_STATS},
};

#define BASE STR("/api/v1/")

bool route_in_api(struct str path)
{
	return str_starts(path, BASE);
}

/* Compares segment by segment; *param is set when a {} was met. */
static bool matches(struct str path, struct str pattern, bool slash, struct str *param)
{
	*param = STR("");
	if (slash && path.n && path.p[path.n - 1] == '/')
		path.n--;
	while (path.p && pattern.p) {
		struct str want = str_cut(&pattern, '/');
		struct str have = str_cut(&path, '/');

		if (have.n == 0)
			return false;
		if (str_eq(want, STR("{}")))
			*param = have;
		else if (!str_eq(want, have))
			return false;
	}
	return !path.p && !pattern.p;
}

enum route_result route_find(enum http_method method, struct str path, struct route_match *out)
{
	*out = (struct route_match){.param = STR("")};
	if (!route_in_api(path))
		return ROUTE_UNKNOWN;
	path.p += BASE.n;
	path.n -= BASE.n;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct str param;
		if (!matches(path, str_from(table[i].pattern), table[i].slash, &param))
			continue;
		out->allowed |= 1u << table[i].method;
		if (table[i].method != method)
			continue;
		out->route = table[i].route;
		out->param = param;
		return ROUTE_FOUND;
	}
	return out->allowed ? ROUTE_WRONG_METHOD : ROUTE_UNKNOWN;
}

ssize_t route_decode_param(struct str param, char *out)
{
	ssize_t n = 0;

	for (size_t i = 0; i < param.n;) {
		bool slash =
			i + 2 < param.n && param.p[i] == '%' && param.p[i + 1] == '2' && (param.p[i + 2] | 0x20) == 'f';
		size_t take = param.p[i] == '%' && param.n - i >= 3 ? 3 : 1;
		if (slash) {
			memcpy(out + n, param.p + i, 3);
			n += 3;
		} else {
			ssize_t got = str_percent_decode(str_of(param.p + i, take), false, out + n);
			if (got < 0)
				return -EINVAL;
			n += got;
		}
		i += take;
	}
	return n;
}
