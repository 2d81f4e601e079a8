/* SPDX-License-Identifier: Apache-2.0 */
/* Takes a JSON array apart into its elements while it arrives, so that no list is ever held whole. */
#ifndef GATEWAY_ELEMENTS_H
#define GATEWAY_ELEMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	ELEMENTS_MAX_BYTES = 256 * 1024 /* a longer element is skipped */
};

enum elements_state {
	ELEMENTS_BEFORE, /* nothing but white space so far */
	ELEMENTS_OPEN,   /* behind the opening bracket: an element or the end */
	ELEMENTS_COMMA,  /* behind a comma: an element */
	ELEMENTS_INSIDE, /* in an element */
	ELEMENTS_BEHIND, /* behind an element: a comma or the end */
	ELEMENTS_DONE,   /* behind the array */
	ELEMENTS_BROKEN, /* it is no array */
};

/* An element as written; borrowed for the call. Its own grammar is not checked but for brackets and quotes. */
typedef void elements_on_element(void *arg, struct str element);

/* Embedded; fields are the module's own but for the counts. */
struct elements {
	elements_on_element *on_element;
	void *arg; /* borrowed; for on_element */
	enum elements_state state;
	size_t depth;     /* open containers within the element */
	bool in_string;   /* within the element */
	bool escaped;     /* the string's next byte stands behind a backslash */
	size_t size;      /* bytes of the element so far */
	struct buf held;  /* the element's start, when it came in pieces */
	bool no_memory;   /* an element could not be held */
	uint64_t seen;    /* whole elements, those skipped included */
	uint64_t skipped; /* of them, longer than ELEMENTS_MAX_BYTES */
};

void elements_init(struct elements *e, elements_on_element *on_element, void *arg);
void elements_fini(struct elements *e);

/*
 * The next bytes, cut anywhere. Calls on_element for each element that is then whole. 0, or -EPROTO when this is no
 * array, -ENOMEM; then and in every later call.
 */
MUST_CHECK int elements_feed(struct elements *e, struct str bytes);

/* There are no more bytes. 0 when the array was complete and only white space followed it, else -EPROTO or -ENOMEM. */
MUST_CHECK int elements_end(const struct elements *e);

#endif
