/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers of the sandboxes themselves: spawn, list, get, destroy, prune, extend, admission, logs, stats. */
#ifndef LOCAL_API_SANDBOX_H
#define LOCAL_API_SANDBOX_H

struct call;

void api_sandbox_spawn(struct call *call);
void api_sandbox_spawn_template(struct call *call);
void api_sandbox_admission(struct call *call);
void api_sandbox_list(struct call *call);
void api_sandbox_prune(struct call *call);
void api_sandbox_get(struct call *call);
void api_sandbox_destroy(struct call *call);
void api_sandbox_extend(struct call *call);
void api_sandbox_logs(struct call *call);
void api_sandbox_stats(struct call *call);

#endif
