/* SPDX-License-Identifier: Apache-2.0 */
/* Dials upstream connections with libcurl, without blocking, and hands over the connected socket. */
#ifndef GATEWAY_DIAL_H
#define GATEWAY_DIAL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/str.h"

struct loop;
struct dialer;
struct dial;
struct dial_share;

enum dial_outcome {
	DIAL_OK,
	DIAL_REFUSED, /* nobody answers there, or the name is unknown */
	DIAL_TIMEOUT,
	DIAL_NEAR,   /* the name stands for an address that no_near excludes */
	DIAL_FAILED, /* anything else */
};

/* All borrowed for the call, NULL where it does not apply. */
struct dial_target {
	const char *url;        /* "http://host:port/", "https://host:port/" */
	const char *connect_to; /* "name:port:host:port": `url` says the name that the certificate must show */
	const char *unix_path;  /* instead of TCP */
	struct str ca;          /* PEM, the only authorities trusted; empty: the system's */
	const char *cert_file;  /* of the client, PEM */
	const char *key_file;
	const char *proxy; /* "http://host:port" (always CONNECT) or "socks5h://host:port" */
	bool no_near;      /* not to this machine nor to what is on its links only: loopback, link-local, 0.0.0.0 */
	struct dial_share *share; /* TLS sessions are taken from and kept in; must outlive the dial */
	uint64_t timeout_ms;      /* for everything up to the end of the TLS handshake */
};

/* The library's name and version, with those that it uses. */
const char *dial_library(void);

/* One per process: initialises libcurl. NULL without memory. */
struct dialer *dialer_new(struct loop *loop);
/* After every dial was closed. NULL is fine. */
void dialer_free(struct dialer *d);

/* TLS sessions of one upstream, so that a further connection to it costs less. NULL without memory. */
struct dial_share *dial_share_new(void);
/* After the dials that use it. NULL is fine. */
void dial_share_free(struct dial_share *share);

/*
 * Begins to dial. on_done is called once, never from within this call: with DIAL_OK and a non-blocking socket that the
 * caller may watch until dial_close, or with what went wrong and `why` (libcurl's text, borrowed). NULL without memory.
 */
struct dial *dial_start(struct dialer *d, const struct dial_target *target,
			void (*on_done)(void *arg, enum dial_outcome outcome, int fd, const char *why), void *arg);

/*
 * After DIAL_OK: bytes moved, 0 at the end of the stream (recv), or a negative errno; -EAGAIN when it would wait. A TLS
 * stream that ends without saying so is -EIO, not an end. After -EAGAIN the next dial_send must begin with the same bytes,
 * from wherever they are by then, and may have more of them but no fewer.
 */
MUST_CHECK ssize_t dial_recv(struct dial *dial, void *to, size_t n);
MUST_CHECK ssize_t dial_send(struct dial *dial, const void *from, size_t n);

/*
 * Whether bytes may have been read from the socket that dial_recv has not given yet: then only -EAGAIN tells its end. Of a
 * plain connection never; of a TLS connection always until its first answer.
 */
bool dial_is_buffered(const struct dial *dial);
/* A TLS connection may be readable with nothing to say, as after its handshake (session tickets). */
bool dial_is_tls(const struct dial *dial);
/* Whether the last dial_recv is known to have taken all that had come. */
bool dial_is_drained(const struct dial *dial);

/* It is not used for a while: gives up the memory that it needs only while bytes move. */
void dial_rest(struct dial *dial);

/*
 * Closes the socket, or gives up the attempt, and frees the dial; *dial becomes NULL. The caller's own events on the
 * socket must be deleted before. Not from within on_done.
 */
void dial_close(struct dial **dial);

#endif
