/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/limiter: what each owner may have under way. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "gateway/config.h"
#include "gateway/limiter.h"

#define SECOND UINT64_C(1000000000)

/* How many requests pass at `now`, each given back at once; at most 10,000. */
static unsigned burst(struct limiter_owner *o, const struct config_limits *limits, uint64_t now)
{
	struct limiter_refusal why;
	unsigned n = 0;

	while (n < 10000 && limiter_request_take(o, limits, now, &why)) {
		limiter_request_give(o, now);
		n++;
	}
	return n;
}

/* One second's requests may come at once; after that they come at the rate, and Retry-After says when. */
Test(gateway_limiter, rate)
{
	static const uint64_t rates[] = {1, 2, 3, 7, 50, 999, 1000};

	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct limiter *l = limiter_new();
		const struct config_limits limits = {.requests_per_second = rates[i]};
		struct limiter_owner *o = limiter_owner_ref(l, "alice", 5 * SECOND);
		struct limiter_refusal why = {NULL, 0};
		uint64_t now = 5 * SECOND;
		uint64_t passed = 0;

		cr_expect_eq(burst(o, &limits, now), rates[i], "burst of %lu", (unsigned long)rates[i]);
		cr_expect(!limiter_request_take(o, &limits, now, &why));
		cr_expect_str_eq(why.limit, "limits.requests_per_second");
		cr_expect_eq(why.retry_after_s, 1);
		cr_expect_eq(burst(o, &limits, now + SECOND / rates[i] / 2), 0);
		for (unsigned step = 1; step <= 100; step++)
			passed += burst(o, &limits, now + step * (SECOND / 10));
		cr_expect_geq(passed, rates[i] * 10 - 1);
		cr_expect_leq(passed, rates[i] * 10 + 1);
		cr_expect_eq(burst(o, &limits, now + 1000 * SECOND), rates[i],
			     "idleness saves up no more than a second");
		limiter_owner_unref(o, now);
		limiter_free(l);
	}
}

/* Without a limit nothing is refused, and what a rule without one lets through costs nothing. */
Test(gateway_limiter, none)
{
	struct limiter *l = limiter_new();
	const struct config_limits none = {.max_vcpus = 1};
	const struct config_limits one = {.requests_per_second = 1};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", 0);

	cr_expect_eq(burst(o, &none, 0), 10000);
	cr_expect_eq(burst(o, &one, 0), 1);
	limiter_owner_unref(o, 0);
	limiter_free(l);
}

/* What is refused counts with its limit, also what the caller found himself; the keys are those of the configuration. */
Test(gateway_limiter, refusals)
{
	static const char *const keys[LIMITER_LIMITS] = {"connections", "concurrent_requests", "requests_per_second",
							 "sandboxes"};
	struct limiter *l = limiter_new();
	const struct config_limits one = {.connections = 1, .concurrent_requests = 1, .sandboxes = 1};
	const struct config_limits slow = {.requests_per_second = 1};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", 0);
	struct limiter_refusal why;

	for (unsigned i = 0; i < 3; i++) {
		cr_expect_eq(limiter_connection_take(o, &one, &why), i == 0);
		cr_expect_eq(limiter_request_take(o, &one, 0, &why), i == 0);
		cr_expect_eq(limiter_spawn_take(o, &one, 0, &why), i == 0);
	}
	limiter_request_give(o, 0);
	cr_expect_eq(burst(o, &slow, 0), 1);
	limiter_note_refused(o, LIMITER_SANDBOXES);
	cr_expect_eq(limiter_refused(l, LIMITER_CONNECTIONS), 2);
	cr_expect_eq(limiter_refused(l, LIMITER_CONCURRENT_REQUESTS), 2);
	cr_expect_eq(limiter_refused(l, LIMITER_REQUESTS_PER_SECOND), 1);
	cr_expect_eq(limiter_refused(l, LIMITER_SANDBOXES), 3);
	for (unsigned i = 0; i < LIMITER_LIMITS; i++)
		cr_expect_str_eq(limiter_limit_text((enum limiter_limit)i), keys[i]);
	limiter_connection_give(o, 0);
	limiter_spawn_give(o, 0);
	limiter_owner_unref(o, 0);
	limiter_free(l);
}

/* Rules of different rates draw on one account: what one let through, the other has less. */
Test(gateway_limiter, per_owner_not_per_rule)
{
	struct limiter *l = limiter_new();
	const struct config_limits slow = {.requests_per_second = 2};
	const struct config_limits fast = {.requests_per_second = 100};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", 0);
	struct limiter_owner *same = limiter_owner_ref(l, "alice", 0);
	struct limiter_owner *other = limiter_owner_ref(l, "bob", 0);

	cr_expect_eq(o, same);
	cr_expect_neq(o, other);
	cr_expect_eq(burst(o, &slow, 0), 2);
	cr_expect_eq(burst(same, &fast, 0), 0);
	cr_expect_eq(burst(other, &fast, 0), 100);
	cr_expect_eq(burst(other, &slow, 0), 0);
	limiter_owner_unref(o, 0);
	limiter_owner_unref(same, 0);
	limiter_owner_unref(other, 0);
	limiter_free(l);
}

/* Requests under way are counted; one refused for that costs nothing of the rate. */
Test(gateway_limiter, concurrent)
{
	struct limiter *l = limiter_new();
	const struct config_limits limits = {.concurrent_requests = 3, .requests_per_second = 4};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", 0);
	struct limiter_refusal why;

	for (int i = 0; i < 3; i++)
		cr_expect(limiter_request_take(o, &limits, 0, &why));
	for (int i = 0; i < 3; i++) {
		cr_expect(!limiter_request_take(o, &limits, 0, &why));
		cr_expect_str_eq(why.limit, "limits.concurrent_requests");
		cr_expect_eq(why.retry_after_s, 1);
	}
	cr_expect_eq(limiter_owner_counts(o).requests, 3);
	limiter_request_give(o, 0);
	cr_expect(limiter_request_take(o, &limits, 0, &why));
	limiter_request_give(o, 0);
	cr_expect(!limiter_request_take(o, &limits, 0, &why));
	cr_expect_str_eq(why.limit, "limits.requests_per_second");
	limiter_request_give(o, 0);
	limiter_request_give(o, 0);
	limiter_owner_unref(o, 0);
	limiter_free(l);
}

/* Connections, and sandboxes: those present and the spawns under way together. */
Test(gateway_limiter, connections_and_sandboxes)
{
	struct limiter *l = limiter_new();
	const struct config_limits limits = {.connections = 2, .sandboxes = 3};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", 0);
	struct limiter_refusal why;

	cr_expect(limiter_connection_take(o, &limits, &why));
	cr_expect(limiter_connection_take(o, &limits, &why));
	cr_expect(!limiter_connection_take(o, &limits, &why));
	cr_expect_str_eq(why.limit, "limits.connections");
	limiter_connection_give(o, 0);
	cr_expect(limiter_connection_take(o, &limits, &why));

	cr_expect(!limiter_spawn_take(o, &limits, 3, &why));
	cr_expect(!limiter_spawn_take(o, &limits, UINT64_MAX, &why));
	cr_expect(limiter_spawn_take(o, &limits, 1, &why));
	cr_expect(limiter_spawn_take(o, &limits, 1, &why));
	cr_expect(!limiter_spawn_take(o, &limits, 1, &why));
	cr_expect_str_eq(why.limit, "limits.sandboxes");
	cr_expect_geq(why.retry_after_s, 1);
	limiter_spawn_give(o, 0);
	cr_expect(limiter_spawn_take(o, &limits, 1, &why));

	cr_expect_eq(limiter_owner_counts(o).connections, 2);
	cr_expect_eq(limiter_owner_counts(o).spawns, 2);
	limiter_spawn_give(o, 0);
	limiter_spawn_give(o, 0);
	limiter_connection_give(o, 0);
	limiter_connection_give(o, 0);
	limiter_owner_unref(o, 0);
	limiter_free(l);
}

/* Who connects anew for each request has no fresh allowance; after a second of idleness the entry is gone. */
Test(gateway_limiter, idle_entries)
{
	struct limiter *l = limiter_new();
	const struct config_limits limits = {.requests_per_second = 5};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", SECOND);

	cr_expect_eq(burst(o, &limits, SECOND), 5);
	limiter_owner_unref(o, SECOND);
	o = limiter_owner_ref(l, "alice", SECOND + 1);
	cr_expect_eq(burst(o, &limits, SECOND + 1), 0);
	limiter_owner_unref(o, SECOND + 1);
	cr_expect_eq(limiter_owners(l), 1);
	limiter_owner_unref(limiter_owner_ref(l, "bob", SECOND * 2), SECOND * 2);
	cr_expect_eq(limiter_owners(l), 2, "gone a nanosecond too early");
	limiter_owner_unref(limiter_owner_ref(l, "bob", SECOND * 2 + 1), SECOND * 2 + 1);
	cr_expect_eq(limiter_owners(l), 1);
	limiter_free(l);
}

/* What is taken holds the entry when the connection has gone. */
Test(gateway_limiter, held_by_what_is_taken)
{
	struct limiter *l = limiter_new();
	const struct config_limits limits = {.sandboxes = 1};
	struct limiter_owner *o = limiter_owner_ref(l, "alice", 0);
	struct limiter_refusal why;

	cr_expect(limiter_spawn_take(o, &limits, 0, &why));
	limiter_owner_unref(o, 0);
	cr_expect_eq(limiter_owner_ref(l, "alice", 100 * SECOND), o);
	cr_expect(!limiter_spawn_take(o, &limits, 0, &why));
	limiter_spawn_give(o, 100 * SECOND);
	limiter_owner_unref(o, 100 * SECOND);
	limiter_free(l);
}

/* The table is bounded, and has room again when owners have gone. */
Test(gateway_limiter, bounded)
{
	static struct limiter_owner *all[LIMITER_OWNERS_MAX];
	struct limiter *l = limiter_new();
	char name[32];

	for (int i = 0; i < LIMITER_OWNERS_MAX; i++) {
		snprintf(name, sizeof(name), "owner-%d", i);
		all[i] = limiter_owner_ref(l, name, 0);
		cr_assert_not_null(all[i]);
	}
	cr_expect_null(limiter_owner_ref(l, "one-more", 0));
	cr_expect_eq(limiter_owner_ref(l, "owner-7", 0), all[7]);
	limiter_owner_unref(all[7], 0);
	limiter_owner_unref(all[9], 0);
	cr_expect_null(limiter_owner_ref(l, "one-more", SECOND - 1));
	all[9] = limiter_owner_ref(l, "one-more", SECOND);
	cr_expect_not_null(all[9]);
	for (int i = 0; i < LIMITER_OWNERS_MAX; i++)
		limiter_owner_unref(all[i], 2 * SECOND);
	cr_expect_eq(limiter_owners(l), LIMITER_OWNERS_MAX);
	limiter_free(l);
	limiter_free(NULL);
}
