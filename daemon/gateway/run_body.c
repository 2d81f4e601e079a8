/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/run_body.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base64.h"
#include "common/units.h"

enum run_part {
	PART_SPAWN,
	PART_EXEC,
	PART_OWN,
};

static const struct {
	const char *name;
	enum run_part part;
	json_type type;
} fields[] = {
	{"image", PART_SPAWN, JSON_STRING},      {"provider", PART_SPAWN, JSON_STRING},
	{"memory_mb", PART_SPAWN, JSON_INTEGER}, {"vcpus", PART_SPAWN, JSON_INTEGER},
	{"ttl", PART_SPAWN, JSON_STRING},        {"metadata", PART_SPAWN, JSON_OBJECT},
	{"owner_id", PART_SPAWN, JSON_STRING},   {"tenant_id", PART_SPAWN, JSON_STRING},
	{"template", PART_SPAWN, JSON_STRING},   {"network_mode", PART_SPAWN, JSON_STRING},
	{"command", PART_EXEC, JSON_STRING},     {"args", PART_EXEC, JSON_ARRAY},
	{"mode", PART_EXEC, JSON_STRING},        {"env", PART_EXEC, JSON_OBJECT},
	{"workdir", PART_EXEC, JSON_STRING},     {"timeout", PART_EXEC, JSON_STRING},
	{"stream", PART_OWN, JSON_TRUE},         {"files", PART_OWN, JSON_ARRAY},
	{"max_output", PART_OWN, JSON_STRING},
};

static const char *type_name(json_type type)
{
	switch (type) {
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "a whole number";
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_TRUE:
	case JSON_FALSE:
		return "true or false";
	case JSON_REAL:
	case JSON_NULL:
		break;
	}
	return "something else";
}

static bool fits(json_type want, const json_t *value)
{
	json_type is = json_typeof(value);

	return is == want || (want == JSON_TRUE && is == JSON_FALSE) || is == JSON_NULL;
}

static bool all_strings(const json_t *value)
{
	const char *key;
	json_t *member;
	size_t i;

	if (json_is_array(value)) {
		json_array_foreach(value, i, member) if (!json_is_string(member)) return false;
	} else if (json_is_object(value)) {
		json_object_foreach((json_t *)(uintptr_t)value, key, member) if (!json_is_string(member)) return false;
	}
	return true;
}

/* --- checking ---------------------------------------------------------------------------------------------------------------- */

static int check_file(const json_t *file, size_t i, char *why, size_t size)
{
	const char *path = json_string_value(json_object_get(file, "path"));
	const char *content = json_string_value(json_object_get(file, "content"));
	const json_t *mode = json_object_get(file, "mode");
	const json_t *encoding = json_object_get(file, "encoding");
	struct buf bytes = BUF_EMPTY;
	bool good = true;
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)file, key,
			    value) if (strcmp(key, "path") != 0 && strcmp(key, "content") != 0 &&
				       strcmp(key, "mode") != 0 && strcmp(key, "encoding") != 0)
	{
		snprintf(why, size, "files[%zu] has a field that is none of path, content, mode, encoding", i);
		return -EINVAL;
	}
	if (!path || !path[0] || !content) {
		snprintf(why, size, "files[%zu] needs a path and a content, both strings", i);
		return -EINVAL;
	}
	if (mode && (!json_is_string(mode) || strspn(json_string_value(mode), "01234567") != json_string_length(mode) ||
		     json_string_length(mode) < 3 || json_string_length(mode) > 4)) {
		snprintf(why, size, "files[%zu].mode is no octal string such as \"755\"", i);
		return -EINVAL;
	}
	if (encoding && strcmp(json_is_string(encoding) ? json_string_value(encoding) : "", "base64") == 0) {
		good = base64_decode(str_from(content), &bytes) == 0;
		buf_fini(&bytes);
	} else if (encoding && strcmp(json_is_string(encoding) ? json_string_value(encoding) : "", "utf-8") != 0) {
		snprintf(why, size, "files[%zu].encoding is neither \"utf-8\" nor \"base64\"", i);
		return -EINVAL;
	}
	if (!good)
		snprintf(why, size, "files[%zu].content is no base64", i);
	return good ? 0 : -EINVAL;
}

static int check_files(const json_t *files, char *why, size_t size)
{
	json_t *file;
	size_t i;

	if (json_array_size(files) > RUN_FILES_MAX) {
		snprintf(why, size, "more than %d files", RUN_FILES_MAX);
		return -EINVAL;
	}
	json_array_foreach(files, i, file)
	{
		if (!json_is_object(file)) {
			snprintf(why, size, "files[%zu] is no object", i);
			return -EINVAL;
		}
		if (check_file(file, i, why, size))
			return -EINVAL;
	}
	return 0;
}

/* null is as if it were not there. */
static int check_field(json_t *all, const char *key, json_t *value, char *why, size_t size)
{
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		if (strcmp(fields[i].name, key) != 0)
			continue;
		if (fits(fields[i].type, value) && all_strings(strcmp(key, "files") == 0 ? NULL : value))
			return 0;
		snprintf(why, size, "%s must be %s%s", fields[i].name, type_name(fields[i].type),
			 fields[i].type == JSON_OBJECT || fields[i].type == JSON_ARRAY ? " of strings" : "");
		return -EINVAL;
	}
	(void)all;
	snprintf(why, size, "a field that run does not know: see /gateway/v1/openapi.json");
	return -EINVAL;
}

static int check_output(struct run_body *b, char *why, size_t size)
{
	const char *text = json_string_value(json_object_get(b->all, "max_output"));

	b->max_output_bytes = b->stream ? 0 : RUN_OUTPUT_DEFAULT_BYTES;
	if (!text)
		return 0;
	if (size_parse(str_from(text), &b->max_output_bytes) == 0 && b->max_output_bytes &&
	    (b->stream || b->max_output_bytes <= 4 * (uint64_t)RUN_OUTPUT_DEFAULT_BYTES))
		return 0;
	snprintf(why, size, "max_output must be a size such as \"1MiB\"%s", b->stream ? "" : ", 64MiB at most");
	return -EINVAL;
}

int run_body_parse(struct run_body *b, struct str text, char *why, size_t why_size)
{
	const char *mode;
	const char *key;
	json_t *value;
	json_error_t e;

	memset(b, 0, sizeof(*b));
	b->all = json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &e);
	if (!b->all && json_error_code(&e) == json_error_out_of_memory)
		return -ENOMEM;
	if (!json_is_object(b->all)) {
		snprintf(why, why_size, "%s",
			 b->all ? "the body is no JSON object"
				: (json_error_code(&e) == json_error_duplicate_key ? "malformed JSON: duplicate key"
										   : "malformed JSON"));
		return -EINVAL;
	}
	json_object_foreach(b->all, key, value) if (check_field(b->all, key, value, why, why_size)) return -EINVAL;
	b->stream = json_is_true(json_object_get(b->all, "stream"));
	mode = json_string_value(json_object_get(b->all, "mode"));
	if (!json_is_string(json_object_get(b->all, "command"))) {
		snprintf(why, why_size, "command is required");
		return -EINVAL;
	}
	if (mode && strcmp(mode, "") != 0 && strcmp(mode, "shell") != 0 && strcmp(mode, "argv") != 0) {
		snprintf(why, why_size, "mode is neither \"shell\" nor \"argv\"");
		return -EINVAL;
	}
	if (check_files(json_object_get(b->all, "files"), why, why_size))
		return -EINVAL;
	return check_output(b, why, why_size);
}

void run_body_fini(struct run_body *b)
{
	json_decref(b->all);
	b->all = NULL;
}

/* --- making -------------------------------------------------------------------------------------------------------------------- */

static int add_bytes(const char *p, size_t n, void *arg)
{
	struct buf *out = arg;

	buf_add(out, p, n);
	return out->failed ? -1 : 0;
}

/* Takes the object. */
static void write_object(json_t *object, bool complete, struct buf *out)
{
	if (!object || !complete || json_dump_callback(object, add_bytes, out, JSON_COMPACT))
		out->failed = true;
	json_decref(object);
}

/* The fields of one part that are there. */
static json_t *part_of(const struct run_body *b, enum run_part part, bool *complete)
{
	json_t *object = json_object();

	*complete = object != NULL;
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		json_t *value = json_object_get(b->all, fields[i].name);
		if (fields[i].part == part && value && json_object_set(object, fields[i].name, value))
			*complete = false;
	}
	return object;
}

void run_body_spawn(const struct run_body *b, struct buf *out)
{
	bool complete;
	json_t *object = part_of(b, PART_SPAWN, &complete);

	write_object(object, complete, out);
}

size_t run_body_files(const struct run_body *b)
{
	return json_array_size(json_object_get(b->all, "files"));
}

static const json_t *file_at(const struct run_body *b, size_t i)
{
	return json_array_get(json_object_get(b->all, "files"), i);
}

/* Whether the API's write keeps these bytes: valid UTF-8 without a zero byte. */
static bool is_text(struct str bytes)
{
	while (bytes.n) {
		int n = str_utf8_len(bytes);
		if (n <= 0 || bytes.p[0] == '\0')
			return false;
		bytes = str_of(bytes.p + n, bytes.n - (size_t)n);
	}
	return true;
}

static void write_file(const char *path, struct str content, const char *mode, struct buf *out)
{
	json_t *object = json_pack("{s:s, s:s%, s:s}", "path", path, "content", content.n ? content.p : "", content.n,
				   "mode", mode);

	write_object(object, object != NULL, out);
}

static void write_decode(const char *part, const char *path, const char *mode, struct buf *out)
{
	json_t *object = json_pack("{s:s, s:s, s:[s,s,s,s,s,s]}", "mode", "argv", "command", "sh", "args", "-c",
				   "base64 -d <\"$1\" >\"$2\" && chmod \"$3\" \"$2\"; s=$?; rm -f \"$1\"; exit $s",
				   "sh", part, path, mode);

	write_object(object, object != NULL, out);
}

void run_body_file(const struct run_body *b, size_t i, const char *token, struct buf *write, struct buf *decode)
{
	const json_t *file = file_at(b, i);
	const char *path = json_string_value(json_object_get(file, "path"));
	const json_t *content = json_object_get(file, "content");
	const char *mode = json_string_value(json_object_get(file, "mode"));
	struct str text = str_of(json_string_value(content), json_string_length(content));
	struct buf bytes = BUF_EMPTY;
	char *part = NULL;

	if (!mode)
		mode = "644";
	if (strcmp(json_is_string(json_object_get(file, "encoding"))
			   ? json_string_value(json_object_get(file, "encoding"))
			   : "",
		   "base64") != 0) {
		write_file(path, text, mode, write);
		return;
	}
	if (base64_decode(text, &bytes) || bytes.failed) {
		write->failed = true; /* it was checked before, so there is no memory */
	} else if (is_text(buf_str(&bytes))) {
		write_file(path, buf_str(&bytes), mode, write);
	} else if (asprintf(&part, "%s.%s", path, token) < 0) {
		write->failed = true;
	} else {
		write_file(part, text, "600", write);
		write_decode(part, path, mode, decode);
		free(part);
	}
	buf_fini(&bytes);
}

/* --- the command ------------------------------------------------------------------------------------------------------------------ */

/* What the server makes of command and args in shell mode (api-contract.md 4.2). */
static void add_shell_command(const struct run_body *b, struct buf *out)
{
	json_t *arg;
	size_t i;

	buf_add_cstr(out, json_string_value(json_object_get(b->all, "command")));
	json_array_foreach(json_object_get(b->all, "args"), i, arg)
	{
		buf_add_cstr(out, " '");
		for (const char *p = json_string_value(arg); *p; p++) {
			if (*p == '\'')
				buf_add_cstr(out, "'\"'\"'");
			else
				buf_add_char(out, *p);
		}
		buf_add_char(out, '\'');
	}
	buf_add_char(out, '\0');
}

#define WRAP_SHELL "sh -c \"$2\"; s=$?; printf %s \"$s\" >\"$1\"; exit \"$s\""
#define WRAP_ARGV  "f=$1; shift; \"$@\"; s=$?; printf %s \"$s\" >\"$f\"; exit \"$s\""

/* Puts what runs the command and keeps its status in its place; false without memory. */
static bool wrap(const struct run_body *b, const char *exit_file, json_t *exec)
{
	const char *mode = json_string_value(json_object_get(b->all, "mode"));
	bool argv = mode && strcmp(mode, "argv") == 0;
	json_t *args = json_pack("[s,s,s,s]", "-c", argv ? WRAP_ARGV : WRAP_SHELL, "sh", exit_file);
	struct buf command = BUF_EMPTY;
	int rc = args ? 0 : -1;

	if (rc == 0 && argv) {
		rc = json_array_append(args, json_object_get(b->all, "command"));
		if (rc == 0 && json_is_array(json_object_get(b->all, "args")))
			rc = json_array_extend(args, json_object_get(b->all, "args"));
	} else if (rc == 0) {
		add_shell_command(b, &command);
		rc = command.failed ? -1 : json_array_append_new(args, json_string(buf_data(&command)));
	}
	buf_fini(&command);
	if (rc) {
		json_decref(args);
		return false;
	}
	return json_object_set_new(exec, "args", args) == 0 &&
	       json_object_set_new(exec, "mode", json_string("argv")) == 0 &&
	       json_object_set_new(exec, "command", json_string("sh")) == 0;
}

void run_body_exec(const struct run_body *b, const char *exit_file, struct buf *out)
{
	bool complete;
	json_t *exec = part_of(b, PART_EXEC, &complete);

	if (complete && b->stream)
		complete = json_object_set_new(exec, "stream", json_true()) == 0;
	if (complete && exit_file)
		complete = wrap(b, exit_file, exec);
	write_object(exec, complete, out);
}
