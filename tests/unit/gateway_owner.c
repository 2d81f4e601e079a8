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

TestSuite(gateway_owner, .init = make, .fini = drop);

/* What was never learned is unknown; what was is its owner's and nobody else's. */
Test(gateway_owner, learn)
{
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_UNKNOWN);
	owner_learn(t, 1, STR("sb-1"), STR("alice"));
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
	owner_learn(t, 1, STR("sb-1"), STR(""));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_OTHER);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("")), OWNER_OTHER);
}

/* A destroyed one is gone for its owner, and to everybody else it is another's as before. */
Test(gateway_owner, gone)
{
	owner_learn(t, 1, STR("sb-1"), STR("alice"));
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

	owner_learn(t, 1, STR("kept"), STR("alice"));
	for (int i = 0; i < 100000; i++) {
		owner_learn(t, 1, str_of(id, (size_t)snprintf(id, sizeof(id), "sb-%d", i)), STR("bob"));
		cr_assert_leq(owner_table_count(t), 1000);
		cr_assert_eq(owner_ask(t, 1, STR("kept"), STR("alice")), OWNER_SAME);
	}
	cr_expect_eq(owner_ask(t, 1, STR("sb-99999"), STR("bob")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("bob")), OWNER_UNKNOWN);
	cr_expect_eq(owner_table_count(t), 1000);
}

/* Learned anew, it has its new owner and counts once. */
Test(gateway_owner, again)
{
	owner_learn(t, 1, STR("sb-1"), STR("alice"));
	owner_gone(t, 1, STR("sb-1"));
	owner_learn(t, 1, STR("sb-1"), STR("bob"));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("bob")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_OTHER);
	cr_expect_eq(owner_table_count(t), 1);
}

/* What is too long to be an id or a user id is not remembered, and not taken for its beginning. */
Test(gateway_owner, too_long)
{
	char text[200];

	memset(text, 'a', sizeof(text));
	owner_learn(t, 1, str_of(text, 129), STR("alice"));
	owner_learn(t, 1, STR("sb-1"), str_of(text, 129));
	cr_expect_eq(owner_table_count(t), 0);
	owner_learn(t, 1, str_of(text, 128), str_of(text, 128));
	cr_expect_eq(owner_ask(t, 1, str_of(text, 128), str_of(text, 128)), OWNER_SAME);
}

/* What is forgotten is unknown; what is forgotten of a server leaves the others' and what is destroyed for good. */
Test(gateway_owner, forgotten)
{
	static const char *const ids[] = {"sb-1", "sb-2", "sb-3", "sb-4"};

	for (size_t i = 0; i < 4; i++)
		owner_learn(t, 1, str_from(ids[i]), STR("alice"));
	owner_learn(t, 2, STR("sb-1"), STR("alice"));
	owner_gone(t, 1, STR("sb-4"));
	owner_forget(t, 1, STR("sb-2"));
	owner_forget(t, 1, STR("sb-5"));
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_SAME);
	cr_expect_eq(owner_ask(t, 1, STR("sb-2"), STR("alice")), OWNER_UNKNOWN);
	cr_expect_eq(owner_table_count(t), 4);
	owner_forget_realm(t, 1);
	cr_expect_eq(owner_ask(t, 1, STR("sb-1"), STR("alice")), OWNER_UNKNOWN);
	cr_expect_eq(owner_ask(t, 1, STR("sb-3"), STR("alice")), OWNER_UNKNOWN);
	cr_expect_eq(owner_ask(t, 1, STR("sb-4"), STR("alice")), OWNER_GONE);
	cr_expect_eq(owner_ask(t, 2, STR("sb-1"), STR("alice")), OWNER_SAME);
	cr_expect_eq(owner_table_count(t), 2);
}
