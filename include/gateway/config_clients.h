/* SPDX-License-Identifier: Apache-2.0 */
/* The section `clients` of a configuration file: the rules. */
#ifndef GATEWAY_CONFIG_CLIENTS_H
#define GATEWAY_CONFIG_CLIENTS_H

#include <yaml.h>

struct reader;
struct reader_field;

/* Fills config.rules, when upstreams, credentials and listeners have been read. */
void config_clients_read(struct reader *r, yaml_node_t *node);
/* Faults between rules. */
void config_clients_check(struct reader *r);

#endif
