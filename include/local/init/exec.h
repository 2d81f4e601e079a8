/* SPDX-License-Identifier: Apache-2.0 */
/* Commands: started in a session of their own, their output sent on, answered soon after they exit. */
#ifndef LOCAL_INIT_EXEC_H
#define LOCAL_INIT_EXEC_H

#include <stdint.h>

#include "common/str.h"

struct init;

/* `body` is what wire_put_exec made; borrowed for the call. Answers itself when it cannot start. */
void exec_start(struct init *init, uint32_t id, struct str body);

#endif
