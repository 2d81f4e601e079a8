/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the JSON records that modules keep in the journal. */
#ifndef GATEWAY_RECORD_H
#define GATEWAY_RECORD_H

#include <jansson.h>

/* A member's text, borrowed from the record; empty when there is none, or it is no string. */
const char *record_text(const json_t *record, const char *key);

#endif
