/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that the daemon counts as Prometheus reads it; labels are what a configuration names and words of ours. */
#ifndef GATEWAY_METRICS_H
#define GATEWAY_METRICS_H

struct buf;
struct client_shared;
struct control_stats;
struct snapshot;

void metrics_write(struct buf *out, const struct snapshot *snapshot, const struct control_stats *stats,
		   const struct client_shared *clients);

#endif
