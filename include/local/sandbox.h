/* SPDX-License-Identifier: Apache-2.0 */
/* Real sandboxes: starts them with bubblewrap, talks to the init inside each, and makes sure that they end. */
#ifndef LOCAL_SANDBOX_H
#define LOCAL_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

struct kept;
struct loop;
struct sandbox_host;
struct sandbox;
struct sandbox_job;

/* --- the host: everything that sandboxes share --------------------------------------------------------------- */

struct sandbox_host_config {
	const char *state_dir;  /* borrowed; absolute; created 0700 if missing; held by a lock while the host lives */
	const char *bwrap_path; /* borrowed; NULL: found in PATH */
	struct str init_image;  /* borrowed for the life of the host: the init program's bytes, run as pid 1 inside */
	uint32_t uid_first;     /* as root: the uids for sandboxes begin here; 0: a free range is found */
	uint32_t uid_count;     /* how many; 0 with uid_first: as many as usual */
	uint32_t keep_ms;       /* how long sandboxes that are kept live without a server; 0: none outlives the host */
	int keeper;             /* with keep_ms: what keeper_start() gave; taken over, also on failure */
};

/*
 * Locks the state directory and removes what an earlier run left in it, finds bubblewrap and, as root, a range of
 * unprivileged uids; tries whether user namespaces are allowed. Sandboxes that an earlier host kept wait for
 * sandbox_host_next_kept(); without keep_ms they are destroyed. Blocking, for start-up. 0, or a negative errno and
 * `why` for people (-EWOULDBLOCK: another server holds the directory; -EPERM: user namespaces are refused, and `why`
 * names the setting that allows them; -EEXIST: the configured uids overlap somebody else's, both named).
 */
MUST_CHECK int sandbox_host_new(struct loop *loop, const struct sandbox_host_config *config, struct sandbox_host **out,
				char *why, size_t why_size);

/* Destroys every sandbox that is not kept; on_stopped is called, never from within this call, when all that is gone. */
void sandbox_host_stop(struct sandbox_host *host, void (*on_stopped)(void *arg), void *arg);

/* After on_stopped and sandbox_leave() of those that are left, or when no sandbox was ever started. NULL is fine. */
void sandbox_host_free(struct sandbox_host *host);

/* --- a sandbox ------------------------------------------------------------------------------------------------ */

struct sandbox_spec {
	const char *id;     /* borrowed for the call; [a-z0-9-], used as directory name and host name */
	uint64_t memory_mb; /* recorded for limits */
	unsigned vcpus;     /* recorded for limits */
};

struct sandbox_events {
	/* Once: 0 when its init answers, else a negative errno and a text without host paths; on_gone then follows. */
	void (*on_started)(void *arg, int error, const char *why);
	/* Once, last: every process is reaped and its directory removed; the sandbox is freed after this returns. */
	void (*on_gone)(void *arg);
};

/* Begins a start. NULL without memory. No callback is made from within this call. */
struct sandbox *sandbox_start(struct sandbox_host *host, const struct sandbox_spec *spec,
			      const struct sandbox_events *events, void *arg);

/* Kills everything inside; its jobs end with JOB_GONE, then on_gone is called. May be called more than once. */
void sandbox_destroy(struct sandbox *sb);

/* The last output of commands whose exec was answered already and that still run; at most 64 KiB, borrowed. */
struct str sandbox_log(const struct sandbox *sb);

/* --- sandboxes that outlive the host ---------------------------------------------------------------------------- */

/* Whether the host keeps sandboxes. */
bool sandbox_host_keeps(const struct sandbox_host *host);

/*
 * Has a sandbox that runs outlive the host, if that keeps any, with a note for the next one; later calls replace the note. What
 * fails is logged, and the sandbox ends with the host.
 */
void sandbox_keep(struct sandbox *sb, struct str note);
bool sandbox_is_kept(const struct sandbox *sb);

/* Frees it and its jobs without a callback, when the loop turns no more. If it is kept everything in it goes on, else it is killed. */
void sandbox_leave(struct sandbox *sb);

/* A sandbox that an earlier host kept and that was not taken up yet, now the caller's; NULL: there is none. */
struct kept *sandbox_host_next_kept(struct sandbox_host *host);

/*
 * Takes it up, and *kept over. It may be used at once; on_started is not called, and on_gone follows where its init does not
 * answer or came from a server with other messages. NULL without memory: the sandbox was killed.
 */
struct sandbox *sandbox_resume(struct sandbox_host *host, struct kept **kept, const struct sandbox_events *events,
			       void *arg);

/* --- jobs: what is asked of the init --------------------------------------------------------------------------- */

enum job_outcome {
	JOB_OK,
	JOB_FAILED, /* the init says no: error and text tell why */
	JOB_GONE,   /* the sandbox ended first */
};

struct job_result {
	enum job_outcome outcome;
	int error;        /* JOB_FAILED: errno value, e.g. ENOENT */
	const char *text; /* JOB_FAILED: for people, e.g. "no such file"; no host path; borrowed for the call */
	int exit_code;    /* exec: 0-255, or -1 when a signal ended it */
};

struct file_info {
	struct str path; /* absolute, as seen inside */
	uint64_t size;   /* bytes */
	unsigned mode;   /* permission bits */
	bool is_dir;
	int64_t mtime_sec; /* since the epoch */
};

/* Any of these may be NULL. None is called from within the call that makes the job. */
struct job_events {
	/* read: before the first byte of content, when the file could be opened. */
	void (*on_size)(void *arg, uint64_t bytes);
	/* exec: stream 1 or 2 (stdout, stderr); read: stream 0. Bytes are borrowed for the call. */
	void (*on_data)(void *arg, unsigned stream, const char *p, size_t n);
	/* list, stat, glob: one call per entry. glob gives only path. */
	void (*on_entry)(void *arg, const struct file_info *info);
	/*
	 * connect: a connected TCP socket, now the callee's. The init may hold it too and change its flags, also those
	 * that say whether calls wait: see port_fd.h.
	 */
	void (*on_connected)(void *arg, int fd);
	/* Once, last: the job is freed after this returns. */
	void (*on_end)(void *arg, const struct job_result *result);
};

struct exec_spec {
	const struct str *argv; /* program and arguments; run as they are */
	size_t nargv;
	const struct str *env; /* "NAME=value", added to and overriding the base environment */
	size_t nenv;
	struct str workdir; /* empty: /workspace */
};

/*
 * Each begins a job; NULL without memory. All spans are borrowed for the call only. Paths are as seen inside; a
 * relative one starts at /workspace.
 */
/*
 * exec: output until the program exits and its pipes close, or 100 ms after it exits; what comes later goes to
 * sandbox_log. A program that is not found, or a missing workdir, is JOB_FAILED.
 */
struct sandbox_job *sandbox_exec(struct sandbox *sb, const struct exec_spec *spec, const struct job_events *events,
				 void *arg);
struct sandbox_job *sandbox_read(struct sandbox *sb, struct str path, const struct job_events *events, void *arg);
/* Makes missing parents 0755; mode applies to new and existing files; the content appears whole or not at all. */
struct sandbox_job *sandbox_write(struct sandbox *sb, struct str path, unsigned mode, struct str content,
				  const struct job_events *events, void *arg);
struct sandbox_job *sandbox_delete(struct sandbox *sb, struct str path, bool recursive, const struct job_events *events,
				   void *arg);
struct sandbox_job *sandbox_list(struct sandbox *sb, struct str path, const struct job_events *events, void *arg);
struct sandbox_job *sandbox_stat(struct sandbox *sb, struct str path, const struct job_events *events, void *arg);
/* `**` as a whole segment is zero or more directories; sorted. A bad pattern is JOB_FAILED with EINVAL. */
struct sandbox_job *sandbox_glob(struct sandbox *sb, struct str pattern, const struct job_events *events, void *arg);
/* Makes missing parents of the target; into an existing directory it moves inside; overwrites a file. */
struct sandbox_job *sandbox_move(struct sandbox *sb, struct str from, struct str to, const struct job_events *events,
				 void *arg);
struct sandbox_job *sandbox_chmod(struct sandbox *sb, struct str path, unsigned mode, const struct job_events *events,
				  void *arg);

/* Connects to a port of the sandbox's own loopback addresses; ends when the program there has been reached, or not. */
struct sandbox_job *sandbox_connect(struct sandbox *sb, uint16_t port, const struct job_events *events, void *arg);

/* exec: kills the command's process group with SIGKILL; output ends and on_end is called as usual. */
void sandbox_job_kill(struct sandbox_job *job);

/* No further callback; an exec's process group is killed. The job is freed later. */
void sandbox_job_cancel(struct sandbox_job *job);

/*
 * While paused the init sends no more data for this job once a bounded window (256 KiB) is used up, so the command
 * blocks on its pipe; data already sent is still delivered.
 */
void sandbox_job_pause(struct sandbox_job *job, bool paused);

#endif
