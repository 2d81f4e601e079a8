/* SPDX-License-Identifier: Apache-2.0 */
/* The section `cache` of a configuration file. */
#ifndef GATEWAY_CONFIG_CACHE_H
#define GATEWAY_CONFIG_CACHE_H

#include <yaml.h>

struct reader;
struct reader_field;

/* For the table of the file's keys: fills `cache` of the configuration. */
void config_cache_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

#endif
