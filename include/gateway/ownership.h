/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose is a sandbox, and where are its previews? Answers from memory, else by one look at the server for all who ask at the
 * same time.
 */
#ifndef GATEWAY_OWNERSHIP_H
#define GATEWAY_OWNERSHIP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/list.h"
#include "common/str.h"
#include "gateway/fetch.h"
#include "gateway/owner.h"

struct loop;
struct sandbox_doc;
struct upstream;

enum {
	OWNERSHIP_BUCKETS = 256
};

struct ownership {
	struct loop *loop; /* borrowed */
	struct owner_table *table;
	struct list pending[OWNERSHIP_BUCKETS]; /* struct look_up, by hash of the id */
	uint64_t looked_up;                     /* requests to a server */
	uint64_t failed;                        /* of them without a usable answer */
	/* Each time that a sandbox is seen destroyed, or not found: it must not come back to this module. May be NULL. */
	void (*on_gone)(void *arg, const struct upstream *u, struct str id);
	void *arg;
};

/* Embedded in who waits for an answer. */
struct ownership_wait {
	struct list link; /* on its look-up's list while waiting */
	void *look_up;    /* borrowed while waiting */
	/*
	 * Once, never from within ownership_ask. OWNER_UNKNOWN: the server did not say; `status` is then what to answer (502,
	 * 503 or 504), and `why` text for people. Otherwise status is 0.
	 */
	void (*on_known)(struct ownership_wait *w, enum owner_answer answer, unsigned status, const char *why);
};

MUST_CHECK int ownership_init(struct ownership *o, struct loop *loop);
/* Nobody waits any more. */
void ownership_fini(struct ownership *o);

/* What is remembered. */
enum owner_answer ownership_known(struct ownership *o, const struct fetch_caller *asker, struct str id);

/*
 * Looks at the server for a sandbox that is not remembered; `id` is well formed (sandbox_doc.h). Askers of one id with one
 * user id share the look. 0, and on_known follows; or -ENOMEM.
 */
MUST_CHECK int ownership_ask(struct ownership *o, const struct fetch_caller *asker, struct str id,
			     struct ownership_wait *w);
/* Harmless when it does not wait. */
void ownership_cancel(struct ownership_wait *w);

/* Whether an answer is the API's own 404, not one of something in between. */
bool ownership_is_not_found(const struct fetch_answer *a);

/* The record of a sandbox was seen: whose it is (empty: nobody's), and where its previews are. */
void ownership_learn_doc(struct ownership *o, const struct upstream *u, const struct sandbox_doc *doc);
/*
 * The domain that the record of a sandbox names for its previews (empty: none) and how long ago it was seen; borrowed for the
 * moment. False when it is not remembered, or the sandbox is destroyed.
 */
bool ownership_domain(struct ownership *o, const struct upstream *u, struct str id, struct str *domain,
		      uint64_t *age_ms);
/* It was seen destroyed. */
void ownership_gone(struct ownership *o, const struct upstream *u, struct str id);
/* The asker, whose it was, has destroyed it, whatever is remembered by now. */
void ownership_destroyed(struct ownership *o, const struct fetch_caller *asker, struct str id);
/* Nothing is remembered any more; how many there were. */
size_t ownership_forget_all(struct ownership *o);

/* What is remembered of the sandbox, or of all of the upstream's, may not hold any more; a destroyed one stays so. */
void ownership_forget(struct ownership *o, const struct upstream *u, struct str id);
void ownership_forget_upstream(struct ownership *o, const struct upstream *u);

#endif
