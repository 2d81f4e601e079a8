/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nodes of a fragment are copied by their numbers behind those of the file, so that an alias stays one and costs
 * nothing. Of a node's mark nobody needs the index into its text: there stands which file it is of.
 */
#include "gateway/config_document.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/str.h"
#include "gateway/config.h"
#include "gateway/reader.h"

enum {
	ALL_MAX_BYTES = 1048576,
	FRAGMENTS_MAX = 256,
	DEPTH_MAX = 100
};

/* One file as it is read; its number is that of config_mark. */
struct source {
	struct reader *r;
	unsigned number;
	const char *path;
	size_t *left; /* bytes that may still be read, of all files */
};

/* --- one file ---------------------------------------------------------------------------------------------------- */

static int read_file(const struct source *s, struct buf *text)
{
	const struct config_mark nowhere = {.file = s->number};
	struct stat st;
	int fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0) {
		reader_fault_at(s->r, nowhere, "cannot be opened: %s", strerror(errno));
		return -1;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		reader_fault_at(s->r, nowhere, "is not a regular file");
		return -1;
	}
	rc = fd_read_all(fd, *s->left, text);
	close(fd);
	if (rc == -EFBIG)
		reader_fault_at(s->r, nowhere, "%slarger than 1 MiB", s->number ? "with the files before it " : "");
	else if (rc)
		reader_fault_at(s->r, nowhere, "cannot be read: %s", strerror(-rc));
	else
		*s->left -= text->len;
	return rc ? -1 : 0;
}

/* Whether the line, from 0, is indented by a tab. */
static bool is_tabbed(struct str text, size_t line)
{
	struct str at = str_cut(&text, '\n');

	for (size_t i = 0; i < line; i++)
		at = str_cut(&text, '\n');
	while (at.n && at.p[0] == ' ')
		at = str_of(at.p + 1, at.n - 1);
	return at.n && at.p[0] == '\t';
}

static void bad_yaml(const struct source *s, struct str text, const yaml_parser_t *parser)
{
	struct config_mark at = {(unsigned)parser->problem_mark.line + 1, (unsigned)parser->problem_mark.column + 1,
				 s->number};

	reader_fault_at(s->r, at, "not valid YAML: %s%s", parser->problem ? parser->problem : "unreadable",
			is_tabbed(text, parser->problem_mark.line) ? " (a tab is no indentation, expected spaces)"
								   : "");
}

/*
 * libyaml's time grows with the square of the depth of brackets: a mebibyte of them takes minutes, in a reload too. No key
 * of ours needs more than a few; brackets in strings and comments are counted as well, which is harmless.
 */
static bool nests_too_deep(const struct source *s, struct str text)
{
	struct config_mark at = {1, 0, s->number};
	unsigned depth = 0;

	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];
		at.column++;
		if (c == '\n')
			at = (struct config_mark){at.line + 1, 0, s->number};
		if ((c == ']' || c == '}') && depth)
			depth--;
		if ((c == '[' || c == '{') && ++depth > DEPTH_MAX) {
			reader_fault_at(s->r, at, "more than %d brackets are open here", DEPTH_MAX);
			return true;
		}
	}
	return false;
}

static void stamp(yaml_document_t *doc, unsigned number)
{
	for (yaml_node_t *node = doc->nodes.start; node < doc->nodes.top; node++)
		node->start_mark.index = number;
}

/* What follows the first document, which is to be nothing, is a fault of its own. */
static void expect_end(const struct source *s, struct str text, yaml_parser_t *parser)
{
	yaml_document_t second;

	if (!yaml_parser_load(parser, &second)) {
		bad_yaml(s, text, parser);
		return;
	}
	stamp(&second, s->number);
	if (yaml_document_get_root_node(&second))
		reader_fault(s->r, yaml_document_get_root_node(&second), "a second document, expected one");
	yaml_document_delete(&second);
}

static int parse(const struct source *s, const struct buf *text, yaml_document_t *doc)
{
	yaml_parser_t parser;
	int rc = -1;

	if (nests_too_deep(s, buf_str(text)))
		return -1;
	if (!yaml_parser_initialize(&parser)) {
		s->r->no_memory = true;
		return -1;
	}
	yaml_parser_set_input_string(&parser, (const unsigned char *)buf_data(text), text->len);
	if (yaml_parser_load(&parser, doc)) {
		stamp(doc, s->number);
		if (yaml_document_get_root_node(doc))
			expect_end(s, buf_str(text), &parser);
		rc = 0;
	} else {
		bad_yaml(s, buf_str(text), &parser);
	}
	yaml_parser_delete(&parser);
	return rc;
}

static int load(const struct source *s, yaml_document_t *doc)
{
	struct buf text = BUF_EMPTY;
	int rc = read_file(s, &text);

	if (rc == 0)
		rc = parse(s, &text, doc);
	buf_fini(&text);
	return rc;
}

/* --- fragments --------------------------------------------------------------------------------------------------- */

static bool is_fragment(const char *name)
{
	return name[0] != '.' && str_ends(str_from(name), STR(".yaml"));
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The directory as `include` names it; owned by the caller. */
static char *directory_of(struct reader *r, const yaml_node_t *node)
{
	const char *name = (const char *)node->data.scalar.value;
	const char *slash = strrchr(r->file, '/');
	char *path;

	if (name[0] == '/' || !slash)
		return reader_copy(r, str_from(name));
	if (asprintf(&path, "%.*s/%s", (int)(slash - r->file), r->file, name) < 0) {
		r->no_memory = true;
		return NULL;
	}
	return path;
}

static void add_path(struct reader *r, const char *dir, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		r->no_memory = true;
		return;
	}
	if (config_names_add(&r->c->fragments, str_from(path)))
		r->no_memory = true;
	free(path);
}

static void find_fragments(struct reader *r, const yaml_node_t *node, const char *path)
{
	struct config_names *found = &r->c->fragments;
	DIR *dir = opendir(path);
	struct dirent *entry;

	if (!dir) {
		reader_fault(r, node, "include: %s cannot be opened: %s", path, strerror(errno));
		return;
	}
	while (!r->no_memory && (entry = readdir(dir))) {
		if (!is_fragment(entry->d_name))
			continue;
		if (found->n == FRAGMENTS_MAX) {
			reader_fault(r, node, "include: %s holds more than %d files *.yaml", path, FRAGMENTS_MAX);
			break;
		}
		add_path(r, path, entry->d_name);
	}
	closedir(dir);
	if (found->n)
		qsort(found->names, found->n, sizeof(*found->names), compare);
}

/* The number that a copy of the node gets, without what it holds; 0 without memory. */
static int copy_node(yaml_document_t *to, const yaml_node_t *node)
{
	int copy;

	if (node->type == YAML_SCALAR_NODE)
		copy = yaml_document_add_scalar(to, node->tag, node->data.scalar.value, (int)node->data.scalar.length,
						node->data.scalar.style);
	else if (node->type == YAML_SEQUENCE_NODE)
		copy = yaml_document_add_sequence(to, node->tag, node->data.sequence.style);
	else
		copy = yaml_document_add_mapping(to, node->tag, node->data.mapping.style);
	if (copy)
		yaml_document_get_node(to, copy)->start_mark = node->start_mark;
	return copy;
}

static bool fill_copy(yaml_document_t *to, int copy, const yaml_node_t *node, int base)
{
	bool ok = true;

	if (node->type == YAML_SEQUENCE_NODE)
		for (yaml_node_item_t *i = node->data.sequence.items.start; ok && i < node->data.sequence.items.top;
		     i++)
			ok = yaml_document_append_sequence_item(to, copy, base + *i);
	if (node->type == YAML_MAPPING_NODE)
		for (yaml_node_pair_t *p = node->data.mapping.pairs.start; ok && p < node->data.mapping.pairs.top; p++)
			ok = yaml_document_append_mapping_pair(to, copy, base + p->key, base + p->value);
	return ok;
}

/* All nodes of the fragment, the first being its root; returns that one's number, 0 without memory. */
static int copy_nodes(yaml_document_t *to, const yaml_document_t *from)
{
	const int base = (int)(to->nodes.top - to->nodes.start);
	int copy = base;

	for (const yaml_node_t *node = from->nodes.start; node < from->nodes.top; node++)
		if (copy_node(to, node) != ++copy)
			return 0;
	copy = base;
	for (const yaml_node_t *node = from->nodes.start; node < from->nodes.top; node++)
		if (!fill_copy(to, ++copy, node, base))
			return 0;
	return base + 1;
}

static bool append(yaml_document_t *doc, int to, const yaml_node_t *from)
{
	return fill_copy(doc, to, from, 0);
}

/* The number of the value of a key in the root; 0 when it has none. */
static int value_in_root(struct reader *r, struct str key)
{
	const yaml_node_t *root = yaml_document_get_root_node(&r->doc);

	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++) {
		const yaml_node_t *other = reader_node(r, p->key);
		if (other->type == YAML_SCALAR_NODE && str_eq(reader_scalar(other), key))
			return p->value;
	}
	return 0;
}

/* One key of a fragment. */
static void merge_pair(struct reader *r, const yaml_node_pair_t *pair)
{
	const yaml_node_t *key = reader_node(r, pair->key);
	const yaml_node_t *value = reader_node(r, pair->value);
	struct str name = key->type == YAML_SCALAR_NODE ? reader_scalar(key) : STR("");
	bool list = str_eq(name, STR("listen")) || str_eq(name, STR("clients"));
	bool names = str_eq(name, STR("upstreams")) || str_eq(name, STR("credentials"));
	int there = list || names ? value_in_root(r, name) : 0;

	if (str_eq(name, STR("include"))) {
		reader_fault(r, key, "include may stand in the file itself only");
		return;
	}
	if ((list && !reader_expect_sequence(r, value, name.p)) || (names && !reader_expect_mapping(r, value, name.p)))
		return;
	if (!there) {
		if (!yaml_document_append_mapping_pair(&r->doc, 1, pair->key, pair->value))
			r->no_memory = true;
	} else if (reader_node(r, there)->type == value->type && !append(&r->doc, there, value)) {
		r->no_memory = true;
	}
}

static void merge(struct reader *r, const yaml_document_t *fragment)
{
	int number;
	const yaml_node_t *root = fragment->nodes.start;

	if (root == fragment->nodes.top || (root->type == YAML_SCALAR_NODE && reader_is_null(root)) ||
	    !reader_expect_mapping(r, root, "a fragment"))
		return;
	number = copy_nodes(&r->doc, fragment);
	if (number == 0) {
		r->no_memory = true;
		return;
	}
	root = reader_node(r, number);
	for (yaml_node_pair_t *p = root->data.mapping.pairs.start; p < root->data.mapping.pairs.top; p++)
		if (!reader_repeated(r, root, p))
			merge_pair(r, p);
}

static void include(struct reader *r, const yaml_node_t *node, size_t *left)
{
	char *path;

	if (!reader_expect_text(r, node, "include"))
		return;
	path = directory_of(r, node);
	if (path)
		find_fragments(r, node, path);
	free(path);
	for (size_t i = 0; i < r->c->fragments.n && !r->no_memory; i++) {
		const struct source s = {r, (unsigned)i + 1, r->c->fragments.names[i], left};
		yaml_document_t fragment;
		if (load(&s, &fragment))
			continue;
		merge(r, &fragment);
		yaml_document_delete(&fragment);
	}
}

int config_document_load(struct reader *r, yaml_node_t **root)
{
	size_t left = ALL_MAX_BYTES;
	const struct source s = {r, 0, r->file, &left};
	yaml_node_t *node;

	*root = NULL;
	if (load(&s, &r->doc))
		return -1;
	node = yaml_document_get_root_node(&r->doc);
	if (!node || (node->type == YAML_SCALAR_NODE && reader_is_null(node))) {
		/* A file that was cut short, say; what is in force without one would be a surprise. */
		reader_fault_at(r, (struct config_mark){1, 1, 0}, "there is nothing in it; for the defaults write {}");
		yaml_document_delete(&r->doc);
		return -1;
	}
	if (node && node->type == YAML_MAPPING_NODE && reader_lookup(r, node, "include"))
		include(r, reader_lookup(r, node, "include"), &left);
	*root = yaml_document_get_root_node(&r->doc);
	return 0;
}
