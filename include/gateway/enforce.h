/* SPDX-License-Identifier: Apache-2.0 */
/* Enforces on one request what its rule says: whose sandbox it may name, what its body may ask for, what it may see. */
#ifndef GATEWAY_ENFORCE_H
#define GATEWAY_ENFORCE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/http_parse.h"
#include "gateway/admit.h"
#include "gateway/exchange.h"

struct config_rule;
struct enforce;
struct key;
struct loop;
struct route;

/* What is remembered between requests; owned by the gateway. */
struct enforce_shared {
	struct loop *loop; /* borrowed */
	struct admit_shared admit;
	struct list idle; /* struct enforce, to be used again */
	size_t nidle;
	uint64_t list_skipped; /* sandboxes left out of a list because they could not be judged */
};

MUST_CHECK int enforce_shared_init(struct enforce_shared *s, struct loop *loop);
/* When no request is under way any more. */
void enforce_shared_fini(struct enforce_shared *s);

/* One request; the rule, the texts, the key and the upstream are borrowed until enforce_free. */
struct enforce_case {
	const struct config_rule *rule;
	bool shared_vm_accepted; /* the upstream's shared_vm */
	struct upstream *upstream;
	struct key *key; /* NULL: none */
	const char *user_id;
	const char *request_id;
	const char *trace_lines;      /* NULL: none */
	const struct http_head *head; /* borrowed for the call of enforce_new */
	const struct route *route;    /* borrowed for the call of enforce_new */
};

enum enforce_verdict {
	ENFORCE_PLAIN,     /* nothing is done to it */
	ENFORCE_SHAPED,    /* *out is to be started with its exchange */
	ENFORCE_NOT_FOUND, /* the sandbox is not the caller's, whatever else it is */
	ENFORCE_DESTROYED, /* the caller destroys what he has destroyed before */
	ENFORCE_NO_MEMORY,
};

/* Judges the request and, when it is to be shaped, fills in target, gather, shape and shape_arg. */
MUST_CHECK enum enforce_verdict enforce_new(struct enforce_shared *s, const struct enforce_case *c,
					    struct exchange_request *request, struct enforce **out);

/* Starts the exchange, when it is known that it may; the exchange may end from within. */
void enforce_start(struct enforce *e, struct exchange *exchange);

/* When the exchange has ended, or was never made. NULL is fine. */
void enforce_free(struct enforce *e);

#endif
