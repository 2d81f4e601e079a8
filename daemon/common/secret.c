/* SPDX-License-Identifier: Apache-2.0 */
#include "common/secret.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "common/check.h"

struct secret {
	unsigned refs;
	size_t n;     /* bytes of the credential */
	char bytes[]; /* in the same pages, so that one mlock covers all of it */
};

enum {
	PAGES_BYTES = 8192,
	LOOKED_FOR_BYTES = 8
};

_Static_assert(sizeof(struct secret) + SECRET_MAX_BYTES <= PAGES_BYTES, "a secret fits its pages");

static struct secret *secret_pages(void)
{
	struct secret *s = mmap(NULL, PAGES_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (s == MAP_FAILED)
		return NULL;
	/* Without the right to lock memory the bytes could be swapped: still better than not to run. */
	(void)mlock(s, PAGES_BYTES);
	(void)madvise(s, PAGES_BYTES, MADV_DONTDUMP);
	(void)madvise(s, PAGES_BYTES, MADV_WIPEONFORK);
	s->refs = 1;
	return s;
}

int secret_take(char *bytes, size_t n, struct secret **out)
{
	struct secret *s;

	if (n == 0 || n > SECRET_MAX_BYTES)
		return -EINVAL;
	s = secret_pages();
	if (!s)
		return -ENOMEM;
	memcpy(s->bytes, bytes, n);
	s->n = n;
	explicit_bzero(bytes, n);
	*out = s;
	return 0;
}

int secret_random(struct secret **out)
{
	static const char hex[] = "0123456789abcdef";
	unsigned char raw[32];
	char text[64];

	if (getrandom(raw, sizeof(raw), 0) != (ssize_t)sizeof(raw))
		return -EIO;
	for (size_t i = 0; i < sizeof(raw); i++) {
		text[2 * i] = hex[raw[i] >> 4];
		text[2 * i + 1] = hex[raw[i] & 15];
	}
	explicit_bzero(raw, sizeof(raw));
	return secret_take(text, sizeof(text), out);
}

struct secret *secret_ref(struct secret *s)
{
	s->refs++;
	return s;
}

void secret_unref(struct secret *s)
{
	if (!s)
		return;
	CHECK(s->refs > 0);
	if (--s->refs)
		return;
	explicit_bzero(s, PAGES_BYTES);
	munmap(s, PAGES_BYTES);
}

bool secret_equal(const struct secret *s, struct str candidate)
{
	unsigned char differ = s->n != candidate.n;

	for (size_t i = 0; i < candidate.n; i++)
		differ |= (unsigned char)(candidate.p[i] ^ s->bytes[i < s->n ? i : 0]);
	return differ == 0;
}

bool secret_same(const struct secret *a, const struct secret *b)
{
	return secret_equal(a, str_of(b->bytes, b->n));
}

bool secret_is_within(const struct secret *s, struct str text)
{
	return s->n >= LOOKED_FOR_BYTES && text.n >= s->n && memmem(text.p, text.n, s->bytes, s->n);
}

struct str secret_bytes(const struct secret *s)
{
	return str_of(s->bytes, s->n);
}
