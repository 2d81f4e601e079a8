/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a configuration file and the fragments that it includes into one tree, in which each node knows its file. */
#ifndef GATEWAY_CONFIG_DOCUMENT_H
#define GATEWAY_CONFIG_DOCUMENT_H

#include <yaml.h>

#include "common/err.h"

struct reader;

/*
 * Fills r->doc, which the caller deletes, from r->file and the files *.yaml of its `include`, in lexical order: lists and
 * mappings of names go on, what stands twice is left for the reader of the mapping to find. At most 256 fragments, 1 MiB
 * with the file. Their paths go into r->c->fragments. *root is NULL when nothing is written. 0; or -1, with faults noted
 * or r->no_memory, and there is no document.
 */
MUST_CHECK int config_document_load(struct reader *r, yaml_node_t **root);

#endif
