/* SPDX-License-Identifier: Apache-2.0 */
/* What a client writes to say what its sandbox's life hangs on: Stacygate-Lease. */
#ifndef GATEWAY_LEASE_SPEC_H
#define GATEWAY_LEASE_SPEC_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/err.h"
#include "common/str.h"

enum lease_kind {
	LEASE_CONNECTION, /* the client's connection */
	LEASE_PROCESS,    /* a process */
	LEASE_CLOCK,      /* a span of time */
	LEASE_RUN,        /* one request of POST /gateway/v1/run, and nothing beyond it */
	LEASE_KINDS,
};

enum {
	LEASE_SPAN_MIN_MS = 1000
};
#define LEASE_SPAN_MAX_MS (UINT64_C(366) * 86400000)

struct lease_spec {
	enum lease_kind kind;
	pid_t pid;        /* LEASE_PROCESS: 0 is the caller's own */
	uint64_t span_ms; /* LEASE_CLOCK */
};

/* "connection", "process", "clock", "run". */
const char *lease_kind_name(enum lease_kind kind);
/* 0 or -EINVAL. */
MUST_CHECK int lease_kind_parse(struct str name, enum lease_kind *out);

/*
 * Reads "connection", "process", "process=PID" or a duration from 1s to 366 days; white space around it is none of it. False, and
 * *why is then a text for the client, when it is nothing of these.
 */
bool lease_spec_parse(struct str value, struct lease_spec *out, const char **why);

#endif
