/* SPDX-License-Identifier: Apache-2.0 */
/* One client connection: reads its requests one at a time, writes the answers, and notices when it leaves. */
#ifndef GATEWAY_CLIENT_H
#define GATEWAY_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/http_parse.h"
#include "common/loop.h"
#include "common/sm.h"
#include "common/str.h"

struct client;

/* Why a connection ended. One row each in client.c: text, whether it is an error, and a counter. */
enum client_end {
	CLIENT_END_DONE,         /* the client closed between requests, or asked us to close */
	CLIENT_END_GONE,         /* it left within a request or its answer */
	CLIENT_END_FAULT,        /* a request that cannot be read on from */
	CLIENT_END_IDLE,         /* bounds.idle_client */
	CLIENT_END_HEAD_TIMEOUT, /* bounds.client_head */
	CLIENT_END_BODY_TIMEOUT, /* bounds.client_body_idle */
	CLIENT_END_NOT_READING,  /* it did not take its answer */
	CLIENT_END_CUT,          /* the answer broke off upstream, so it breaks off here */
	CLIENT_END_REVOKED,      /* a reload no longer admits what was under way */
	CLIENT_END_DRAIN,        /* the daemon stops, or the listener went away */
	CLIENT_END_REFUSED,      /* over a bound on connections, or the kernel did not say who it is */
	CLIENT_END_NO_MEMORY,
	CLIENT_ENDS,
};

const char *client_end_text(enum client_end end);
/* Whether its line in the log is a warning. */
bool client_end_is_error(enum client_end end);

/* What all connections share: the queues of their deadlines and the counters of their ends. */
struct client_shared {
	struct loop *loop; /* borrowed */
	struct deadline_queue head_deadlines;
	struct deadline_queue body_deadlines;
	struct deadline_queue idle_deadlines;
	struct deadline_queue linger_deadlines;
	struct deadline_queue probe_deadlines; /* half-closed clients are asked now and then whether they left */
	uint64_t body_max_bytes;
	size_t open;      /* clients that are not freed */
	size_t most_open; /* since memory was given back last */
	uint64_t ends[CLIENT_ENDS];
};

void client_shared_init(struct client_shared *s, struct loop *loop);
void client_shared_fini(struct client_shared *s);

struct client_events {
	/* Asked before a request is begun; NULL is yes. After false nothing is read until client_release. */
	bool (*may_begin)(void *arg);
	/*
	 * A request head; borrowed for the call. Its body, if any, follows by on_body, its end by on_body_end (at once when
	 * there is no body). The answer is given by client_send and client_finish, at any time from now on.
	 */
	void (*on_request)(void *arg, const struct http_head *head);
	void (*on_body)(void *arg, const char *p, size_t n);
	void (*on_body_end)(void *arg);
	/*
	 * The request is refused: malformed, too large or too slow. `status` is what to answer; nothing more comes of it. It
	 * may come before any on_request (a head that cannot be read) or within a body.
	 */
	void (*on_fault)(void *arg, unsigned status, const char *why);
	/* What was held back by a slow reader is sent: client_send takes more. */
	void (*on_drained)(void *arg);
	/* The client left while a request is under way: nothing more can be answered. */
	void (*on_gone)(void *arg);
	/* Last: the connection is closed; the client is freed after this returns. */
	void (*on_closed)(void *arg, enum client_end end);
	/* Asked when bounds.idle_client has passed: whether it may be idle for as long again. NULL is no. */
	bool (*may_stay_idle)(void *arg);
};

/* Takes the descriptor (a non-blocking stream socket) in any case. NULL without memory: then it is closed. */
struct client *client_new(struct client_shared *shared, int fd, unsigned long long id,
			  const struct client_events *events, void *arg);

unsigned long long client_id(const struct client *c);

/* Borrowed; for questions to the kernel about the peer. */
int client_fd(const struct client *c);

/* may_begin said no, and would say yes now. */
void client_release(struct client *c);

/*
 * Header lines of every answer to the present request and, until it is set anew, to those that follow; borrowed, NULL for
 * none.
 */
void client_set_head_lines(struct client *c, const char *lines);
const char *client_head_lines(const struct client *c);

/*
 * For the present request the end of the client's input means that it left, where the transport cannot tell that from a
 * half-closed connection (TCP). A Unix socket tells by itself.
 */
void client_end_means_gone(struct client *c);

/* Above this many unsent bytes client_send says so. */
enum {
	CLIENT_HIGH_WATER = 131072,
	CLIENT_LOW_WATER = 32768
};

/*
 * Sends a and then b (either may be empty) to the client; what the socket does not take is kept. Returns false when more
 * than CLIENT_HIGH_WATER is kept: the caller stops until on_drained. After the connection failed nothing is sent.
 */
bool client_send(struct client *c, struct str a, struct str b);

/* Whether the connection has failed or was cut: what is sent for the present request reaches nobody. Before client_finish. */
bool client_is_broken(const struct client *c);

/* While paused, no body bytes are read from the client. */
void client_pause_body(struct client *c, bool paused);

/*
 * The present request's body will not be waited for: the answer, which is given before its end, closes the connection.
 * Before client_send.
 */
void client_skip_body(struct client *c);

/*
 * The answer is complete. With keep_alive the next request is read, if this one was read to its end and the client wants
 * more; otherwise the connection is closed when all is sent.
 */
void client_finish(struct client *c, bool keep_alive);

/*
 * From now on bytes pass as they are: on_body for each, on_body_end when the client has finished sending, client_send for
 * the other direction, client_finish at its end. Called with the request complete and its answer (101) sent.
 */
void client_tunnel(struct client *c);

/*
 * Within a tunnel: client_send has been called for the last time. When all is sent the client sees the end; what it sends
 * itself goes on as before.
 */
void client_end_output(struct client *c);

/* Ends the connection now, whatever was not sent: the answer is cut where it stands. */
void client_cut(struct client *c, enum client_end end);

/*
 * Its descriptor, borrowed, when another process may go on with it: it is between two requests, nothing of either direction is
 * kept here. Otherwise -1.
 */
int client_idle_fd(const struct client *c);

/* The daemon stops: closes it now if no request is under way, else after the present one. */
void client_drain(struct client *c);

/* Whether the answer may keep the connection open: the client allows it and nothing is being drained. */
bool client_may_keep_alive(const struct client *c);

/* Which HTTP/1.x the present request speaks: 0 or 1. */
unsigned client_minor(const struct client *c);

/* The table of a connection's states, for the test that walks it. */
const struct sm *client_sm(void);

#endif
