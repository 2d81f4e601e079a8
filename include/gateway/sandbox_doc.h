/* SPDX-License-Identifier: Apache-2.0 */
/* What the gateway reads out of one sandbox object of the server (its JSON in answers to spawn, get and list). */
#ifndef GATEWAY_SANDBOX_DOC_H
#define GATEWAY_SANDBOX_DOC_H

#include <stdbool.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

/* The metadata keys that say whose a sandbox is and which spawn made it; clients cannot set what begins so. */
#define SANDBOX_DOC_RESERVED  "stacygate."
#define SANDBOX_DOC_OWNER_KEY "stacygate.owner"
#define SANDBOX_DOC_TOKEN_KEY "stacygate.token"

enum {
	SANDBOX_DOC_ID_MAX_BYTES = 128,
	SANDBOX_DOC_OWNER_MAX_BYTES = 128,
	SANDBOX_DOC_TOKEN_MAX_BYTES = 128,
	SANDBOX_DOC_STATE_MAX_BYTES = 32,
	SANDBOX_DOC_DOMAIN_MAX_BYTES = 253,
	SANDBOX_DOC_TARGET_MAX_BYTES = 255,
};

/*
 * A plain value. Texts are terminated; one that is missing, null, longer than its array or holds a zero byte is empty,
 * so that a part of a name is never taken for the name.
 */
struct sandbox_doc {
	char id[SANDBOX_DOC_ID_MAX_BYTES + 1];       /* never empty after a successful parse */
	char owner[SANDBOX_DOC_OWNER_MAX_BYTES + 1]; /* metadata["stacygate.owner"] */
	char token[SANDBOX_DOC_TOKEN_MAX_BYTES + 1]; /* metadata["stacygate.token"] */
	char state[SANDBOX_DOC_STATE_MAX_BYTES + 1]; /* an open set: "running", "expired", ... */
	char preview_domain[SANDBOX_DOC_DOMAIN_MAX_BYTES + 1];
	char vm_id[SANDBOX_DOC_ID_MAX_BYTES + 1]; /* pool mode and remote workers */
	bool has_expiry;
	int64_t expires_at_ms; /* since 1970, with has_expiry */
};

/* [A-Za-z0-9._-]{1,128} and no dot in front: what may stand as a segment of a path. */
bool sandbox_doc_id_is_good(struct str id);

/* Writes the target of what is asked of a sandbox: "/api/v1/sandboxes/ID" and what stands `behind` it: "/extend", "". */
struct str sandbox_doc_target(char out[SANDBOX_DOC_TARGET_MAX_BYTES + 1], const char *id, const char *behind);

/*
 * `json` is one object and nothing else but white space. Keys are taken exactly as the server spells them. 0, or
 * -EPROTO when it is no such object, has no good id, a key that is read here twice, or a value of another type than
 * the server writes; *out is then not to be read.
 */
MUST_CHECK int sandbox_doc_parse(struct str json, struct sandbox_doc *out);

/* Whether `owner`, which is not empty, owns the sandbox. */
bool sandbox_doc_is_owned(const struct sandbox_doc *doc, const char *owner);

#endif
