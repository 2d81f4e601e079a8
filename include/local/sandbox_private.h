/* SPDX-License-Identifier: Apache-2.0 */
/* What the modules behind sandbox.h share: host, sandbox and jobs. For them alone. */
#ifndef LOCAL_SANDBOX_PRIVATE_H
#define LOCAL_SANDBOX_PRIVATE_H

#include <event2/event.h>

#include "common/list.h"
#include "common/loop.h"
#include "local/bwrap.h"
#include "local/init_wire.h"
#include "local/keep.h"
#include "local/sandbox.h"
#include "local/state_dir.h"
#include "local/uid_range.h"

enum {
	SANDBOX_START_MS = 10000, /* the init must answer by then */
	SANDBOX_STOP_MS = 5000,   /* a bubblewrap that does not end is killed after that */
	SANDBOX_LOG_GRANT_MS = 100,
	SANDBOX_REMOVE_RETRY_MS = 100,
	SANDBOX_REMOVE_TRIES = 20,
	SANDBOX_LOG_MAX = 64 * 1024,
	SANDBOX_PASSED_MAX = 2, /* a message that is not whole yet has one, and the one behind it another */
};

struct sandbox_host {
	struct loop *loop;     /* borrowed */
	struct str init_image; /* borrowed */
	struct bwrap bwrap;
	struct state_dir state;
	struct uid_range uids;   /* count 0: not root, everybody keeps our uid */
	bool *uid_used;          /* owned; one per uid of the range */
	uint32_t uid_next;       /* where the next search begins: a uid rests as long as possible */
	struct list sandboxes;   /* struct sandbox */
	struct list left;        /* struct kept: of an earlier host, not yet taken up */
	int keeper;              /* owned: the process that keeps sandboxes; -1: none are kept */
	struct event *on_keeper; /* owned: it ended */
	uint32_t keep_ms;        /* how long the keeper waits for the next host */
	struct deferred serving; /* tells it, once the loop turns */
	struct deadline_queue start_queue;
	struct deadline_queue stop_queue;
	struct deadline_queue log_queue;
	struct deadline_queue retry_queue;
	struct deferred stopped;
	bool stopping;
	void (*on_stopped)(void *arg);
	void *stopped_arg; /* borrowed */
};

enum sandbox_state {
	SANDBOX_STARTING, /* bubblewrap runs, the init has not answered */
	SANDBOX_RESUMING, /* an earlier host's: the init has not answered this one */
	SANDBOX_RUNNING,
	SANDBOX_STOPPING, /* its end is decided; processes are going */
	SANDBOX_REMOVING, /* no process is left; a child removes the directory */
	SANDBOX_GONE,     /* nothing is left; it is told and freed */
};
enum {
	SANDBOX_STATES = SANDBOX_GONE + 1
};

struct sandbox {
	struct list link;          /* host->sandboxes */
	struct sandbox_host *host; /* borrowed */
	char *id;                  /* owned */
	enum sandbox_state state;
	struct sandbox_events events; /* copied */
	void *arg;                    /* borrowed */
	uid_t uid;                    /* of the host's range, or 0 */

	struct bwrap_child child; /* bubblewrap and what leads to it and its init; pid 0: not a child of ours */
	int init_pidfd;           /* owned; -1: not known, or gone */
	bool bwrap_reaped;
	bool info_done;             /* nothing more comes from the info pipe */
	bool sock_ended;            /* whoever held the init's end of the socket is gone */
	struct event *on_sock;      /* owned; readable */
	struct event *on_sock_room; /* owned; writable; added while out is not empty */
	struct event *on_info;      /* owned */
	struct event *on_errors;    /* owned */
	struct event *on_bwrap;     /* owned; bubblewrap ended */
	struct event *on_init;      /* owned; the init ended */
	struct buf info;            /* what bubblewrap wrote about the init */
	struct buf errors;          /* the beginning of what it complained about */

	bool start_told;
	int start_error; /* for on_started; 0 while nothing failed */
	char start_why[400];

	struct buf in;                  /* from the init, not yet a whole message */
	int passed[SANDBOX_PASSED_MAX]; /* owned: descriptors that came with messages in `in`, or PORT_FD_LOST */
	size_t npassed;
	struct buf out;      /* to the init */
	struct list jobs;    /* struct sandbox_job, the oldest first */
	uint32_t next_job;   /* id of the next job; never 0 */
	struct buf log;      /* the last output that belongs to no answer */
	uint64_t log_window; /* bytes of log that the init may still send */
	uint64_t log_owed;   /* bytes to be granted again */

	bool kept; /* the keeper holds it */
	int note;  /* owned: for the keeper, not yet told; -1 */

	pid_t remover;            /* the child that removes the directory, or 0 */
	int remover_pidfd;        /* owned */
	struct event *on_remover; /* owned */
	unsigned removals;        /* how often it was tried */

	struct deadline start_deadline;
	struct deadline stop_deadline;
	struct deadline log_deadline;
	struct deadline retry_deadline;
	struct deadline keep_deadline;
	struct deferred work;  /* end jobs, tell, move on, free: whatever must not happen in a callback */
	struct deferred flush; /* send */
};

/* Whether an edge of the state machine exists. */
bool sandbox_state_allows(enum sandbox_state from, enum sandbox_state to);

/* Gives a uid of the range back. */
void sandbox_host_free_uid(struct sandbox_host *host, uid_t uid);

/* A uid of the range that no living sandbox has, the longest unused first. 0: as we are; -EAGAIN: all are in use. */
MUST_CHECK int sandbox_host_take_uid(struct sandbox_host *host, uid_t *out);

/* The init broke the protocol (or died): logs why, once, and destroys. */
void sandbox_fail(struct sandbox *sb, const char *why);

/* Reads bubblewrap's word about the init, if it is there and was not read yet. */
void sandbox_look_for_init(struct sandbox *sb);

/* Its end is decided: the keeper is told to let go. */
void sandbox_stop_keeping(struct sandbox *sb);
/* For keep_deadline: the keeper could not be told at once. */
void sandbox_on_keep_deadline(struct deadline *d);

/* --- jobs, as the sandbox sees them --------------------------------------------------------------------------- */

enum job_kind {
	KIND_EXEC,
	KIND_READ,
	KIND_WRITE,
	KIND_DELETE,
	KIND_LIST,
	KIND_STAT,
	KIND_GLOB,
	KIND_MOVE,
	KIND_CHMOD,
	KIND_CONNECT
};

struct sandbox_job {
	struct list link;   /* sb->jobs */
	struct sandbox *sb; /* borrowed */
	uint32_t id;
	enum job_kind kind;
	struct job_events events; /* copied; all NULL once cancelled */
	void *arg;                /* borrowed */
	int local_error;          /* it could not even be sent: ends with this negative errno */
	bool cancelled;
	bool paused;
	bool sized;         /* read: the size came */
	uint64_t size;      /* read: bytes the init announced; write: bytes in all */
	uint64_t received;  /* read: bytes that came */
	int64_t window;     /* bytes that the init may still send; one entry may overdraw it */
	uint64_t owed;      /* bytes taken, to be granted again */
	size_t entries;     /* list, glob, stat: how many came */
	size_t entry_bytes; /* what they cost */
	struct buf content; /* write: not yet sent */
};

/* The descriptor that came with the message at hand, now the caller's; PORT_FD_NONE: none came. */
int sandbox_take_passed(struct sandbox *sb);

/* Takes a message of the init for a job. False: it breaks the protocol. */
bool sandbox_job_on_event(struct sandbox *sb, const struct wire_event *event);

/* Ends the jobs that could not be sent; all of them as gone if the sandbox ended. */
void sandbox_jobs_work(struct sandbox *sb);

/* Frees all of them without a word. */
void sandbox_jobs_drop(struct sandbox *sb);

/* Puts more content to be written into sb->out, in turns, while that is short. */
void sandbox_jobs_feed(struct sandbox *sb);

#endif
