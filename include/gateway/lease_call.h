/* SPDX-License-Identifier: Apache-2.0 */
/* The routes of leases: which there are, renewing one or giving a sandbox one, releasing one. */
#ifndef GATEWAY_LEASE_CALL_H
#define GATEWAY_LEASE_CALL_H

#include "common/err.h"
#include "gateway/call.h"

struct lease;
struct lease_refusal;
struct lease_shared;
struct lease_spec;

/* A lease for whoever makes that request, before its sandbox exists: see lease_new. 0, or -1 and *refusal. */
MUST_CHECK int lease_call_take(struct lease_shared *leases, const struct call_case *c, const struct lease_spec *spec,
			       struct lease **out, struct lease_refusal *refusal);

/* ROUTE_LEASES, ROUTE_LEASE_RENEW or ROUTE_LEASE_RELEASE. 0 or -ENOMEM. */
MUST_CHECK int lease_call_new(struct lease_shared *leases, const struct call_case *what, struct call **out);

#endif
