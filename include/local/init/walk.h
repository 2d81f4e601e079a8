/* SPDX-License-Identifier: Apache-2.0 */
/* Work on many files, as a worker process does it: it blocks, and answers by messages on a descriptor. */
#ifndef LOCAL_INIT_WALK_H
#define LOCAL_INIT_WALK_H

#include "common/buf.h"
#include "common/str.h"

/* Where a worker's messages go. */
struct walk {
	int fd;         /* borrowed; blocking */
	struct buf out; /* not yet written */
	size_t entries; /* sent so far */
	size_t bytes;   /* what they cost */
	const char *a;  /* borrowed: cleaned path or pattern */
	const char *b;  /* borrowed: the second path of a move */
};

/* Each does its work; 0 or a negative errno, to be answered by the caller. */
int walk_list(struct walk *w);
int walk_glob(struct walk *w);
int walk_delete(struct walk *w);
int walk_move(struct walk *w);

/* Sends what is buffered. 0 or negative errno. */
int walk_flush(struct walk *w);

/* The entry for what stat() found. */
struct wire_event;
struct stat;
void walk_fill_entry(struct wire_event *e, struct str path, const struct stat *st);

/* Makes the directories that a path needs, 0755. 0 or negative errno. */
int walk_make_parents(const char *path);

#endif
