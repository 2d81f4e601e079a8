/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/reader.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/units.h"

/* Of a URL, wherever one was written: what stands before the last @ may be a password, which may hold any byte. */
static void drop_userinfo(char *text, bool is_cut)
{
	char *from = strstr(text, "://");
	char *to = from ? strrchr(from, '@') : NULL;

	if (from && is_cut)
		from[3] = '\0';
	else if (to)
		memmove(from + 3, to, strlen(to) + 1);
}

void reader_fault_at(struct reader *r, struct config_mark at, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	drop_userinfo(text, n >= (int)sizeof(text));
	/* One line per fault, and none that moves a terminal's cursor. */
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	buf_addf(r->faults, "%s:%u:%u: %s\n", at.file ? config_file_of(r->c, at) : r->file, at.line, at.column, text);
	r->nfaults++;
}

struct config_mark reader_mark(const yaml_node_t *node)
{
	return (struct config_mark){(unsigned)node->start_mark.line + 1, (unsigned)node->start_mark.column + 1,
				    (unsigned)node->start_mark.index};
}

const char *reader_place(const struct reader *r, struct config_mark at, struct config_mark from,
			 char out[READER_PLACE_SIZE])
{
	if (at.file == from.file)
		snprintf(out, READER_PLACE_SIZE, "in line %u", at.line);
	else
		snprintf(out, READER_PLACE_SIZE, "at %s:%u:%u", at.file ? config_file_of(r->c, at) : r->file, at.line,
			 at.column);
	return out;
}

yaml_node_t *reader_node(struct reader *r, int index)
{
	return yaml_document_get_node(&r->doc, index);
}

/* A scalar's text; a NUL inside ends it here, which no value of ours survives. */
struct str reader_scalar(const yaml_node_t *node)
{
	return str_of((const char *)node->data.scalar.value, node->data.scalar.length);
}

bool reader_is_null(const yaml_node_t *node)
{
	struct str s;

	if (node->type != YAML_SCALAR_NODE || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return false;
	s = reader_scalar(node);
	return s.n == 0 || str_eq(s, STR("~")) || str_eq(s, STR("null"));
}

bool reader_expect_text(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (node->type != YAML_SCALAR_NODE || reader_is_null(node)) {
		reader_fault(r, node, "%s is missing or not a single value", what);
		return false;
	}
	if (memchr(node->data.scalar.value, '\0', node->data.scalar.length)) {
		reader_fault(r, node, "%s holds a NUL byte", what);
		return false;
	}
	return true;
}

char *reader_copy(struct reader *r, struct str s)
{
	char *text = str_dup(s);

	if (!text)
		r->no_memory = true;
	return text;
}

/* --- mappings ---------------------------------------------------------------------------------------------------- */

static void list_keys(const struct reader_field *fields, size_t n, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < n && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", fields[i].key);
}

static const struct reader_field *find_field(struct reader *r, const yaml_node_t *key,
					     const struct reader_field *fields, size_t n)
{
	char known[320];

	if (key->type != YAML_SCALAR_NODE) {
		reader_fault(r, key, "a key must be a single word");
		return NULL;
	}
	for (size_t i = 0; i < n; i++)
		if (str_eq(reader_scalar(key), str_from(fields[i].key)))
			return &fields[i];
	list_keys(fields, n, known, sizeof(known));
	reader_fault(r, key, "unknown key \"%.*s\", expected one of: %s", (int)key->data.scalar.length,
		     key->data.scalar.value, known);
	return NULL;
}

/* Whether the key of this pair stands in the mapping before; that is a fault. */
bool reader_repeated(struct reader *r, const yaml_node_t *map, const yaml_node_pair_t *pair)
{
	const yaml_node_t *key = reader_node(r, pair->key);
	char place[READER_PLACE_SIZE];

	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < pair; p++) {
		const yaml_node_t *other = reader_node(r, p->key);
		if (key->type == YAML_SCALAR_NODE && other->type == YAML_SCALAR_NODE &&
		    str_eq(reader_scalar(key), reader_scalar(other))) {
			reader_fault(r, key, "key \"%.*s\" is written twice, first %s", (int)key->data.scalar.length,
				     key->data.scalar.value,
				     reader_place(r, reader_mark(other), reader_mark(key), place));
			return true;
		}
	}
	return false;
}

bool reader_expect_mapping(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (node->type == YAML_MAPPING_NODE)
		return true;
	reader_fault(r, node, "%s must be a mapping of keys to values", what);
	return false;
}

void reader_mapping(struct reader *r, yaml_node_t *node, const struct reader_field *fields, size_t n, void *object,
		    const char *what)
{
	if (!reader_expect_mapping(r, node, what))
		return;
	for (yaml_node_pair_t *p = node->data.mapping.pairs.start; p < node->data.mapping.pairs.top; p++) {
		const struct reader_field *f;
		if (reader_repeated(r, node, p))
			continue;
		f = find_field(r, reader_node(r, p->key), fields, n);
		if (f)
			f->read(r, reader_node(r, p->value), (char *)object + f->offset, f);
	}
}

/* The value of a key, or NULL. */
yaml_node_t *reader_lookup(struct reader *r, const yaml_node_t *map, const char *key)
{
	for (yaml_node_pair_t *p = map->data.mapping.pairs.start; p < map->data.mapping.pairs.top; p++) {
		yaml_node_t *k = reader_node(r, p->key);
		if (k->type == YAML_SCALAR_NODE && str_eq(reader_scalar(k), str_from(key)))
			return reader_node(r, p->value);
	}
	return NULL;
}

/* --- single values ------------------------------------------------------------------------------------------------ */

void reader_text(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	char **out = to;

	if (!reader_expect_text(r, node, f->key))
		return;
	free(*out);
	*out = reader_copy(r, reader_scalar(node));
}

void reader_uint(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	uint64_t v;

	if (!reader_expect_text(r, node, f->key))
		return;
	if (str_parse_u64(reader_scalar(node), &v) || v < f->min || v > f->max)
		reader_fault(r, node, "%s is \"%s\", expected a whole number from %llu to %llu", f->key,
			     node->data.scalar.value, (unsigned long long)f->min, (unsigned long long)f->max);
	else
		*(uint64_t *)to = v;
}

void reader_size(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	uint64_t v;

	if (!reader_expect_text(r, node, f->key))
		return;
	if (size_parse(reader_scalar(node), &v) || v < f->min || v > f->max)
		reader_fault(r, node,
			     "%s is \"%s\", expected a size from %llu to %llu bytes, such as 64KiB, 1MiB or 2GiB",
			     f->key, node->data.scalar.value, (unsigned long long)f->min, (unsigned long long)f->max);
	else
		*(uint64_t *)to = v;
}

/* Milliseconds; min and max too. */
void reader_duration(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	int64_t ns;
	char low[40];
	char high[40];

	if (!reader_expect_text(r, node, f->key))
		return;
	if (duration_parse(reader_scalar(node), &ns) == DURATION_OK && ns >= 0 && ns % 1000000 == 0 &&
	    (uint64_t)ns / 1000000 >= f->min && (uint64_t)ns / 1000000 <= f->max) {
		*(uint64_t *)to = (uint64_t)ns / 1000000;
		return;
	}
	duration_format((int64_t)f->min * 1000000, low);
	duration_format((int64_t)f->max * 1000000, high);
	reader_fault(r, node, "%s is \"%s\", expected a duration from %s to %s, such as 500ms, 45s or 1h30m", f->key,
		     node->data.scalar.value, low, high);
}

void reader_bool(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	if (!reader_expect_text(r, node, f->key))
		return;
	if (str_eq(reader_scalar(node), STR("true")))
		*(bool *)to = true;
	else if (str_eq(reader_scalar(node), STR("false")))
		*(bool *)to = false;
	else
		reader_fault(r, node, "%s is \"%s\", expected true or false", f->key, node->data.scalar.value);
}

/* Names are used in messages, in status and in other keys. */
static bool good_name(struct str s)
{
	if (s.n == 0 || s.n > 64)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("-._", c)))
			return false;
	}
	return true;
}

bool reader_expect_name(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (!reader_expect_text(r, node, what))
		return false;
	if (good_name(reader_scalar(node)))
		return true;
	reader_fault(r, node, "%s is \"%s\", expected 1 to 64 letters, digits, '-', '_' or '.'", what,
		     node->data.scalar.value);
	return false;
}

/*
 * A mapping of names to entries: makes room for all, then each is read. The entry's first members need not be known
 * here, so the caller's callback fills it.
 */
size_t reader_mapping_size(const yaml_node_t *node)
{
	return (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
}

size_t reader_sequence_size(const yaml_node_t *node)
{
	return (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
}

bool reader_expect_sequence(struct reader *r, const yaml_node_t *node, const char *what)
{
	if (node->type == YAML_SEQUENCE_NODE && reader_sequence_size(node))
		return true;
	reader_fault(r, node, "%s must be a list with at least one entry", what);
	return false;
}

/* Read elsewhere, when what it refers to has been read. */
void reader_skip(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	(void)r;
	(void)node;
	(void)to;
	(void)f;
}

void reader_keep_node(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	(void)r;
	(void)f;
	*(yaml_node_t **)to = node;
}
