/* SPDX-License-Identifier: Apache-2.0 */
/* Answers that the gateway makes itself, in the API's own shape. */
#ifndef GATEWAY_ANSWER_H
#define GATEWAY_ANSWER_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/err.h"

struct client;

struct answer_to {
	struct client *client;  /* borrowed */
	const char *request_id; /* borrowed; NULL: none yet */
	bool head_only;         /* the request was HEAD */
	const char *lines;      /* borrowed; head lines in place of the client's own (client_head_lines); NULL: those */
};

/* The code that goes with a status that the gateway gives (interface.md, HTTP on the socket). */
const char *answer_code(unsigned status);

/*
 * Answers {"code":...,"message":...} with Stacygate-Error and finishes. The message is text of ours. 503 and 429 carry
 * Retry-After.
 */
void answer_error(const struct answer_to *to, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same with so many seconds in the Retry-After of 503 and 429. */
void answer_error_later(const struct answer_to *to, unsigned status, unsigned retry_after_s, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* The same with 405 and what may be asked (RFC 9110 10.2.1); `methods` are 1 << enum http_method. */
void answer_not_allowed(const struct answer_to *to, unsigned methods);

/* Answers 200 with that JSON text and a newline, and finishes; empties the buffer. */
void answer_json(const struct answer_to *to, struct buf *json);

/*
 * Sends a head that has its status line and headers of its own, completed with framing and what every answer has, and the
 * body, and finishes. A head that has failed for want of memory cuts the connection. False when it reaches nobody.
 */
bool answer_send(const struct answer_to *to, unsigned status, struct buf *head, struct str body);

/* Answers OPTIONS: 204 with the methods that the API knows. */
void answer_options(const struct answer_to *to);

/* Adds X-Request-ID, the client's own head lines and, as the client's version needs it, Connection to a head. `keep` is whether it stays open. */
void answer_add_common(struct buf *head, const struct client *c, const char *request_id, bool keep);
/* The last of these only. */
void answer_add_connection(struct buf *head, const struct client *c, bool keep);

#endif
