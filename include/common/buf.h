/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes, added at the end and consumed from the front. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "common/check.h"
#include "common/err.h"
#include "common/str.h"

struct buf {
	char *mem;    /* owned; NULL while nothing was ever added */
	size_t start; /* offset of the first unconsumed byte */
	size_t len;   /* unconsumed bytes */
	size_t cap;   /* allocated bytes */
	bool failed;  /* an addition found no memory: the content is incomplete until buf_reset */
};

#define BUF_EMPTY ((struct buf){0})

/* The slow half of buf_fini. */
void buf_free_memory(struct buf *b);

/* Frees the memory and makes it empty; the buffer may be used again. Most never had any. */
static inline void buf_fini(struct buf *b)
{
	if (b->mem)
		buf_free_memory(b);
	else
		*b = BUF_EMPTY;
}

/* The same, the memory overwritten first: for what held a credential. */
void buf_wipe(struct buf *b);

/* Empties it, keeps the memory and clears `failed`. */
void buf_reset(struct buf *b);

static inline char *buf_data(const struct buf *b)
{
	return b->mem ? b->mem + b->start : NULL;
}

static inline struct str buf_str(const struct buf *b)
{
	return str_of(buf_data(b), b->len);
}

/* The slow half of buf_reserve. */
char *buf_reserve_slowly(struct buf *b, size_t n);

/*
 * Room for n more bytes behind the content; returns where they go, to be made content by buf_commit. NULL without
 * memory, and `failed` is then set.
 */
static inline char *buf_reserve(struct buf *b, size_t n)
{
	if (b->mem && b->cap - b->start - b->len >= n)
		return b->mem + b->start + b->len;
	return buf_reserve_slowly(b, n);
}

static inline void buf_commit(struct buf *b, size_t n)
{
	CHECK(n <= b->cap - b->start - b->len);
	b->len += n;
}

/* Additions; without memory they set `failed` and change nothing, so a writer may check once, at the end. */
void buf_add_slowly(struct buf *b, const void *p, size_t n);
void buf_add_cstr(struct buf *b, const char *s);
void buf_add_char(struct buf *b, char c);
void buf_add_u64(struct buf *b, unsigned long long v);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* In the header because most additions are a few bytes to a buffer that has room. */
static inline void buf_add(struct buf *b, const void *p, size_t n)
{
	if (n && !b->failed && b->cap - b->start - b->len >= n) {
		memcpy(b->mem + b->start + b->len, p, n);
		b->len += n;
	} else {
		buf_add_slowly(b, p, n);
	}
}

static inline void buf_add_str(struct buf *b, struct str s)
{
	buf_add(b, s.p, s.n);
}

/* Drops the first n bytes; n is at most len. */
void buf_consume(struct buf *b, size_t n);

#endif
