/* SPDX-License-Identifier: Apache-2.0 */
/* The gateway's own routes below /gateway/v1: health, whoami, status, metrics, the description of all routes. */
#ifndef GATEWAY_CONTROL_H
#define GATEWAY_CONTROL_H

#include <stdint.h>

#include "common/http_parse.h"

struct answer_to;
struct status_view;

/* Answers a request to one of its routes, or 404 or 405; which status it was. */
unsigned control_answer(const struct answer_to *to, enum http_method method, struct str rest,
			const struct status_view *view);

#endif
