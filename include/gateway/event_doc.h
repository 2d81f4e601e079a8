/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway reads out of one event of the server (the JSON in its stream of events). */
#ifndef GATEWAY_EVENT_DOC_H
#define GATEWAY_EVENT_DOC_H

#include "common/err.h"
#include "common/str.h"
#include "gateway/sandbox_doc.h"

enum {
	EVENT_DOC_TYPE_MAX_BYTES = 64
};

/* A plain value; texts as in struct sandbox_doc: missing, too long or with a zero byte is empty. */
struct event_doc {
	char type[EVENT_DOC_TYPE_MAX_BYTES + 1];        /* "sandbox.created", ...: an open set */
	char sandbox_id[SANDBOX_DOC_ID_MAX_BYTES + 1];  /* empty: none, or no id that a path can hold */
	char owner_id[SANDBOX_DOC_OWNER_MAX_BYTES + 1]; /* data.owner_id */
};

/*
 * `payload` is one object and nothing else but white space. 0, or -EPROTO when it is not, or has a key twice that is
 * read here, or a value of another type than the server writes; *out is then not to be read.
 */
MUST_CHECK int event_doc_parse(struct str payload, struct event_doc *out);

#endif
