/* SPDX-License-Identifier: Apache-2.0 */
/* Which requests may come through the door of a preview, and how they go on to the gateway. Pure. */
#ifndef CLI_ADMIT_H
#define CLI_ADMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/str.h"

struct http_head;

/* Where the door is and what is behind it. */
struct admit {
	struct str preview; /* borrowed; {port}-{id}.{domain}, without a port */
	uint16_t port;      /* where the door listens */
};

struct admit_ruling {
	unsigned status; /* 0: it may pass; otherwise what to answer */
	const char *why; /* with a status: a literal */
};

/* Judges by Host, target and what browsers add. */
struct admit_ruling admit_judge(const struct admit *a, const struct http_head *head);

/*
 * Adds the head of a request that may pass, `raw`, byte for byte but for Host, which becomes the preview's, and an Origin,
 * which follows it: to the program in the sandbox a page of its own is what it was to the browser.
 */
void admit_write(const struct admit *a, const struct http_head *head, struct str raw, struct buf *out);

#endif
