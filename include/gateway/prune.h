/* SPDX-License-Identifier: Apache-2.0 */
/* DELETE /sandboxes for one owner: destroys those of his that have expired, one by one. */
#ifndef GATEWAY_PRUNE_H
#define GATEWAY_PRUNE_H

#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "gateway/ownership.h"

struct loop;
struct prune;

/* Once, never from within prune_start; it is freed afterwards. `status` 0: `destroyed` counts; else what to answer. */
typedef void prune_on_done(void *arg, unsigned status, const char *why, size_t destroyed);

/*
 * The asker's texts are copied, references taken. After timeout_ms (0: never) it ends with 504, and what was destroyed
 * stays so. 0 or -ENOMEM.
 */
MUST_CHECK int prune_start(struct loop *loop, struct ownership *ownership, const struct fetch_caller *asker,
			   uint64_t timeout_ms, prune_on_done *on_done, void *arg, struct prune **out);
/* Ends it without on_done; what was destroyed stays so. NULL is fine. */
void prune_cancel(struct prune *p);

#endif
