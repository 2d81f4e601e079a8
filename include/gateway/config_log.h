/* SPDX-License-Identifier: Apache-2.0 */
/* The section `log` of a configuration file. */
#ifndef GATEWAY_CONFIG_LOG_H
#define GATEWAY_CONFIG_LOG_H

#include <yaml.h>

struct reader;
struct reader_field;

/* For the table of the file's keys: fills log_level, log_format, access and audit of the configuration. */
void config_log_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

#endif
