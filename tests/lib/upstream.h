/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scripted server: what it does on each connection is a list of steps, what it receives is recorded byte for byte.
 * It runs in threads of its own; a test asks it or waits for it through the functions below. Connections beyond the
 * last script follow the last one. Without a script it echoes: each request is answered 200 with a JSON object
 *   {"connection":N,"request":N,"method":"...","target":"...","head":"...","body_bytes":N,"body":"..."}
 * in which the planted credential's value is replaced by "<key>"; body is left out beyond 64 KiB.
 */
#ifndef LIB_UPSTREAM_H
#define LIB_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/str.h"

enum up_op {
	UP_END,           /* no more steps: wait for the other side to close */
	UP_READ_HEAD,     /* until a request head is complete; the connection ends if it closes before */
	UP_READ,          /* a whole request, head and body */
	UP_READ_BYTES,    /* until n more bytes have come in all */
	UP_READ_EOF,      /* until the other side closes */
	UP_SEND,          /* these bytes, as far as the other side takes them */
	UP_SEND_REPEAT,   /* these bytes, n times */
	UP_SEND_BYTEWISE, /* these bytes, one write each */
	UP_ECHO,          /* a whole request, then the echo's answer */
	UP_DELAY,         /* n ms in which nothing is read or sent */
	UP_GATE,          /* until the test opens gate n */
	UP_CLOSE,         /* close in order: what was sent arrives, then the end */
	UP_HALF_CLOSE,    /* no more will be sent; reading goes on */
	UP_RESET,         /* close with a reset (TCP), or with input unread (Unix) */
	UP_FOREVER,       /* from the first step again */
};

struct up_step {
	enum up_op op;
	const char *bytes; /* borrowed; NUL-terminated unless n says how many */
	size_t n;
};

#define UP_TEXT(text)                                                                                                  \
	{                                                                                                              \
		UP_SEND, (text), 0                                                                                     \
	}
/* A script as an expression. */
#define SCRIPT(...) ((const struct up_step[]){__VA_ARGS__, {UP_END, NULL, 0}})
/* An answer with a length, ready to send. */
#define UP_OK_TEXT "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

enum {
	UP_MAX_CONNECTIONS = 4096,
	UP_MAX_GATES = 8,
};

struct upstream;

/* Listens at a path (removed first), or on 127.0.0.1 when path is NULL, on a port of the kernel's choice. */
struct upstream *upstream_start(const char *path, const struct up_step *const *scripts, size_t nscripts);
struct upstream *upstream_echo(const char *path);
/* Stops all threads, closes everything, frees. NULL is fine. */
void upstream_stop(struct upstream *u);
/* Closes the listening socket only (and removes its path): dials are refused from now on. */
void upstream_refuse(struct upstream *u);

/* "unix:///path" or "http://127.0.0.1:PORT"; borrowed. */
const char *upstream_url(const struct upstream *u);
unsigned upstream_port(const struct upstream *u);

void upstream_open_gate(struct upstream *u, unsigned gate);
/* Closes a gate again. */
void upstream_shut_gate(struct upstream *u, unsigned gate);

/* Connections accepted so far, open now, at most open at one time; requests received whole so far. */
unsigned upstream_connections(struct upstream *u);
unsigned upstream_open(struct upstream *u);
unsigned upstream_most_open(struct upstream *u);
unsigned upstream_requests(struct upstream *u);

/* Wait for counters to reach a value; false when that took longer than WAIT_MS. */
bool upstream_wait_requests(struct upstream *u, unsigned n);
bool upstream_wait_connections(struct upstream *u, unsigned n);
/* Until at most n connections are open. */
bool upstream_wait_open(struct upstream *u, unsigned n);
/* Until connection i (0 the first) was closed by the other side. */
bool upstream_wait_closed(struct upstream *u, unsigned i);
/* Until connection i has received n bytes in all. */
bool upstream_wait_bytes(struct upstream *u, unsigned i, size_t n);

/* Until connection i has sent n bytes in all. */
bool upstream_wait_sent(struct upstream *u, unsigned i, size_t n);

/* Everything received on connection i, and on all of them in order of accept. The buffer is the caller's. */
struct buf upstream_received(struct upstream *u, unsigned i);
struct buf upstream_everything(struct upstream *u);
/* The nth whole request (0 the first): its head, and its body without framing. */
struct buf upstream_request_head(struct upstream *u, unsigned nth);
struct buf upstream_request_body(struct upstream *u, unsigned nth);
/* How many bytes connection i could send so far. */
size_t upstream_sent(struct upstream *u, unsigned i);

#endif
