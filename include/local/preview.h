/* SPDX-License-Identifier: Apache-2.0 */
/* Preview traffic: connections of clients to ports of programs in sandboxes. */
#ifndef LOCAL_PREVIEW_H
#define LOCAL_PREVIEW_H

#include <stddef.h>
#include <stdint.h>

struct conn;
struct loop;
struct preview_host;
struct previews;
struct record;
struct records;

enum {
	PREVIEWS_MAX = 512,            /* connections at a time */
	PREVIEWS_PER_SANDBOX_MAX = 64, /* of them to one sandbox */
};

/* A program has connect_ms to accept a connection. NULL without memory. */
struct previews *previews_new(struct loop *loop, uint64_t connect_ms);
/* Cuts what is left. NULL is fine. */
void previews_free(struct previews *ps);

/*
 * In on_head of a request for that host: the whole connection, from this request's head on, goes to the program that
 * listens on the port in the sandbox. The request is answered when that cannot be: 404, 502, 503.
 */
void preview_begin(struct previews *ps, struct records *records, struct conn *c, const struct preview_host *host);

/* Cuts all connections to a sandbox of which nothing is left. */
void preview_drop_all(struct record *r);

#endif
