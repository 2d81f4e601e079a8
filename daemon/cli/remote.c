/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/remote.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/progress.h"
#include "common/json_write.h"

/* A spawn may pull an image; the gateway itself gives up after five minutes. */
enum {
	SPAWN_TIMEOUT_MS = 330000
};

static void add_escaped(struct buf *out, struct str text, const char *plain)
{
	for (size_t i = 0; i < text.n; i++) {
		char c = text.p[i];

		if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
		    (c && strchr(plain, c)))
			buf_add_char(out, c);
		else
			buf_addf(out, "%%%02X", (unsigned char)c);
	}
}

void remote_path(struct buf *out, const char *id, const char *tail)
{
	buf_add_cstr(out, "/api/v1/sandboxes/");
	buf_add_cstr(out, id);
	buf_add_cstr(out, tail);
}

void remote_template_path(struct buf *out, struct str name, const char *tail)
{
	buf_add_cstr(out, "/api/v1/templates/");
	add_escaped(out, name, "-._~$&+,:;=@");
	buf_add_cstr(out, tail);
}

/* A sandbox's path with "?NAME=VALUE", the value escaped. */
static void query_path(struct buf *out, const char *id, const char *tail, struct str value, const char *more)
{
	buf_add_cstr(out, "/api/v1/sandboxes/");
	buf_add_cstr(out, id);
	buf_add_cstr(out, tail);
	add_escaped(out, value, "-._~/");
	buf_add_cstr(out, more);
}

int remote_call(struct api *a, struct api_request *r, struct buf *path, struct buf *body, struct fault *f)
{
	int rc;

	buf_add_char(path, 0);
	if (path->failed || (body && body->failed)) {
		rc = fault_memory(f);
	} else {
		r->path = buf_data(path);
		if (body)
			r->body = buf_str(body);
		rc = api_call(a, r, f);
	}
	buf_fini(path);
	if (body)
		buf_fini(body);
	return rc;
}

void remote_add_fields(struct json_writer *w, const struct options *o)
{
	if (o->image)
		json_cstr(w, "image", o->image);
	if (o->provider)
		json_cstr(w, "provider", o->provider);
	if (o->memory_mb)
		json_uint(w, "memory_mb", o->memory_mb);
	if (o->vcpus)
		json_uint(w, "vcpus", o->vcpus);
	if (o->ttl)
		json_cstr(w, "ttl", o->ttl);
	if (o->metadata.n == 0)
		return;
	json_object_begin(w, "metadata");
	for (size_t i = 0; i < o->metadata.n; i++)
		json_member(w, options_pair_key(o->metadata.at[i]), options_pair_value(o->metadata.at[i]));
	json_object_end(w);
}

static int take_id(struct str answer, char id[REMOTE_ID_SIZE], struct fault *f)
{
	json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, 0, NULL);
	const char *text = json_string_value(json_object_get(root, "id"));
	int rc = 0;

	if (text && options_is_id(text))
		snprintf(id, REMOTE_ID_SIZE, "%s", text);
	else
		rc = fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the server's answer names no sandbox");
	json_decref(root);
	return rc;
}

int remote_spawn(struct api *a, const char *template, const struct options *o, struct buf *answer,
		 char id[REMOTE_ID_SIZE], struct fault *f)
{
	struct api_request r = {.method = "POST",
				.lease = o->lease,
				.answer = answer,
				.timeout_ms = SPAWN_TIMEOUT_MS,
				.linger_ms = REMOTE_SPAWN_LINGER_MS};
	struct buf path = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);
	int rc;

	if (template)
		remote_template_path(&path, str_from(template), "/spawn");
	else
		buf_add_cstr(&path, "/api/v1/sandboxes");
	json_object_begin(&w, NULL);
	remote_add_fields(&w, o);
	json_object_end(&w);
	progress_begin(api_progress(a), "spawning", 0);
	rc = remote_call(a, &r, &path, &body, f);
	progress_end(api_progress(a));
	return rc < 0 ? -1 : take_id(buf_str(answer), id, f);
}

int remote_destroy(struct api *a, const char *id, struct fault *f)
{
	struct api_request r = {.method = "DELETE", .timeout_ms = REMOTE_CLEAN_UP_MS, .linger_ms = REMOTE_CLEAN_UP_MS};
	struct buf path = BUF_EMPTY;

	remote_path(&path, id, "");
	return remote_call(a, &r, &path, NULL, f);
}

int remote_write(struct api *a, const char *id, struct str path, mode_t mode, struct str content, struct fault *f)
{
	struct api_request r = {.method = "POST", .timeout_ms = API_TIMEOUT_MS};
	struct buf where = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);
	char octal[16];

	snprintf(octal, sizeof(octal), "%04o", (unsigned)(mode & 0777));
	remote_path(&where, id, "/files");
	json_object_begin(&w, NULL);
	json_str(&w, "path", path);
	json_cstr(&w, "mode", octal);
	json_str(&w, "content", content);
	json_object_end(&w);
	return remote_call(a, &r, &where, &body, f);
}

int remote_read(struct api *a, const char *id, struct str path, api_sink_fn sink, void *user, struct fault *f)
{
	/* No limit in all: a large file takes its time, and the gateway ends one that stalls. */
	struct api_request r = {.method = "GET", .sink = sink, .user = user};
	struct buf where = BUF_EMPTY;

	query_path(&where, id, "/files?path=", path, "");
	return remote_call(a, &r, &where, NULL, f);
}

int remote_move(struct api *a, const char *id, struct str from, struct str to, struct fault *f)
{
	struct api_request r = {.method = "POST", .timeout_ms = API_TIMEOUT_MS};
	struct buf where = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	remote_path(&where, id, "/files/move");
	json_object_begin(&w, NULL);
	json_str(&w, "old_path", from);
	json_str(&w, "new_path", to);
	json_object_end(&w);
	return remote_call(a, &r, &where, &body, f);
}

int remote_delete(struct api *a, const char *id, struct str path, struct fault *f)
{
	struct api_request r = {.method = "DELETE", .timeout_ms = REMOTE_CLEAN_UP_MS, .linger_ms = REMOTE_CLEAN_UP_MS};
	struct buf where = BUF_EMPTY;

	/* recursive=true makes a file that is not there no error. */
	query_path(&where, id, "/files?path=", path, "&recursive=true");
	return remote_call(a, &r, &where, NULL, f);
}

static int take_stat(struct str answer, struct remote_stat *out, struct fault *f)
{
	json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, 0, NULL);
	const json_t *size = json_object_get(root, "size");
	const char *mode = json_string_value(json_object_get(root, "mode"));
	int rc = 0;

	if (!json_is_integer(size) || json_integer_value(size) < 0) {
		rc = fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the server does not say how large the file is");
	} else {
		out->bytes = (uint64_t)json_integer_value(size);
		out->is_dir = json_is_true(json_object_get(root, "is_dir"));
		/* Octal; a server that says it otherwise gets the mode of a plain file. */
		out->mode = mode && *mode >= '0' && *mode <= '7' ? (mode_t)(strtoull(mode, NULL, 8) & 0777) : 0644;
	}
	json_decref(root);
	return rc;
}

int remote_stat(struct api *a, const char *id, struct str path, struct remote_stat *out, struct fault *f)
{
	struct buf answer = BUF_EMPTY;
	struct api_request r = {.method = "GET", .answer = &answer, .timeout_ms = API_TIMEOUT_MS};
	struct buf where = BUF_EMPTY;
	int rc;

	query_path(&where, id, "/files/stat?path=", path, "");
	rc = remote_call(a, &r, &where, NULL, f);
	if (rc == 0)
		rc = take_stat(buf_str(&answer), out, f);
	buf_fini(&answer);
	return rc;
}

static void add_member(struct buf *out, const json_t *value)
{
	if (out && json_is_string(value))
		buf_add(out, json_string_value(value), json_string_length(value));
}

static int take_exec(struct str answer, int *code, struct buf *out, struct buf *err, struct fault *f)
{
	json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, JSON_ALLOW_NUL, NULL);
	const json_t *exit_code = json_object_get(root, "exit_code");
	int rc = 0;

	if (json_is_integer(exit_code)) {
		*code = (int)json_integer_value(exit_code);
		add_member(out, json_object_get(root, "stdout"));
		add_member(err, json_object_get(root, "stderr"));
	} else {
		rc = fault_set(f, FAULT_ERROR, "BAD_ANSWER", "the server does not say how the command ended");
	}
	json_decref(root);
	return rc;
}

int remote_sh(struct api *a, const char *id, struct str script, int *code, struct buf *out, struct buf *err,
	      struct fault *f)
{
	struct buf answer = BUF_EMPTY;
	struct api_request r = {.method = "POST", .answer = &answer, .timeout_ms = API_TIMEOUT_MS};
	struct buf where = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);
	int rc;

	remote_path(&where, id, "/exec");
	json_object_begin(&w, NULL);
	json_str(&w, "command", script);
	json_object_end(&w);
	rc = remote_call(a, &r, &where, &body, f);
	if (rc == 0)
		rc = take_exec(buf_str(&answer), code, out, err, f);
	buf_fini(&answer);
	return rc;
}
