/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into a program that is tested: its n-th allocation from now on fails, whoever in the process asks for it.
 * The test says which one through a file that both have mapped (SG_ALLOC_PLAN): see struct plan.
 *
 * Works above AddressSanitizer's allocator too (ASAN_OPTIONS=verify_asan_link_order=0), since each function goes on to
 * the next of its name.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Integers of eight bytes, in this order. */
struct plan {
	_Atomic int64_t left;   /* until the first that fails; each allocation takes one, below zero as well */
	int64_t failing;        /* how many fail in a row */
	_Atomic int64_t failed; /* how many have so far */
};

static struct plan *plan;

__attribute__((constructor)) static void open_plan(void)
{
	const char *path = getenv("SG_ALLOC_PLAN");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	void *at;

	if (fd < 0)
		return;
	at = mmap(NULL, sizeof(*plan), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (at != MAP_FAILED)
		plan = at;
}

static bool fails(void)
{
	int64_t left;

	if (!plan)
		return false;
	left = atomic_fetch_sub(&plan->left, 1) - 1;
	if (left > 0 || left <= -plan->failing)
		return false;
	atomic_fetch_add(&plan->failed, 1);
	errno = ENOMEM;
	return true;
}

/* glibc's dlsym allocates nothing when it finds the name. */
#define NEXT(name, type) ((type)dlsym(RTLD_NEXT, name))

void *malloc(size_t n)
{
	static void *(*next)(size_t);

	if (!next)
		next = NEXT("malloc", void *(*)(size_t));
	return fails() ? NULL : next(n);
}

void *calloc(size_t n, size_t size)
{
	static void *(*next)(size_t, size_t);

	if (!next)
		next = NEXT("calloc", void *(*)(size_t, size_t));
	return fails() ? NULL : next(n, size);
}

void *realloc(void *old, size_t n)
{
	static void *(*next)(void *, size_t);

	if (!next)
		next = NEXT("realloc", void *(*)(void *, size_t));
	return n && fails() ? NULL : next(old, n);
}

/* AddressSanitizer's does not go through malloc. */
char *strdup(const char *text)
{
	static char *(*next)(const char *);

	if (!next)
		next = NEXT("strdup", char *(*)(const char *));
	return fails() ? NULL : next(text);
}
