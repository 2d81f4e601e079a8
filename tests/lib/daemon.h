/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts programs of ours from the build tree, each with a clean environment and directories of its own, and holds
 * every one of them to the same rules when it ends: no sanitizer report, no failed CHECK, no planted credential in
 * anything it wrote, the exit status that was expected.
 */
#ifndef LIB_DAEMON_H
#define LIB_DAEMON_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/buf.h"
#include "lib/scratch.h"

struct daemon_spec {
	const char *program;     /* name in the build tree, or an absolute path; NULL is stacygated */
	const char *const *argv; /* arguments behind the program's name, NULL at the end; NULL is none */
	const char *const *
		env; /* NAME=VALUE added to (or replacing one of) the clean environment, NULL at the end; NULL is none */
	uid_t uid;   /* 0: as the test itself; otherwise that uid, gid the same, no groups (needs root) */
	const char *ready_socket; /* wait until this path accepts connections; NULL does not wait */
	bool no_directories;      /* leave RUNTIME_DIRECTORY and STATE_DIRECTORY unset */
};

struct daemon {
	pid_t pid;       /* 0 once it has ended */
	char out[512];   /* file with its standard output */
	char err[512];   /* file with its standard error */
	int wait_status; /* after its end */
	struct daemon *next;
};

/* Starts it, its directories below s ("run", "state"), and waits for readiness; fails the test without that. */
struct daemon *daemon_start(struct scratch *s, const struct daemon_spec *spec);
/* The same without the wish that it comes up: for programs that end by themselves. */
struct daemon *daemon_spawn(struct scratch *s, const struct daemon_spec *spec);

/* Programs started from now on may have this many descriptors; 0 takes that back. */
void daemon_limit_descriptors(unsigned n);

/* Waits for its end, judges its output, and returns its exit status; 128+N for signal N. */
int daemon_wait(struct daemon *d, unsigned ms);
void daemon_signal(struct daemon *d, int signal);
/* SIGSTOP, and waits until it stands still; SIGCONT lets it go on. */
void daemon_freeze(struct daemon *d);
bool daemon_running(struct daemon *d);
/* SIGTERM, then daemon_wait; the exit status must be 0. Frees it. NULL is fine. */
void daemon_stop(struct daemon *d);
/* Frees one that has ended. */
void daemon_free(struct daemon *d);
/* Kills and frees every program that a failed test left behind; for .fini of a suite. */
void daemon_kill_all(void);

/* What it has written so far; the buffer is the caller's. */
struct buf daemon_stderr(const struct daemon *d);
struct buf daemon_stdout(const struct daemon *d);
/* Waits until its log holds the text. */
bool daemon_wait_log(struct daemon *d, const char *text);
/* How often the text stands in its log. */
unsigned daemon_count_log(struct daemon *d, const char *text);
/* Descriptors it has open; -1 when this process may not look. */
int daemon_fds(const struct daemon *d);
/* Resident memory in KiB; -1 when unknown. */
long daemon_rss_kib(const struct daemon *d);

/* Runs a program to its end within 20 s: exit status, output and error text appended where not NULL. */
int daemon_run(struct scratch *s, const struct daemon_spec *spec, struct buf *out, struct buf *err);

/* Whether the tests run as root, which some need; says loudly what is skipped when not. */
bool have_root(const char *what_for);

#endif
