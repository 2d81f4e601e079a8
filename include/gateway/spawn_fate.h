/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a spawn: who is told what, and whether its sandbox is given, looked for, kept or destroyed. For the parts of spawn. */
#ifndef GATEWAY_SPAWN_FATE_H
#define GATEWAY_SPAWN_FATE_H

#include "common/str.h"
#include "gateway/spawn_shared.h"

struct fetch_caller;
struct sandbox_doc;
struct spawn;

/* One that waits for its turn, on the list of all, without token or client; texts are copied. NULL without memory. */
struct spawn *spawn_fate_new(struct spawn_shared *s, const struct fetch_caller *caller, const char *credential);

/* Nothing is to be known of it any more: it is gone when its client, if any, is told that. */
void spawn_fate_end(struct spawn *p, const struct spawn_result *r);
/* The same with an error. */
void spawn_fate_fail(struct spawn *p, unsigned status, const char *why);
/* The client, if any, gets an error, and the spawn is no longer his: it goes on without him, and may be gone afterwards. */
void spawn_fate_tell(struct spawn *p, unsigned status, const char *why);

/* The sandbox is there: it is the client's, or what becomes of one that nobody waits for. May be gone afterwards. */
void spawn_fate_use(struct spawn *p, struct str head, struct str body, const struct sandbox_doc *doc);
/* SENT: the answer was lost, its sandbox is looked for. */
void spawn_fate_watch(struct spawn *p);
/* WATCHED: nobody waits, it is looked for until its time is over. */
void spawn_fate_watch_on(struct spawn *p);
/* Its client has left, or there never was one: the sandbox waits for the retry. */
void spawn_fate_keep(struct spawn *p);
/* Nobody waits any more. It may be gone afterwards. */
void spawn_fate_leave(struct spawn *p);

#endif
