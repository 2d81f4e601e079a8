/* SPDX-License-Identifier: Apache-2.0 */
/* The text of the configuration that stacygate init writes, and which answer each line of it comes from. */
#ifndef CLI_INIT_TEXT_H
#define CLI_INIT_TEXT_H

#include <stdbool.h>

#include "cli/options.h"
#include "common/buf.h"
#include "common/str.h"

/* What was answered, on the command line or on the terminal; all texts borrowed. */
struct init_plan {
	const char *own;      /* our own user */
	const char *upstream; /* NULL: not known yet */
	const char *key_file; /* NULL: the upstream needs none, or it is not known yet */
	const struct words *users;
	bool is_root; /* we are */
	bool allow_plaintext;
	bool for_service; /* the file of the packaged service, whose user and socket there are */
};

enum init_part {
	INIT_UPSTREAM,
	INIT_PLAINTEXT,
	INIT_KEY,
	INIT_USERS,
	INIT_REST
};

/* Whether somebody else than we is to use it. */
bool init_text_has_others(const struct init_plan *p);

void init_text_add(struct buf *out, const struct init_plan *p);

/* Whose line of the text that is, the first being 1. */
enum init_part init_text_part(struct str text, unsigned long line);

/* The option that it can be given by; NULL for INIT_REST. */
const char *init_text_option(enum init_part part);

#endif
