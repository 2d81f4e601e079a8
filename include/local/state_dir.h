/* SPDX-License-Identifier: Apache-2.0 */
/* The directory in which sandboxes keep their files while they live: locked, cleaned, one subdirectory each. */
#ifndef LOCAL_STATE_DIR_H
#define LOCAL_STATE_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

struct state_dir {
	int fd;     /* owned: the directory, locked; -1 when not open */
	int boxes;  /* owned: its subdirectory "sandboxes"; -1 when not open */
	char *path; /* owned: absolute path of "sandboxes" */
};

/*
 * Makes the directory (0700, parents too) if it is missing and locks it. Blocking. 0, or a negative errno and `why`: -EWOULDBLOCK
 * when another process holds the lock, -EPERM when the directory is somebody else's. On failure nothing stays open.
 */
MUST_CHECK int state_dir_open(struct state_dir *dir, const char *path, char *why, size_t why_size);
void state_dir_close(struct state_dir *dir);

/* Removes what sandboxes of an earlier run left, but of those that live. Blocking. 0, or a negative errno and `why`. */
MUST_CHECK int state_dir_clean(const struct state_dir *dir, bool (*lives)(void *arg, const char *id), void *arg,
			       char *why, size_t why_size);

/* A number that differs between state directories. */
unsigned long state_dir_seed(const struct state_dir *dir);

/* Makes the directory of a sandbox: tmp, app, workspace, home, all of uid's (and a gid of that number) if uid is not 0. */
MUST_CHECK int state_dir_make_box(const struct state_dir *dir, const char *id, uid_t uid);

/* Starts a child that removes it; its exit status is 0 when nothing is left. The pid, or negative errno. */
MUST_CHECK pid_t state_dir_start_removal(const struct state_dir *dir, const char *id);

#endif
