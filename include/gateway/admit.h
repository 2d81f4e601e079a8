/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May a request go on under isolation: does the server put strangers into one machine, and is the sandbox that it names the
 * caller's?
 */
#ifndef GATEWAY_ADMIT_H
#define GATEWAY_ADMIT_H

#include <stdbool.h>

#include "common/err.h"
#include "common/str.h"
#include "gateway/feed.h"
#include "gateway/ownership.h"
#include "gateway/sandbox_doc.h"
#include "gateway/vm_watch.h"

/* What is remembered between requests; owned by the gateway. */
struct admit_shared {
	struct ownership ownership;
	struct feed feed; /* of the servers' events, which say what of it does not hold any more */
	struct vm_watch vm_watch;
	bool shared_vm_said; /* the log has said once what does not hold */
};

MUST_CHECK int admit_shared_init(struct admit_shared *s, struct loop *loop);
/* When no request is under way any more. */
void admit_shared_fini(struct admit_shared *s);

enum admit_verdict {
	ADMIT_PENDING, /* on_admitted or on_refused follows, not from within admit_ask */
	ADMIT_YES,
	ADMIT_NO, /* admit.status and admit.why are what to answer */
};

/* Embedded in who asks. */
struct admit {
	struct admit_shared *shared;                /* borrowed */
	struct fetch_caller asker;                  /* borrowed texts and references, until the answer */
	bool shared_vm_accepted;                    /* the upstream's shared_vm */
	char sandbox[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* empty: none */
	struct vm_wait vm_wait;
	struct ownership_wait owner_wait;
	unsigned status; /* of a refusal: 404, 502, 503 or 504 */
	char why[256];   /* its text */
	/* Exactly one of them, after ADMIT_PENDING. */
	void (*on_admitted)(struct admit *a);
	void (*on_refused)(struct admit *a);
};

/* Makes it one that waits for nothing. */
void admit_init(struct admit *a, struct admit_shared *shared);
/*
 * Asks. The asker, shared_vm_accepted, sandbox (well formed: sandbox_doc.h) and the callbacks are set. What is not the caller's
 * is 404 with one text, whatever else it is.
 */
MUST_CHECK enum admit_verdict admit_ask(struct admit *a);
/* Harmless when it does not wait. */
void admit_cancel(struct admit *a);

/* The text of the 404 that every sandbox gets that is not the caller's; takes a STR_ARG. */
#define ADMIT_NOT_FOUND_TEXT "sandbox not found: %.*s"

#endif
