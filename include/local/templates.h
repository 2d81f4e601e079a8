/* SPDX-License-Identifier: Apache-2.0 */
/* The saved templates: kept in memory and in one file of the state directory. */
#ifndef LOCAL_TEMPLATES_H
#define LOCAL_TEMPLATES_H

#include <jansson.h>
#include <stdint.h>

#include "common/err.h"
#include "common/json_write.h"
#include "common/list.h"
#include "common/str.h"

enum {
	TEMPLATES_MAX = 256,
	TEMPLATE_MAX_BYTES = 64 << 10
};

/*
 * What a body, or the file, says of a template; bound by template_fields_read. Spans and values are borrowed from the
 * document. Both spellings of a field are read: cpu_cores and vcpus, ttl_seconds and ttl.
 */
struct template_fields {
	struct str name;
	struct str image;
	struct str description;
	struct str provider;
	struct str ttl;        /* Go duration; goes before ttl_seconds */
	struct str created_at; /* as sent */
	struct str updated_at;
	int64_t version;
	int64_t memory_mb;
	int64_t cpu_cores;
	int64_t vcpus; /* goes before cpu_cores when not 0 */
	int64_t ttl_seconds;
	int64_t pool_size;
	json_t *setup;
	json_t *allowed_hosts;
	json_t *env;
	json_t *secrets;
	json_t *metadata;
};

struct template
{
	struct list link;              /* on the store's list, by name */
	json_t *doc;                   /* owned: the document that `fields` points into */
	struct template_fields fields; /* cpu_cores and ttl_seconds are final, vcpus and ttl unused */
	struct str name;               /* points into `texts` */
	struct str created_at;
	struct str updated_at;
	char *texts; /* owned */
};

struct templates;

/* Opens the store in a directory that exists; an unreadable file is put aside with a warning. NULL without memory. */
struct templates *templates_open(const char *state_dir);
/* Writes nothing; NULL is fine. */
void templates_free(struct templates *ts);

/* -EINVAL when the object is not a template's. Absent fields are 0 or empty. */
MUST_CHECK int template_fields_read(const json_t *object, struct template_fields *out);

/* Puts POST's defaults where a field is absent or 0: version 1, 512 MB, 1 core, 300 s. */
void template_fields_default(struct template_fields *f);

/* NULL when there is none. */
struct template *templates_find(struct templates *ts, struct str name);

/*
 * Saves a template under a name, new or in place of the present one, and the file with it. `doc` is what `fields` was
 * read from (a reference is kept). 0; -EINVAL: ttl is no duration; -ENOSPC: TEMPLATES_MAX; -ENOMEM; or what writing the
 * file said: then nothing has changed. *out is the store's.
 */
MUST_CHECK int templates_save(struct templates *ts, struct str name, json_t *doc, const struct template_fields *fields,
			      struct template **out);

/* 0, or what writing the file said: then nothing has changed. */
MUST_CHECK int templates_delete(struct templates *ts, struct template *t);

/* By name. */
void templates_write_all(const struct templates *ts, struct json_writer *w, const char *key);

/* As an object of the API; created_at as given, or the template's own when that is empty. */
void template_write(const struct template *t, struct json_writer *w, const char *key, struct str created_at);

#endif
