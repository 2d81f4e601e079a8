/* SPDX-License-Identifier: Apache-2.0 */
/* Leaves of the server's list of sandboxes those of one owner, while it arrives. */
#ifndef GATEWAY_LIST_FILTER_H
#define GATEWAY_LIST_FILTER_H

#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"
#include "gateway/elements.h"
#include "gateway/sandbox_doc.h"

/* Embedded; fields are the module's own but for the counts. Must not move between init and fini. */
struct list_filter {
	struct elements elements;
	char owner[SANDBOX_DOC_OWNER_MAX_BYTES + 1]; /* a copy */
	struct buf *out;                             /* borrowed, during a feed */
	uint64_t kept;                               /* elements that are the owner's */
	uint64_t unreadable;                         /* elements that are no sandbox object */
};

/* `owner` is not empty and at most SANDBOX_DOC_OWNER_MAX_BYTES long. */
void list_filter_init(struct list_filter *f, const char *owner);
void list_filter_fini(struct list_filter *f);

/*
 * The next bytes of the body, without transfer coding, cut anywhere; appends to out what is certain by then. An element
 * is passed on byte for byte or not at all. 0, or -EPROTO when it is no array, -ENOMEM; what was appended so far is
 * then no JSON, and must be broken off visibly.
 */
MUST_CHECK int list_filter_feed(struct list_filter *f, struct str bytes, struct buf *out);

/*
 * The body ended cleanly: appends the closing bracket and the server's line end. 0 and the text is JSON ("[]" when
 * nothing was kept), or -EPROTO and nothing is appended, when the array was not complete, -ENOMEM.
 */
MUST_CHECK int list_filter_end(struct list_filter *f, struct buf *out);

/* Elements that were left out because they could not be judged: too long, or no sandbox object. */
uint64_t list_filter_skipped(const struct list_filter *f);

#endif
