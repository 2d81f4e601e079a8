/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the client by name, and what stands behind each on the command line. */
#ifndef CLI_VERB_H
#define CLI_VERB_H

#include <stdbool.h>
#include <stddef.h>

enum verb {
	VERB_RUN,
	VERB_SPAWN,
	VERB_LS,
	VERB_GET,
	VERB_EXEC,
	VERB_CP,
	VERB_LOGS,
	VERB_EXTEND,
	VERB_KILL,
	VERB_PRUNE,
	VERB_TEMPLATE, /* without a second word: help only */
	VERB_TEMPLATE_LS,
	VERB_TEMPLATE_GET,
	VERB_TEMPLATE_SAVE,
	VERB_TEMPLATE_RM,
	VERB_TEMPLATE_SPAWN,
	VERB_PREVIEW,
	VERB_LEASES,
	VERB_LEASES_RENEW,
	VERB_LEASES_RELEASE,
	VERB_WHOAMI,
	VERB_HEALTH,
	VERB_STATUS,
	VERB_TOP,
	VERB_METRICS,
	VERB_RELOAD,
	VERB_CHECK,
	VERB_INIT,
	VERB_COUNT,
};

/* What a word behind the command is. */
enum operand {
	OPERAND_ID,       /* a sandbox's id */
	OPERAND_NAME,     /* a template's name */
	OPERAND_DURATION, /* a positive Go duration */
	OPERAND_LEASE,    /* what a sandbox is tied to */
	OPERAND_PORT,     /* 1 to 65535 */
	OPERAND_FILE,     /* of this machine; of cp: local or ID:PATH */
};

/* The words that a command takes besides its options. */
struct verb_shape {
	const char *name; /* "run", "template ls" */
	size_t operands_min;
	size_t operands_max;
	enum operand kinds[2]; /* of the first, and of all further ones */
	bool command;          /* a command line follows the operands */
	const char *missing;   /* what is missing when there are too few */
};

/*
 * Finds the command that the words begin with, the longest first: "template ls" before "template". Returns how many
 * words it is, 0 if there is no such command.
 */
int verb_find(char *const words[], int n, enum verb *verb);

const struct verb_shape *verb_shape(enum verb verb);
const char *verb_name(enum verb verb);

#endif
