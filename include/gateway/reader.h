/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one mapping of a YAML tree by a table of fields; faults are collected with the place they stand at. */
#ifndef GATEWAY_READER_H
#define GATEWAY_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yaml.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"
#include "gateway/config.h"

struct reader {
	yaml_document_t doc;
	const char *file;   /* borrowed */
	struct buf *faults; /* borrowed */
	struct config *c;   /* borrowed */
	unsigned nfaults;
	bool no_memory;
};

/* A key that a mapping may hold; the table of them says what is known. */
struct reader_field {
	const char *key;
	/* `to` is the member, by the offset below; called once, since a repeated key is a fault of its own. */
	void (*read)(struct reader *r, yaml_node_t *value, void *to, const struct reader_field *field);
	size_t offset; /* of the member in the object */
	uint64_t min;
	uint64_t max;
};

#define READER_FIELDS(table) (sizeof(table) / sizeof((table)[0]))
/* A duration `key` whose member is `key_ms`; the bounds are milliseconds. */
#define READER_DURATION(type, key, min, max)                                                                           \
	{                                                                                                              \
#key, reader_duration, offsetof(struct type, key##_ms), min, max                                       \
	}

enum {
	READER_DAY_MS = 86400000,
	READER_OVERFLOW_ID = 65534, /* what the kernel shows for ids that it cannot tell */
	READER_PLACE_SIZE = 640,
};

/* Notes a fault; control bytes in the text become '?'. */
void reader_fault_at(struct reader *r, struct config_mark at, const char *fmt, ...) PRINTF_LIKE(3, 4);
#define reader_fault(r, node, ...) reader_fault_at(r, reader_mark(node), __VA_ARGS__)

/* The tree is one of config_document.h, whose nodes know their file. */
struct config_mark reader_mark(const yaml_node_t *node);
/* Where something stands, for a fault at `from`: "in line 3", or "at FILE:3:1" when it is in another file. */
const char *reader_place(const struct reader *r, struct config_mark at, struct config_mark from,
			 char out[READER_PLACE_SIZE]);
yaml_node_t *reader_node(struct reader *r, int index);
/* A scalar's text, borrowed from the tree. */
struct str reader_scalar(const yaml_node_t *node);
/* Whether a key was written without a value, or with null. */
bool reader_is_null(const yaml_node_t *node);
/* A copy that the configuration owns; NULL without memory, which the reader remembers. */
char *reader_copy(struct reader *r, struct str s);

/* Questions that note a fault when the answer is no; `what` names the thing. */
bool reader_expect_text(struct reader *r, const yaml_node_t *node, const char *what);
bool reader_expect_name(struct reader *r, const yaml_node_t *node, const char *what);
bool reader_expect_mapping(struct reader *r, const yaml_node_t *node, const char *what);
bool reader_expect_sequence(struct reader *r, const yaml_node_t *node, const char *what);
/* Whether the key of this pair stands in the mapping before; that is a fault. */
bool reader_repeated(struct reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair);

/* Reads each pair by the field of its key; unknown and repeated keys are faults. */
void reader_mapping(struct reader *r, yaml_node_t *node, const struct reader_field *fields, size_t n, void *object,
		    const char *what);
/* The value of a key, or NULL. */
yaml_node_t *reader_lookup(struct reader *r, const yaml_node_t *map, const char *key);
size_t reader_mapping_size(const yaml_node_t *node);
size_t reader_sequence_size(const yaml_node_t *node);

/* For tables: what a value of that kind is read into is said by `to`. */
void reader_text(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);     /* char *, owned */
void reader_uint(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);     /* uint64_t */
void reader_size(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);     /* uint64_t, bytes */
void reader_duration(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f); /* uint64_t, ms */
void reader_bool(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);     /* bool */
/* For what is read later, when what it refers to has been. */
void reader_skip(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f);
void reader_keep_node(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f); /* yaml_node_t * */

#endif
