/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "gateway/owner.h"

static struct owner_table *t;

static void make(void)
{
	t = owner_table_new(1000);
	cr_assert_not_null(t);
}

static void drop(void)
{
	owner_table_free(t);
}

static void learn(uint64_t realm, struct str id, struct str owner)
{
	owner_learn(t, realm, id, owner, STR(""), 1);
}

TestSuite(gateway_owner, .init = make, .fini = drop);

/* What was never learned is unknown; what was is its owner's and nobody else's. */
Test(gateway_owner, learn)
{
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_UNKNOWN);
	learn(1, STR("sb-1"), STR("alice"));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alic")), OWNER_OTHER);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice2")), OWNER_OTHER);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("bob")), OWNER_OTHER);
	cr_expect_eq(owner_ask(t, 1, STR("sb-11"), STR("alice")), OWNER_UNKNOWN);
	cr_expect_eq(owner_ask(t, 2, STR("sb-1"), STR("alice")), OWNER_UNKNOWN, "another server's");
}

/* A sandbox without an owner is nobody's, an empty user id included. */
Test(gateway_owner, nobody)
{
	learn(1, STR("sb-1"), STR(""));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_OTHER);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("")), OWNER_OTHER);
}

/* A destroyed one is gone for its owner, and to everybody else it is another's as before. */
Test(gateway_owner, gone)
{
	learn(1, STR("sb-1"), STR("alice"));
	owner_gone(t, 1, STR("sb-1"));
	owner_gone(t, 1, STR("sb-2"));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_GONE);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("bob")), OWNER_OTHER);
	cr_expect_eq(owner_ask(t, 1, STR("sb-2"), STR("alice")), OWNER_UNKNOWN);
}

/* C8: the table keeps to its bound, and forgets what nobody has asked for longest. */
Test(gateway_owner, C8_bound)
{
	char id[16];

	learn(1, STR("kept"), STR("alice"));
	for (int i = 0; i < 100000; i++) {
		learn(1, str_of(id, (size_t)snprintf(id, sizeof(id), "sb-%d", i)), STR("bob"));
		cr_assert_eq(owner_ask(t, 1, STR("kept"), STR("alice")), OWNER_SAME);
	}
	cr_expect_eq(owner_ask(t, 1, STR("sb-99999"), STR("bob")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("bob")), OWNER_UNKNOWN);
	cr_expect_eq(owner_forget_all(t), 1000);
}

/* Learned anew, it has its new owner and counts once. */
Test(gateway_owner, again)
{
	learn(1, STR("sb-1"), STR("alice"));
	owner_gone(t, 1, STR("sb-1"));
	learn(1, STR("sb-1"), STR("bob"));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("bob")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_OTHER);
	cr_expect_eq(owner_forget_all(t), 1);
}

/* What is too long to be an id or a user id is not remembered, and not taken for its beginning. */
Test(gateway_owner, too_long)
{
	char text[200];

	memset(text, 'a', sizeof(text));
	learn(1, str_of(text, 129), STR("alice"));
	learn(1, STR("sb-1"), str_of(text, 129));
	cr_expect_eq(owner_forget_all(t), 0);
	learn(1, str_of(text, 128), str_of(text, 128));
	cr_expect_eq(owner_ask(t, 1, str_of(text, 128), str_of(text, 128)), OWNER_SAME);
}

/* What is forgotten is unknown; what is forgotten of a server leaves the others' and what is destroyed for good. */
Test(gateway_owner, forgotten)
{
	static const char *const ids[] = {"sb-1", "sb-2", "sb-3", "sb-4"};

	for (size_t i = 0; i < 4; i++)
		learn(1, str_from(ids[i]), STR("alice"));
	learn(2, STR("sb-1"), STR("alice"));
	owner_gone(t, 1, STR("sb-4"));
	owner_forget(t, 1, STR("sb-2"));
	owner_forget(t, 1, STR("sb-5"));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-2"), STR("alice")), OWNER_UNKNOWN);
	owner_forget_realm(t, 1);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_UNKNOWN);
	cr_expect_eq(owner_ask(t, 1, STR("sb-3"), STR("alice")), OWNER_UNKNOWN);
	cr_expect_eq(owner_ask(t, 1, STR("sb-4"), STR("alice")), OWNER_GONE);
	cr_expect_eq(owner_ask(t, 2, STR("sb-1"), STR("alice")), OWNER_SAME);
	cr_expect_eq(owner_forget_all(t), 2);
}

/* What its record said of the preview domain, and when; the last one stands. */
Test(gateway_owner, domains)
{
	struct str domain;
	uint64_t seen;

	cr_expect_not(owner_domain(t, 1, STR("sb-1"), &domain, &seen));
	owner_learn(t, 1, STR("sb-1"), STR("alice"), STR("preview.example"), 7);
	cr_assert(owner_domain(t, 1, STR("sb-1"), &domain, &seen));
	cr_expect(str_eq(domain, STR("preview.example")));
	cr_expect_eq(seen, 7);
	cr_expect_not(owner_domain(t, 2, STR("sb-1"), &domain, &seen), "another server's");
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_SAME);
	owner_learn(t, 1, STR("sb-1"), STR(""), STR(""), 9);
	cr_assert(owner_domain(t, 1, STR("sb-1"), &domain, &seen));
	cr_expect(domain.n == 0 && seen == 9);
	owner_gone(t, 1, STR("sb-1"));
	cr_expect_not(owner_domain(t, 1, STR("sb-1"), &domain, &seen), "nothing is said of a destroyed one");
	cr_expect_eq(owner_forget_all(t), 1);
}

/* C8: records are bounded as all else, the longest used first; a domain that is none of a name's length is not kept. */
Test(gateway_owner, C8_domains)
{
	char id[16];
	char text[300];
	struct str domain;
	uint64_t seen;

	memset(text, 'a', sizeof(text));
	owner_learn(t, 1, STR("kept"), STR(""), str_of(text, 253), 1);
	for (int i = 0; i < 5000; i++) {
		owner_learn(t, 1, str_of(id, (size_t)snprintf(id, sizeof(id), "sb-%d", i)), STR("bob"), STR("x"), 1);
		cr_assert(owner_domain(t, 1, STR("kept"), &domain, &seen));
	}
	cr_expect_eq(domain.n, 253);
	owner_learn(t, 1, STR("kept"), STR(""), str_of(text, 254), 1);
	cr_expect_not(owner_domain(t, 1, STR("kept"), &domain, &seen));
	cr_expect_eq(owner_forget_all(t), 999);
}
