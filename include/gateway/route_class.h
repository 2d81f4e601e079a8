/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of routes that a rule allows or denies as one, and the words that a configuration has for them. */
#ifndef GATEWAY_ROUTE_CLASS_H
#define GATEWAY_ROUTE_CLASS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"

enum route_class {
	ROUTE_SANDBOXES,
	ROUTE_TEMPLATES_READ,
	ROUTE_TEMPLATES_WRITE,
	ROUTE_SYSTEM,
	ROUTE_EVENTS,
	ROUTE_PREVIEW,
	ROUTE_RUN,
	ROUTE_PRUNE,
	ROUTE_METRICS,
	ROUTE_QUOTAS,
	ROUTE_WORKERS,
	ROUTE_CONFIG,
	ROUTE_ENVIRONMENTS,
	ROUTE_ADMIN,   /* only for rules with admin: true */
	ROUTE_UNKNOWN, /* in no table; no word of its own, `all` covers it */
	ROUTE_OWN,     /* the gateway's own, for every client that a rule admits; no word */
	ROUTE_OPERATE, /* the gateway's own, for rules with admin: true; no word */
	ROUTE_CLASSES,
};

#define ROUTE_CLASS_BIT(class) (UINT32_C(1) << (class))
/* The classes that have a word. */
#define ROUTE_CLASS_WORDS (ROUTE_CLASS_BIT(ROUTE_UNKNOWN) - 1)
/* Those that only a rule with admin: true may use, whatever it allows. */
#define ROUTE_CLASS_ADMINS (ROUTE_CLASS_BIT(ROUTE_ADMIN) | ROUTE_CLASS_BIT(ROUTE_OPERATE))
/* Those that no rule need allow. */
#define ROUTE_CLASS_UNASKED (ROUTE_CLASS_BIT(ROUTE_OWN) | ROUTE_CLASS_BIT(ROUTE_OPERATE))
/* What `all` means to a rule without admin: true. */
#define ROUTE_CLASS_ALL ((ROUTE_CLASS_WORDS & ~ROUTE_CLASS_BIT(ROUTE_ADMIN)) | ROUTE_CLASS_BIT(ROUTE_UNKNOWN))

/* The class's word, or what a message calls it. */
const char *route_class_text(enum route_class class);

/* False when no class has that word. */
bool route_class_parse(struct str word, enum route_class *out);

#endif
