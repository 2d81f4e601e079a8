/* SPDX-License-Identifier: Apache-2.0 */
/* A server on a Unix socket, in a thread of its own, that answers the nth request with the nth text and closes. */
#ifndef LIB_CANNED_H
#define LIB_CANNED_H

#include <stddef.h>

struct canned;

/* The texts are borrowed; beyond the last of them (a NULL) the last is given again. An empty one closes without an answer. */
struct canned *canned_start(const char *path, const char *const *answers);
void canned_stop(struct canned *c);

/* Requests whose head has been read, and the first line of the nth (0 the first); borrowed until canned_stop. */
unsigned canned_requests(struct canned *c);
const char *canned_line(struct canned *c, unsigned nth);

#endif
