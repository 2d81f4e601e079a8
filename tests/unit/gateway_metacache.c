/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/metacache.h"

enum {
	ENTRIES = 100,
	BYTES = 1 << 20
};

static struct metacache *m;

static void make(void)
{
	m = metacache_new(ENTRIES, BYTES, 42);
	cr_assert_not_null(m);
}

static void drop(void)
{
	metacache_free(m);
}

TestSuite(gateway_metacache, .init = make, .fini = drop);

static const struct metacache_value *find(uint64_t realm, const char *key)
{
	return metacache_find(m, realm, str_from(key), metacache_hash(m, realm, str_from(key)));
}

static bool put(uint64_t realm, const char *key, const char *body)
{
	const struct metacache_value v = {.head = STR("HTTP/1.1 200 OK\r\n"), .body = str_from(body)};

	return metacache_put(m, realm, str_from(key), metacache_hash(m, realm, str_from(key)), &v);
}

static bool holds(uint64_t realm, const char *key, const char *body)
{
	const struct metacache_value *v = find(realm, key);

	return v && str_eq(v->body, str_from(body)) && str_eq(v->head, STR("HTTP/1.1 200 OK\r\n"));
}

/* What is put is a copy, found by exactly its key in exactly its realm; putting again replaces. */
Test(gateway_metacache, put_and_find)
{
	char body[] = "one";

	cr_expect_null(find(1, "k"));
	cr_assert(put(1, "k", body));
	body[0] = 'x';
	cr_expect(holds(1, "k", "one"));
	cr_expect_null(find(2, "k"), "another server's");
	cr_expect_null(find(1, "kk"));
	cr_expect_null(find(1, ""));
	cr_assert(put(1, "k", "two"));
	cr_expect(holds(1, "k", "two"));
	cr_expect_eq(metacache_counters(m).entries, 1);
	cr_assert(put(1, "", ""));
	cr_expect(holds(1, "", ""));
}

/* C8: never more entries than allowed, and the one that nobody has asked for longest goes. */
Test(gateway_metacache, C8_entries)
{
	char key[16];

	cr_assert(put(1, "kept", "body"));
	for (int i = 0; i < 10 * ENTRIES; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		cr_assert(put(1, key, "body"));
		cr_expect(holds(1, "kept", "body"), "it was asked for just now");
		cr_expect_leq(metacache_counters(m).entries, ENTRIES);
	}
	cr_expect_null(find(1, "k0"));
	cr_expect_not_null(find(1, key));
	cr_expect_eq(metacache_counters(m).evictions, 9 * ENTRIES + 1);
}

/* C8: never more bytes, keys and heads counted; what is larger than all of them is not remembered, nor what it replaces. */
Test(gateway_metacache, C8_bytes)
{
	char *large = malloc(BYTES + 1);
	char key[16];

	memset(large, 'x', BYTES);
	large[BYTES] = '\0';
	cr_assert(put(1, "k", "small"));
	cr_expect_not(put(1, "k", large));
	cr_expect_null(find(1, "k"), "an older answer must not stand for it");
	cr_expect_eq(metacache_counters(m).bytes, 0);
	large[BYTES / 10] = '\0';
	for (int i = 0; i < 50; i++) {
		snprintf(key, sizeof(key), "k%d", i);
		cr_assert(put(1, key, large));
		cr_expect_leq(metacache_counters(m).bytes, BYTES);
	}
	cr_expect_eq(metacache_counters(m).entries, 9);
	cr_expect_geq(metacache_counters(m).bytes, 9 * BYTES / 10);
	free(large);
}

/* Forgetting: one key, a realm, everything; each says how many there were, and gives the bytes back. */
Test(gateway_metacache, forget)
{
	for (int i = 0; i < 5; i++) {
		char key[2] = {(char)('a' + i), '\0'};
		cr_assert(put(1, key, "1"));
		cr_assert(put(2, key, "2"));
	}
	cr_expect_eq(metacache_drop(m, 1, STR("a"), metacache_hash(m, 1, STR("a"))), 1);
	cr_expect_eq(metacache_drop(m, 1, STR("a"), metacache_hash(m, 1, STR("a"))), 0);
	cr_expect(holds(2, "a", "2"));
	cr_expect_eq(metacache_drop_realm(m, 1), 4);
	cr_expect_eq(metacache_drop_realm(m, 1), 0);
	cr_expect(holds(2, "e", "2"));
	cr_expect_eq(metacache_drop_all(m), 5);
	cr_expect_eq(metacache_counters(m).entries, 0);
	cr_expect_eq(metacache_counters(m).bytes, 0);
	cr_expect_eq(metacache_counters(m).evictions, 0, "nothing had to make room");
}

static const struct {
	uint64_t age; /* at the time asked for */
	uint64_t fresh, revalidate, error;
	bool kept;
	enum metacache_use use;
} ages[] = {
	{0, 30, 30, 600, false, METACACHE_FRESH},       {29, 30, 30, 600, false, METACACHE_FRESH},
	{30, 30, 30, 600, false, METACACHE_REVALIDATE}, {59, 30, 30, 600, false, METACACHE_REVALIDATE},
	{60, 30, 30, 600, false, METACACHE_IF_ERROR},   {629, 30, 30, 600, false, METACACHE_IF_ERROR},
	{630, 30, 30, 600, false, METACACHE_NOTHING},   {30, 30, 0, 0, false, METACACHE_NOTHING},
	{0, 0, 0, 0, false, METACACHE_NOTHING},         {40, 30, 30, 5, false, METACACHE_REVALIDATE},
	{0, 30, 30, 600, true, METACACHE_IF_ERROR},     {40, 30, 30, 600, true, METACACHE_IF_ERROR},
	{630, 30, 30, 600, true, METACACHE_NOTHING},    {0, 30, 30, 0, true, METACACHE_NOTHING},
};

/* What an answer is good for, by the time that is given and the age it had; a clock that stands still makes nothing old. */
Test(gateway_metacache, ages)
{
	for (size_t i = 0; i < sizeof(ages) / sizeof(ages[0]); i++) {
		const struct metacache_rule rule = {ages[i].revalidate, ages[i].error};
		for (uint64_t had = 0; had <= ages[i].age; had += 7) {
			const struct metacache_value v = {
				.asked_at_ms = 1000, .age_ms = had, .fresh_ms = ages[i].fresh, .kept = ages[i].kept};
			const uint64_t now = 1000 + ages[i].age - had;
			cr_expect_eq(metacache_age_ms(&v, now), ages[i].age);
			cr_expect_eq(metacache_use(&v, &rule, now), ages[i].use, "row %zu, had %llu", i,
				     (unsigned long long)had);
		}
	}
	const struct metacache_value v = {.asked_at_ms = 1000, .age_ms = 5, .fresh_ms = 30};
	cr_expect_eq(metacache_age_ms(&v, 900), 5, "asked in the future");
}

/* Where a key goes cannot be known without the seed. */
Test(gateway_metacache, seed)
{
	struct metacache *other = metacache_new(ENTRIES, BYTES, 43);

	cr_assert_not_null(other);
	cr_expect_neq(metacache_hash(m, 1, STR("some key of usual length")),
		      metacache_hash(other, 1, STR("some key of usual length")));
	cr_expect_neq(metacache_hash(m, 1, STR("k")), metacache_hash(m, 2, STR("k")));
	metacache_free(other);
	metacache_free(NULL);
}
