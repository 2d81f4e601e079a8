/* SPDX-License-Identifier: Apache-2.0 */
/* Quotes words so that a POSIX shell reads them back exactly. */
#ifndef CLI_SH_QUOTE_H
#define CLI_SH_QUOTE_H

#include "common/buf.h"
#include "common/str.h"

/*
 * Adds one quoted word. The result is valid UTF-8 whatever the word is, since it travels in JSON: a byte that
 * is not UTF-8 is made by printf inside the sandbox. A word holds no NUL.
 */
void sh_quote(struct buf *out, struct str word);

#endif
