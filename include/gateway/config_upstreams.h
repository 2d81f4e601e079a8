/* SPDX-License-Identifier: Apache-2.0 */
/* The sections `upstreams` and `preview` of a configuration file. */
#ifndef GATEWAY_CONFIG_UPSTREAMS_H
#define GATEWAY_CONFIG_UPSTREAMS_H

#include <yaml.h>

struct reader;
struct reader_field;

/* For the table of the file's keys: fills config.upstreams. */
void config_upstreams_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

/* Fills the struct config_preview at `to`. */
void config_preview_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

#endif
