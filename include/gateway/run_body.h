/* SPDX-License-Identifier: Apache-2.0 */
/* The body of POST /gateway/v1/run, and the requests to the server that it is made into. */
#ifndef GATEWAY_RUN_BODY_H
#define GATEWAY_RUN_BODY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	RUN_OUTPUT_DEFAULT_BYTES = 16777216, /* of an answer that is collected */
	RUN_FILES_MAX = 256,
};

struct run_body {
	json_t *all;               /* owned; the object as it came, checked */
	bool stream;               /* the answer is NDJSON */
	uint64_t max_output_bytes; /* 0: none, of a stream only */
};

/*
 * Reads it: fields of a spawn, fields of an exec, `files` and `max_output`; nothing else. 0 or -EINVAL with a text for the client, or
 * -ENOMEM. run_body_fini in any case.
 */
MUST_CHECK int run_body_parse(struct run_body *b, struct str text, char *why, size_t why_size);
/* Harmless on zeroed memory. */
void run_body_fini(struct run_body *b);

/* Appends the body of the spawn. Without memory `out` fails. */
void run_body_spawn(const struct run_body *b, struct buf *out);

size_t run_body_files(const struct run_body *b);
/*
 * Appends the body of the write of file i to `write`. What the API's write cannot carry is written as base64 to `part`, a path beside
 * the file; then `decode` gets the body of the exec that makes the file of it, else it stays empty.
 */
void run_body_file(const struct run_body *b, size_t i, const char *token, struct buf *write, struct buf *decode);

/*
 * Appends the body of the exec. With exit_file the command is wrapped so that its status stands in that file afterwards: for servers
 * whose streams carry none.
 */
void run_body_exec(const struct run_body *b, const char *exit_file, struct buf *out);

#endif
