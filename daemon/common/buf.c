/* SPDX-License-Identifier: Apache-2.0 */
#include "common/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

void buf_free_memory(struct buf *b)
{
	free(b->mem);
	*b = BUF_EMPTY;
}

void buf_wipe(struct buf *b)
{
	if (b->mem)
		explicit_bzero(b->mem, b->cap);
	buf_fini(b);
}

void buf_reset(struct buf *b)
{
	b->start = 0;
	b->len = 0;
	b->failed = false;
}

char *buf_reserve_slowly(struct buf *b, size_t n)
{
	if (b->mem && b->start && b->cap - b->len >= n) {
		memmove(b->mem, b->mem + b->start, b->len);
		b->start = 0;
		return b->mem + b->len;
	}
	size_t cap = b->cap ? b->cap : 256;
	while (cap - b->len < n) {
		if (cap > ((size_t)1 << 40)) {
			b->failed = true;
			return NULL;
		}
		cap *= 2;
	}
	/* Not realloc: what lies before start need not be copied, and it might hold a credential. */
	char *mem = malloc(cap);
	if (!mem) {
		b->failed = true;
		return NULL;
	}
	if (b->len)
		memcpy(mem, b->mem + b->start, b->len);
	if (b->mem)
		explicit_bzero(b->mem, b->start + b->len);
	free(b->mem);
	b->mem = mem;
	b->start = 0;
	b->cap = cap;
	return b->mem + b->len;
}

void buf_add_slowly(struct buf *b, const void *p, size_t n)
{
	if (n == 0 || b->failed)
		return;
	char *to = buf_reserve(b, n);
	if (!to)
		return;
	memcpy(to, p, n);
	b->len += n;
}

void buf_add_cstr(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_add_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_add_u64(struct buf *b, unsigned long long v)
{
	char digits[20];
	size_t n = 0;

	do {
		digits[sizeof(digits) - ++n] = (char)('0' + v % 10);
		v /= 10;
	} while (v);
	buf_add(b, digits + sizeof(digits) - n, n);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || b->failed)
		return;
	char *to = buf_reserve(b, (size_t)n + 1);
	if (!to)
		return;
	va_start(ap, fmt);
	vsnprintf(to, (size_t)n + 1, fmt, ap);
	va_end(ap);
	b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t n)
{
	CHECK(n <= b->len);
	b->start += n;
	b->len -= n;
	if (b->len == 0)
		b->start = 0;
}
