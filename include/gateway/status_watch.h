/* SPDX-License-Identifier: Apache-2.0 */
/* GET /gateway/v1/status as a stream: the document once a second, as a server-sent event. */
#ifndef GATEWAY_STATUS_WATCH_H
#define GATEWAY_STATUS_WATCH_H

#include <stdbool.h>

#include "common/err.h"

struct call;
struct call_case;
struct http_head;
struct status_view;

/* Whether the client would rather have the stream than one document. */
bool status_watch_is_asked_for(const struct http_head *head);

/* The view is copied; what it borrows outlives the call. 0 or -ENOMEM. */
MUST_CHECK int status_watch_call_new(const struct status_view *view, const struct call_case *what, struct call **out);

#endif
