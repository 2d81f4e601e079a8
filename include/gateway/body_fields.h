/* SPDX-License-Identifier: Apache-2.0 */
/* A request body as the fields that the gateway knows, so that some can be replaced and all else stays as written. */
#ifndef GATEWAY_BODY_FIELDS_H
#define GATEWAY_BODY_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/str.h"

enum {
	BODY_CLAMPED_TTL = 1,
	BODY_CLAMPED_MEMORY_MB = 2,
	BODY_CLAMPED_VCPUS = 4,
};

/* What came of a body. */
struct body_verdict {
	unsigned status;  /* 0: send it; else what to answer, with `why` */
	char why[256];    /* terminated; nothing of the body is in it */
	unsigned clamped; /* BODY_CLAMPED_* bits: what was lowered to a limit */
	uint64_t ttl_ms;  /* of a spawn: how long the sandbox is to live, within the limits; 0: not said */
};

enum body_field {
	BODY_FIELD_OWNER_ID,
	BODY_FIELD_TENANT_ID,
	BODY_FIELD_IMAGE,
	BODY_FIELD_PROVIDER,
	BODY_FIELD_MEMORY_MB,
	BODY_FIELD_VCPUS,
	BODY_FIELD_TTL,
	BODY_FIELD_METADATA,
	BODY_FIELD_TEMPLATE,
	BODY_FIELD_NETWORK_MODE,
	BODY_FIELD_NAME,
	BODY_FIELD_VERSION,
	BODY_FIELD_DESCRIPTION,
	BODY_FIELD_SETUP,
	BODY_FIELD_ALLOWED_HOSTS,
	BODY_FIELD_CPU_CORES,
	BODY_FIELD_TTL_SECONDS,
	BODY_FIELD_SECRETS,
	BODY_FIELD_POOL_SIZE,
	BODY_FIELD_COMMAND,
	BODY_FIELD_ARGS,
	BODY_FIELD_MODE,
	BODY_FIELD_ENV,
	BODY_FIELD_WORKDIR,
	BODY_FIELD_TIMEOUT,
	BODY_FIELD_STREAM,
	BODY_FIELD_COUNT,
};

struct body_value {
	struct str given; /* borrowed from the text; n 0: not in the body */
	struct buf put;   /* owned; what is written in its place; empty: as given */
	bool drop;        /* left out */
};

struct body_fields {
	struct str object; /* borrowed: the object's text */
	unsigned known;    /* the fields before this one are known, the others are unknown members */
	struct body_value values[BODY_FIELD_COUNT];
	bool respelled; /* a known key is not in its one spelling */
};

/* The one spelling of a field. */
struct str body_field_name(enum body_field field);

/*
 * Reads the fields of `text`: one JSON object, or null for an empty one, with nothing but white space behind it. Only
 * fields before `known` are known. Status 0, or 400 or 503 with why; body_fields_fini in any case.
 */
void body_fields_init(struct body_fields *f, struct str text, enum body_field known, struct body_verdict *v);
void body_fields_fini(struct body_fields *f);

/* What the field is going to be, so far; empty when it is not there. */
struct str body_fields_get(const struct body_fields *f, enum body_field field);

/* Whether the server takes the value for absent: not there, null, "" or 0. */
bool body_fields_is_unset(struct str value);

/* The buffer for what replaces the field, emptied. */
struct buf *body_fields_put(struct body_fields *f, enum body_field field);

/*
 * Appends the object with its replacements, known keys in their one spelling; `text` as it is when nothing is to be
 * changed. Status 503 without memory.
 */
void body_fields_write(const struct body_fields *f, struct str text, struct buf *out, struct body_verdict *v);

/* Sets status and text. */
void body_refuse(struct body_verdict *v, unsigned status, const char *fmt, ...) PRINTF_LIKE(3, 4);

#endif
