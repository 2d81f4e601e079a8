/* SPDX-License-Identifier: Apache-2.0 */
/* The host names under which programs in sandboxes are reached: {port}-{id}.{domain}. */
#ifndef LOCAL_PREVIEW_HOST_H
#define LOCAL_PREVIEW_HOST_H

#include <stdint.h>

#include "common/str.h"

/* The preview_domain of every sandbox. */
#define PREVIEW_DOMAIN "localhost"

enum {
	PREVIEW_ID_MAX = 63 /* a label of a host name */
};

enum preview_host_result {
	PREVIEW_HOST_NONE,     /* some other host */
	PREVIEW_HOST_BAD_PORT, /* a preview's, but its port is none from 1 to 65535, or is written in another way */
	PREVIEW_HOST_OK,
};

struct preview_host {
	uint16_t port;
	char id[PREVIEW_ID_MAX + 1]; /* lower case, as host names know no case; beginning "sb-" */
};

/* Reads the value of a Host header; *out is filled with PREVIEW_HOST_OK. */
enum preview_host_result preview_host_parse(struct str host, struct preview_host *out);

#endif
