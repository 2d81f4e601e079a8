/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ties sandboxes to a life: of a connection, a process, a span of time or one run. While it goes on the sandbox is given a short
 * ttl again and again, so that it ends even if this daemon is gone for good; when it ends, the sandbox is destroyed.
 */
#ifndef GATEWAY_LEASE_H
#define GATEWAY_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/json_write.h"
#include "common/sm.h"
#include "common/str.h"
#include "gateway/fetch.h"
#include "gateway/lease_spec.h"

struct config_leases;
struct identity;
struct journal;
struct lease;
struct lease_shared;
struct loop;
struct ownership;
struct snapshot;

enum {
	LEASE_PER_OWNER_MAX = 256,
	LEASE_MAX = 4096,
	LEASE_RELEASE_TTL_MS = 1800000, /* what a released sandbox gets when nobody knows what was asked for */
};

/* The journal's keys of leases begin so. */
#define LEASE_JOURNAL_PREFIX "lease/"

enum lease_state {
	LEASE_UNBOUND, /* its sandbox does not exist yet */
	LEASE_HELD,    /* the life goes on */
	LEASE_GRACE,   /* we ended the life, or cannot tell: its owner may renew it within leases.grace */
	LEASE_ENDING,  /* the sandbox is being destroyed */
	LEASE_STATES,
};

/* What became of all leases; for status and metrics. */
struct lease_counters {
	uint64_t made;     /* bound to a sandbox */
	uint64_t restored; /* taken up from the journal */
	uint64_t released;
	uint64_t destroyed; /* sandboxes, because the life ended */
	uint64_t gone;      /* sandboxes that had ended before, or that somebody else destroyed */
	uint64_t lost;      /* given up: not resolved after a restart, or not destroyed before the ttl had passed */
	uint64_t extends;   /* answered well */
	uint64_t extends_failed; /* and repeated */
};

/* Lengths start at the defaults of the configuration; `ownership` is borrowed and told of sandboxes that end. 0 or -ENOMEM. */
MUST_CHECK int lease_shared_new(struct loop *loop, struct ownership *ownership, struct lease_shared **out);
/* Leaves all sandboxes as they are, for the next start to take up. Also what was unbound. NULL is fine. */
void lease_shared_free(struct lease_shared *s);

/* The lengths of things from now on; a time that runs keeps its length. */
void lease_use_config(struct lease_shared *s, const struct config_leases *c);

/*
 * A record of the journal whose key begins with LEASE_JOURNAL_PREFIX: kept for lease_restore. For the start, before which the
 * journal itself may not exist.
 */
void lease_recall(struct lease_shared *s, struct str key, struct str value);
/*
 * From now on leases are kept in that journal (borrowed; NULL: nothing survives). Takes up what was recalled, by the upstreams and
 * credentials in force: a process that is the same goes on, what ended meanwhile is destroyed, and what nobody can tell gets the
 * grace. What names an upstream or credential that is no longer there is logged and dropped: its ttl ends it. Once, before
 * anything is accepted.
 */
void lease_restore(struct lease_shared *s, struct journal *journal, const struct snapshot *snapshot);

/* Who asks for a lease; all borrowed for the call, references are taken. */
struct lease_asker {
	struct fetch_caller caller; /* request_id is not used */
	const char *credential;     /* name of the rule's; NULL: none */
	const struct identity *peer;
	int fd;                        /* the connection's descriptor */
	unsigned long long connection; /* client_id() */
	uint64_t max_ttl_ms;           /* the rule's limits.max_ttl; 0: none */
};

struct lease_refusal {
	unsigned status; /* 400, 403, 429 or 503 */
	char why[160];   /* terminated; for the client */
};

/*
 * A lease whose sandbox does not exist yet; it holds on to the life that it is about. Should that end before lease_bind, the lease
 * may still be bound (the sandbox is destroyed at once) or freed. 0 and *out, to be given to lease_bind or lease_free; or -1 and
 * *refusal.
 */
MUST_CHECK int lease_new(struct lease_shared *s, const struct lease_spec *spec, const struct lease_asker *asker,
			 struct lease **out, struct lease_refusal *refusal);
/* Of an unbound one. NULL is fine. */
void lease_free(struct lease *l);

/*
 * The sandbox exists (well-formed id), with a ttl that has just begun and lasts lease_ttl_ms() at least: from now on the lease is
 * its own, journalled, and takes the place of one that the sandbox had. asked_ttl_ms is what lease_released gives back; 0: not known,
 * or what the lease before it knew. *l becomes NULL.
 */
void lease_bind(struct lease **l, struct str sandbox, uint64_t asked_ttl_ms);

/* The ttl that a sandbox under a lease has at its server. */
uint64_t lease_ttl_ms(const struct lease_shared *s);

/* The bound lease of a sandbox at that server (the same url), borrowed until the end of the turn; NULL without one. */
struct lease *lease_find(struct lease_shared *s, const struct upstream *u, struct str sandbox);
/* Whether any connection lease is that connection's: it is then exempt from the idle limit. */
bool lease_holds_connection(const struct lease_shared *s, unsigned long long connection);

const char *lease_owner(const struct lease *l);
enum lease_state lease_state(const struct lease *l);
enum lease_kind lease_kind(const struct lease *l);
/* How to renew it without other words: what it hangs on now. */
struct lease_spec lease_spec(const struct lease *l);
/* The ttl that lease_released is to have given back: what was asked for, within the owner's limits. */
uint64_t lease_asked_ttl_ms(const struct lease *l);

/* Its client is about to give the sandbox another ttl himself: it gets the lease's again within moments. */
void lease_disturbed(struct lease *l);
/* While paused the sandbox is not extended: its caller is about to give it another ttl. */
void lease_pause(struct lease *l, bool paused);

/* The sandbox has been given its ttl back by the caller: the lease is forgotten. */
void lease_released(struct lease *l);
/* Destroys the sandbox now, as when the life ends: repeated until it is known to be gone. */
void lease_end(struct lease *l);

/*
 * A connection has been closed: by the client, which ends what hangs on it; or by us, which gives it the grace. Cheap when there
 * are no connection leases.
 */
void lease_connection_closed(struct lease_shared *s, unsigned long long connection, bool by_us);
/* The sandbox was seen destroyed, or not found. */
void lease_sandbox_gone(struct lease_shared *s, const struct upstream *u, struct str sandbox);

/* {"sandbox","kind","pid"?,"expires_at"?,"owner","state"}, with the key of an object or NULL. */
void lease_write(const struct lease *l, struct json_writer *w, const char *key);
/* An array of the owner's leases at that server; of all when owner is NULL. */
void lease_write_list(const struct lease_shared *s, const struct upstream *u, const char *owner, struct json_writer *w,
		      const char *key);

size_t lease_count(const struct lease_shared *s);
struct lease_counters lease_counters(const struct lease_shared *s);

/* The table of its states, for the test that walks it. */
const struct sm *lease_sm(void);

#endif
