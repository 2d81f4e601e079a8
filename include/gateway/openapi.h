/* SPDX-License-Identifier: Apache-2.0 */
/* The description of all routes (OpenAPI 3.1), carried along as bytes. */
#ifndef GATEWAY_OPENAPI_H
#define GATEWAY_OPENAPI_H

#include "common/str.h"

/* JSON text without a newline at its end. Static; never freed. */
struct str openapi_document(void);

#endif
