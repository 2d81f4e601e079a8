/* SPDX-License-Identifier: Apache-2.0 */
/* The HTTP/1.1 server front: accepts connections and hands their requests to a handler, one at a time each. */
#ifndef LOCAL_HTTPD_H
#define LOCAL_HTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

struct conn_handler;
struct httpd;
struct loop;

struct httpd_limits {
	size_t connections;    /* beyond it accepting pauses */
	uint64_t body_bytes;   /* request bodies held at a time, all connections together; beyond it 503 */
	uint64_t head_ms;      /* first byte to end of a request head */
	uint64_t idle_ms;      /* a connection without a request */
	uint64_t body_idle_ms; /* between two pieces of a request body */
	uint64_t stall_ms;     /* a finished answer, or one with a length, that the client does not read */
	uint64_t linger_ms;    /* waiting for the client's close after the last answer */
};

/* 512 connections, 256 MiB, 10 s, 60 s, 30 s, 60 s, 2 s. */
struct httpd_limits httpd_default_limits(void);

/* NULL without memory. `handler` and `arg` are borrowed for its life. */
struct httpd *httpd_new(struct loop *loop, const struct httpd_limits *limits, const struct conn_handler *handler,
			void *arg);

/* Takes a listening, non-blocking socket over, also when it fails. 0 or negative errno. */
MUST_CHECK int httpd_listen(struct httpd *h, int fd, bool tcp);

/* Accepts nothing more; idle connections are closed, the others after the answer that is under way. */
void httpd_drain(struct httpd *h);

/* Closes everything; a handler of a request under way gets on_gone. Not from within a callback. NULL is fine. */
void httpd_free(struct httpd *h);

#endif
