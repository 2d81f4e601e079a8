/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers that run commands in a sandbox. */
#ifndef LOCAL_API_EXEC_H
#define LOCAL_API_EXEC_H

struct call;

void api_exec_run(struct call *call);
/* The WebSocket form, which this server does not have. */
void api_exec_ws(struct call *call);

#endif
