/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Remembers whose a sandbox is and under which domain its previews are: a bounded table, the least recently asked for
 * forgotten first. No look-ups of its own.
 */
#ifndef GATEWAY_OWNER_H
#define GATEWAY_OWNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

struct owner_table;

enum owner_answer {
	OWNER_UNKNOWN, /* not remembered */
	OWNER_SAME,    /* the asker's */
	OWNER_OTHER,   /* somebody else's, or nobody's */
	OWNER_GONE,    /* the asker's, and destroyed */
};

/* Holds at most max_entries (at least 1), each with at most 128 bytes of id and of owner and 253 of domain. NULL without memory. */
struct owner_table *owner_table_new(size_t max_entries);
void owner_table_free(struct owner_table *t);

/* `realm` is the server that the id belongs to; `asker` a user id. */
enum owner_answer owner_ask(struct owner_table *t, uint64_t realm, struct str id, struct str asker);

/*
 * The sandbox exists and is that owner's (empty: nobody's), as its record said at now_ms, which names that domain for its previews
 * (empty: none). In place of what was known of it; without memory, or too long, nothing is remembered.
 */
void owner_learn(struct owner_table *t, uint64_t realm, struct str id, struct str owner, struct str domain,
		 uint64_t now_ms);

/*
 * The domain in its record and when that was seen; borrowed until something is learned. False when it is not remembered, or is
 * destroyed.
 */
bool owner_domain(struct owner_table *t, uint64_t realm, struct str id, struct str *domain, uint64_t *seen_ms);

/* It is destroyed. Whose it was stays known, so that only he is told that he has destroyed it before. */
void owner_gone(struct owner_table *t, uint64_t realm, struct str id);

/* Forgets everything; how many there were. */
size_t owner_forget_all(struct owner_table *t);
/* What was learned of one id, or of all of that server that are not destroyed, is not remembered any more. */
void owner_forget(struct owner_table *t, uint64_t realm, struct str id);
void owner_forget_realm(struct owner_table *t, uint64_t realm);

#endif
