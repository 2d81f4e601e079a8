/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A configuration together with what it needs to be in force: pools and keys. Immutable, swapped on reload; a key's present
 * value changes by itself (keyring.h).
 */
#ifndef GATEWAY_SNAPSHOT_H
#define GATEWAY_SNAPSHOT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"

struct config;
struct config_rule;
struct dialer;
struct key;
struct keyring;
struct loop;
struct meter;
struct snapshot;
struct upstream;

struct snapshot_local {
	const char *socket;    /* borrowed; where `local` is reached */
	struct key *key;       /* borrowed; NULL when the server has not been set up */
	struct key *admin_key; /* the same */
};

/*
 * Takes a reference to the configuration, gets its keys from the keyring and makes its pools; those of `previous` (may be NULL) that
 * mean the same are kept. 0 and *out, the caller's reference; or a negative errno and `why`, and nothing has changed.
 */
MUST_CHECK int snapshot_new(struct loop *loop, struct dialer *dialer, struct keyring *keyring, struct config *config,
			    const struct snapshot_local *local, const struct snapshot *previous, struct snapshot **out,
			    char *why, size_t why_size);
struct snapshot *snapshot_ref(struct snapshot *s);
void snapshot_unref(struct snapshot *s);

const struct config *snapshot_config(const struct snapshot *s);
/* Borrowed. */
struct upstream *snapshot_upstream(const struct snapshot *s, size_t index);
/* The way to the collector of traces, borrowed; NULL: none are made. */
struct upstream *snapshot_tracing(const struct snapshot *s);
/* The key that a rule's requests carry, borrowed; NULL when its upstream needs none. */
struct key *snapshot_key(const struct snapshot *s, const struct config_rule *rule);
/* The one that its requests to admin routes carry beside it, borrowed; NULL unless the rule has `admin: true`. */
struct key *snapshot_admin_key(const struct snapshot *s, const struct config_rule *rule);

/*
 * What something that outlived a restart was done with: the upstream of that name and url, and its key, the credential's of
 * that name (NULL: none; the embedded server needs none written). Borrowed. False when they are not configured (any more).
 */
bool snapshot_find(const struct snapshot *s, const char *upstream, const char *url, const char *credential,
		   struct upstream **u, struct key **key);

/* The keys of a configured credential, borrowed; the second is NULL when none was written. For health and status. */
struct key *snapshot_credential(const struct snapshot *s, size_t index);
struct key *snapshot_admin_credential(const struct snapshot *s, size_t index);

/* Where a rule's requests are counted, borrowed; NULL: those of callers whom no rule admits. */
struct meter *snapshot_meter(const struct snapshot *s, const struct config_rule *rule);

#endif
