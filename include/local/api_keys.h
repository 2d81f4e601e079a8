/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that the server demands of its clients. */
#ifndef LOCAL_API_KEYS_H
#define LOCAL_API_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/str.h"

struct secret;

struct api_keys {
	struct secret *ordinary; /* owned; NULL: not set */
	struct secret *admin;    /* owned; NULL: not set */
};

/*
 * Reads a key from a file, a pipe or /dev/fd/N (a descriptor of this process, which is closed then): one newline at
 * the end is dropped; an empty key, spaces and control bytes are refused. Blocks until the end of a pipe. 0, or a
 * negative errno and `why` for people.
 */
MUST_CHECK int api_keys_read(const char *path, struct secret **out, char *why, size_t why_size);

/* Whether the two headers (p NULL when absent) hold a key of ours; always true when none is set. */
bool api_keys_admit(const struct api_keys *keys, struct str admin_header, struct str key_header);

void api_keys_fini(struct api_keys *keys);

#endif
