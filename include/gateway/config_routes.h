/* SPDX-License-Identifier: Apache-2.0 */
/* The keys `allow` and `deny` of a client rule: route classes and patterns of paths. */
#ifndef GATEWAY_CONFIG_ROUTES_H
#define GATEWAY_CONFIG_ROUTES_H

#include <yaml.h>

struct config_rule;
struct reader;

/* Fills rule.allow and rule.deny, when rule.admin and rule.isolation are known; NULL nodes: not written. */
void config_routes_read(struct reader *r, struct config_rule *rule, yaml_node_t *allow, yaml_node_t *deny);

#endif
