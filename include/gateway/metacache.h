/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded table of answers with their ages: the least recently asked for goes first. No loop and no clock: time is given.
 */
#ifndef GATEWAY_METACACHE_H
#define GATEWAY_METACACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"
#include "common/str.h"

struct metacache;

/* What is remembered under a key. Given to metacache_put it is copied. */
struct metacache_value {
	struct str head;      /* status line and header lines */
	struct str body;      /* complete */
	uint64_t asked_at_ms; /* when the server was asked, so that an age is never too small (RFC 9111 4.2.3) */
	uint64_t age_ms;      /* that the answer had already */
	uint64_t fresh_ms;    /* from birth */
	bool kept;            /* from before a restart: good for no more than an error of the server */
};

/* What an answer is good for beyond its freshness (RFC 5861); 0: nothing. */
struct metacache_rule {
	uint64_t while_revalidate_ms;
	uint64_t if_error_ms;
};

enum metacache_use {
	METACACHE_FRESH,      /* as it is */
	METACACHE_REVALIDATE, /* as it is, while it is fetched anew */
	METACACHE_IF_ERROR,   /* if the server cannot be had */
	METACACHE_NOTHING,
};

struct metacache_counters {
	uint64_t entries; /* now */
	uint64_t bytes;   /* now, all that they take */
	uint64_t evictions;
};

/* Holds at most max_entries (at least 1) and max_bytes; the seed is unknown to who chooses keys. NULL without memory. */
struct metacache *metacache_new(size_t max_entries, size_t max_bytes, uint64_t seed);
void metacache_free(struct metacache *m);

uint32_t metacache_hash(const struct metacache *m, uint64_t realm, struct str key);

/*
 * What is remembered of the key in that realm (a server), borrowed until the next put or drop; NULL for nothing. It counts as
 * asked for. `hash` is metacache_hash of both.
 */
const struct metacache_value *metacache_find(struct metacache *m, uint64_t realm, struct str key, uint32_t hash);

/* Remembers, in place of what was there. False when it is too large, or without memory: then nothing is remembered of the key. */
bool metacache_put(struct metacache *m, uint64_t realm, struct str key, uint32_t hash,
		   const struct metacache_value *value);

/* Forgets one key; all of a realm; everything. How many there were. */
size_t metacache_drop(struct metacache *m, uint64_t realm, struct str key, uint32_t hash);
size_t metacache_drop_realm(struct metacache *m, uint64_t realm);
size_t metacache_drop_all(struct metacache *m);

struct metacache_counters metacache_counters(const struct metacache *m);

uint64_t metacache_age_ms(const struct metacache_value *v, uint64_t now_ms);
enum metacache_use metacache_use(const struct metacache_value *v, const struct metacache_rule *rule, uint64_t now_ms);

#endif
