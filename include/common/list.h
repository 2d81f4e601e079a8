/* SPDX-License-Identifier: Apache-2.0 */
/* An intrusive doubly linked list: a head is a node that points at itself when empty. */
#ifndef COMMON_LIST_H
#define COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next; /* borrowed; the head itself when this is the last */
	struct list *prev; /* borrowed; the head itself when this is the first */
};

#define CONTAINER_OF(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

/* Makes an empty head, or a node that is on no list. */
static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

/* Whether a head has no nodes, or a node is on no list. */
static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_add_head(struct list *head, struct list *node)
{
	node->next = head->next;
	node->prev = head;
	head->next->prev = node;
	head->next = node;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
	list_add_head(head->prev, node);
}

/* Takes a node off its list and makes it a node on none; harmless when it is on none. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#define LIST_FIRST(head, type, member) (list_empty(head) ? NULL : CONTAINER_OF((head)->next, type, member))

/* The loop variable n is a struct list *. */
#define LIST_FOREACH(n, head) for (struct list *n = (head)->next; n != (head); n = n->next)

/* The same; the current node may be removed or freed in the body. */
#define LIST_FOREACH_SAFE(n, head)                                                                                     \
	for (struct list *n = (head)->next, *n##_next = n->next; n != (head); n = n##_next, n##_next = n->next)

#endif
