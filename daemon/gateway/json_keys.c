/* SPDX-License-Identifier: Apache-2.0 */
/* All keys are decoded into one buffer and sorted there: a client cannot buy quadratic time with a body of keys. */
#include "gateway/json_keys.h"

#include <errno.h>
#include <stdlib.h>

#include "gateway/json_read.h"

/* Its members are counted first, so that the spans need one allocation. */
static size_t count_members(struct str object)
{
	struct json_members members = json_read_members(object);
	struct json_member m;
	size_t n = 0;

	while (json_read_member(&members, &m) == 1)
		n++;
	return n;
}

static int order(const void *a, const void *b)
{
	const struct str *x = a;
	const struct str *y = b;
	int diff = x->n && y->n ? memcmp(x->p, y->p, x->n < y->n ? x->n : y->n) : 0;

	return diff ? diff : (x->n > y->n) - (x->n < y->n);
}

/* Folds the bytes from `start` on; false when one of them is not ASCII. */
static bool fold(struct buf *text, size_t start)
{
	char *p = buf_data(text);

	for (size_t i = start; i < text->len; i++) {
		if ((unsigned char)p[i] >= 0x80)
			return false;
		if (p[i] >= 'A' && p[i] <= 'Z')
			p[i] = (char)(p[i] | 0x20);
	}
	return true;
}

/* Decodes the keys into k->text; k->keys[i] gets their lengths. */
static int decode(struct json_keys *k, struct str object, enum json_keys_rule rule)
{
	struct json_members members = json_read_members(object);
	struct json_member m;

	for (size_t i = 0; json_read_member(&members, &m) == 1; i++) {
		size_t start = k->text.len;
		json_read_string(m.key, &k->text);
		if (k->text.failed)
			return -ENOMEM;
		if (rule == JSON_KEYS_FOLDED && !fold(&k->text, start))
			return -EILSEQ;
		k->keys[i].n = k->text.len - start;
	}
	return 0;
}

/* The text does not move any more. 0 or -EEXIST. */
static int sort(struct json_keys *k)
{
	const char *text = buf_data(&k->text);

	for (size_t i = 0; i < k->n; i++) {
		k->keys[i].p = text;
		if (text) /* NULL when all keys are empty */
			text += k->keys[i].n;
	}
	qsort(k->keys, k->n, sizeof(*k->keys), order);
	for (size_t i = 1; i < k->n; i++)
		if (str_eq(k->keys[i - 1], k->keys[i]))
			return -EEXIST;
	return 0;
}

int json_keys_init(struct json_keys *k, struct str object, enum json_keys_rule rule)
{
	int rc;

	*k = (struct json_keys){.n = count_members(object)};
	if (k->n == 0)
		return 0;
	if (k->n > JSON_KEYS_MAX)
		return -E2BIG;
	k->keys = calloc(k->n, sizeof(*k->keys));
	rc = k->keys ? decode(k, object, rule) : -ENOMEM;
	if (rc == 0)
		rc = sort(k);
	if (rc)
		json_keys_fini(k);
	return rc;
}

void json_keys_fini(struct json_keys *k)
{
	free(k->keys);
	buf_fini(&k->text);
	*k = (struct json_keys){.n = 0};
}

bool json_keys_has(const struct json_keys *k, struct str key)
{
	return k->n && bsearch(&key, k->keys, k->n, sizeof(*k->keys), order);
}

int json_keys_check(struct str object, enum json_keys_rule rule)
{
	struct json_keys keys;
	int rc = json_keys_init(&keys, object, rule);

	if (rc == 0)
		json_keys_fini(&keys);
	return rc;
}
