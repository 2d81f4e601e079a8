/* SPDX-License-Identifier: Apache-2.0 */
/* What must hold of http_parse for every input: asked by the fuzz target, the replay of its seeds and the corpora. */
#ifndef FUZZ_HTTP_PROPERTY_H
#define FUZZ_HTTP_PROPERTY_H

#include <llhttp.h>
#include <stddef.h>

#include "common/buf.h"

enum property_verdict {
	PROPERTY_REFUSED, /* some message in it was refused */
	PROPERTY_WAITS,   /* all is well so far and the last message is not complete */
	PROPERTY_WHOLE,   /* complete messages and nothing behind the last one */
};

/*
 * Parses bytes as a sender's stream, `step` bytes at a time (0: all at once), and writes what was understood into
 * *understood: every head and the bodies, one message after the other. CHECKs what one run can show: spans lie in
 * the input, heads agree with a naive reading of their lines, chunked bodies with a naive decoder.
 */
enum property_verdict http_property_run(llhttp_type_t kind, const char *bytes, size_t n, size_t step,
					struct buf *understood);

/*
 * The whole property: the verdict and what was understood do not depend on how the bytes were cut, and a message
 * that was accepted, written anew as the gateway would, is accepted again and understood alike.
 */
enum property_verdict http_property_check(llhttp_type_t kind, const char *bytes, size_t n);

#endif
