/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "common/list.h"

struct item {
	int n;
	struct list link; /* on the test's list */
};

static int sum_in_order(struct list *head)
{
	int sum = 0;

	LIST_FOREACH (n, head)
		sum = sum * 10 + CONTAINER_OF(n, struct item, link)->n;
	return sum;
}

/* Both ends, the middle, and a node that is on no list. */
Test(common_list, add_and_remove)
{
	struct list head;
	struct item a = {.n = 1};
	struct item b = {.n = 2};
	struct item c = {.n = 3};

	list_init(&head);
	list_init(&a.link);
	cr_expect(list_empty(&head));
	cr_expect_null(LIST_FIRST(&head, struct item, link));
	list_remove(&a.link);
	list_add_tail(&head, &a.link);
	list_add_tail(&head, &b.link);
	list_add_head(&head, &c.link);
	cr_expect_eq(sum_in_order(&head), 312);
	cr_expect_eq(LIST_FIRST(&head, struct item, link), &c);
	list_remove(&a.link);
	cr_expect(list_empty(&a.link));
	list_remove(&a.link);
	cr_expect_eq(sum_in_order(&head), 32);
	list_remove(&c.link);
	list_remove(&b.link);
	cr_expect(list_empty(&head));
}

/* The safe loop allows every node to be removed and freed. */
Test(common_list, free_in_the_loop)
{
	struct list head;

	list_init(&head);
	for (int i = 0; i < 5; i++) {
		struct item *it = malloc(sizeof(*it));
		cr_assert_not_null(it);
		it->n = i;
		list_add_tail(&head, &it->link);
	}
	LIST_FOREACH_SAFE (n, &head) {
		list_remove(n);
		free(CONTAINER_OF(n, struct item, link));
	}
	cr_expect(list_empty(&head));
}
