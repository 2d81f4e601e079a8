/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves of the server's event stream what is one caller's, in order; asks whose a sandbox is where it is not known. */
#ifndef GATEWAY_EVENT_FILTER_H
#define GATEWAY_EVENT_FILTER_H

#include <stdint.h>

#include "common/buf.h"
#include "common/str.h"
#include "gateway/exchange.h"
#include "gateway/ownership.h"

struct event_filter;

/* All are borrowed until event_filter_free, the asker's texts and upstream too. NULL without memory. */
struct event_filter *event_filter_new(struct ownership *ownership, const struct fetch_caller *asker,
				      struct exchange *exchange);
/* NULL is fine. */
void event_filter_free(struct event_filter *f);

/*
 * The next bytes of the stream; appends the events that pass, as they were written, and counts the others. With
 * EXCHANGE_FILTER_HOLD the exchange is resumed when the owner that is waited for is known.
 */
enum exchange_filtered event_filter_feed(struct event_filter *f, struct str data, struct buf *out, uint64_t *dropped);

#endif
