/* SPDX-License-Identifier: Apache-2.0 */
/* The keys `limits` and `spawn_defaults` of a client rule. */
#ifndef GATEWAY_CONFIG_LIMITS_H
#define GATEWAY_CONFIG_LIMITS_H

#include <yaml.h>

struct config_rule;
struct reader;

/* Fills rule.limits and rule.spawn_defaults; NULL nodes: not written. */
void config_limits_read(struct reader *r, struct config_rule *rule, yaml_node_t *limits, yaml_node_t *defaults);

#endif
