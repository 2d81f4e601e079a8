/* SPDX-License-Identifier: Apache-2.0 */
/* What went wrong in a command of the client, and how it is told: on stderr, mostly in one line, one exit status. */
#ifndef CLI_FAULT_H
#define CLI_FAULT_H

#include <stdbool.h>

#include "common/err.h"
#include "common/str.h"

enum fault_kind {
	FAULT_NONE,
	FAULT_USAGE,       /* the command line is wrong */
	FAULT_ERROR,       /* the API, the connection or a local file said no */
	FAULT_INTERRUPTED, /* a signal asked us to stop */
	FAULT_PIPE,        /* whoever read our output has gone */
};

struct fault {
	enum fault_kind kind;
	long status;        /* HTTP status of a refusal, 0 without one */
	char code[48];      /* "NOT_FOUND", ...; the API's, else one of ours */
	char message[1200]; /* for people; bytes of others, so escaped when printed */
	bool lines;         /* the message has several, each printed on its own */
};

/* Says what went wrong, over anything said before; always returns -1, so that a function can return it. */
int fault_set(struct fault *f, enum fault_kind kind, const char *code, const char *fmt, ...) PRINTF_LIKE(4, 5);

/* The same for a local file: "PATH: No such file or directory"; `err` is a positive errno. */
int fault_errno(struct fault *f, const char *path, int err);

/* Out of memory. */
int fault_memory(struct fault *f);

/*
 * Writes the fault to stderr, escaped: "stacygate: CODE: message", or as a JSON object. Nothing for
 * FAULT_NONE, for an interrupt and a closed pipe, which the caller of the program knows about.
 */
void fault_print(const struct fault *f, bool json);

/* Exit status: 0 none, 2 usage, 1 everything else. */
int fault_exit_status(const struct fault *f);

#endif
