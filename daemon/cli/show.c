/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/show.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/interrupt.h"
#include "cli/term.h"

static json_t *parse(struct str answer, struct fault *f)
{
	json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, JSON_ALLOW_NUL | JSON_DECODE_ANY, NULL);

	if (!root)
		fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the answer is not JSON");
	return root;
}

static int finished(const struct buf *out, struct fault *f)
{
	return out->failed ? fault_memory(f) : 0;
}

static int add_dumped(const char *p, size_t n, void *user)
{
	buf_add(user, p, n);
	return 0;
}

int show_json(struct buf *out, struct str answer, bool terminal, struct fault *f)
{
	json_t *root = parse(answer, f);
	size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | (terminal ? (size_t)JSON_ENSURE_ASCII : 0);

	if (!root)
		return -1;
	if (json_dump_callback(root, add_dumped, out, flags) < 0)
		out->failed = true;
	buf_add_char(out, '\n');
	json_decref(root);
	return finished(out, f);
}

/* ---- key: value -------------------------------------------------------- */

static void add_scalar(struct buf *out, const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		term_escape(out, str_of(json_string_value(value), json_string_length(value)), TERM_LINE);
		return;
	case JSON_INTEGER:
		buf_addf(out, "%lld", (long long)json_integer_value(value));
		return;
	case JSON_REAL:
		buf_addf(out, "%g", json_real_value(value));
		return;
	case JSON_TRUE:
		buf_add_cstr(out, "true");
		return;
	case JSON_FALSE:
		buf_add_cstr(out, "false");
		return;
	case JSON_NULL:
		buf_add_cstr(out, "null");
		return;
	case JSON_OBJECT:
	case JSON_ARRAY:
		return;
	}
}

static bool is_scalar(const json_t *value)
{
	return !json_is_object(value) && !json_is_array(value);
}

static bool is_plain_list(const json_t *list)
{
	size_t i;
	const json_t *value;

	json_array_foreach((json_t *)list, i, value) if (!is_scalar(value)) return false;
	return true;
}

static void add_list(struct buf *out, const json_t *list)
{
	size_t i;
	const json_t *value;

	json_array_foreach((json_t *)list, i, value)
	{
		if (i > 0)
			buf_add_cstr(out, ", ");
		add_scalar(out, value);
	}
}

static void add_pair(struct buf *out, struct buf *key, const json_t *value);

/* A longer key for each member; the key is cut back afterwards. */
static void add_members(struct buf *out, struct buf *key, const json_t *object)
{
	size_t length = key->len;
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)object, name, value)
	{
		if (length > 0)
			buf_add_char(key, '.');
		term_escape(key, str_from(name), TERM_LINE);
		add_pair(out, key, value);
		key->len = length;
	}
}

static void add_elements(struct buf *out, struct buf *key, const json_t *list)
{
	size_t length = key->len;
	size_t i;
	const json_t *value;

	json_array_foreach((json_t *)list, i, value)
	{
		buf_addf(key, "[%zu]", i);
		add_pair(out, key, value);
		key->len = length;
	}
}

/* As deep as jansson parses, which has a limit of its own. */
static void add_pair(struct buf *out, struct buf *key, const json_t *value)
{
	if (json_is_object(value)) {
		add_members(out, key, value);
		return;
	}
	if (json_is_array(value) && !is_plain_list(value)) {
		add_elements(out, key, value);
		return;
	}
	buf_add_str(out, buf_str(key));
	buf_add_cstr(out, ": ");
	if (json_is_array(value))
		add_list(out, value);
	else
		add_scalar(out, value);
	buf_add_char(out, '\n');
}

int show_pairs(struct buf *out, struct str answer, struct fault *f)
{
	json_t *root = parse(answer, f);
	struct buf key = BUF_EMPTY;
	int rc = -1;

	if (root && !json_is_object(root)) {
		fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the answer is no object");
	} else if (root) {
		add_members(out, &key, root);
		out->failed |= key.failed;
		rc = finished(out, f);
	}
	buf_fini(&key);
	json_decref(root);
	return rc;
}

/* ---- sandboxes --------------------------------------------------------- */

static int two_digits(const char *p)
{
	if (p[0] < '0' || p[0] > '9' || p[1] < '0' || p[1] > '9')
		return -1;
	return (p[0] - '0') * 10 + (p[1] - '0');
}

/* "Z" or "+05:30", after an optional fraction. */
static int parse_offset(const char *p, int64_t *offset)
{
	int hours;
	int minutes;

	*offset = 0;
	if (*p == '.')
		p += 1 + strspn(p + 1, "0123456789");
	if (strcmp(p, "Z") == 0)
		return 0;
	if ((*p != '+' && *p != '-') || strlen(p) != 6 || p[3] != ':')
		return -EINVAL;
	hours = two_digits(p + 1);
	minutes = two_digits(p + 4);
	if (hours < 0 || minutes < 0)
		return -EINVAL;
	*offset = (*p == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
	return 0;
}

int show_parse_time(const char *text, int64_t *seconds)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int64_t offset;

	if (!rest || parse_offset(rest, &offset) < 0)
		return -EINVAL;
	*seconds = (int64_t)timegm(&tm) - offset;
	return 0;
}

void show_age(int64_t seconds, char out[24])
{
	if (seconds < 60)
		snprintf(out, 24, "%llds", (long long)seconds);
	else if (seconds < 3600)
		snprintf(out, 24, "%lldm", (long long)(seconds / 60));
	else if (seconds < 86400)
		snprintf(out, 24, "%lldh", (long long)(seconds / 3600));
	else
		snprintf(out, 24, "%lldd", (long long)(seconds / 86400));
}

static void cell_text(struct term_table *t, const json_t *sandbox, const char *key)
{
	const json_t *value = json_object_get(sandbox, key);

	if (json_is_string(value) && json_string_length(value) > 0)
		term_table_cell(t, str_of(json_string_value(value), json_string_length(value)));
	else
		term_table_cell(t, STR("-"));
}

static void cell_number(struct term_table *t, const json_t *sandbox, const char *key, const char *unit)
{
	const json_t *value = json_object_get(sandbox, key);
	char text[48];

	if (!json_is_integer(value)) {
		term_table_cell(t, STR("-"));
		return;
	}
	snprintf(text, sizeof(text), "%lld%s", (long long)json_integer_value(value), unit);
	term_table_cell(t, str_from(text));
}

static void cell_time(struct term_table *t, const json_t *sandbox, const char *key, int64_t now_s)
{
	const char *value = json_string_value(json_object_get(sandbox, key));
	int64_t at_s;
	char age[24];
	char text[40];

	if (!value || show_parse_time(value, &at_s) < 0) {
		term_table_cell(t, STR("-"));
		return;
	}
	show_age(at_s <= now_s ? now_s - at_s : at_s - now_s, age);
	snprintf(text, sizeof(text), at_s <= now_s ? "%s ago" : "in %s", age);
	term_table_cell(t, str_from(text));
}

int show_sandboxes(struct buf *out, struct str answer, int64_t now_s, struct fault *f)
{
	static const char *const heads[] = {"ID", "STATE", "IMAGE", "VCPUS", "MEMORY", "OWNER", "CREATED", "EXPIRES"};
	json_t *root = parse(answer, f);
	struct term_table table;
	size_t i;
	const json_t *sandbox;

	if (!root)
		return -1;
	if (!json_is_array(root)) {
		json_decref(root);
		return fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the answer is no list");
	}
	term_table_init(&table, sizeof(heads) / sizeof(heads[0]));
	for (i = 0; i < table.columns; i++)
		term_table_cell(&table, str_from(heads[i]));
	json_array_foreach(root, i, sandbox)
	{
		cell_text(&table, sandbox, "id");
		cell_text(&table, sandbox, "state");
		cell_text(&table, sandbox, "image");
		cell_number(&table, sandbox, "vcpus", "");
		cell_number(&table, sandbox, "memory_mb", " MB");
		cell_text(&table, sandbox, "owner_id");
		cell_time(&table, sandbox, "created_at", now_s);
		cell_time(&table, sandbox, "expires_at", now_s);
	}
	term_table_render(&table, out);
	term_table_fini(&table);
	json_decref(root);
	return finished(out, f);
}

int show_flush(struct buf *out, struct fault *f)
{
	int rc = out->failed ? -ENOMEM : interrupt_write(1, buf_data(out), out->len);

	buf_fini(out);
	if (rc == -EINTR)
		return fault_set(f, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
	if (rc == -EPIPE)
		return fault_set(f, FAULT_PIPE, "PIPE", "the reader has gone");
	return rc < 0 ? fault_errno(f, "standard output", -rc) : 0;
}
