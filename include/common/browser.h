/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tells a web page in a browser from a program: what the browser adds to a request by itself and no page can leave
 * out. Pure.
 */
#ifndef COMMON_BROWSER_H
#define COMMON_BROWSER_H

#include <stdbool.h>

#include "common/err.h"
#include "common/str.h"

struct http_head;

/* The only Origin, n 0 without one; false when there are several, or an empty one. */
MUST_CHECK bool browser_origin(const struct http_head *head, struct str *out);

/* Whether any Sec-Fetch-Site says that another site's page asks. Sec-Fetch-Mode alone is no browser: Node's fetch sends it. */
bool browser_is_from_elsewhere(const struct http_head *head);

/* Whether somebody goes to this address himself, by a link or by typing it: no page gets to see the answer. */
bool browser_is_navigation(const struct http_head *head);

/* A Host without its port. */
struct str browser_host_name(struct str host);

#endif
