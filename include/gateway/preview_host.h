/* SPDX-License-Identifier: Apache-2.0 */
/* Tells a Host that stands for a port of a sandbox, {port}-sb-{hex}.DOMAIN, and takes it apart. Pure. */
#ifndef GATEWAY_PREVIEW_HOST_H
#define GATEWAY_PREVIEW_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "common/str.h"
#include "gateway/sandbox_doc.h"

/* A sandbox whose record names no domain has its previews here, and every sandbox may be asked for under it. */
#define PREVIEW_HOST_LOCAL "localhost"

struct preview_host {
	uint16_t port;                         /* 0: what stands there is no port that a sandbox could have */
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* in lower case; empty when it is too long to be one */
	struct str domain;                     /* borrowed from the Host, as the next */
	struct str suffix;                     /* the colon and number behind the domain; empty without */
};

/* False when it is no such Host; *out is then not to be read. */
bool preview_host_parse(struct str host, struct preview_host *out);

/* The port of a decimal text without anything else in it or a zero in front; 0 when it is none. */
uint16_t preview_host_port(struct str text);

/* A domain as a record may name it: letters, digits, '-', '_' and dots, perhaps with a port; at most 253 bytes. */
bool preview_host_domain_is_good(struct str domain);

/* Cuts the port off a domain; 0: it has none. */
uint16_t preview_host_cut_port(struct str *domain);

#endif
