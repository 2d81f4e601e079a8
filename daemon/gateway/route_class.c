/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/route_class.h"

static const char *const texts[ROUTE_CLASSES] = {
	[ROUTE_SANDBOXES] = "sandboxes",
	[ROUTE_TEMPLATES_READ] = "templates:read",
	[ROUTE_TEMPLATES_WRITE] = "templates:write",
	[ROUTE_SYSTEM] = "system",
	[ROUTE_EVENTS] = "events",
	[ROUTE_PREVIEW] = "preview",
	[ROUTE_RUN] = "run",
	[ROUTE_PRUNE] = "prune",
	[ROUTE_METRICS] = "metrics",
	[ROUTE_QUOTAS] = "quotas",
	[ROUTE_WORKERS] = "workers",
	[ROUTE_CONFIG] = "config",
	[ROUTE_ENVIRONMENTS] = "environments",
	[ROUTE_ADMIN] = "admin",
	[ROUTE_UNKNOWN] = "unknown",
	[ROUTE_OWN] = "own",
	[ROUTE_OPERATE] = "operate",
};

const char *route_class_text(enum route_class class)
{
	return texts[class];
}

bool route_class_parse(struct str word, enum route_class *out)
{
	for (unsigned i = 0; i < ROUTE_UNKNOWN; i++) {
		if (str_eq(word, str_from(texts[i]))) {
			*out = (enum route_class)i;
			return true;
		}
	}
	return false;
}
