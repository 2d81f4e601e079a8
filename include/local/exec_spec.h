/* SPDX-License-Identifier: Apache-2.0 */
/* Turns the body of an exec request into what the sandbox runs. */
#ifndef LOCAL_EXEC_SPEC_H
#define LOCAL_EXEC_SPEC_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"
#include "local/sandbox.h"

struct exec_fields {
	struct str command;
	struct str mode;
	struct str workdir;
	struct str timeout;
	json_t *args;
	json_t *env;
	bool stream;
};

/* The table that binds a request body to it. */
const struct go_field *exec_fields_table(size_t *n);

enum exec_mode {
	EXEC_SHELL,
	EXEC_ARGV,
	EXEC_UNKNOWN, /* no such mode */
};

/* By the mode field, white space around it ignored; empty is shell. */
enum exec_mode exec_mode_of(struct str mode);

/* Whether nothing but white space stands in it. */
bool exec_is_blank(struct str s);

/* Whether an Accept header asks for a stream's exit code: application/x-ndjson with the parameter exit=1. */
bool exec_wants_exit(struct str accept);

/* Adds a space and the argument, quoted for sh so that nothing in it expands. */
void exec_quote(struct buf *out, struct str arg);

/* An exec_spec with the memory that its spans point into. */
struct exec_command {
	struct exec_spec spec;
	struct str *words; /* owned: argv, then env */
	struct buf text;   /* the shell command, or the env entries */
	struct buf env;
};

/*
 * Fills *out; its spans also point into `f`. 0, -ENOMEM, or -EINVAL: a NUL byte anywhere, or an environment name that
 * is empty or holds '='. exec_command_fini is due in any case.
 */
MUST_CHECK int exec_command_init(struct exec_command *out, const struct exec_fields *f, enum exec_mode mode);
void exec_command_fini(struct exec_command *cmd);

#endif
