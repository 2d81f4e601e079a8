/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the embedded server running: starts it, waits until it answers, starts it again when it ends, stops it. Or keeps in touch
 * with one that is a service of its own.
 */
#ifndef GATEWAY_LOCAL_SERVER_H
#define GATEWAY_LOCAL_SERVER_H

#include <stdbool.h>

#include "common/err.h"
#include "common/sm.h"

struct key;
struct keyring;
struct launcher;
struct local_server;
struct loop;

struct local_server_events {
	void (*on_ready)(void *arg, bool survived); /* it answers; survived: it is the same process as the last time */
	void (*on_stopped)(void *arg);              /* after local_server_stop: its process has ended, or is let go */
};

/* Makes its keys. 0 or a negative errno. `launcher` and `socket` are borrowed for its life. */
MUST_CHECK int local_server_new(struct loop *loop, struct launcher *launcher, const char *socket,
				const struct local_server_events *events, void *arg, struct local_server **out);
/*
 * One that somebody else starts and stops, on that socket, with its keys api.key and admin.key beside it; they and it may come later.
 * 0 or a negative errno. `socket` is borrowed for its life.
 */
MUST_CHECK int local_server_new_foreign(struct loop *loop, struct keyring *keyring, const char *socket,
					const struct local_server_events *events, void *arg, struct local_server **out);
void local_server_start(struct local_server *s);
/* Ends it in order: it destroys its sandboxes first. A second call has it killed. on_stopped follows in any case. */
void local_server_stop(struct local_server *s);
/* When it is stopped or was never started. NULL is fine. */
void local_server_free(struct local_server *s);

/* The keys it demands; borrowed. */
struct key *local_server_key(const struct local_server *s);
struct key *local_server_admin_key(const struct local_server *s);
/* Why it does not run, for people; NULL when it does. Borrowed until the next event. */
const char *local_server_trouble(const struct local_server *s);

/* The table of states, for the test that walks it. */
const struct sm *local_server_sm(void);

#endif
