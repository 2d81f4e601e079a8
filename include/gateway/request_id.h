/* SPDX-License-Identifier: Apache-2.0 */
/* The id by which one request is found again in every log. */
#ifndef GATEWAY_REQUEST_ID_H
#define GATEWAY_REQUEST_ID_H

#include <stdbool.h>

#include "common/str.h"

enum {
	REQUEST_ID_MAX_BYTES = 128
};

/* Whether a client's id may be kept: [A-Za-z0-9._-]{1,128}. */
bool request_id_is_good(struct str id);

/* A fresh UUID version 4 (RFC 9562 5.4). */
void request_id_make(char out[REQUEST_ID_MAX_BYTES + 1]);

#endif
