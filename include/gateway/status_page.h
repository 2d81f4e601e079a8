/* SPDX-License-Identifier: Apache-2.0 */
/* The page that shows the status to a browser: one document with its own style and script, and what it may do. */
#ifndef GATEWAY_STATUS_PAGE_H
#define GATEWAY_STATUS_PAGE_H

#include "common/str.h"

/* A literal. */
struct str status_page(void);

/* Header lines that let a browser run this style and script and no other, and reach nobody but the gateway. A literal. */
const char *status_page_lines(void);

#endif
