/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Under which domain are the previews of a sandbox? Answers from memory, else asks the server; an old answer is better than
 * none.
 */
#ifndef GATEWAY_PREVIEW_DOMAIN_H
#define GATEWAY_PREVIEW_DOMAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "gateway/ownership.h"
#include "gateway/sandbox_doc.h"

struct feed;

/* Where an answer comes from (RFC 9211). */
enum preview_domain_source {
	PREVIEW_DOMAIN_HIT,
	PREVIEW_DOMAIN_MISS,    /* it was not remembered */
	PREVIEW_DOMAIN_STALE,   /* it was too old, and the server has been asked */
	PREVIEW_DOMAIN_REQUEST, /* the client wanted the server to be asked */
	PREVIEW_DOMAIN_ERROR,   /* it is too old, and the server does not answer */
};

/* Embedded in who asks. */
struct preview_domain {
	struct ownership *ownership;                /* borrowed */
	struct feed *feed;                          /* borrowed; events say when what is remembered is no longer so */
	struct fetch_caller asker;                  /* borrowed texts and references, until the answer */
	char sandbox[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* well formed */
	uint64_t ttl_ms;                            /* how long a record is taken to say the same */
	bool isolated;                              /* only the sandbox's owner may know */
	bool no_cache;                              /* the server is asked in any case */
	struct ownership_wait wait;
	uint64_t began_ms;
	/* The answer: */
	enum preview_domain_source source;
	char domain[SANDBOX_DOC_DOMAIN_MAX_BYTES + 1];
	uint64_t age_ms;
	unsigned status; /* 0, or of a refusal: 404, 502, 503 or 504 */
	char why[256];   /* its text */
	/* After preview_domain_ask returned false. */
	void (*on_known)(struct preview_domain *d);
};

/*
 * Notes what is remembered before anything is asked in the name of this request, so that the answer can say where it comes
 * from; asks nothing. Ownership, asker, sandbox, ttl_ms, isolated, no_cache and on_known are set.
 */
void preview_domain_init(struct preview_domain *d);
/* Under isolation it is known that the asker owns it. True: the answer is there; false: on_known follows, not from within. */
MUST_CHECK bool preview_domain_ask(struct preview_domain *d);
/* Harmless when it does not wait. */
void preview_domain_cancel(struct preview_domain *d);

#endif
