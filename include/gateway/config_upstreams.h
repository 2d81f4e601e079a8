/* SPDX-License-Identifier: Apache-2.0 */
/* The sections `upstreams` and `preview` of a configuration file. */
#ifndef GATEWAY_CONFIG_UPSTREAMS_H
#define GATEWAY_CONFIG_UPSTREAMS_H

#include <stdbool.h>
#include <yaml.h>

#include "common/str.h"

struct config_upstream;
struct reader;
struct reader_field;

/* For the table of the file's keys: fills config.upstreams. */
void config_upstreams_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

/*
 * For other sections that say where something is: reads http://HOST:PORT or https://HOST:PORT into scheme, host and port; false
 * when it is none. The struct config_tls at `to`. And whether allow_plaintext, tls and the way that `u` takes go together, faults
 * of which name what goes over it in clear; `url` is the node that says where.
 */
bool config_upstreams_place(struct reader *r, struct str url, struct config_upstream *u);
void config_upstreams_tls(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);
void config_upstreams_check_way(struct reader *r, const yaml_node_t *node, const yaml_node_t *url,
				const struct config_upstream *u, const char *what);

/* Fills the struct config_preview at `to`. */
void config_preview_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

#endif
