/* SPDX-License-Identifier: Apache-2.0 */
/* Texts that many connections have, such as names of listeners and owners: one copy of each. */
#ifndef GATEWAY_FRONT_TEXT_H
#define GATEWAY_FRONT_TEXT_H

struct front_shared;

/* A reference to a shared copy; NULL without memory. */
const char *front_text_ref(struct front_shared *s, const char *text);
/* NULL is fine. */
void front_text_unref(const char *text);

#endif
