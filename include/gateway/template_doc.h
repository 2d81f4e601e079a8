/* SPDX-License-Identifier: Apache-2.0 */
/* Templates as JSON: the documentation's spelling of their fields and the server's, in both directions. */
#ifndef GATEWAY_TEMPLATE_DOC_H
#define GATEWAY_TEMPLATE_DOC_H

#include <stdbool.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"
#include "gateway/body_fields.h"

/*
 * Appends a template, or a list of them, in which each has cpu_cores and vcpus, ttl_seconds and ttl when the server gave one of
 * the two; all else stays as it is written. False, and what was appended is to be dropped, when `body` is neither or there is no
 * memory.
 */
MUST_CHECK bool template_doc_show(struct str body, struct buf *out);

/*
 * Appends the body of a write (judged as BODY_TEMPLATE) as the server stores it: vcpus as cpu_cores, ttl (a Go duration of whole
 * seconds) as ttl_seconds. Both spellings with different values, or a ttl that is none: 400 in v.
 */
void template_doc_translate(struct str body, struct buf *out, struct body_verdict *v);

/*
 * Appends the body of a PUT that leaves what a POST of the translated `body` would: the fields that it does not set have the
 * values that a POST gives them. False when a POST would not do without what is missing (an image), or without
 * memory: `out` has failed then.
 */
MUST_CHECK bool template_doc_replacement(struct str body, struct buf *out);

/*
 * Appends the path of the template that a body names, escaped as the server itself would write it, since it decodes nothing
 * else. False when the server has no path for such a name, or without memory: `out` has failed then.
 */
MUST_CHECK bool template_doc_path(struct str body, struct buf *out);

/* Appends the names of the fields that a client sent and the answer does not show: "metadata, provider". */
void template_doc_ignored(struct str sent, struct str answer, struct buf *out);

/* Whether the answer to a PUT shows no time of creation, which the server has all the same. */
bool template_doc_lacks_created(struct str answer);
/* Appends that answer with the time that the template itself shows; with `shown` unreadable, without a time. */
void template_doc_set_created(struct str answer, struct str shown, struct buf *out);

#endif
