/* SPDX-License-Identifier: Apache-2.0 */
/* Looks for spawns whose answer was lost: reads the lists of servers until they show the token that a spawn was sent with. */
#ifndef GATEWAY_SPAWN_SEARCH_H
#define GATEWAY_SPAWN_SEARCH_H

#include "common/err.h"
#include "common/list.h"
#include "common/str.h"

struct fetch_caller;
struct loop;
struct sandbox_doc;
struct spawn_poll;

enum spawn_pace {
	SPAWN_PACE_NONE, /* it is not looked for */
	SPAWN_PACE_SLOW, /* every few minutes: it may appear after all */
	SPAWN_PACE_FAST, /* every few seconds: somebody may wait for it */
};

/* All of them. */
struct spawn_searches {
	struct loop *loop; /* borrowed */
	struct list polls; /* struct spawn_poll */
};

/* Embedded in who may have to look for a token. */
struct spawn_search {
	struct list link;        /* on its poll's searches */
	struct spawn_poll *poll; /* borrowed; NULL before it has joined */
	enum spawn_pace pace;    /* set at any time; see spawn_search_hurry */
	const char *token;       /* borrowed; may be filled in until the first hurry */
	/* A list shows it; both borrowed for the call, `json` is the record as the server wrote it. Anything may be done from within. */
	void (*on_found)(struct spawn_search *s, const struct sandbox_doc *doc, struct str json);
};

void spawn_searches_init(struct spawn_searches *all, struct loop *loop);
/* Nobody looks any more. */
void spawn_searches_fini(struct spawn_searches *all);

void spawn_search_init(struct spawn_search *s, const char *token,
		       void (*on_found)(struct spawn_search *s, const struct sandbox_doc *doc, struct str json));
/*
 * Takes what looking will need, so that it never lacks memory: the list that this caller sees is read once for all who joined with
 * the same upstream and key. 0 or -ENOMEM; once.
 */
MUST_CHECK int spawn_search_join(struct spawn_searches *all, struct spawn_search *s, const struct fetch_caller *caller);
/* Harmless when it has not joined. */
void spawn_search_leave(struct spawn_search *s);

/* With a pace, after it has joined: its list is read now, and again and again at the pace of the fastest that is looked for in it. */
void spawn_search_hurry(struct spawn_search *s);

#endif
