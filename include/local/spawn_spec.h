/* SPDX-License-Identifier: Apache-2.0 */
/* Works out what a spawn asks for: the request over its template over the server's defaults, within its limits. */
#ifndef LOCAL_SPAWN_SPEC_H
#define LOCAL_SPAWN_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"
#include "common/units.h"

struct template;

/* The provider's only name, and what applies where nothing is said. */
#define SPAWN_PROVIDER      "local"
#define SPAWN_DEFAULT_IMAGE "alpine:latest"
enum {
	SPAWN_DEFAULT_MEMORY_MB = 1024,
	SPAWN_DEFAULT_VCPUS = 1
};
#define SPAWN_DEFAULT_TTL_NS (INT64_C(30) * 60 * 1000000000)
#define SPAWN_MAX_TTL_NS     (INT64_C(24) * 3600 * 1000000000)

struct spawn_fields {
	struct str image;
	struct str provider;
	struct str ttl;
	struct str template;
	struct str owner_id;
	json_t *metadata;
	int64_t memory_mb;
	int64_t vcpus;
};

/* The table that binds a request body to it. */
const struct go_field *spawn_fields_table(size_t *n);

/* An empty name and our own are known. */
bool spawn_provider_known(struct str name);

/* "" when the owner id is fine, else what is wrong with it. */
const char *spawn_owner_fault(struct str owner);

/* What the request leaves open comes from the template, then from the defaults. `t` may be NULL. */
void spawn_fields_complete(struct spawn_fields *f, const struct template *t);

/* The ttl to live for; `t` may be NULL. */
enum duration_fault spawn_ttl(const struct spawn_fields *f, const struct template *t, int64_t *ns);

/* The metadata of the sandbox, the caller's: the template's, its name, and the request's. NULL without memory. */
json_t *spawn_metadata(const struct spawn_fields *f, const struct template *t);

#endif
