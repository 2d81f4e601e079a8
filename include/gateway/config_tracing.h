/* SPDX-License-Identifier: Apache-2.0 */
/* The section `tracing` of a configuration file. */
#ifndef GATEWAY_CONFIG_TRACING_H
#define GATEWAY_CONFIG_TRACING_H

#include <yaml.h>

struct reader;
struct reader_field;

/* For the table of the file's keys: fills the struct config_tracing at `to`. */
void config_tracing_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

#endif
