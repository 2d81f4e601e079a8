/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for a library that does not bear to be without: small pieces come from a reserve when there is none. */
#ifndef COMMON_RESERVE_H
#define COMMON_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

/*
 * As malloc and its family, for all of the library's memory and by any of its threads. Pieces above RESERVE_PIECE_BYTES
 * are never taken from the reserve. It costs no memory before it is needed.
 */
enum {
	RESERVE_BYTES = 262144,
	RESERVE_PIECE_BYTES = 32768
};

void *reserve_malloc(size_t n);
void *reserve_calloc(size_t n, size_t size);
void *reserve_realloc(void *old, size_t n);
char *reserve_strdup(const char *text);
void reserve_free(void *p);

/* Whether more than half of it is in use: the library is not to be given more to do. */
bool reserve_is_low(void);

#endif
