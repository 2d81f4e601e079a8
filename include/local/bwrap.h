/* SPDX-License-Identifier: Apache-2.0 */
/* Starts bubblewrap for one sandbox: its arguments, its descriptors, and what happens between fork and exec. */
#ifndef LOCAL_BWRAP_H
#define LOCAL_BWRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/str.h"

/* The program, found once. */
struct bwrap {
	char *path; /* owned */
	int fd;     /* owned: O_PATH, so that another uid can run it wherever it lies */
};

/* Finds it: `path`, or in PATH if that is NULL. 0, or a negative errno and `why`. */
MUST_CHECK int bwrap_find(struct bwrap *bwrap, const char *path, char *why, size_t why_size);
void bwrap_close(struct bwrap *bwrap);

struct bwrap_spec {
	const char *box;       /* borrowed: absolute path of the sandbox's directory */
	const char *host_name; /* borrowed */
	uid_t uid;             /* become this uid and gid first (only as root); 0: stay who we are */
	bool door;             /* its init may outlive us, and waits at a door for the next server */
	struct str
		init_image; /* borrowed: the program to run as process 1; empty: a trial that only tests the set-up */
};

struct bwrap_child {
	pid_t pid;  /* bubblewrap, a child of ours to be reaped; -1: none */
	int pidfd;  /* owned by the caller from here on, as the others; -1: none */
	int sock;   /* to the init; non-blocking */
	int leash;  /* held open for as long as the sandbox may live (see the init's main) */
	int door;   /* the next socket to the init goes through here; non-blocking; -1: it has none */
	int info;   /* bubblewrap writes the pid of the init here; non-blocking */
	int errors; /* bubblewrap's stderr; non-blocking */
};

/* 0, or a negative errno and nothing is left open or running. */
MUST_CHECK int bwrap_spawn(const struct bwrap *bwrap, const struct bwrap_spec *spec, struct bwrap_child *out);

/* Nothing started, nothing open. */
extern const struct bwrap_child bwrap_child_none;

/* Closes what is open; does not reap. */
void bwrap_child_close(struct bwrap_child *child);

/*
 * What to tell people, from what bubblewrap wrote: whether the kernel refuses user namespaces (-EPERM, and the setting to
 * change) or something else went wrong (-EIO). No host path is in it.
 */
int bwrap_explain(struct str errors, char *why, size_t why_size);

/* Tries the whole set-up once with a program that ends at once. Blocking, up to 10 s. 0, or negative errno and `why`. */
MUST_CHECK int bwrap_try(const struct bwrap *bwrap, const char *box, uid_t uid, char *why, size_t why_size);

#endif
