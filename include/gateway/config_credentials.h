/* SPDX-License-Identifier: Apache-2.0 */
/* The section `credentials` of a configuration file. */
#ifndef GATEWAY_CONFIG_CREDENTIALS_H
#define GATEWAY_CONFIG_CREDENTIALS_H

#include <yaml.h>

struct reader;
struct reader_field;

/* For the table of the file's keys: fills config.credentials. */
void config_credentials_read(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);

#endif
