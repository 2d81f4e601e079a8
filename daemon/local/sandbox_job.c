/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job is one request and the messages that answer it. What the init may send for it is bounded by a window, which is
 * granted anew as its data is taken; what it sends must fit the kind of job, or the init is not believed any more.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/check.h"
#include "local/port_fd.h"
#include "local/sandbox_private.h"

enum {
	OUT_LOW = 256 * 1024
};

static struct sandbox_job *job_new(struct sandbox *sb, enum job_kind kind, const struct job_events *events, void *arg)
{
	struct sandbox_job *job = calloc(1, sizeof(*job));

	CHECK(sb->state != SANDBOX_GONE);
	if (!job)
		return NULL;
	job->sb = sb;
	job->kind = kind;
	job->events = *events;
	job->arg = arg;
	job->window = WIRE_WINDOW;
	job->id = ++sb->next_job ? sb->next_job : ++sb->next_job;
	list_add_tail(&sb->jobs, &job->link);
	if (sb->state > SANDBOX_RUNNING)
		loop_defer(sb->host->loop, &sb->work);
	return job;
}

static void job_free(struct sandbox_job *job)
{
	list_remove(&job->link);
	buf_fini(&job->content);
	free(job);
}

static void job_end(struct sandbox_job *job, const struct job_result *result)
{
	if (job->events.on_end)
		job->events.on_end(job->arg, result);
	job_free(job);
}

/* It ends when the callers are back in the loop. */
static void job_fail_later(struct sandbox_job *job, int error)
{
	job->local_error = error;
	loop_defer(job->sb->host->loop, &job->sb->work);
}

static void job_send(struct sandbox_job *job, struct wire_request *m)
{
	struct sandbox *sb = job->sb;

	m->job = job->id;
	if (sb->state > SANDBOX_RUNNING)
		return;
	wire_put_request(&sb->out, m);
	loop_defer(sb->host->loop, &sb->flush);
}

static bool is_sendable(struct str path)
{
	return path.n <= WIRE_PATH_MAX && !(path.n && memchr(path.p, 0, path.n));
}

/* A job whose request is one message with one or two paths. */
static struct sandbox_job *path_job(struct sandbox *sb, enum job_kind kind, struct wire_request *m,
				    const struct job_events *events, void *arg)
{
	struct sandbox_job *job = job_new(sb, kind, events, arg);

	if (!job)
		return NULL;
	if (!is_sendable(m->path) || !is_sendable(m->to))
		job_fail_later(job, m->path.n > WIRE_PATH_MAX || m->to.n > WIRE_PATH_MAX ? -ENAMETOOLONG : -EINVAL);
	else
		job_send(job, m);
	return job;
}

struct sandbox_job *sandbox_read(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	return path_job(sb, KIND_READ, &(struct wire_request){.type = WIRE_READ, .path = path}, events, arg);
}

struct sandbox_job *sandbox_delete(struct sandbox *sb, struct str path, bool recursive, const struct job_events *events,
				   void *arg)
{
	struct wire_request m = {.type = WIRE_DELETE, .path = path, .recursive = recursive};

	return path_job(sb, KIND_DELETE, &m, events, arg);
}

struct sandbox_job *sandbox_list(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	return path_job(sb, KIND_LIST, &(struct wire_request){.type = WIRE_LIST, .path = path}, events, arg);
}

struct sandbox_job *sandbox_stat(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	return path_job(sb, KIND_STAT, &(struct wire_request){.type = WIRE_STAT, .path = path}, events, arg);
}

struct sandbox_job *sandbox_glob(struct sandbox *sb, struct str pattern, const struct job_events *events, void *arg)
{
	return path_job(sb, KIND_GLOB, &(struct wire_request){.type = WIRE_GLOB, .path = pattern}, events, arg);
}

struct sandbox_job *sandbox_move(struct sandbox *sb, struct str from, struct str to, const struct job_events *events,
				 void *arg)
{
	return path_job(sb, KIND_MOVE, &(struct wire_request){.type = WIRE_MOVE, .path = from, .to = to}, events, arg);
}

struct sandbox_job *sandbox_chmod(struct sandbox *sb, struct str path, unsigned mode, const struct job_events *events,
				  void *arg)
{
	struct wire_request m = {.type = WIRE_CHMOD, .path = path, .mode = mode};

	return path_job(sb, KIND_CHMOD, &m, events, arg);
}

struct sandbox_job *sandbox_write(struct sandbox *sb, struct str path, unsigned mode, struct str content,
				  const struct job_events *events, void *arg)
{
	struct wire_request m = {.type = WIRE_WRITE, .path = path, .mode = mode, .size = content.n};
	struct sandbox_job *job = path_job(sb, KIND_WRITE, &m, events, arg);

	if (!job || job->local_error)
		return job;
	job->size = content.n;
	if (sb->state <= SANDBOX_RUNNING)
		buf_add_str(&job->content, content);
	if (!job->content.failed)
		return job;
	/* The init waits for content that never comes: the cancel ends that. */
	job_send(job, &(struct wire_request){.type = WIRE_CANCEL});
	job->events = (struct job_events){0};
	job->cancelled = true;
	return NULL;
}

static void send_command(struct sandbox_job *job, struct str body)
{
	struct wire_request m = {.type = WIRE_EXEC_MORE};

	for (; body.n > WIRE_PAYLOAD_MAX; body = str_of(body.p + WIRE_PAYLOAD_MAX, body.n - WIRE_PAYLOAD_MAX)) {
		m.bytes = str_of(body.p, WIRE_PAYLOAD_MAX);
		job_send(job, &m);
	}
	m.type = WIRE_EXEC;
	m.bytes = body;
	job_send(job, &m);
}

struct sandbox_job *sandbox_exec(struct sandbox *sb, const struct exec_spec *spec, const struct job_events *events,
				 void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_EXEC, events, arg);
	struct buf body = BUF_EMPTY;

	if (!job)
		return NULL;
	int rc = wire_put_exec(&body, spec->argv, spec->nargv, spec->env, spec->nenv, spec->workdir);
	if (rc)
		job_fail_later(job, rc);
	else
		send_command(job, buf_str(&body));
	buf_fini(&body);
	return job;
}

struct sandbox_job *sandbox_connect(struct sandbox *sb, uint16_t port, const struct job_events *events, void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_CONNECT, events, arg);

	CHECK(port != 0);
	if (job)
		job_send(job, &(struct wire_request){.type = WIRE_CONNECT, .port = port});
	return job;
}

void sandbox_job_kill(struct sandbox_job *job)
{
	CHECK(job->kind == KIND_EXEC);
	job_send(job, &(struct wire_request){.type = WIRE_KILL});
}

void sandbox_job_cancel(struct sandbox_job *job)
{
	if (job->cancelled)
		return;
	job->cancelled = true;
	job->events = (struct job_events){0};
	buf_fini(&job->content);
	if (!job->local_error)
		job_send(job, &(struct wire_request){.type = WIRE_CANCEL});
}

/* --- the window ------------------------------------------------------------------------------------------------ */

static void job_grant(struct sandbox_job *job)
{
	if (job->paused || job->owed == 0 || job->cancelled)
		return;
	job_send(job, &(struct wire_request){.type = WIRE_CREDIT, .credit = (uint32_t)job->owed});
	job->window += (int64_t)job->owed;
	job->owed = 0;
}

void sandbox_job_pause(struct sandbox_job *job, bool paused)
{
	job->paused = paused;
	job_grant(job);
}

/* False: the init sends more than it may. */
static bool job_charge(struct sandbox_job *job, size_t cost)
{
	if (job->window <= 0)
		return false;
	job->window -= (int64_t)cost;
	job->owed += cost;
	return true;
}

/* --- what the init sends ----------------------------------------------------------------------------------------- */

static struct sandbox_job *job_find(struct sandbox *sb, uint32_t id)
{
	LIST_FOREACH (n, &sb->jobs) {
		struct sandbox_job *job = CONTAINER_OF(n, struct sandbox_job, link);
		if (job->id == id)
			return job;
	}
	return NULL;
}

static bool on_size(struct sandbox_job *job, const struct wire_event *e)
{
	if (job->kind != KIND_READ || job->sized)
		return false;
	job->sized = true;
	job->size = e->size;
	if (job->events.on_size)
		job->events.on_size(job->arg, e->size);
	return true;
}

static bool on_data(struct sandbox_job *job, const struct wire_event *e)
{
	bool fits = job->kind == KIND_EXEC ? e->stream != 0 : job->kind == KIND_READ && e->stream == 0 && job->sized;

	if (!fits || !job_charge(job, e->cost))
		return false;
	job->received += e->bytes.n;
	if (job->kind == KIND_READ && job->received > job->size)
		return false;
	if (job->events.on_data)
		job->events.on_data(job->arg, e->stream, e->bytes.p, e->bytes.n);
	if (job->owed >= WIRE_WINDOW / 4)
		job_grant(job);
	return true;
}

static bool on_entry(struct sandbox_job *job, const struct wire_event *e)
{
	const struct file_info info = {
		.path = e->path, .size = e->size, .mode = e->mode, .is_dir = e->is_dir, .mtime_sec = e->mtime_sec};
	size_t max = job->kind == KIND_STAT ? 1 : WIRE_ENTRIES_MAX;
	bool fits = job->kind == KIND_LIST || job->kind == KIND_GLOB || job->kind == KIND_STAT;

	job->entries++;
	job->entry_bytes += e->cost;
	if (!fits || job->entries > max || job->entry_bytes > WIRE_ENTRIES_BYTES_MAX || !job_charge(job, e->cost))
		return false;
	if (job->events.on_entry)
		job->events.on_entry(job->arg, &info);
	if (job->owed >= WIRE_WINDOW / 4)
		job_grant(job);
	return true;
}

static bool is_complete(const struct sandbox_job *job)
{
	if (job->kind == KIND_READ)
		return job->sized && job->received == job->size;
	if (job->kind == KIND_WRITE)
		return job->content.len == 0;
	if (job->kind == KIND_CONNECT)
		return false; /* it ends with its descriptor */
	return job->kind != KIND_STAT || job->entries == 1;
}

static bool on_done(struct sandbox_job *job, const struct wire_event *e)
{
	char text[WIRE_TEXT_MAX + 1];
	struct job_result result = {
		.outcome = e->error ? JOB_FAILED : JOB_OK, .error = e->error, .text = text, .exit_code = e->exit_code};

	if (e->error == 0 && !job->cancelled && !is_complete(job))
		return false;
	memcpy(text, e->text.n ? e->text.p : "", e->text.n);
	text[e->text.n] = 0;
	job_end(job, &result);
	return true;
}

/* What is no connection to a port is never used; the init has no business to pass it. */
static bool on_connected(struct sandbox_job *job)
{
	int fd = job->kind == KIND_CONNECT ? sandbox_take_passed(job->sb) : PORT_FD_NONE;
	struct job_result result = {.outcome = JOB_OK};

	if (fd == PORT_FD_NONE)
		return false;
	if (fd == PORT_FD_LOST) {
		result = (struct job_result){.outcome = JOB_FAILED, .error = EMFILE, .text = "too many open files"};
		job_end(job, &result);
		return true;
	}
	if (!port_fd_is_connection(fd)) {
		port_fd_close(&fd);
		return false;
	}
	if (job->events.on_connected)
		job->events.on_connected(job->arg, fd);
	else
		port_fd_close(&fd);
	job_end(job, &result);
	return true;
}

bool sandbox_job_on_event(struct sandbox *sb, const struct wire_event *e)
{
	struct sandbox_job *job = job_find(sb, e->job);

	if (!job || job->local_error)
		return false;
	switch (e->type) {
	case WIRE_SIZE:
		return on_size(job, e);
	case WIRE_DATA:
		return on_data(job, e);
	case WIRE_ENTRY:
		return on_entry(job, e);
	case WIRE_DONE:
		return on_done(job, e);
	case WIRE_CONNECTED:
		return on_connected(job);
	case WIRE_READY:
	case WIRE_LOG:
		break;
	}
	return false;
}

/* --- outside of the callers' stack ------------------------------------------------------------------------------- */

static const char *local_text(int error)
{
	switch (-error) {
	case ENAMETOOLONG:
		return "file name too long";
	case E2BIG:
		return "argument list too long";
	case ENOMEM:
		return "cannot allocate memory";
	default:
		return "invalid argument";
	}
}

/* The next job that ends here; those made by its callback come later in the list. */
static struct sandbox_job *next_to_end(struct sandbox *sb)
{
	LIST_FOREACH (n, &sb->jobs) {
		struct sandbox_job *job = CONTAINER_OF(n, struct sandbox_job, link);
		if (job->local_error || sb->state > SANDBOX_RUNNING)
			return job;
	}
	return NULL;
}

void sandbox_jobs_work(struct sandbox *sb)
{
	struct sandbox_job *job;

	while ((job = next_to_end(sb))) {
		struct job_result result = {.outcome = JOB_GONE, .text = "the sandbox is gone", .exit_code = -1};
		if (job->local_error) {
			result.outcome = JOB_FAILED;
			result.error = -job->local_error;
			result.text = local_text(job->local_error);
		}
		job_end(job, &result);
	}
}

void sandbox_jobs_drop(struct sandbox *sb)
{
	while (!list_empty(&sb->jobs))
		job_free(LIST_FIRST(&sb->jobs, struct sandbox_job, link));
}

void sandbox_jobs_feed(struct sandbox *sb)
{
	bool fed = true;

	while (fed) {
		fed = false;
		LIST_FOREACH (n, &sb->jobs) {
			struct sandbox_job *job = CONTAINER_OF(n, struct sandbox_job, link);
			size_t len = job->content.len < WIRE_DATA_MAX ? job->content.len : WIRE_DATA_MAX;
			if (sb->out.len >= OUT_LOW)
				return;
			if (len == 0)
				continue;
			wire_put_request(&sb->out,
					 &(struct wire_request){.type = WIRE_CONTENT,
								.job = job->id,
								.bytes = str_of(buf_data(&job->content), len)});
			buf_consume(&job->content, len);
			fed = true;
		}
	}
}
