/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps answers over a restart: a small file each, below a directory of their own, written when nothing else is to be done. */
#ifndef GATEWAY_CACHE_KEEP_H
#define GATEWAY_CACHE_KEEP_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct cache_keep;
struct loop;

/* Whose answer it is and to what: names and texts only, never a byte of a credential. */
struct cache_keep_key {
	struct str upstream;   /* its name and where it is */
	struct str credential; /* its name; n 0: none */
	struct str user_id;
	struct str target;
};

struct cache_keep_entry {
	struct cache_keep_key key;
	struct str head;
	struct str body;
	int64_t asked_at_wall_ms; /* since 1970 */
	uint64_t age_ms;          /* that it had then */
	uint64_t fresh_ms;
};

/*
 * Opens `dir`/cache, which is made when it is not there, for at most max_files answers. 0 or a negative errno: nothing is kept
 * then.
 */
MUST_CHECK int cache_keep_open(struct loop *loop, const char *dir, size_t max_files, struct cache_keep **out);
/* Writes what is still to be written. NULL is fine. */
void cache_keep_close(struct cache_keep *k);

/*
 * Reads all that is kept, blocking: at start. What is whole is given to `each`, borrowed for the call; false from it, and
 * whatever is not whole, is removed.
 */
void cache_keep_read(struct cache_keep *k, bool (*each)(void *arg, const struct cache_keep_entry *e), void *arg);

/* Keeps an answer, soon; in place of an older one to the same. Large ones are not kept. */
void cache_keep_put(struct cache_keep *k, const struct cache_keep_entry *e);
/* Removes one, those of an upstream, all; soon. */
void cache_keep_drop(struct cache_keep *k, const struct cache_keep_key *key);
void cache_keep_drop_upstream(struct cache_keep *k, struct str upstream);
void cache_keep_drop_all(struct cache_keep *k);

/* Removes what an earlier start has kept below `dir`, blocking: when nothing is to be kept any more. */
void cache_keep_clean(const char *dir);

#endif
