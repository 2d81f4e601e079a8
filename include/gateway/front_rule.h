/* SPDX-License-Identifier: Apache-2.0 */
/* Which rule is a connection's, and which owner the rule makes of its peer. */
#ifndef GATEWAY_FRONT_RULE_H
#define GATEWAY_FRONT_RULE_H

#include <stdbool.h>

struct front;

/* Puts rule and owner of the snapshot in force in place, if they are of another one. Only between two requests. */
void front_choose_rule(struct front *f);
/* Whether a request may begin: it is known whose it is. For client_events; `arg` is the front. */
bool front_may_begin(void *arg);
/* Lets go of the owner. */
void front_leave_owner(struct front *f);
/* Ends what was asked for without an end and is not admitted any more. */
void front_end_if_revoked(struct front *f);

#endif
