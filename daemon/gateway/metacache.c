/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/metacache.h"

#include <stdlib.h>
#include <string.h>

struct entry {
	struct list recent; /* on the table's list of all, the one asked for last first */
	struct entry *next; /* borrowed; in its bucket */
	uint64_t realm;
	uint32_t hash;
	size_t key_bytes;
	size_t bytes; /* all that it takes */
	struct metacache_value value;
	char text[]; /* the key, the head, the body */
};

struct metacache {
	struct list recent; /* struct entry */
	size_t max_entries;
	size_t max_bytes;
	uint64_t seed;
	struct metacache_counters counters;
	uint32_t mask;           /* number of buckets less one */
	struct entry *buckets[]; /* owned */
};

struct metacache *metacache_new(size_t max_entries, size_t max_bytes, uint64_t seed)
{
	struct metacache *m;
	uint32_t n = 16;

	while (n < max_entries && n < UINT32_C(1) << 20)
		n *= 2;
	m = calloc(1, sizeof(*m) + n * sizeof(struct entry *));
	if (!m)
		return NULL;
	list_init(&m->recent);
	m->max_entries = max_entries;
	m->max_bytes = max_bytes;
	m->seed = seed;
	m->mask = n - 1;
	return m;
}

void metacache_free(struct metacache *m)
{
	if (!m)
		return;
	metacache_drop_all(m);
	free(m);
}

/* Eight bytes at a time. Who asks chooses keys, so where they go depends on the seed. */
uint32_t metacache_hash(const struct metacache *m, uint64_t realm, struct str key)
{
	uint64_t hash = m->seed ^ realm ^ key.n;
	uint64_t word;

	for (; key.n >= sizeof(word); key = str_of(key.p + sizeof(word), key.n - sizeof(word))) {
		memcpy(&word, key.p, sizeof(word));
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 32;
	}
	word = 0;
	if (key.n)
		memcpy(&word, key.p, key.n);
	hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t)(hash >> 32);
}

static struct entry **find(struct metacache *m, uint64_t realm, struct str key, uint32_t hash)
{
	struct entry **at = &m->buckets[hash & m->mask];

	while (*at &&
	       !((*at)->hash == hash && (*at)->realm == realm && str_eq(str_of((*at)->text, (*at)->key_bytes), key)))
		at = &(*at)->next;
	return at;
}

static void forget(struct metacache *m, struct entry **at)
{
	struct entry *e = *at;

	*at = e->next;
	list_remove(&e->recent);
	m->counters.entries--;
	m->counters.bytes -= e->bytes;
	free(e);
}

/* Where an entry hangs. */
static struct entry **place_of(struct metacache *m, const struct entry *e)
{
	struct entry **at = &m->buckets[e->hash & m->mask];

	while (*at != e)
		at = &(*at)->next;
	return at;
}

const struct metacache_value *metacache_find(struct metacache *m, uint64_t realm, struct str key, uint32_t hash)
{
	struct entry *e = *find(m, realm, key, hash);

	if (!e)
		return NULL;
	if (m->recent.next != &e->recent) {
		list_remove(&e->recent);
		list_add_head(&m->recent, &e->recent);
	}
	return &e->value;
}

static void make_room(struct metacache *m, size_t bytes)
{
	while (m->counters.entries &&
	       (m->counters.entries >= m->max_entries || m->counters.bytes + bytes > m->max_bytes)) {
		forget(m, place_of(m, CONTAINER_OF(m->recent.prev, struct entry, recent)));
		m->counters.evictions++;
	}
}

static struct str put_text(char **at, struct str s)
{
	struct str copy = str_of(*at, s.n);

	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

bool metacache_put(struct metacache *m, uint64_t realm, struct str key, uint32_t hash,
		   const struct metacache_value *value)
{
	size_t bytes = sizeof(struct entry) + key.n + value->head.n + value->body.n;
	struct entry **at = find(m, realm, key, hash);
	struct entry *e;
	char *text;

	if (*at)
		forget(m, at);
	e = bytes <= m->max_bytes ? malloc(bytes) : NULL;
	if (!e)
		return false;
	make_room(m, bytes);
	e->realm = realm;
	e->hash = hash;
	e->key_bytes = key.n;
	e->bytes = bytes;
	e->value = *value;
	text = e->text;
	put_text(&text, key);
	e->value.head = put_text(&text, value->head);
	e->value.body = put_text(&text, value->body);
	at = &m->buckets[hash & m->mask];
	e->next = *at;
	*at = e;
	list_add_head(&m->recent, &e->recent);
	m->counters.entries++;
	m->counters.bytes += bytes;
	return true;
}

size_t metacache_drop(struct metacache *m, uint64_t realm, struct str key, uint32_t hash)
{
	struct entry **at = find(m, realm, key, hash);

	if (!*at)
		return 0;
	forget(m, at);
	return 1;
}

size_t metacache_drop_realm(struct metacache *m, uint64_t realm)
{
	size_t n = 0;

	LIST_FOREACH_SAFE (i, &m->recent) {
		struct entry *e = CONTAINER_OF(i, struct entry, recent);
		if (e->realm != realm)
			continue;
		forget(m, place_of(m, e));
		n++;
	}
	return n;
}

size_t metacache_drop_all(struct metacache *m)
{
	size_t n = 0;

	LIST_FOREACH_SAFE (i, &m->recent) {
		forget(m, place_of(m, CONTAINER_OF(i, struct entry, recent)));
		n++;
	}
	return n;
}

struct metacache_counters metacache_counters(const struct metacache *m)
{
	return m->counters;
}

uint64_t metacache_age_ms(const struct metacache_value *v, uint64_t now_ms)
{
	return v->age_ms + (now_ms > v->asked_at_ms ? now_ms - v->asked_at_ms : 0);
}

enum metacache_use metacache_use(const struct metacache_value *v, const struct metacache_rule *rule, uint64_t now_ms)
{
	uint64_t age = metacache_age_ms(v, now_ms);
	uint64_t over = age < v->fresh_ms ? 0 : age - v->fresh_ms;

	if (age < v->fresh_ms && !v->kept)
		return METACACHE_FRESH;
	if (over < rule->while_revalidate_ms && !v->kept)
		return METACACHE_REVALIDATE;
	return over < rule->if_error_ms ? METACACHE_IF_ERROR : METACACHE_NOTHING;
}
