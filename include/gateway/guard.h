/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps web pages off a listener that they can reach: which requests on loopback TCP may come from a program, and which
 * browser origins are let in. Pure.
 */
#ifndef GATEWAY_GUARD_H
#define GATEWAY_GUARD_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/str.h"

struct config_listener;
struct http_head;

/* Header lines of every answer that is not a sandbox's own, so that no browser takes one for a page or a script. */
#define GUARD_LINES "X-Content-Type-Options: nosniff\r\nContent-Security-Policy: sandbox\r\n"

struct guard_ruling {
	unsigned status;   /* 0: it passes; otherwise what to answer */
	const char *why;   /* with a status: a literal */
	struct str origin; /* the configured origin that asks, borrowed from the head; n 0: none does */
	bool preflight;    /* the browser asks for leave; the gateway answers */
};

/* Judges a request on that listener (a tcp entry); NULL when the configuration has it no more: then nothing passes. */
struct guard_ruling guard_judge(const struct config_listener *l, const struct http_head *head);

/*
 * The same of a request to a preview of that sandbox. Its pages may use each other and be navigated to; CORS is theirs, so no
 * ruling names an origin.
 */
struct guard_ruling guard_judge_preview(const struct config_listener *l, const struct http_head *head,
					const char *sandbox);

/* Adds the lines that let the origin of a ruling read the answer, or that answer its preflight. */
void guard_add_cors(const struct guard_ruling *ruling, const struct http_head *head, struct buf *out);

#endif
