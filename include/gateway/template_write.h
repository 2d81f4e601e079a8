/* SPDX-License-Identifier: Apache-2.0 */
/* POST, PUT and DELETE of templates: what is remembered of them goes, and saving one that exists replaces it. */
#ifndef GATEWAY_TEMPLATE_WRITE_H
#define GATEWAY_TEMPLATE_WRITE_H

#include "common/err.h"
#include "gateway/call.h"

/* Makes the call; what was sent when its client leaves goes on. 0 or -ENOMEM. */
MUST_CHECK int template_write_call_new(const struct call_case *what, struct call **out);

#endif
