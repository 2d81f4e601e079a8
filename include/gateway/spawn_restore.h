/* SPDX-License-Identifier: Apache-2.0 */
/* Takes up what was under way when the process before this one ended: by the journal's records of spawns. */
#ifndef GATEWAY_SPAWN_RESTORE_H
#define GATEWAY_SPAWN_RESTORE_H

#include "common/str.h"

struct snapshot;
struct spawn_shared;

/* A record whose key begins with SPAWN_JOURNAL_PREFIX: kept for spawn_restore. */
void spawn_restore_recall(struct spawn_shared *s, struct str key, struct str value);
/* Watches for what was under way. Once, before anything is accepted. */
void spawn_restore(struct spawn_shared *s, const struct snapshot *snapshot);
/* Drops what was recalled and not taken up; it stays in the journal. */
void spawn_restore_fini(struct spawn_shared *s);

#endif
