/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/owner.h"

#include <stdlib.h>
#include <string.h>

#include "common/list.h"

enum {
	TEXT_MAX_BYTES = 128,
	DOMAIN_MAX_BYTES = 253,
};

struct owner_entry {
	struct list recent;       /* on the table's list of all, the one asked for last first */
	struct owner_entry *next; /* borrowed; in its bucket */
	uint64_t realm;
	uint32_t hash;
	bool gone;
	unsigned char id_bytes;
	unsigned char owner_bytes;
	unsigned char domain_bytes;
	uint64_t seen_ms; /* when its record was seen */
	char text[];      /* the id, then the owner, then the preview domain */
};

struct owner_table {
	struct list recent; /* struct owner_entry */
	size_t count;
	size_t max;
	uint32_t mask;                 /* number of buckets less one */
	struct owner_entry *buckets[]; /* owned */
};

struct owner_table *owner_table_new(size_t max_entries)
{
	struct owner_table *t;
	uint32_t n = 16;

	while (n < max_entries && n < UINT32_C(1) << 24)
		n *= 2;
	t = calloc(1, sizeof(*t) + n * sizeof(struct owner_entry *));
	if (!t)
		return NULL;
	list_init(&t->recent);
	t->max = max_entries;
	t->mask = n - 1;
	return t;
}

/* Eight bytes at a time; ids are the server's, so nobody chooses them to collide. */
static uint32_t hash_of(uint64_t realm, struct str id)
{
	uint64_t hash = realm ^ id.n;
	uint64_t word;

	for (; id.n >= sizeof(word); id = str_of(id.p + sizeof(word), id.n - sizeof(word))) {
		memcpy(&word, id.p, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
	}
	word = 0;
	if (id.n)
		memcpy(&word, id.p, id.n);
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(hash >> 32);
}

static struct str id_of(const struct owner_entry *e)
{
	return str_of(e->text, e->id_bytes);
}

static struct owner_entry **find(struct owner_table *t, uint64_t realm, struct str id, uint32_t hash)
{
	struct owner_entry **at = &t->buckets[hash & t->mask];

	while (*at && !((*at)->hash == hash && (*at)->realm == realm && str_eq(id_of(*at), id)))
		at = &(*at)->next;
	return at;
}

static void forget(struct owner_table *t, struct owner_entry **at)
{
	struct owner_entry *e = *at;

	*at = e->next;
	list_remove(&e->recent);
	free(e);
	t->count--;
}

void owner_table_free(struct owner_table *t)
{
	if (!t)
		return;
	for (uint32_t i = 0; i <= t->mask; i++)
		while (t->buckets[i])
			forget(t, &t->buckets[i]);
	free(t);
}

static void touch(struct owner_table *t, struct owner_entry *e)
{
	if (t->recent.next == &e->recent)
		return;
	list_remove(&e->recent);
	list_add_head(&t->recent, &e->recent);
}

enum owner_answer owner_ask(struct owner_table *t, uint64_t realm, struct str id, struct str asker)
{
	struct owner_entry *e = *find(t, realm, id, hash_of(realm, id));

	if (!e)
		return OWNER_UNKNOWN;
	touch(t, e);
	if (e->owner_bytes == 0 || !str_eq(str_of(e->text + e->id_bytes, e->owner_bytes), asker))
		return OWNER_OTHER;
	return e->gone ? OWNER_GONE : OWNER_SAME;
}

static void add_text(char **to, struct str text)
{
	if (text.n)
		memcpy(*to, text.p, text.n);
	*to += text.n;
}

/* NULL without memory. */
static struct owner_entry *make_entry(struct str id, struct str owner, struct str domain)
{
	struct owner_entry *e = calloc(1, sizeof(*e) + id.n + owner.n + domain.n);
	char *at;

	if (!e)
		return NULL;
	e->id_bytes = (unsigned char)id.n;
	e->owner_bytes = (unsigned char)owner.n;
	e->domain_bytes = (unsigned char)domain.n;
	at = e->text;
	add_text(&at, id);
	add_text(&at, owner);
	add_text(&at, domain);
	return e;
}

static void insert(struct owner_table *t, struct owner_entry *e)
{
	struct owner_entry **at;

	while (t->count >= t->max) {
		struct owner_entry *oldest = CONTAINER_OF(t->recent.prev, struct owner_entry, recent);
		forget(t, find(t, oldest->realm, id_of(oldest), oldest->hash));
	}
	at = &t->buckets[e->hash & t->mask];
	e->next = *at;
	*at = e;
	list_add_head(&t->recent, &e->recent);
	t->count++;
}

static struct str domain_of(const struct owner_entry *e)
{
	return str_of(e->text + e->id_bytes + e->owner_bytes, e->domain_bytes);
}

void owner_learn(struct owner_table *t, uint64_t realm, struct str id, struct str owner, struct str domain,
		 uint64_t now_ms)
{
	uint32_t hash = hash_of(realm, id);
	struct owner_entry **at = find(t, realm, id, hash);
	bool fits = id.n <= TEXT_MAX_BYTES && owner.n <= TEXT_MAX_BYTES && domain.n <= DOMAIN_MAX_BYTES;
	struct owner_entry *e = fits ? make_entry(id, owner, domain) : NULL;

	if (*at)
		forget(t, at);
	if (!e)
		return;
	e->realm = realm;
	e->hash = hash;
	e->seen_ms = now_ms;
	insert(t, e);
}

bool owner_domain(struct owner_table *t, uint64_t realm, struct str id, struct str *domain, uint64_t *seen_ms)
{
	struct owner_entry *e = *find(t, realm, id, hash_of(realm, id));

	if (!e || e->gone)
		return false;
	touch(t, e);
	*domain = domain_of(e);
	*seen_ms = e->seen_ms;
	return true;
}

void owner_gone(struct owner_table *t, uint64_t realm, struct str id)
{
	struct owner_entry *e = *find(t, realm, id, hash_of(realm, id));

	if (e)
		e->gone = true;
}

size_t owner_forget_all(struct owner_table *t)
{
	size_t n = t->count;

	for (uint32_t i = 0; i <= t->mask; i++)
		while (t->buckets[i])
			forget(t, &t->buckets[i]);
	return n;
}

void owner_forget(struct owner_table *t, uint64_t realm, struct str id)
{
	struct owner_entry **at = find(t, realm, id, hash_of(realm, id));

	if (*at)
		forget(t, at);
}

void owner_forget_realm(struct owner_table *t, uint64_t realm)
{
	LIST_FOREACH_SAFE (n, &t->recent) {
		struct owner_entry *e = CONTAINER_OF(n, struct owner_entry, recent);
		if (e->realm == realm && !e->gone)
			forget(t, find(t, realm, id_of(e), e->hash));
	}
}
