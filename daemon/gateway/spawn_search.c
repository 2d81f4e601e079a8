/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/spawn_search.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/list_poll.h"

enum {
	FIRST_MS = 250,
	LONGEST_MS = 10000,
	SLOW_MS = 300000,
};

/* One list that is read for all who look for a token with one key. */
struct spawn_poll {
	struct list link;       /* on spawn_searches.polls */
	struct list_poll *poll; /* owned */
	struct list searches;   /* struct spawn_search */
	bool reading;           /* a round is under way, and frees it at its end when nobody has joined */
	uint64_t pause_ms;      /* before the next round */
};

static void poll_free(struct spawn_poll *poll)
{
	list_remove(&poll->link);
	list_poll_free(poll->poll);
	free(poll);
}

static void on_sandbox(void *arg, const struct sandbox_doc *doc, struct str json)
{
	struct spawn_poll *poll = arg;

	if (!doc->token[0])
		return;
	LIST_FOREACH (n, &poll->searches) {
		struct spawn_search *s = CONTAINER_OF(n, struct spawn_search, link);
		if (s->pace == SPAWN_PACE_NONE || strcmp(s->token, doc->token) != 0)
			continue;
		s->on_found(s, doc, json);
		return;
	}
}

static uint64_t on_round(void *arg, bool complete)
{
	struct spawn_poll *poll = arg;
	enum spawn_pace pace = SPAWN_PACE_NONE;

	(void)complete;
	if (list_empty(&poll->searches)) {
		poll_free(poll);
		return 0;
	}
	LIST_FOREACH (n, &poll->searches) {
		const struct spawn_search *s = CONTAINER_OF(n, struct spawn_search, link);
		pace = s->pace > pace ? s->pace : pace;
	}
	poll->reading = pace != SPAWN_PACE_NONE;
	if (pace == SPAWN_PACE_NONE)
		return 0;
	if (pace == SPAWN_PACE_SLOW)
		return SLOW_MS;
	poll->pause_ms = poll->pause_ms * 2 > LONGEST_MS ? LONGEST_MS : poll->pause_ms * 2;
	return poll->pause_ms;
}

static const struct list_poll_events events = {.on_sandbox = on_sandbox, .on_round = on_round};

static struct spawn_poll *find_poll(struct spawn_searches *all, const struct fetch_caller *caller)
{
	const struct fetch_caller asker = {caller->upstream, caller->key, caller->user_id, NULL, NULL};
	struct spawn_poll *poll;

	LIST_FOREACH (n, &all->polls) {
		poll = CONTAINER_OF(n, struct spawn_poll, link);
		if (list_poll_caller(poll->poll)->upstream == caller->upstream &&
		    list_poll_caller(poll->poll)->key == caller->key)
			return poll;
	}
	poll = calloc(1, sizeof(*poll));
	if (!poll)
		return NULL;
	list_init(&poll->searches);
	poll->poll = list_poll_new(all->loop, &asker, &events, poll);
	if (!poll->poll) {
		free(poll);
		return NULL;
	}
	list_add_tail(&all->polls, &poll->link);
	return poll;
}

void spawn_searches_init(struct spawn_searches *all, struct loop *loop)
{
	all->loop = loop;
	list_init(&all->polls);
}

void spawn_searches_fini(struct spawn_searches *all)
{
	LIST_FOREACH_SAFE (n, &all->polls)
		poll_free(CONTAINER_OF(n, struct spawn_poll, link));
}

void spawn_search_init(struct spawn_search *s, const char *token,
		       void (*on_found)(struct spawn_search *s, const struct sandbox_doc *doc, struct str json))
{
	list_init(&s->link);
	s->poll = NULL;
	s->pace = SPAWN_PACE_NONE;
	s->token = token;
	s->on_found = on_found;
}

int spawn_search_join(struct spawn_searches *all, struct spawn_search *s, const struct fetch_caller *caller)
{
	s->poll = find_poll(all, caller);
	if (!s->poll)
		return -ENOMEM;
	list_add_tail(&s->poll->searches, &s->link);
	return 0;
}

void spawn_search_leave(struct spawn_search *s)
{
	struct spawn_poll *poll = s->poll;

	s->poll = NULL;
	list_remove(&s->link);
	if (poll && list_empty(&poll->searches) && !poll->reading)
		poll_free(poll);
}

void spawn_search_hurry(struct spawn_search *s)
{
	s->poll->pause_ms = FIRST_MS;
	s->poll->reading = true;
	list_poll_hurry(s->poll->poll);
}
