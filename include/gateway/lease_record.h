/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal keeps of a lease, as text: all that the next start needs to take it up. */
#ifndef GATEWAY_LEASE_RECORD_H
#define GATEWAY_LEASE_RECORD_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"
#include "gateway/lease_spec.h"

/* A plain value; texts are borrowed from whoever made it, or from `doc`. */
struct lease_record {
	const char *sandbox;
	const char *upstream;
	const char *url;
	const char *credential; /* NULL: none */
	const char *user_id;
	const char *place; /* boot and pid namespace in which pid, start and until_mono_ms mean something */
	struct lease_spec spec;
	uint64_t start; /* LEASE_PROCESS: when the process began */
	bool ending;    /* the sandbox is to be destroyed */
	bool grace;
	uint64_t until_mono_ms; /* LEASE_CLOCK: clock_ms() of its end */
	int64_t until_wall_ms;  /* LEASE_CLOCK: the same since 1970 */
	uint64_t asked_ttl_ms;
	uint64_t max_ttl_ms;
	void *doc; /* owned by a record that was read; for lease_record_fini */
};

void lease_record_write(const struct lease_record *r, struct buf *out);
/* 0, -EPROTO when it is none, or -ENOMEM; lease_record_fini is right in any case. */
MUST_CHECK int lease_record_read(struct str text, struct lease_record *out);
void lease_record_fini(struct lease_record *r);

#endif
