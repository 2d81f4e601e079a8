/* SPDX-License-Identifier: Apache-2.0 */
/* Dials upstream connections with libcurl, without blocking, and hands over the connected socket. */
#ifndef GATEWAY_DIAL_H
#define GATEWAY_DIAL_H

#include <stdint.h>

#include "common/err.h"

struct loop;
struct dialer;
struct dial;

enum dial_outcome {
	DIAL_OK,
	DIAL_REFUSED, /* nobody answers there, or the name is unknown */
	DIAL_TIMEOUT,
	DIAL_FAILED,  /* anything else */
};

struct dial_target {
	const char *url;         /* borrowed for the call: "http://host:port" */
	const char *unix_path;   /* borrowed for the call; NULL: TCP */
	uint64_t timeout_ms;
};

/* The library's name and version, with those that it uses. */
const char *dial_library(void);

/* One per process: initialises libcurl. NULL without memory. */
struct dialer *dialer_new(struct loop *loop);
/* After every dial was closed. NULL is fine. */
void dialer_free(struct dialer *d);

/*
 * Begins to dial. on_done is called once, never from within this call: with DIAL_OK and a non-blocking socket that is
 * the caller's to read, write and watch until dial_close, or with what went wrong and `why` (libcurl's text, borrowed).
 * NULL without memory.
 */
struct dial *dial_start(struct dialer *d, const struct dial_target *target,
			void (*on_done)(void *arg, enum dial_outcome outcome, int fd, const char *why), void *arg);

/*
 * Closes the socket, or gives up the attempt, and frees the dial; *dial becomes NULL. The caller's own events on the
 * socket must be deleted before. Not from within on_done.
 */
void dial_close(struct dial **dial);

#endif
