/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a command line into what a command needs; every fault is told before anything is done. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/fault.h"
#include "cli/verb.h"
#include "common/err.h"

/* Words of the command line, borrowed from argv; the array is owned. */
struct words {
	const char **at;
	size_t n;
};

struct options {
	bool help;         /* -h: nothing else is set */
	bool json;         /* --json */
	const char *image; /* texts are NULL where the option was not given */
	const char *provider;
	const char *ttl;     /* a Go duration, checked */
	const char *timeout; /* a Go duration, checked */
	const char *workdir;
	const char *lease;     /* what the sandbox is tied to, checked */
	uint64_t lines;        /* 0: not given */
	bool open_port;        /* --open-port was given: */
	uint16_t open_port_at; /* 0: any free one */
	const char *upstream;  /* of init, as are the next */
	const char *key_file;
	const char *output;
	bool force;
	bool allow_plaintext;
	struct words users;
	uint64_t memory_mb;    /* 0: not given */
	uint64_t vcpus;        /* 0: not given */
	struct words env;      /* "K=V" */
	struct words metadata; /* "K=V" */
	struct words files;    /* "LOCAL:REMOTE" */
	struct words operands; /* ids, paths */
	char **command;        /* borrowed: what stands behind the operands of run and exec, ended by NULL */
	size_t command_words;  /* how many */
};

/*
 * Reads argv[0..argc), the words behind the command's name. 0, or -1 with a FAULT_USAGE. Options may stand
 * before and between operands; those of run and exec end where the command begins, with or without "--".
 */
MUST_CHECK int options_parse(enum verb verb, int argc, char **argv, struct options *o, struct fault *f);
void options_fini(struct options *o);

/* The part before the first '=' of a "K=V", and what stands behind it. */
struct str options_pair_key(const char *pair);
struct str options_pair_value(const char *pair);

/* Whether the text can be a sandbox's id in a path of the API. */
bool options_is_id(const char *text);

/*
 * Whether the text can say what a sandbox is tied to: connection, process, process=PID or a positive duration.
 */
bool options_is_lease(const char *text);

/* Whether the text can be a template's name in a path of the API: any UTF-8 text without a slash or control byte. */
bool options_is_name(const char *text);

/*
 * Whether "ID:PATH" names a file in a sandbox: a colon with an id before it and no slash. A local file of
 * such a name is written "./a:b". On true *id_len is the length of the id.
 */
bool options_is_remote(const char *text, size_t *id_len);

#endif
