/* SPDX-License-Identifier: Apache-2.0 */
/* The pool of keep-alive connections to one upstream: dialled on demand, watched while idle, leased to one exchange. */
#ifndef GATEWAY_UPSTREAM_H
#define GATEWAY_UPSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/list.h"
#include "common/loop.h"
#include "common/sm.h"

struct config_upstream;
struct dialer;
struct upstream;
struct upstream_conn;

enum upstream_failure {
	UPSTREAM_REFUSED, /* the dial failed, or none is tried for a while because the last ones did */
	UPSTREAM_TIMEOUT, /* the dial took longer than timeouts.connect */
	UPSTREAM_WAITED,  /* waited for pool.wait_timeout */
	UPSTREAM_NO_MEMORY,
};

/*
 * In whose name urgent tickets wait: nobody's, so that no share of a user's is in their way. While they wait, up to
 * UPSTREAM_URGENT_CONNECTIONS more than pool.max_connections are made for them, which are closed after their use.
 */
#define UPSTREAM_URGENT_IDENTITY "\001urgent"
enum {
	UPSTREAM_URGENT_CONNECTIONS = 2
};

/* Who waits and holds: one per identity with something at this upstream. Opaque. */
struct upstream_owner;

/*
 * A place in the queue for a connection; embedded in who waits. on_lease gives a connection, which is then the waiter's
 * until upstream_release; on_failure says why there is none, `why` being text for people. Either ends the ticket; neither
 * is called from within upstream_lease.
 */
struct upstream_ticket {
	struct list link;             /* on its owner's queue while waiting */
	const char *identity;         /* borrowed while waiting: connections are shared out between identities */
	struct upstream_owner *owner; /* borrowed while waiting */
	struct deadline deadline;     /* pool.wait_timeout */
	uint64_t since_ms;            /* clock_ms() when it began to wait */
	struct upstream *upstream;    /* borrowed while waiting */
	bool fresh;                   /* wants a connection that has served nobody */
	bool urgent; /* goes before all others, with UPSTREAM_URGENT_IDENTITY; never turned away for a full queue */
	void (*on_lease)(struct upstream_ticket *t, struct upstream_conn *c);
	void (*on_failure)(struct upstream_ticket *t, enum upstream_failure failure, const char *why);
};

/* What the holder of a lease is told; both run from the loop. */
struct upstream_events {
	void (*on_readable)(void *arg);
	void (*on_writable)(void *arg); /* only after upstream_conn_want_write */
};

/* The waits that timeouts bounds, one queue of deadlines each. */
enum upstream_wait {
	UPSTREAM_WAIT_RESPONSE,
	UPSTREAM_WAIT_SPAWN,
	UPSTREAM_WAIT_EXEC,
	UPSTREAM_WAIT_BODY,
	UPSTREAM_WAIT_STREAM,
	UPSTREAM_WAITS,
};

struct upstream_counters {
	uint64_t dials;
	uint64_t dial_failures;
	uint64_t leases;
	uint64_t reused;          /* leases of a connection that had served before */
	uint64_t evicted;         /* idle connections that closed or spoke */
	uint64_t idle_expired;    /* idle connections closed by us */
	uint64_t refused;         /* tickets turned away: queue full or waited too long */
	uint64_t circuit_opened;  /* times that dialling was given up for a while */
	uint64_t circuit_refused; /* tickets turned away meanwhile */
	uint64_t waited;          /* tickets that had to wait and were served */
	uint64_t waited_ms;       /* how long in all */
	uint64_t peak;            /* most connections at once */
};

struct upstream_gauges {
	size_t connections; /* dialling, idle and leased */
	size_t idle;
	size_t leased;
	size_t waiting;
	bool circuit_open;
};

/*
 * unix_path is borrowed for the call: where `local` or a unix:// upstream is reached; NULL for TCP. The configuration's
 * values are copied. NULL without memory.
 */
struct upstream *upstream_new(struct loop *loop, struct dialer *dialer, const struct config_upstream *config,
			      const char *unix_path);
/*
 * For previews, before the first lease: no connection serves a second request, since what answers is a sandbox's program, and
 * the circuit never opens. `far`: an address of this machine or its links is not dialled, and preview.url named instead.
 */
void upstream_serve_previews(struct upstream *u, bool far);
/*
 * Before the first lease: its holder says himself what fails and when he tries again, so the circuit never opens and nothing is
 * logged of dials.
 */
void upstream_stay_quiet(struct upstream *u);
struct upstream *upstream_ref(struct upstream *u);
/* The last reference closes every idle connection. NULL is fine. */
void upstream_unref(struct upstream *u);

const char *upstream_name(const struct upstream *u);
/* Where it is: the path of its socket, or its address as a URL; for who must know it again. */
const char *upstream_place(const struct upstream *u);
/* A number that no other upstream of this process has had: what is remembered of it is remembered by that. */
uint64_t upstream_serial(const struct upstream *u);
/* What Host says to it. */
const char *upstream_authority(const struct upstream *u);
/* The Unix socket that it is reached on, borrowed; NULL: TCP. */
const char *upstream_unix_path(const struct upstream *u);
const struct config_upstream *upstream_config(const struct upstream *u);
struct deadline_queue *upstream_deadlines(struct upstream *u, enum upstream_wait wait);
struct upstream_counters upstream_counters(const struct upstream *u);
struct upstream_gauges upstream_gauges(const struct upstream *u);
/*
 * Whether any dial has ended, so that upstream_trouble tells something. Without a connection one is tried, so that it soon tells
 * how things stand.
 */
bool upstream_is_known(struct upstream *u);
/* NULL while the last dial went well or none was tried; else its error, borrowed until the next dial ends. */
const char *upstream_trouble(const struct upstream *u);
/* It is known to answer again: a circuit that is open closes at once. */
void upstream_recovered(struct upstream *u);

enum upstream_lease {
	UPSTREAM_LEASE_NOW,  /* *out is the connection */
	UPSTREAM_LEASE_WAIT, /* the ticket waits */
	UPSTREAM_LEASE_FULL, /* pool and queue, or the identity's part of them, are full; the ticket does not wait */
	UPSTREAM_LEASE_DOWN, /* the circuit is open: see upstream_trouble; the ticket does not wait */
	UPSTREAM_LEASE_NO_MEMORY, /* the ticket does not wait */
};

/*
 * Asks for a connection. `fresh` wants one that has served nobody, and drops the idle ones: a kept one has just failed.
 * The caller has set the ticket's callbacks.
 */
MUST_CHECK enum upstream_lease upstream_lease(struct upstream *u, struct upstream_ticket *t, bool fresh,
					      struct upstream_conn **out);
/* Gives up waiting; harmless when the ticket does not wait. */
void upstream_ticket_cancel(struct upstream_ticket *t);

/* Who is told about the leased connection from now on. */
void upstream_conn_listen(struct upstream_conn *c, const struct upstream_events *events, void *arg);
/* recv(2), send(2) without waiting: bytes, 0 at the end of the stream (recv), or a negative errno. */
MUST_CHECK ssize_t upstream_conn_recv(struct upstream_conn *c, void *to, size_t n);
MUST_CHECK ssize_t upstream_conn_send(struct upstream_conn *c, const void *from, size_t n);
/*
 * Whether what was received may be held back in a buffer, where the loop does not see it (TLS): then one reads until
 * -EAGAIN, or asks by upstream_conn_read_again to be told of it once more. Never while reading is paused.
 */
bool upstream_conn_is_buffered(const struct upstream_conn *c);
void upstream_conn_read_again(struct upstream_conn *c);
/* No more will be sent; the other direction goes on. For tunnels only: the connection cannot be used again. */
void upstream_conn_shutdown(struct upstream_conn *c);
/* After an end was received: whether the other side takes nothing more either, as far as the kernel knows. */
bool upstream_conn_is_gone(const struct upstream_conn *c);
void upstream_conn_want_write(struct upstream_conn *c, bool want);
void upstream_conn_pause_read(struct upstream_conn *c, bool paused);
/* Whether it had served an exchange before this lease. */
bool upstream_conn_reused(const struct upstream_conn *c);

/*
 * Ends a lease; *c becomes NULL. `reusable` is the holder's word that both messages ended cleanly and nothing is left
 * over; otherwise the connection is closed.
 */
void upstream_release(struct upstream_conn **c, bool reusable);

/* The table of a connection's states, for the test that walks it. */
const struct sm *upstream_conn_sm(void);

#endif
