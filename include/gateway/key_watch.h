/* SPDX-License-Identifier: Apache-2.0 */
/* Notices that a key file has been written, replaced, or given another owner or mode. */
#ifndef GATEWAY_KEY_WATCH_H
#define GATEWAY_KEY_WATCH_H

#include <sys/stat.h>

#include "common/err.h"
#include "common/list.h"

struct key_watch;
struct loop;

/* One watched file; embedded in what reads it. */
struct key_watch_file {
	struct list link; /* key_watch.files */
	char *path;       /* owned */
	int wd;           /* of its directory; -1: not watched now */
	struct stat seen; /* as it was last read; zeroed: not there */
	/* It differs from what was seen, or has gone. May remove files, this one too. */
	void (*on_change)(struct key_watch_file *f);
};

/* `loop` is borrowed for its life. 0 or -ENOMEM; without inotify it looks at the files from time to time. */
MUST_CHECK int key_watch_new(struct loop *loop, struct key_watch **out);
/* After the last file has been removed. NULL is fine. */
void key_watch_free(struct key_watch *w);

/* Begins to watch; the caller has set on_change. 0 or -ENOMEM. */
MUST_CHECK int key_watch_add(struct key_watch *w, struct key_watch_file *f, const char *path);
/* Harmless for a zeroed one. */
void key_watch_remove(struct key_watch *w, struct key_watch_file *f);

/* To be called right before the file is read: what is there now needs no on_change. */
void key_watch_note(struct key_watch_file *f);

#endif
