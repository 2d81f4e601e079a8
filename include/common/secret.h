/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a credential: in memory that is locked, kept out of core dumps and forks, and wiped when freed. */
#ifndef COMMON_SECRET_H
#define COMMON_SECRET_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/str.h"

struct secret;

enum {
	SECRET_MAX_BYTES = 4096
};

/* Copies n bytes (1 to SECRET_MAX_BYTES) and wipes the source. 0, -EINVAL or -ENOMEM. *out is the caller's. */
MUST_CHECK int secret_take(char *bytes, size_t n, struct secret **out);

/* A new one of 32 random bytes, written as 64 hex digits. */
MUST_CHECK int secret_random(struct secret **out);

/* Another reference to the same bytes. */
struct secret *secret_ref(struct secret *s);
/* Drops a reference; the last one wipes. NULL is fine. */
void secret_unref(struct secret *s);

/* In time that does not depend on where they differ. */
bool secret_equal(const struct secret *s, struct str candidate);

/* Whether both are the same credential. */
bool secret_same(const struct secret *a, const struct secret *b);

/* Whether the text holds it. One of less than 8 bytes is found nowhere: it would be found everywhere. */
bool secret_is_within(const struct secret *s, struct str text);

/* The bytes, borrowed. For the writer of request heads and for handing a key to the local server; nothing else. */
struct str secret_bytes(const struct secret *s);

#endif
