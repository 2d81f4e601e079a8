/* SPDX-License-Identifier: Apache-2.0 */
/* Handlers about the server itself: health, providers, pool, quotas, snapshots, host load. */
#ifndef LOCAL_API_SYSTEM_H
#define LOCAL_API_SYSTEM_H

struct call;

void api_system_health(struct call *call);
void api_system_live(struct call *call);
void api_system_ready(struct call *call);
void api_system_pool_status(struct call *call);
void api_system_snapshots(struct call *call);
void api_system_stats(struct call *call);
void api_system_quota_summary(struct call *call);
void api_system_providers(struct call *call);
void api_system_providers_test(struct call *call);
void api_system_provider(struct call *call);

#endif
