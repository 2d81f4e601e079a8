/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of the API that the commands are made of, one function each. */
#ifndef CLI_REMOTE_H
#define CLI_REMOTE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cli/api.h"
#include "cli/fault.h"
#include "cli/options.h"
#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

struct json_writer;

enum {
	REMOTE_ID_SIZE = 129
};

/* All return 0, or -1 with the fault. A sandbox's id is one that options_is_id() accepts; paths are any UTF-8
 * text. */

/* Sends the request with this path and, unless NULL, this body; both are used up. */
MUST_CHECK int remote_call(struct api *a, struct api_request *r, struct buf *path, struct buf *body, struct fault *f);

/*
 * Makes a sandbox, from the template of that name unless it is NULL, with image, provider, memory, vcpus, ttl,
 * metadata and lease of the options; `answer` is the server's JSON. A signal is put off until the answer is there, at most REMOTE_SPAWN_LINGER_MS, so that the
 * sandbox gets an owner.
 */
enum {
	REMOTE_SPAWN_LINGER_MS = 60000
};
MUST_CHECK int remote_spawn(struct api *a, const char *template, const struct options *o, struct buf *answer,
			    char id[REMOTE_ID_SIZE], struct fault *f);

/* Goes on for up to REMOTE_CLEAN_UP_MS although a signal has come. */
enum {
	REMOTE_CLEAN_UP_MS = 15000
};
MUST_CHECK int remote_destroy(struct api *a, const char *id, struct fault *f);

/* Writes a whole file. `content` is text (encode_is_text). */
MUST_CHECK int remote_write(struct api *a, const char *id, struct str path, mode_t mode, struct str content,
			    struct fault *f);
MUST_CHECK int remote_read(struct api *a, const char *id, struct str path, api_sink_fn sink, void *user,
			   struct fault *f);
MUST_CHECK int remote_move(struct api *a, const char *id, struct str from, struct str to, struct fault *f);

/*
 * For what is to vanish, there or not: goes on for up to REMOTE_CLEAN_UP_MS although a signal has come. The
 * result may be left alone where there is nothing else to try.
 */
int remote_delete(struct api *a, const char *id, struct str path, struct fault *f);

struct remote_stat {
	uint64_t bytes;
	mode_t mode; /* permission bits */
	bool is_dir;
};

MUST_CHECK int remote_stat(struct api *a, const char *id, struct str path, struct remote_stat *out, struct fault *f);

/* Runs a shell script to its end; its output, both streams, is small. *code is its exit code. */
MUST_CHECK int remote_sh(struct api *a, const char *id, struct str script, int *code, struct buf *out, struct buf *err,
			 struct fault *f);

/* Adds "/api/v1/sandboxes/ID" and a tail such as "/exec". */
void remote_path(struct buf *out, const char *id, const char *tail);

/*
 * Adds "/api/v1/templates/NAME" and a tail. The name is escaped as the server itself would: an escape that it does not
 * expect keeps it from decoding any of them.
 */
void remote_template_path(struct buf *out, struct str name, const char *tail);

/* Adds image, provider, memory_mb, vcpus, ttl and metadata, each where it was given, to an object. */
void remote_add_fields(struct json_writer *w, const struct options *o);

#endif
