/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the data plane share: an upstream played by the test itself, two identities, the status's numbers. */
#ifndef INTEGRATION_DP_LIB_H
#define INTEGRATION_DP_LIB_H

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GET_X        "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
#define POST_X       "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
#define STREAM_HEAD  "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"

/* A gateway whose upstream is the test itself: *listener is where it is reached. The options' scripts are not used. */
struct gw *dp_by_hand(const struct gw_options *options, int *listener);
/* Listens at a path (removed first). */
int dp_listen(const char *path);
/* The gateway's next connection with the head of its first request; what came behind that is in the result's `in`. */
struct raw dp_accept(int listener, struct buf *head);
/* The next request head on it. False when none comes within WAIT_MS. */
bool dp_read_head(struct raw *r, struct buf *head);

/* A gateway with two listeners and an identity on each: alice's is gw->socket. */
struct gw *dp_two_start(const struct gw_options *options);
struct raw dp_bob(struct gw *gw);

/* One request on a connection of its own; the status must be 200. */
void dp_ask_ok(struct gw *gw);
/* A number in /gateway/v1/status. */
json_int_t dp_status(struct gw *gw, const char *path);
/* Waits until it is that (until it is at least that). */
bool dp_wait_status(struct gw *gw, const char *path, json_int_t value);
bool dp_wait_status_least(struct gw *gw, const char *path, json_int_t value);
/* Waits until the daemon has at most n descriptors; true where this may not be looked at. */
bool dp_wait_fds(struct gw *gw, int n);

/* How many rounds: the second, which is what the row of threats says, in the long form of the tests (SG_LONG). */
unsigned dp_rounds(unsigned usually, unsigned in_full);

/* Numbers that are the same in every run. */
unsigned dp_random(uint32_t *state, unsigned below);

/*
 * Bytes in pieces of random sizes, both ways at once: n from a to b and m from b to a; fails the test unless they arrive
 * as they were sent. Nothing may have been received before.
 */
void dp_exchange_bytes(struct raw *a, size_t n, struct raw *b, size_t m);
/* The bytes at this place of what dp_exchange_bytes sends in that direction. */
void dp_pattern(bool from_a, size_t at, char *out, size_t n);

#endif
