/* SPDX-License-Identifier: Apache-2.0 */
/* What the init is asked to do, one object each, and how it answers. */
#ifndef LOCAL_INIT_JOB_H
#define LOCAL_INIT_JOB_H

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/list.h"
#include "common/str.h"
#include "local/init_wire.h"

enum {
	JOB_POLL_MAX = 2,           /* descriptors of one job */
	INIT_OUT_HIGH = 512 * 1024, /* bytes not yet taken by the server above which nothing more is produced */
	INIT_LOG_MAX = 64 * 1024,   /* bytes of the log that are kept while the server takes none */
};

struct init {
	int sock;            /* owned: the server; -1 while there is none */
	int door;            /* owned: brings a socket to the next server; -1: without a server all this ends */
	int signals;         /* owned: a signalfd for SIGCHLD */
	struct buf in;       /* received, not yet a whole message */
	struct buf out;      /* to be sent */
	struct buf log;      /* output that belongs to no answer, to be sent as the server grants it */
	uint64_t log_credit; /* bytes of log that may be sent */
	int pass_fd;         /* owned: goes with the message at pass_at; -1: none */
	size_t pass_at;      /* bytes of `out` before that message */
	struct list jobs;    /* struct job, the oldest first */
};

struct job;

/* What the kinds of jobs do differently. Any of these but `free` may be NULL. */
struct job_ops {
	/* Fills in what it waits for, at most JOB_POLL_MAX; returns how many. */
	size_t (*wait)(struct job *job, struct pollfd *fds);
	/* Whether it can go on without waiting. */
	bool (*is_runnable)(const struct job *job);
	/* A bounded piece of work; called after each wait. fds as `wait` filled them in. May free the job. */
	void (*work)(struct job *job, const struct pollfd *fds, size_t n);
	/* A piece of the file that is written. May free the job. */
	void (*on_content)(struct job *job, struct str bytes);
	/* Its process ended, with this wait status. May free the job. */
	void (*on_exit)(struct job *job, int status);
	void (*kill)(struct job *job);
	/* Ends it early; answers. May free the job. */
	void (*cancel)(struct job *job);
	/* The server is gone, and nobody is left to answer: it goes on without; NULL: it is freed. May free the job. */
	void (*detach)(struct job *job);
	/* Releases what it holds, and itself. */
	void (*free)(struct job *job);
};

struct job {
	struct list link;          /* on init->jobs */
	struct init *init;         /* borrowed */
	const struct job_ops *ops; /* borrowed */
	uint32_t id;               /* the server's number for it */
	bool answered;             /* its id is not its own any more: the job only lives on for the log */
	pid_t pid;                 /* its process, or 0 */
	int64_t credit;            /* bytes of data and entries that may be sent; one entry may overdraw it */
	size_t fds_at;             /* where its descriptors are in this turn's poll */
	size_t fds_n;              /* how many */
	uint64_t wake_ms;          /* when `work` is due even if nothing happens; 0: never */
};

/* Fills in the common part and puts it on the list; `size` bytes, zeroed. NULL without memory, answered ENOMEM. */
struct job *job_new(struct init *init, uint32_t id, const struct job_ops *ops, size_t size);
/* Takes the job off the list and frees it. NULL is fine. */
void job_free(struct job *job);

/* The unanswered job with this id, or NULL. */
struct job *job_find(struct init *init, uint32_t id);

/* Whether the server takes data fast enough to make more. */
bool init_may_send(const struct init *init);

/* Answers; each sends the last message of the id. Text is made printable and cut. */
void init_done(struct init *init, uint32_t id, int exit_code);
void init_fail(struct init *init, uint32_t id, int error, const char *text);
/* With the usual text for that errno; `what` is the kind of thing, e.g. "file" ("no such file"). */
void init_fail_errno(struct init *init, uint32_t id, int error, const char *what);

/* Answers with a descriptor, which it takes over; only while pass_fd is -1. */
void init_pass(struct init *init, uint32_t id, int fd);

/* The usual text for an errno. */
const char *init_error_text(int error, const char *what, char *mem, size_t size);

/* Keeps output for the log and sends what the window allows. */
void init_log(struct init *init, struct str bytes);
void init_log_flush(struct init *init);

#endif
