/* SPDX-License-Identifier: Apache-2.0 */
/* GET of the templates or one of them, from memory where it may be. */
#ifndef GATEWAY_TEMPLATE_READ_H
#define GATEWAY_TEMPLATE_READ_H

#include "common/err.h"
#include "gateway/call.h"

/* Makes the call; HEAD is answered as its GET, but nothing is remembered of it. 0 or -ENOMEM. */
MUST_CHECK int template_read_call_new(const struct call_case *what, struct call **out);

#endif
