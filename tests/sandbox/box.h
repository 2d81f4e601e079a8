/* SPDX-License-Identifier: Apache-2.0 */
/* Real sandboxes for tests, asked one thing at a time: starts them through sandbox.h and waits for the answer. */
#ifndef SANDBOX_BOX_H
#define SANDBOX_BOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "lib/scratch.h"
#include "local/sandbox.h"

struct bench {
	struct loop *loop;          /* owned */
	struct sandbox_host *host;  /* owned */
	struct sandbox_host *other; /* owned: a second host, with another init; NULL without */
	struct scratch scratch;     /* the state directories lie in it */
	struct deadline_queue limit;
	struct deadline timer; /* while something is waited for */
	bool expired;
};

/* Makes the loop and a host with the real init; skips the test, saying why, where user namespaces are refused. */
void bench_init(struct bench *b);
/* Adds a host whose sandboxes run this image. */
void bench_add_other(struct bench *b, struct str image);
/* Stops the hosts and requires that nothing is left of their sandboxes. */
void bench_fini(struct bench *b);
/* Turns the loop until *flag; fails the test when that takes longer than 30 s. */
void bench_wait(struct bench *b, const bool *flag);
/* The same until *value is at least `least`. */
void bench_wait_count(struct bench *b, const unsigned *value, unsigned least);

struct box {
	struct bench *bench; /* borrowed */
	struct sandbox *sb;  /* NULL once it is gone */
	bool told;           /* on_started was called */
	bool gone;
	int error;
	char why[512];
};

/* Begins a start; on the other host if `other`. */
void box_begin(struct bench *b, struct box *box, const char *id, bool other);
/* The same and waits; the start must succeed. */
void box_start(struct bench *b, struct box *box, const char *id);
/* Destroys it and waits until it is gone. */
void box_end(struct box *box);

/* What came of one job. */
struct answer {
	struct box *box;         /* borrowed */
	struct sandbox_job *job; /* NULL once it ended */
	bool ended;
	enum job_outcome outcome;
	int error;
	char text[300];
	int exit_code;
	uint64_t size; /* what on_size said */
	bool sized;
	struct buf out;     /* stdout, or content */
	struct buf err;     /* stderr */
	struct buf entries; /* "PATH MODE SIZE d|f\n" each */
	unsigned count;     /* entries */
	int fd;             /* what on_connected brought, else -1 */
	uint64_t took_ms;   /* until it ended */
	uint64_t began_ms;
};

extern const struct job_events answer_events;

void answer_begin(struct answer *a, struct box *box);
/* Waits until it ended. */
void answer_wait(struct answer *a);
void answer_fini(struct answer *a);

/* Begins `sh -c script`. */
void exec_begin(struct answer *a, struct box *box, const char *script);

/* Whole requests; answer_fini() is the caller's. */
struct answer ask_exec(struct box *box, const char *script);
struct answer ask_read(struct box *box, const char *path);
struct answer ask_write(struct box *box, const char *path, unsigned mode, struct str content);
struct answer ask_delete(struct box *box, const char *path, bool recursive);
struct answer ask_list(struct box *box, const char *path);
struct answer ask_stat(struct box *box, const char *path);
struct answer ask_glob(struct box *box, const char *pattern);
struct answer ask_move(struct box *box, const char *from, const char *to);
struct answer ask_connect(struct box *box, uint16_t port);
struct answer ask_chmod(struct box *box, const char *path, unsigned mode);

/* Whether the text is all of the buffer. */
bool buf_is(const struct buf *b, const char *text);

/* Runs a script that must exit with 0, and must print exactly `out`; NULL: whatever. */
void must_run(struct box *box, const char *script, const char *out);
/* The answer must be a failure with this errno. Takes the answer. */
void must_fail(struct answer a, int error);
/* The answer must be a success. Takes the answer. */
void must_work(struct answer a);

/* How many processes of the host have the text in their command line. */
unsigned count_processes(const char *text);
/* The one with the lowest, the highest pid, or -1. */
long find_process(const char *text);
long find_last_process(const char *text);

/* The init that does what its sandbox's name says (hostile_init.c); the caller frees it. */
struct buf box_hostile_image(void);

#endif
