/* SPDX-License-Identifier: Apache-2.0 */
/* The last things that went wrong, for who asks the daemon what is the matter. Pure. */
#ifndef GATEWAY_RECENT_H
#define GATEWAY_RECENT_H

#include <stddef.h>
#include <stdint.h>

#include "common/str.h"

struct json_writer;

enum {
	RECENT_MAX = 32,
	RECENT_TEXT_MAX_BYTES = 300
};

struct recent_entry {
	int64_t wall_ns;   /* of the last time */
	uint64_t count;    /* how often, since it came in */
	const char *level; /* a literal */
	uint16_t bytes;    /* of text */
	char text[RECENT_TEXT_MAX_BYTES];
};

/* Embedded; zeroed at first. The newest stands last. */
struct recent {
	struct recent_entry entries[RECENT_MAX];
	size_t n;
};

/*
 * Something happened at wall_ns: a text that is there already moves to the end and counts once more, the oldest one makes room.
 * `level` is a literal, the text any bytes; what is longer than RECENT_TEXT_MAX_BYTES is cut.
 */
void recent_add(struct recent *r, int64_t wall_ns, const char *level, struct str text);

/* Adds an array, the newest first: objects of "time", "level", "count" and "text". */
void recent_write(const struct recent *r, struct json_writer *w, const char *key);

#endif
