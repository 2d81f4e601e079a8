/* SPDX-License-Identifier: Apache-2.0 */
/* Destroys one sandbox in somebody's name, again and again until it is known to be gone. */
#ifndef GATEWAY_DESTROY_H
#define GATEWAY_DESTROY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "gateway/fetch.h"

struct destroy;

/* Texts are copied, references taken. */
struct destroy_case {
	struct fetch_caller caller;
	const char *id;   /* well formed (sandbox_doc.h) */
	uint64_t span_ms; /* it is given up after so long */
	/*
	 * Once, never from within destroy_start; it is freed afterwards. `gone`: the server destroyed it, or does not know it;
	 * otherwise `why` is text for people.
	 */
	void (*on_done)(void *arg, bool gone, const char *why);
	void *arg;
};

/* 0 or -ENOMEM. */
MUST_CHECK int destroy_start(struct loop *loop, const struct destroy_case *c, struct destroy **out);
/* Ends it without on_done; the DELETE may have been sent. NULL is fine. */
void destroy_cancel(struct destroy *d);

#endif
