/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal keeps of a spawn, as text: all that the next start needs to look for its sandbox. */
#ifndef GATEWAY_SPAWN_RECORD_H
#define GATEWAY_SPAWN_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/* A plain value; texts are borrowed from whoever made it, or from `doc`. */
struct spawn_record {
	const char *state;
	const char *upstream;
	const char *url;
	const char *credential; /* NULL: none */
	const char *user_id;
	const char *id; /* of the sandbox; empty: it is not known */
	int64_t sent_wall_ms;
	int64_t until_wall_ms;
	bool keep;
	uint64_t keep_ms;
	void *doc; /* owned by a record that was read; for spawn_record_fini */
};

void spawn_record_write(const struct spawn_record *r, struct buf *out);
/* 0, -EPROTO when it is none, or -ENOMEM; *out can be used in any case, its texts empty, and is for spawn_record_fini. */
MUST_CHECK int spawn_record_read(struct str text, struct spawn_record *out);
void spawn_record_fini(struct spawn_record *r);

#endif
