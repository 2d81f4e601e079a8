/* SPDX-License-Identifier: Apache-2.0 */
/* What a command of the client works with, and the steps that most of them share: ask, then show. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/api.h"
#include "cli/fault.h"
#include "cli/options.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

/* All borrowed. */
struct command {
	struct api *api;
	const struct options *options;
	struct fault *fault; /* where it says what went wrong */
};

/* Adds an answer as text for people. 0, or -1 with the fault. */
typedef int (*command_show_fn)(struct buf *out, struct str answer, struct fault *f);

/* All return 0, which is the exit status too, or -1 with the fault. */

MUST_CHECK int command_get(const struct command *c, const char *path, struct buf *answer);

/* Shows an answer: the JSON itself with --json, else as `show` makes it. */
MUST_CHECK int command_print(const struct command *c, struct str answer, command_show_fn show);

/* Sends the request, its `answer` left empty, and shows what comes. Path and body (which may be NULL) are used up. */
MUST_CHECK int command_ask(const struct command *c, struct api_request *r, struct buf *path, struct buf *body,
			   command_show_fn show);

/* Prints one line of ours, the word that a command without an answer worth showing ends with; with --json the answer. */
MUST_CHECK int command_print_word(const struct command *c, struct str answer, const char *word);

#endif
