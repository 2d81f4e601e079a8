/* SPDX-License-Identifier: Apache-2.0 */
/* The tables: what an answer lists, one row each, with "-" for what it does not say. */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/show.h"
#include "cli/term.h"
#include "common/units.h"

/* ---- times ------------------------------------------------------------- */

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

/* ---- cells ------------------------------------------------------------- */

static void cell_text(struct term_table *t, const json_t *row, const char *key)
{
	const json_t *value = json_object_get(row, key);

	if (json_is_string(value) && json_string_length(value) > 0)
		term_table_cell(t, str_of(json_string_value(value), json_string_length(value)));
	else
		term_table_cell(t, STR("-"));
}

static void cell_number(struct term_table *t, const json_t *row, const char *key, const char *unit)
{
	const json_t *value = json_object_get(row, key);
	char text[48];

	if (!json_is_integer(value)) {
		term_table_cell(t, STR("-"));
		return;
	}
	snprintf(text, sizeof(text), "%lld%s", (long long)json_integer_value(value), unit);
	term_table_cell(t, str_from(text));
}

/* "5m ago", "in 2h"; "-" for what is no time. */
static void format_time(const json_t *row, const char *key, int64_t now_s, char out[40])
{
	const char *value = json_string_value(json_object_get(row, key));
	int64_t at_s;
	char age[24];

	if (!value || show_parse_time(value, &at_s) < 0) {
		snprintf(out, 40, "-");
		return;
	}
	show_age(at_s <= now_s ? now_s - at_s : at_s - now_s, age);
	snprintf(out, 40, at_s <= now_s ? "%s ago" : "in %s", age);
}

static void cell_time(struct term_table *t, const json_t *row, const char *key, int64_t now_s)
{
	char text[40];

	format_time(row, key, now_s, text);
	term_table_cell(t, str_from(text));
}

/* Of two keys the first that is a number; servers spell it either way. */
static void cell_either_number(struct term_table *t, const json_t *row, const char *key, const char *other)
{
	cell_number(t, row, json_is_integer(json_object_get(row, key)) ? key : other, "");
}

/* A number of seconds, as a duration. */
static void cell_seconds(struct term_table *t, const json_t *row, const char *key)
{
	const json_t *value = json_object_get(row, key);
	char text[40];

	if (!json_is_integer(value) || json_integer_value(value) < 0 ||
	    json_integer_value(value) > INT64_MAX / 1000000000) {
		term_table_cell(t, STR("-"));
		return;
	}
	duration_format(json_integer_value(value) * 1000000000, text);
	term_table_cell(t, str_from(text));
}

/* ---- tables ------------------------------------------------------------ */

static void add_sandbox(struct term_table *t, const json_t *row, int64_t now_s)
{
	cell_text(t, row, "id");
	cell_text(t, row, "state");
	cell_text(t, row, "image");
	cell_number(t, row, "vcpus", "");
	cell_number(t, row, "memory_mb", " MB");
	cell_text(t, row, "owner_id");
	cell_time(t, row, "created_at", now_s);
	cell_time(t, row, "expires_at", now_s);
}

static void add_template(struct term_table *t, const json_t *row, int64_t now_s)
{
	cell_text(t, row, "name");
	cell_text(t, row, "image");
	cell_either_number(t, row, "vcpus", "cpu_cores");
	cell_number(t, row, "memory_mb", " MB");
	if (json_is_string(json_object_get(row, "ttl")))
		cell_text(t, row, "ttl");
	else
		cell_seconds(t, row, "ttl_seconds");
	cell_text(t, row, "provider");
	cell_time(t, row, "updated_at", now_s);
}

static void add_lease(struct term_table *t, const json_t *row, int64_t now_s)
{
	cell_text(t, row, "sandbox");
	cell_text(t, row, "kind");
	cell_number(t, row, "pid", "");
	cell_text(t, row, "state");
	cell_text(t, row, "owner");
	cell_time(t, row, "expires_at", now_s);
}

static json_t *parse_list(struct str answer, struct fault *f)
{
	json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, JSON_ALLOW_NUL, NULL);

	if (json_is_array(root))
		return root;
	fault_set(f, FAULT_ERROR, "BAD_ANSWER", root ? "the answer is no list" : "the answer is not JSON");
	json_decref(root);
	return NULL;
}

/* `heads` ends with NULL. */
static int show_table(struct buf *out, struct str answer, const char *const *heads,
		      void (*add_row)(struct term_table *t, const json_t *row, int64_t now_s), int64_t now_s,
		      struct fault *f)
{
	json_t *root = parse_list(answer, f);
	struct term_table table;
	size_t columns = 0;
	size_t i;
	const json_t *row;

	if (!root)
		return -1;
	while (heads[columns])
		columns++;
	term_table_init(&table, columns);
	for (i = 0; i < columns; i++)
		term_table_cell(&table, str_from(heads[i]));
	json_array_foreach(root, i, row) add_row(&table, row, now_s);
	term_table_render(&table, out);
	term_table_fini(&table);
	json_decref(root);
	return out->failed ? fault_memory(f) : 0;
}

int show_sandboxes(struct buf *out, struct str answer, int64_t now_s, struct fault *f)
{
	static const char *const heads[] = {"ID",    "STATE",   "IMAGE",   "VCPUS", "MEMORY",
					    "OWNER", "CREATED", "EXPIRES", NULL};

	return show_table(out, answer, heads, add_sandbox, now_s, f);
}

int show_templates(struct buf *out, struct str answer, int64_t now_s, struct fault *f)
{
	static const char *const heads[] = {"NAME", "IMAGE", "VCPUS", "MEMORY", "TTL", "PROVIDER", "UPDATED", NULL};

	return show_table(out, answer, heads, add_template, now_s, f);
}

int show_leases(struct buf *out, struct str answer, int64_t now_s, struct fault *f)
{
	static const char *const heads[] = {"SANDBOX", "KIND", "PID", "STATE", "OWNER", "EXPIRES", NULL};

	return show_table(out, answer, heads, add_lease, now_s, f);
}

int show_expiry(struct buf *out, struct str answer, int64_t now_s, struct fault *f)
{
	json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, JSON_ALLOW_NUL, NULL);
	const json_t *id = json_object_get(root, "id");
	char when[40];

	if (!json_is_string(id)) {
		json_decref(root);
		return fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the server's answer names no sandbox");
	}
	format_time(root, "expires_at", now_s, when);
	term_escape(out, str_of(json_string_value(id), json_string_length(id)), TERM_LINE);
	buf_addf(out, " expires %s\n", when);
	json_decref(root);
	return out->failed ? fault_memory(f) : 0;
}
