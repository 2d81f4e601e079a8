/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each handler is a job of the sandbox's init and the answer to its end. A read streams: its head goes out when the
 * file's size is known, and a file that turns out shorter is cut, so that the client sees it.
 */
#include "local/api_files.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/check.h"
#include "common/json_write.h"
#include "common/list.h"
#include "local/call.h"
#include "local/exec_spec.h"
#include "local/file_mode.h"
#include "local/records.h"

enum {
	ENTRIES_MAX = 100000,
	ENTRIES_MAX_BYTES = 16 << 20
};

/* --- what all have in common -------------------------------------------------------------------------------------- */

/* The words for a job that only has to succeed. */
struct simple_words {
	const char *done;   /* {"status":"..."} */
	const char *prefix; /* of an error */
};

static const struct simple_words write_words = {"written", "writing file"};
static const struct simple_words delete_words = {"deleted", "deleting file"};
static const struct simple_words move_words = {"moved", "moving file"};
static const struct simple_words chmod_words = {"chmod applied", "changing mode"};

static void on_simple_end(void *arg, const struct job_result *result)
{
	struct call *call = arg;
	const struct simple_words *words = call->state;

	call->job = NULL;
	if (result->outcome == JOB_OK && words == &write_words)
		call_tell(call, EVENTS_FILE_WRITTEN);
	if (result->outcome == JOB_OK)
		call_status(call, words->done);
	else
		call_job_failed(call, result, EVENTS_OPERATION_FAILED, words->prefix);
}

static const struct job_events simple_events = {.on_end = on_simple_end};

/* A path that can be asked of the init; false: answered. */
static bool check_path(struct call *call, struct str path)
{
	if (exec_is_blank(path)) {
		call_error(call, CALL_BAD_REQUEST, "invalid input: path is required");
		return false;
	}
	if (memchr(path.p, '\0', path.n)) {
		call_error(call, CALL_BAD_REQUEST, "invalid input: NUL byte in a path");
		return false;
	}
	return true;
}

/* A query parameter that must be there; false: answered. */
static bool need_query(struct call *call, const char *key, struct buf *value)
{
	if (call_query(call, key, value) && value->len)
		return true;
	buf_fini(value);
	call_error(call, CALL_BAD_REQUEST, "%s query parameter required", key);
	return false;
}

/* --- write, move, chmod ------------------------------------------------------------------------------------------- */

struct file_body {
	struct str path;
	struct str content;
	struct str mode;
	struct str old_path;
	struct str new_path;
};

#define FIELD(key)                                                                                                     \
	{                                                                                                              \
#key, GO_STR, offsetof(struct file_body, key)                                                          \
	}

void api_files_write(struct call *call)
{
	static const struct go_field table[] = {FIELD(path), FIELD(content), FIELD(mode)};
	struct file_body b = {.content = STR("")};
	struct record *r;

	if (!call_bind(call, table, 3, &b))
		return;
	r = call_running(call);
	if (!r || !check_path(call, b.path))
		return;
	call->state = (void *)&write_words;
	call->job = sandbox_write(r->sandbox, b.path, file_mode_for_write(b.mode), b.content, &simple_events, call);
	(void)call_has_job(call);
}

void api_files_move(struct call *call)
{
	static const struct go_field table[] = {FIELD(old_path), FIELD(new_path)};
	struct file_body b = {.path = STR("")};
	struct record *r;

	if (!call_bind(call, table, 2, &b))
		return;
	r = call_running(call);
	if (!r || !check_path(call, b.old_path) || !check_path(call, b.new_path))
		return;
	call->state = (void *)&move_words;
	call->job = sandbox_move(r->sandbox, b.old_path, b.new_path, &simple_events, call);
	(void)call_has_job(call);
}

void api_files_chmod(struct call *call)
{
	static const struct go_field table[] = {FIELD(path), FIELD(mode)};
	struct file_body b = {.mode = STR("")};
	struct record *r;
	unsigned mode;
	int rc;

	if (!call_bind(call, table, 2, &b))
		return;
	r = call_running(call);
	if (!r || !check_path(call, b.path))
		return;
	rc = file_mode_parse(b.mode, &mode);
	if (rc) {
		call_error(call, CALL_INTERNAL_ERROR, "parse mode: strconv.ParseUint: parsing \"%.*s\": %s",
			   STR_ARG(b.mode), rc == -ERANGE ? "value out of range" : "invalid syntax");
		return;
	}
	call->state = (void *)&chmod_words;
	call->job = sandbox_chmod(r->sandbox, b.path, mode, &simple_events, call);
	(void)call_has_job(call);
}

/* --- delete ------------------------------------------------------------------------------------------------------- */

/* With recursive=true what is not there counts as deleted. */
static void on_tree_deleted(void *arg, const struct job_result *result)
{
	const struct job_result done = {.outcome = JOB_OK};

	if (result->outcome == JOB_FAILED && result->error == ENOENT)
		result = &done;
	on_simple_end(arg, result);
}

void api_files_delete(struct call *call)
{
	static const struct job_events tree_events = {.on_end = on_tree_deleted};
	struct buf path = BUF_EMPTY;
	struct buf flag = BUF_EMPTY;
	struct record *r;
	bool recursive;

	if (!need_query(call, "path", &path))
		return;
	recursive = call_query(call, "recursive", &flag) && str_eq(buf_str(&flag), STR("true"));
	buf_fini(&flag);
	r = call_running(call);
	if (r && check_path(call, buf_str(&path))) {
		call->state = (void *)&delete_words;
		call->job = sandbox_delete(r->sandbox, buf_str(&path), recursive,
					   recursive ? &tree_events : &simple_events, call);
		(void)call_has_job(call);
	}
	buf_fini(&path);
}

/* --- read --------------------------------------------------------------------------------------------------------- */

struct reading {
	struct call *call; /* borrowed */
	bool begun;        /* the head is out */
	uint64_t size;     /* bytes that it has, as the init says */
	uint64_t left;     /* bytes still to come */
};

static void on_state_over(struct call *call)
{
	free(call->state);
}

static void on_read_drained(struct call *call)
{
	if (call->job)
		sandbox_job_pause(call->job, false);
}

static void begin_read(struct reading *f, uint64_t bytes)
{
	f->begun = true;
	f->size = f->left = bytes;
	conn_begin(f->call->conn, 200, "application/octet-stream", STR(""), (int64_t)bytes);
}

static void on_read_size(void *arg, uint64_t bytes)
{
	struct reading *f = arg;

	if (!f->begun && bytes <= INT64_MAX)
		begin_read(f, bytes);
}

static void on_read_data(void *arg, unsigned stream, const char *p, size_t n)
{
	struct reading *f = arg;

	(void)stream;
	if (!f->begun)
		return;
	/* The init is not trusted to keep to the size that it told. */
	if (n > f->left)
		n = (size_t)f->left;
	f->left -= n;
	/* The client may leave with the last byte, before the job ends. */
	if (f->left == 0 && n)
		call_tell(f->call, EVENTS_FILE_READ);
	if (conn_send(f->call->conn, str_of(p, n)))
		sandbox_job_pause(f->call->job, true);
}

static void on_read_end(void *arg, const struct job_result *result)
{
	struct reading *f = arg;
	struct call *call = f->call;

	call->job = NULL;
	if (!f->begun && result->outcome != JOB_OK) {
		call_job_failed(call, result, EVENTS_OPERATION_FAILED, "reading file");
		return;
	}
	if (!f->begun)
		begin_read(f, 0);
	if (f->size == 0)
		call_tell(call, EVENTS_FILE_READ);
	if (f->left)
		conn_abort(call->conn);
	else
		conn_end(call->conn);
	call_over(call);
}

static void start_read(struct call *call, struct record *r, struct str path)
{
	static const struct call_events events = {.on_drained = on_read_drained, .on_over = on_state_over};
	static const struct job_events job_events = {
		.on_size = on_read_size,
		.on_data = on_read_data,
		.on_end = on_read_end,
	};
	struct reading *f = calloc(1, sizeof(*f));

	call->events = &events;
	call->state = f;
	if (f) {
		f->call = call;
		call->job = sandbox_read(r->sandbox, path, &job_events, f);
	}
	(void)call_has_job(call);
}

void api_files_read(struct call *call)
{
	struct buf path = BUF_EMPTY;
	struct record *r;

	if (!need_query(call, "path", &path))
		return;
	r = call_running(call);
	if (r && check_path(call, buf_str(&path)))
		start_read(call, r, buf_str(&path));
	buf_fini(&path);
}

/* --- list, stat, glob --------------------------------------------------------------------------------------------- */

struct entry {
	size_t path_at; /* in the listing's text */
	size_t path_n;
	uint64_t size;
	unsigned mode;
	bool is_dir;
	int64_t mtime_sec;
};

/* How a listing is written. */
enum listing_form {
	LISTING_ARRAY,  /* FileInfo objects, by path */
	LISTING_SINGLE, /* one FileInfo */
	LISTING_PATHS,  /* paths, in the order in which they came */
};

struct listing {
	struct call *call; /* borrowed */
	enum listing_form form;
	const char *prefix; /* of an error */
	struct buf text;    /* the paths */
	struct buf entries; /* struct entry, one after the other */
	size_t n;
};

static void on_listing_over(struct call *call)
{
	struct listing *l = call->state;

	if (!l)
		return;
	buf_fini(&l->text);
	buf_fini(&l->entries);
	free(l);
}

static void on_entry(void *arg, const struct file_info *info)
{
	struct listing *l = arg;
	struct entry e = {
		.path_at = l->text.len,
		.path_n = info->path.n,
		.size = info->size,
		.mode = info->mode,
		.is_dir = info->is_dir,
		.mtime_sec = info->mtime_sec,
	};

	if (l->n == ENTRIES_MAX || l->text.len + info->path.n > ENTRIES_MAX_BYTES) {
		call_error(l->call, CALL_INTERNAL_ERROR, "%s: too many entries", l->prefix);
		return;
	}
	buf_add_str(&l->text, info->path);
	buf_add(&l->entries, &e, sizeof(e));
	l->n++;
}

static struct str entry_path(const struct listing *l, const struct entry *e)
{
	return str_of(buf_data(&l->text) + e->path_at, e->path_n);
}

static int compare_entries(const void *a, const void *b, void *arg)
{
	struct str pa = entry_path(arg, a);
	struct str pb = entry_path(arg, b);
	size_t n = pa.n < pb.n ? pa.n : pb.n;
	int order = n ? memcmp(pa.p, pb.p, n) : 0;

	return order ? order : (pa.n > pb.n) - (pa.n < pb.n);
}

/* What stands behind the last slash; the root is called "/". */
static struct str base_name(struct str path)
{
	const char *slash = path.n ? memrchr(path.p, '/', path.n) : NULL;

	if (!slash || path.n == 1)
		return path;
	return str_of(slash + 1, path.n - (size_t)(slash + 1 - path.p));
}

static void write_info(struct json_writer *w, const struct listing *l, const struct entry *e)
{
	struct str path = entry_path(l, e);
	time_t mtime = (time_t)e->mtime_sec;
	struct tm tm = {0};
	char text[40];

	json_object_begin(w, NULL);
	json_str(w, "name", base_name(path));
	json_str(w, "path", path);
	json_uint(w, "size", e->size);
	snprintf(text, sizeof(text), "%o", e->mode & 0777);
	json_cstr(w, "mode", text);
	json_bool(w, "is_dir", e->is_dir);
	/* A time that has no year is nobody's but a hostile program's. */
	if (!gmtime_r(&mtime, &tm))
		tm = (struct tm){.tm_year = 70, .tm_mday = 1};
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
	json_cstr(w, "mod_time", text);
	json_object_end(w);
}

static void write_listing(struct listing *l, struct buf *body)
{
	struct json_writer w = json_writer(body);
	struct entry *entries = (struct entry *)(void *)buf_data(&l->entries);

	if (l->form == LISTING_SINGLE) {
		write_info(&w, l, entries);
		return;
	}
	if (l->form == LISTING_ARRAY && l->n)
		qsort_r(entries, l->n, sizeof(*entries), compare_entries, l);
	json_array_begin(&w, NULL);
	for (size_t i = 0; i < l->n; i++) {
		if (l->form == LISTING_PATHS)
			json_str(&w, NULL, entry_path(l, &entries[i]));
		else
			write_info(&w, l, &entries[i]);
	}
	json_array_end(&w);
}

static void on_listing_end(void *arg, const struct job_result *result)
{
	struct listing *l = arg;
	struct call *call = l->call;
	struct buf body = BUF_EMPTY;

	call->job = NULL;
	if (result->outcome != JOB_OK) {
		call_job_failed(call, result, EVENTS_OPERATION_FAILED, l->prefix);
		return;
	}
	if (l->text.failed || l->entries.failed) {
		call_no_memory(call);
		return;
	}
	if (l->form == LISTING_SINGLE && l->n == 0) {
		call_error(call, CALL_INTERNAL_ERROR, "%s: no answer", l->prefix);
		return;
	}
	write_listing(l, &body);
	call_json(call, 200, &body);
}

static const struct job_events listing_events = {.on_entry = on_entry, .on_end = on_listing_end};

/* The state of a listing; NULL: answered. */
static struct listing *new_listing(struct call *call, enum listing_form form, const char *prefix)
{
	static const struct call_events events = {.on_over = on_listing_over};
	struct listing *l = calloc(1, sizeof(*l));

	call->events = &events;
	call->state = l;
	if (!l) {
		call_no_memory(call);
		return NULL;
	}
	*l = (struct listing){.call = call, .form = form, .prefix = prefix};
	return l;
}

void api_files_list(struct call *call)
{
	struct buf path = BUF_EMPTY;
	struct record *r;
	struct listing *l;

	if (!call_query(call, "path", &path) || path.len == 0) {
		buf_reset(&path);
		buf_add_char(&path, '/');
	}
	r = call_running(call);
	if (r && check_path(call, buf_str(&path))) {
		l = new_listing(call, LISTING_ARRAY, "listing files");
		if (l) {
			call->job = sandbox_list(r->sandbox, buf_str(&path), &listing_events, l);
			(void)call_has_job(call);
		}
	}
	buf_fini(&path);
}

void api_files_stat(struct call *call)
{
	struct buf path = BUF_EMPTY;
	struct record *r;
	struct listing *l;

	if (!need_query(call, "path", &path))
		return;
	r = call_running(call);
	if (r && check_path(call, buf_str(&path))) {
		l = new_listing(call, LISTING_SINGLE, "stat file");
		if (l) {
			call->job = sandbox_stat(r->sandbox, buf_str(&path), &listing_events, l);
			(void)call_has_job(call);
		}
	}
	buf_fini(&path);
}

void api_files_glob(struct call *call)
{
	struct buf pattern = BUF_EMPTY;
	struct record *r;
	struct listing *l;

	if (!need_query(call, "pattern", &pattern))
		return;
	r = call_running(call);
	if (r && check_path(call, buf_str(&pattern))) {
		l = new_listing(call, LISTING_PATHS, "glob");
		if (l) {
			call->job = sandbox_glob(r->sandbox, buf_str(&pattern), &listing_events, l);
			(void)call_has_job(call);
		}
	}
	buf_fini(&pattern);
}
