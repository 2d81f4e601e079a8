/* SPDX-License-Identifier: Apache-2.0 */
/* What each program of ours does to its own process first, and how it tells time and place of others. */
#ifndef COMMON_PROCESS_H
#define COMMON_PROCESS_H

#include <limits.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/err.h"

/*
 * First thing in main: descriptors 0-2 exist (on /dev/null if they were closed), all others become CLOEXEC but
 * those in `keep` (ascending), SIGPIPE is ignored, no core dump, not dumpable (so not even the same uid can trace it
 * or read its memory), umask 077. 0 or negative errno.
 */
MUST_CHECK int process_harden(const int *keep, size_t nkeep);

/* Takes the variables by which the environment would steer TLS, proxies, curl or the dynamic linker out of it. */
void process_clean_environment(void);

/*
 * A daemon's log must not wait for its reader, but O_NONBLOCK on an inherited descriptor would change it for everybody who
 * shares it. So a pipe or terminal on descriptor 2 is opened once more, for this program and its children alone. Where that
 * cannot be done it stays as it is.
 */
void process_own_stderr(void);

/*
 * Last thing in main, after every secret is wiped. A build with LeakSanitizer becomes dumpable again here, since
 * that sanitizer traces the process; otherwise nothing happens.
 */
void process_before_exit(void);

/* Much memory has been freed: what malloc keeps of it goes back to the system. Takes up to a millisecond. */
void process_give_memory_back(void);

/* The path of another program of ours: beside this one, as in a build tree, else where it is installed, in `directory`. */
void process_find(const char *program, const char *directory, char out[PATH_MAX]);

/* pidfd_open(2), send a signal through one. Descriptor, 0, or negative errno. */
MUST_CHECK int process_pidfd(pid_t pid);
int process_pidfd_kill(int pidfd, int sig);

#endif
