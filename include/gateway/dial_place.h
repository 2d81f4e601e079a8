/* SPDX-License-Identifier: Apache-2.0 */
/* Where a server is and how it is dialled, taken from the configuration so that it outlives that. */
#ifndef GATEWAY_DIAL_PLACE_H
#define GATEWAY_DIAL_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "gateway/dial.h"

struct config_upstream;

/* Embedded in who dials; zeroed before dial_place_init. */
struct dial_place {
	char *authority;          /* owned; for Host */
	char *url;                /* owned; what libcurl dials */
	char *unix_path;          /* owned; NULL: TCP */
	char *connect_to;         /* owned; with tls.server_name, else NULL */
	char *cert_file;          /* owned; NULL without */
	char *key_file;           /* owned; NULL without */
	char *proxy;              /* owned; NULL without */
	struct buf ca;            /* PEM; empty: the system's authorities */
	struct dial_share *share; /* owned; TLS sessions; NULL for plain servers */
};

/* Copies all; unix_path NULL: TCP. 0 or -ENOMEM; dial_place_fini is right in either case. */
MUST_CHECK int dial_place_init(struct dial_place *p, const struct config_upstream *config, const char *unix_path);
/* After the dials that use it. */
void dial_place_fini(struct dial_place *p);

/* For dial_start; borrowed. */
struct dial_target dial_place_target(const struct dial_place *p, bool no_near, uint64_t timeout_ms);

#endif
