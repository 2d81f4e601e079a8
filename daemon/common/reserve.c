/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reserve is handed out from its beginning to its end, and is whole again when all that was handed out has come back:
 * being without memory is a state that passes, and few pieces are taken in it.
 */
#include "common/reserve.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/check.h"

/* Before each piece. */
struct piece {
	_Alignas(16) size_t n; /* bytes */
};

static _Alignas(16) char arena[RESERVE_BYTES];
static size_t arena_used;
static unsigned arena_pieces; /* not yet given back */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool is_piece(const void *p)
{
	return (uintptr_t)p >= (uintptr_t)arena && (uintptr_t)p < (uintptr_t)arena + sizeof(arena);
}

static void *take(size_t n)
{
	struct piece *piece = NULL;
	size_t whole = sizeof(*piece) + (n + 15) / 16 * 16;

	if (n > RESERVE_PIECE_BYTES)
		return NULL;
	pthread_mutex_lock(&lock);
	if (sizeof(arena) - arena_used >= whole) {
		piece = (struct piece *)(void *)(arena + arena_used);
		piece->n = n;
		arena_used += whole;
		arena_pieces++;
	}
	pthread_mutex_unlock(&lock);
	return piece ? piece + 1 : NULL;
}

static void give_back(void)
{
	pthread_mutex_lock(&lock);
	CHECK(arena_pieces > 0);
	if (--arena_pieces == 0)
		arena_used = 0;
	pthread_mutex_unlock(&lock);
}

void *reserve_malloc(size_t n)
{
	void *p = malloc(n);

	return p ? p : take(n);
}

void *reserve_calloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (p || (size && n > RESERVE_PIECE_BYTES / size))
		return p;
	p = take(n * size);
	if (p)
		memset(p, 0, n * size);
	return p;
}

/* A piece of the reserve goes back to ordinary memory as soon as it changes its size. */
static void *move_piece(void *old, size_t n)
{
	size_t before = ((struct piece *)old - 1)->n;
	void *p = reserve_malloc(n);

	if (!p)
		return NULL;
	memcpy(p, old, before < n ? before : n);
	give_back();
	return p;
}

void *reserve_realloc(void *old, size_t n)
{
	void *p;

	if (old && is_piece(old))
		return move_piece(old, n);
	p = realloc(old, n);
	/* How large an ordinary one was is not known here; libcurl bears a buffer that does not grow. */
	return p || old ? p : take(n);
}

char *reserve_strdup(const char *text)
{
	size_t n = strlen(text) + 1;
	char *copy = reserve_malloc(n);

	if (copy)
		memcpy(copy, text, n);
	return copy;
}

void reserve_free(void *p)
{
	if (is_piece(p))
		give_back();
	else
		free(p);
}

bool reserve_is_low(void)
{
	bool low;

	pthread_mutex_lock(&lock);
	low = arena_used > sizeof(arena) / 2;
	pthread_mutex_unlock(&lock);
	return low;
}
