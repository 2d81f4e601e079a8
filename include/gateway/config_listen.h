/* SPDX-License-Identifier: Apache-2.0 */
/* The section `listen` of a configuration file. */
#ifndef GATEWAY_CONFIG_LISTEN_H
#define GATEWAY_CONFIG_LISTEN_H

#include <yaml.h>

struct reader;
struct reader_field;

/* For the table of the file's keys: fills config.listeners. */
void config_listen_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);
/* Faults between listeners. */
void config_listen_check(struct reader *r);

#endif
