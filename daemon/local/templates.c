/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file holds an array of templates as the API writes them, so reading it is reading request bodies. Every change
 * writes a new file beside the old one and renames it over that: the store is whole whenever the process ends. It is
 * not synchronised to the disk, which would stall the loop; the sandboxes themselves do not outlive the server either.
 */
#include "local/templates.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/units.h"
#include "local/go_json.h"

#define FILE_NAME "templates.json"
/* An escaped byte may take six. */
enum {
	FILE_MAX_BYTES = 8 * TEMPLATES_MAX * TEMPLATE_MAX_BYTES
};

struct templates {
	char *path;        /* owned: the file */
	char *temp_path;   /* owned: its successor while it is written */
	char *bad_path;    /* owned: where an unreadable one goes */
	struct list items; /* struct template, by name */
	size_t nitems;
};

/* --- fields ------------------------------------------------------------------------------------------------------- */

#define FIELD(key, type)                                                                                               \
	{                                                                                                              \
#key, type, offsetof(struct template_fields, key)                                                      \
	}

static const struct go_field field_table[] = {
	FIELD(name, GO_STR),       FIELD(image, GO_STR),       FIELD(description, GO_STR),
	FIELD(provider, GO_STR),   FIELD(ttl, GO_STR),         FIELD(created_at, GO_STR),
	FIELD(updated_at, GO_STR), FIELD(version, GO_INT),     FIELD(memory_mb, GO_INT),
	FIELD(cpu_cores, GO_INT),  FIELD(vcpus, GO_INT),       FIELD(ttl_seconds, GO_INT),
	FIELD(pool_size, GO_INT),  FIELD(setup, GO_LIST),      FIELD(allowed_hosts, GO_LIST),
	FIELD(env, GO_MAP),        FIELD(secrets, GO_OBJECTS), FIELD(metadata, GO_MAP),
};

int template_fields_read(const json_t *object, struct template_fields *out)
{
	*out = (struct template_fields){0};
	return go_json_bind(object, field_table, sizeof(field_table) / sizeof(field_table[0]), out);
}

void template_fields_default(struct template_fields *f)
{
	if (f->version == 0)
		f->version = 1;
	if (f->memory_mb == 0)
		f->memory_mb = 512;
	if (f->cpu_cores == 0)
		f->cpu_cores = 1;
	if (f->ttl_seconds == 0)
		f->ttl_seconds = 300;
}

/* Makes one of the two spellings of a field. */
static int unify(struct template_fields *f)
{
	int64_t ns;

	if (f->vcpus)
		f->cpu_cores = f->vcpus;
	f->vcpus = 0;
	if (f->ttl.n) {
		if (duration_parse(f->ttl, &ns) != DURATION_OK)
			return -EINVAL;
		/* Whole seconds are kept; what is not whole is not cut short. */
		f->ttl_seconds = ns / 1000000000 + (ns > 0 && ns % 1000000000 > 0);
	}
	f->ttl = STR("");
	return 0;
}

/* --- a template --------------------------------------------------------------------------------------------------- */

static void template_free(struct template *t)
{
	if (!t)
		return;
	list_remove(&t->link);
	json_decref(t->doc);
	free(t->texts);
	free(t);
}

static struct str put_text(char **at, struct str s)
{
	struct str copy = str_of(*at, s.n);

	if (s.n)
		memcpy(*at, s.p, s.n);
	*at += s.n;
	return copy;
}

static struct template *template_new(struct str name, json_t *doc, const struct template_fields *fields,
				     struct str created_at, struct str updated_at)
{
	struct template *t = calloc(1, sizeof(*t));
	char *at;

	if (!t)
		return NULL;
	list_init(&t->link);
	t->texts = malloc(name.n + created_at.n + updated_at.n + 1);
	if (!t->texts) {
		free(t);
		return NULL;
	}
	at = t->texts;
	t->name = put_text(&at, name);
	t->created_at = put_text(&at, created_at);
	t->updated_at = put_text(&at, updated_at);
	t->doc = json_incref(doc);
	t->fields = *fields;
	return t;
}

/* The file and the API hold any 64-bit number; a duration ends at 292 years on either side. */
static int64_t seconds_to_ns(int64_t seconds)
{
	const int64_t most = INT64_MAX / 1000000000;

	if (seconds > most)
		seconds = most;
	return (seconds < -most ? -most : seconds) * 1000000000;
}

void template_write(const struct template *t, struct json_writer *w, const char *key, struct str created_at)
{
	const struct template_fields *f = &t->fields;
	char ttl[40];

	duration_format(seconds_to_ns(f->ttl_seconds), ttl);
	json_object_begin(w, key);
	json_str(w, "name", t->name);
	json_int(w, "version", f->version);
	json_str(w, "image", f->image);
	if (f->description.n)
		json_str(w, "description", f->description);
	go_json_emit(w, "setup", f->setup);
	go_json_emit(w, "allowed_hosts", f->allowed_hosts);
	json_int(w, "memory_mb", f->memory_mb);
	json_int(w, "cpu_cores", f->cpu_cores);
	json_int(w, "vcpus", f->cpu_cores);
	json_int(w, "ttl_seconds", f->ttl_seconds);
	json_cstr(w, "ttl", ttl);
	go_json_emit(w, "env", f->env);
	go_json_emit(w, "secrets", f->secrets);
	if (f->provider.n)
		json_str(w, "provider", f->provider);
	go_json_emit(w, "metadata", f->metadata);
	json_int(w, "pool_size", f->pool_size);
	json_str(w, "created_at", created_at.n ? created_at : t->created_at);
	json_str(w, "updated_at", t->updated_at);
	json_object_end(w);
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

void templates_write_all(const struct templates *ts, struct json_writer *w, const char *key)
{
	json_array_begin(w, key);
	LIST_FOREACH (n, &ts->items)
		template_write(CONTAINER_OF(n, struct template, link), w, NULL, STR(""));
	json_array_end(w);
}

static int write_temp(const struct templates *ts, const struct buf *text)
{
	int fd = open(ts->temp_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc;

	if (fd < 0)
		return -errno;
	rc = fd_write_all(fd, buf_data(text), text->len);
	fd_close(&fd);
	return rc;
}

static int store(const struct templates *ts)
{
	struct buf text = BUF_EMPTY;
	struct json_writer w = json_writer(&text);
	int rc;

	templates_write_all(ts, &w, NULL);
	buf_add_char(&text, '\n');
	rc = text.failed ? -ENOMEM : write_temp(ts, &text);
	buf_fini(&text);
	if (rc == 0 && rename(ts->temp_path, ts->path) < 0)
		rc = -errno;
	if (rc) {
		log_error("%s: %s", ts->path, strerror(-rc));
		unlink(ts->temp_path);
	}
	return rc;
}

static int name_order(struct str a, struct str b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int order = n ? memcmp(a.p, b.p, n) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

static void insert(struct templates *ts, struct template *t)
{
	struct list *before = &ts->items;

	LIST_FOREACH (n, &ts->items) {
		if (name_order(CONTAINER_OF(n, struct template, link)->name, t->name) > 0) {
			before = n;
			break;
		}
	}
	list_add_tail(before, &t->link); /* adding behind the predecessor of `before` */
	ts->nitems++;
}

static int load_one(struct templates *ts, json_t *object)
{
	struct template_fields f;
	struct template *t;

	if (!json_is_object(object) || template_fields_read(object, &f) || f.name.n == 0 || unify(&f) ||
	    templates_find(ts, f.name) || ts->nitems >= TEMPLATES_MAX)
		return -EINVAL;
	t = template_new(f.name, object, &f, f.created_at, f.updated_at);
	if (!t)
		return -ENOMEM;
	insert(ts, t);
	return 0;
}

static int load_text(struct templates *ts, struct str text)
{
	json_error_t error;
	json_t *array = text.n ? json_loadb(text.p, text.n, JSON_ALLOW_NUL, &error) : NULL;
	int rc = json_is_array(array) ? 0 : -EINVAL;

	for (size_t i = 0; rc == 0 && i < json_array_size(array); i++)
		rc = load_one(ts, json_array_get(array, i));
	json_decref(array);
	return rc;
}

static void clear(struct templates *ts)
{
	LIST_FOREACH_SAFE (n, &ts->items)
		template_free(CONTAINER_OF(n, struct template, link));
	ts->nitems = 0;
}

static void load(struct templates *ts)
{
	struct buf text = BUF_EMPTY;
	int fd = open(ts->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int rc = fd < 0 ? -errno : fd_read_all(fd, FILE_MAX_BYTES, &text);

	if (fd >= 0)
		fd_close(&fd);
	if (rc == 0)
		rc = load_text(ts, buf_str(&text));
	buf_fini(&text);
	if (rc == 0 || rc == -ENOENT)
		return;
	clear(ts);
	if (rename(ts->path, ts->bad_path) == 0)
		log_warn("%s is not readable (%s): put aside as %s", ts->path, strerror(-rc), ts->bad_path);
	else
		log_warn("%s is not readable: %s", ts->path, strerror(-rc));
}

/* --- the store ---------------------------------------------------------------------------------------------------- */

static char *join(const char *dir, const char *name)
{
	char *path = NULL;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

struct templates *templates_open(const char *state_dir)
{
	struct templates *ts = calloc(1, sizeof(*ts));

	if (!ts)
		return NULL;
	list_init(&ts->items);
	ts->path = join(state_dir, FILE_NAME);
	ts->temp_path = join(state_dir, FILE_NAME ".new");
	ts->bad_path = join(state_dir, FILE_NAME ".bad");
	if (!ts->path || !ts->temp_path || !ts->bad_path) {
		templates_free(ts);
		return NULL;
	}
	load(ts);
	return ts;
}

void templates_free(struct templates *ts)
{
	if (!ts)
		return;
	clear(ts);
	free(ts->path);
	free(ts->temp_path);
	free(ts->bad_path);
	free(ts);
}

struct template *templates_find(struct templates *ts, struct str name)
{
	LIST_FOREACH (n, &ts->items) {
		struct template *t = CONTAINER_OF(n, struct template, link);
		if (str_eq(t->name, name))
			return t;
	}
	return NULL;
}

int templates_save(struct templates *ts, struct str name, json_t *doc, const struct template_fields *fields,
		   struct template **out)
{
	struct template *old = templates_find(ts, name);
	struct template_fields f = *fields;
	struct template *t;
	char now[40];
	int rc = unify(&f);

	if (rc)
		return rc;
	if (!old && ts->nitems >= TEMPLATES_MAX)
		return -ENOSPC;
	clock_format_rfc3339(clock_wall_ns(), now);
	t = template_new(name, doc, &f, old ? old->created_at : str_from(now), str_from(now));
	if (!t)
		return -ENOMEM;
	if (old) {
		list_remove(&old->link);
		ts->nitems--;
	}
	insert(ts, t);
	rc = store(ts);
	if (rc) {
		template_free(t);
		ts->nitems--;
		if (old)
			insert(ts, old);
		return rc;
	}
	template_free(old);
	*out = t;
	return 0;
}

int templates_delete(struct templates *ts, struct template *t)
{
	int rc;

	list_remove(&t->link);
	ts->nitems--;
	rc = store(ts);
	if (rc)
		insert(ts, t);
	else
		template_free(t);
	return rc;
}
