/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/box.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "local/init_image.h"

enum {
	LIMIT_MS = 30000
};

static void on_limit(struct deadline *d)
{
	struct bench *b = CONTAINER_OF(d, struct bench, timer);

	b->expired = true;
	loop_stop(b->loop);
}

void bench_init(struct bench *b)
{
	char why[600];

	*b = (struct bench){0};
	b->loop = loop_new();
	cr_assert_not_null(b->loop);
	deadline_queue_init(&b->limit, b->loop, LIMIT_MS);
	deadline_init(&b->timer, on_limit);
	scratch_init(&b->scratch);
	const struct sandbox_host_config config = {
		.state_dir = scratch_path(&b->scratch, "state"), .init_image = init_image_bytes(), .uid_count = 64};
	int rc = sandbox_host_new(b->loop, &config, &b->host, why, sizeof(why));
	if (rc == -EPERM) {
		scratch_fini(&b->scratch);
		deadline_queue_fini(&b->limit);
		loop_free(b->loop);
		fprintf(stderr, "SKIPPED: no sandboxes on this host: %s\n", why);
		cr_skip_test("no sandboxes on this host: %s", why);
	}
	cr_assert_eq(rc, 0, "%d: %s", rc, why);
}

void bench_add_other(struct bench *b, struct str image)
{
	char why[600];
	const struct sandbox_host_config config = {
		.state_dir = scratch_path(&b->scratch, "other"), .init_image = image, .uid_count = 64};
	int rc = sandbox_host_new(b->loop, &config, &b->other, why, sizeof(why));

	cr_assert_eq(rc, 0, "%d: %s", rc, why);
}

void bench_wait(struct bench *b, const bool *flag)
{
	b->expired = false;
	deadline_set(&b->limit, &b->timer);
	while (!*flag && !b->expired)
		loop_run(b->loop);
	deadline_clear(&b->timer);
	cr_assert(*flag, "did not happen within 30 s");
}

void bench_wait_count(struct bench *b, const unsigned *value, unsigned least)
{
	b->expired = false;
	deadline_set(&b->limit, &b->timer);
	while (*value < least && !b->expired)
		loop_run(b->loop);
	deadline_clear(&b->timer);
	cr_assert_geq(*value, least, "only %u within 30 s", *value);
}

struct stop {
	struct loop *loop;
	bool done;
};

static void on_stopped(void *arg)
{
	struct stop *s = arg;

	s->done = true;
	loop_stop(s->loop);
}

static void stop_host(struct bench *b, struct sandbox_host *host, const char *state)
{
	struct stop s = {b->loop, false};
	unsigned left = 0;

	sandbox_host_stop(host, on_stopped, &s);
	bench_wait(b, &s.done);
	sandbox_host_free(host);
	DIR *d = opendir(scratch_path(&b->scratch, "%s/sandboxes", state));
	cr_assert_not_null(d);
	for (struct dirent *e; (e = readdir(d));)
		left += e->d_name[0] != '.';
	closedir(d);
	cr_assert_eq(left, 0, "%u directories of sandboxes are left", left);
}

void bench_fini(struct bench *b)
{
	stop_host(b, b->host, "state");
	if (b->other)
		stop_host(b, b->other, "other");
	deadline_queue_fini(&b->limit);
	loop_free(b->loop);
	scratch_fini(&b->scratch);
}

/* --- a sandbox -------------------------------------------------------------------------------------------------- */

static void on_started(void *arg, int error, const char *why)
{
	struct box *box = arg;

	cr_assert(!box->told, "on_started is called once");
	box->told = true;
	box->error = error;
	snprintf(box->why, sizeof(box->why), "%s", why ? why : "");
	loop_stop(box->bench->loop);
}

static void on_gone(void *arg)
{
	struct box *box = arg;

	cr_assert(box->told && !box->gone, "on_gone is last, and called once");
	box->gone = true;
	box->sb = NULL;
	loop_stop(box->bench->loop);
}

void box_begin(struct bench *b, struct box *box, const char *id, bool other)
{
	static const struct sandbox_events events = {on_started, on_gone};
	const struct sandbox_spec spec = {.id = id, .memory_mb = 512, .vcpus = 1};

	*box = (struct box){.bench = b};
	box->sb = sandbox_start(other ? b->other : b->host, &spec, &events, box);
	cr_assert_not_null(box->sb);
	cr_assert(!box->told, "no callback from within the call");
}

void box_start(struct bench *b, struct box *box, const char *id)
{
	box_begin(b, box, id, false);
	bench_wait(b, &box->told);
	cr_assert_eq(box->error, 0, "%d: %s", box->error, box->why);
}

void box_end(struct box *box)
{
	if (box->sb)
		sandbox_destroy(box->sb);
	bench_wait(box->bench, &box->gone);
}

/* --- a job --------------------------------------------------------------------------------------------------------- */

static void on_size(void *arg, uint64_t bytes)
{
	struct answer *a = arg;

	cr_assert(!a->sized && a->out.len == 0, "the size comes once, first");
	a->sized = true;
	a->size = bytes;
}

static void on_data(void *arg, unsigned stream, const char *p, size_t n)
{
	struct answer *a = arg;

	cr_assert(!a->ended && stream <= 2 && n > 0);
	buf_add(stream == 2 ? &a->err : &a->out, p, n);
}

static void on_entry(void *arg, const struct file_info *info)
{
	struct answer *a = arg;

	a->count++;
	buf_addf(&a->entries, "%.*s %o %llu %c\n", STR_ARG(info->path), info->mode, (unsigned long long)info->size,
		 info->is_dir ? 'd' : 'f');
}

static void on_end(void *arg, const struct job_result *result)
{
	struct answer *a = arg;

	cr_assert(!a->ended, "on_end is called once");
	a->ended = true;
	a->job = NULL;
	a->outcome = result->outcome;
	a->error = result->error;
	a->exit_code = result->exit_code;
	a->took_ms = clock_ms() - a->began_ms;
	snprintf(a->text, sizeof(a->text), "%s", result->text ? result->text : "");
	loop_stop(a->box->bench->loop);
}

static void on_connected(void *arg, int fd)
{
	struct answer *a = arg;

	cr_assert(!a->ended && a->fd < 0, "one descriptor, before the end");
	a->fd = fd;
}

const struct job_events answer_events = {on_size, on_data, on_entry, on_connected, on_end};

void answer_begin(struct answer *a, struct box *box)
{
	*a = (struct answer){.box = box, .began_ms = clock_ms(), .fd = -1};
	cr_assert_not_null(box->sb, "the sandbox is gone");
}

void answer_wait(struct answer *a)
{
	bench_wait(a->box->bench, &a->ended);
}

void answer_fini(struct answer *a)
{
	buf_fini(&a->out);
	buf_fini(&a->err);
	buf_fini(&a->entries);
	fd_close(&a->fd);
}

void exec_begin(struct answer *a, struct box *box, const char *script)
{
	const struct str argv[] = {STR("sh"), STR("-c"), str_from(script)};
	const struct exec_spec spec = {.argv = argv, .nargv = 3};

	answer_begin(a, box);
	a->job = sandbox_exec(box->sb, &spec, &answer_events, a);
	cr_assert_not_null(a->job);
}

struct answer ask_exec(struct box *box, const char *script)
{
	struct answer a;

	exec_begin(&a, box, script);
	answer_wait(&a);
	return a;
}

/* Makes the job with `call`, which names `a`, and waits. */
#define ASK(call)                                                                                                      \
	struct answer a;                                                                                               \
	answer_begin(&a, box);                                                                                         \
	a.job = (call);                                                                                                \
	cr_assert_not_null(a.job);                                                                                     \
	answer_wait(&a);                                                                                               \
	return a

struct answer ask_read(struct box *box, const char *path)
{
	ASK(sandbox_read(box->sb, str_from(path), &answer_events, &a));
}

struct answer ask_write(struct box *box, const char *path, unsigned mode, struct str content)
{
	ASK(sandbox_write(box->sb, str_from(path), mode, content, &answer_events, &a));
}

struct answer ask_delete(struct box *box, const char *path, bool recursive)
{
	ASK(sandbox_delete(box->sb, str_from(path), recursive, &answer_events, &a));
}

struct answer ask_list(struct box *box, const char *path)
{
	ASK(sandbox_list(box->sb, str_from(path), &answer_events, &a));
}

struct answer ask_stat(struct box *box, const char *path)
{
	ASK(sandbox_stat(box->sb, str_from(path), &answer_events, &a));
}

struct answer ask_glob(struct box *box, const char *pattern)
{
	ASK(sandbox_glob(box->sb, str_from(pattern), &answer_events, &a));
}

struct answer ask_move(struct box *box, const char *from, const char *to)
{
	ASK(sandbox_move(box->sb, str_from(from), str_from(to), &answer_events, &a));
}

struct answer ask_chmod(struct box *box, const char *path, unsigned mode)
{
	ASK(sandbox_chmod(box->sb, str_from(path), mode, &answer_events, &a));
}

struct answer ask_connect(struct box *box, uint16_t port)
{
	ASK(sandbox_connect(box->sb, port, &answer_events, &a));
}

bool buf_is(const struct buf *b, const char *text)
{
	return str_eq(buf_str(b), str_from(text));
}

void must_run(struct box *box, const char *script, const char *out)
{
	struct answer a = ask_exec(box, script);

	cr_assert_eq(a.outcome, JOB_OK, "%s: %s", script, a.text);
	cr_assert_eq(a.exit_code, 0, "%s: exit %d: %.*s", script, a.exit_code, STR_ARG(buf_str(&a.err)));
	if (out)
		cr_assert(buf_is(&a.out, out), "%s: printed '%.*s', not '%s'", script, STR_ARG(buf_str(&a.out)), out);
	answer_fini(&a);
}

void must_fail(struct answer a, int error)
{
	cr_assert_eq(a.outcome, JOB_FAILED, "outcome %d", a.outcome);
	cr_assert_eq(a.error, error, "errno %d (%s), not %d", a.error, a.text, error);
	cr_assert_neq(a.text[0], 0, "no text");
	answer_fini(&a);
}

void must_work(struct answer a)
{
	cr_assert_eq(a.outcome, JOB_OK, "outcome %d: %s", a.outcome, a.text);
	answer_fini(&a);
}

/* --- processes of the host -------------------------------------------------------------------------------------------- */

static bool process_has(const char *pid, const char *text)
{
	char path[300];
	struct buf line = BUF_EMPTY;

	snprintf(path, sizeof(path), "/proc/%s/cmdline", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	bool has = fd >= 0 && fd_read_all(fd, 1 << 20, &line) == 0 && line.len &&
		   memmem(buf_data(&line), line.len, text, strlen(text));
	fd_close(&fd);
	buf_fini(&line);
	return has;
}

/* The first and the last of /proc's order. */
static unsigned look_for(const char *text, long pids[2])
{
	DIR *d = opendir("/proc");
	unsigned n = 0;

	cr_assert_not_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char *end;
		long number = strtol(e->d_name, &end, 10);
		if (*end || number == getpid() || !process_has(e->d_name, text))
			continue;
		if (n == 0)
			pids[0] = number;
		pids[1] = number;
		n++;
	}
	closedir(d);
	return n;
}

unsigned count_processes(const char *text)
{
	long pids[2];

	return look_for(text, pids);
}

long find_process(const char *text)
{
	long pids[2] = {-1, -1};

	(void)look_for(text, pids);
	return pids[0];
}

long find_last_process(const char *text)
{
	long pids[2] = {-1, -1};

	(void)look_for(text, pids);
	return pids[1];
}

struct buf box_hostile_image(void)
{
	const char *build = getenv("SG_BUILDDIR");
	char path[4096];

	cr_assert_not_null(build, "SG_BUILDDIR is not set");
	snprintf(path, sizeof(path), "%s/hostile-init", build);
	struct buf image = scratch_read(path);
	cr_assert_gt(image.len, 1000, "%s", path);
	return image;
}
