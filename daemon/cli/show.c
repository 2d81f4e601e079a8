/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/show.h"

#include <errno.h>
#include <jansson.h>

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

/* Of words, which fit in one line; sentences get one each. */
static bool is_plain_list(const json_t *list)
{
	size_t i;
	const json_t *value;

	json_array_foreach((json_t *)list, i, value)
	{
		if (!is_scalar(value) || (json_is_string(value) && strchr(json_string_value(value), ' ')))
			return false;
	}
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

/* ---- lines ------------------------------------------------------------- */

int show_lines(struct buf *out, struct str answer, bool terminal, struct fault *f)
{
	json_t *root = parse(answer, f);
	size_t i;
	const json_t *line;
	int rc = -1;

	if (root && !json_is_array(root)) {
		fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the answer is no list");
	} else if (root) {
		json_array_foreach(root, i, line)
		{
			struct str text = str_of(json_string_value(line), json_string_length(line));

			if (terminal)
				term_escape(out, text, TERM_STREAM);
			else
				buf_add_str(out, text);
			buf_add_char(out, '\n');
		}
		rc = finished(out, f);
	}
	json_decref(root);
	return rc;
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
