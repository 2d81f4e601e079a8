/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes that exist only in memory, for tests of the API alone: what real ones do rarely or never happens here on
 * request. A command is a list of steps, "out a; err b; exit 3":
 *
 *     out TEXT, err TEXT    output with a newline       raw HEX        bytes on stdout
 *     flood N               N KiB of output             exit N         end with N
 *     hang                  run until killed            stop N         wait N ms
 *     fail TEXT             the init refuses            die            the sandbox ends by itself
 *
 * Files are by name: /size/N has N bytes, /short/N tells N bytes and ends one short, /dir is a directory with two
 * entries, anything else is missing. A port is one of the host's own loopback address; nobody ever accepts on port 14. An image cannot be seen from here, so memory says how a start goes: 13 MB fails,
 * 14 MB never comes up.
 */
#include "local/sandbox.h"

#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/list.h"
#include "common/loop.h"
#include "local/init_image.h"
#include "local/keep.h"

struct sandbox_host {
	struct loop *loop;
	struct list sandboxes;
	void (*on_stopped)(void *arg);
	void *on_stopped_arg;
	struct event *stopped;
	bool keeps;
};

/* What a host that keeps left for the next one: struct kept. */
static struct list left = {&left, &left};

struct sandbox {
	struct list link;
	struct sandbox_host *host;
	char id[KEEP_ID_MAX + 1];
	const struct sandbox_events *events;
	void *arg;
	struct event *started; /* fires once, for on_started */
	struct event *gone;    /* fires once, for on_gone */
	struct list jobs;
	bool destroyed;
	bool fails;
	struct kept *kept; /* owned; NULL: it ends with the host */
};

enum kind {
	KIND_EXEC,
	KIND_READ,
	KIND_ENTRIES,
	KIND_CONNECT,
	KIND_SIMPLE
};

struct sandbox_job {
	struct list link;
	struct sandbox *sb;
	enum kind kind;
	struct job_events events;
	void *arg;
	struct event *next; /* the next step */
	char *script;       /* owned */
	struct str rest;    /* of the script */
	struct job_result result;
	bool cancelled;
	bool killed;
	bool paused;
	bool hanging;
	uint64_t left; /* read, flood: bytes to come */
	bool cut;      /* read: one byte short */
	bool begun;
	uint16_t port; /* connect */
};

static void after(struct event *ev, unsigned ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	event_add(ev, &tv);
}

/* --- jobs ----------------------------------------------------------------------------------------------------- */

static void job_free(struct sandbox_job *job)
{
	list_remove(&job->link);
	event_free(job->next);
	free(job->script);
	free(job);
}

static void end_job(struct sandbox_job *job)
{
	if (!job->cancelled && job->events.on_end)
		job->events.on_end(job->arg, &job->result);
	job_free(job);
}

static void give(struct sandbox_job *job, unsigned stream, struct str piece)
{
	if (!job->cancelled && job->events.on_data)
		job->events.on_data(job->arg, stream, piece.p, piece.n);
}

static bool give_line(struct sandbox_job *job, unsigned stream, struct str text)
{
	char line[512];
	size_t n = text.n < sizeof(line) - 1 ? text.n : sizeof(line) - 1;

	memcpy(line, text.p, n);
	line[n] = '\n';
	give(job, stream, str_of(line, n + 1));
	return true;
}

static void give_hex(struct sandbox_job *job, struct str hex)
{
	char bytes[256];
	size_t n = 0;

	for (size_t i = 0; i + 1 < hex.n && n < sizeof(bytes); i += 2) {
		char two[3] = {hex.p[i], hex.p[i + 1], 0};
		bytes[n++] = (char)strtoul(two, NULL, 16);
	}
	give(job, 1, str_of(bytes, n));
}

static void give_flood(struct sandbox_job *job, unsigned stream)
{
	static char block[65536];
	size_t n = job->left < sizeof(block) ? (size_t)job->left : sizeof(block);

	memset(block, 'x', sizeof(block));
	job->left -= n;
	give(job, stream, str_of(block, n));
}

static bool word_is(struct str *step, const char *word)
{
	struct str w = str_from(word);

	if (!str_starts(*step, w) || (step->n > w.n && step->p[w.n] != ' '))
		return false;
	*step = str_trim(str_of(step->p + w.n, step->n - w.n));
	return true;
}

/* True when the next step may follow at once. */
static bool run_step(struct sandbox_job *job, struct str step)
{
	uint64_t n = 0;

	if (step.n == 0)
		return true;
	if (word_is(&step, "out"))
		return give_line(job, 1, step);
	if (word_is(&step, "err"))
		return give_line(job, 2, step);
	if (word_is(&step, "raw")) {
		give_hex(job, step);
	} else if (word_is(&step, "flood")) {
		CHECK(str_parse_u64(step, &n) == 0);
		job->left = n * 1024;
	} else if (word_is(&step, "exit")) {
		CHECK(str_parse_u64(step, &n) == 0);
		job->result.exit_code = (int)n;
		job->rest = str_of(NULL, 0);
	} else if (word_is(&step, "hang")) {
		job->hanging = true;
		return false;
	} else if (word_is(&step, "stop")) {
		CHECK(str_parse_u64(step, &n) == 0);
		after(job->next, (unsigned)n);
		return false;
	} else if (word_is(&step, "fail")) {
		job->result = (struct job_result){.outcome = JOB_FAILED, .error = ENOENT, .text = "refused"};
		job->rest = str_of(NULL, 0);
	} else if (word_is(&step, "die")) {
		job->hanging = true;
		sandbox_destroy(job->sb);
		return false;
	} else {
		CHECK(!"a step that the fake knows");
	}
	return true;
}

static void connect_to(struct sandbox_job *job)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(job->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	CHECK(fd >= 0);
	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0) {
		job->events.on_connected(job->arg, fd);
		return;
	}
	job->result = (struct job_result){.outcome = JOB_FAILED, .error = errno, .text = "no way there"};
	close(fd);
}

/* What comes before any data. */
static void begin_job(struct sandbox_job *job)
{
	const struct file_info b = {.path = STR("/dir/b"), .size = 2, .mode = 0644, .mtime_sec = 1};
	const struct file_info a = {.path = STR("/dir/a"), .mode = 01755, .is_dir = true, .mtime_sec = INT64_MAX};

	job->begun = true;
	if (job->result.outcome != JOB_OK)
		return;
	if (job->kind == KIND_ENTRIES) {
		job->events.on_entry(job->arg, &b);
		job->events.on_entry(job->arg, &a);
	}
	if (job->kind == KIND_READ)
		job->events.on_size(job->arg, job->left);
	if (job->kind == KIND_CONNECT)
		connect_to(job);
	job->left -= job->cut;
}

static void on_next(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox_job *job = arg;

	(void)fd;
	(void)what;
	if (job->killed)
		job->result = (struct job_result){.outcome = JOB_OK, .exit_code = -1};
	if (job->cancelled || job->killed) {
		end_job(job);
		return;
	}
	if (job->paused || (job->kind == KIND_CONNECT && job->port == 14))
		return;
	if (!job->begun)
		begin_job(job);
	if (job->left) {
		give_flood(job, job->kind == KIND_READ ? 0 : 1);
		after(job->next, 0);
		return;
	}
	while (job->rest.p && !job->left && !job->cancelled) {
		struct str step = str_trim(str_cut(&job->rest, ';'));
		if (!run_step(job, step))
			return;
	}
	if (job->left)
		after(job->next, 0);
	else
		end_job(job);
}

static struct sandbox_job *job_new(struct sandbox *sb, enum kind kind, const struct job_events *events, void *arg)
{
	struct sandbox_job *job = calloc(1, sizeof(*job));

	CHECK(job);
	job->sb = sb;
	job->kind = kind;
	job->events = *events;
	job->arg = arg;
	job->next = event_new(loop_base(sb->host->loop), -1, 0, on_next, job);
	CHECK(job->next);
	list_add_tail(&sb->jobs, &job->link);
	after(job->next, 0);
	return job;
}

struct sandbox_job *sandbox_exec(struct sandbox *sb, const struct exec_spec *spec, const struct job_events *events,
				 void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_EXEC, events, arg);

	job->script = str_dup(spec->argv[spec->nargv - 1]);
	CHECK(job->script);
	job->rest = str_from(job->script);
	return job;
}

static struct sandbox_job *missing(struct sandbox_job *job)
{
	job->result = (struct job_result){.outcome = JOB_FAILED, .error = ENOENT, .text = "no such file"};
	return job;
}

struct sandbox_job *sandbox_read(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_READ, events, arg);
	struct str rest = path;
	bool cut = str_starts(path, STR("/short/"));

	if (!cut && !str_starts(path, STR("/size/")))
		return missing(job);
	str_cut(&rest, '/');
	str_cut(&rest, '/');
	CHECK(str_parse_u64(rest, &job->left) == 0);
	job->cut = cut;
	return job;
}

struct sandbox_job *sandbox_write(struct sandbox *sb, struct str path, unsigned mode, struct str content,
				  const struct job_events *events, void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_SIMPLE, events, arg);

	(void)mode;
	(void)content;
	return str_starts(path, STR("/ro")) ? missing(job) : job;
}

struct sandbox_job *sandbox_delete(struct sandbox *sb, struct str path, bool recursive, const struct job_events *events,
				   void *arg)
{
	(void)path;
	(void)recursive;
	return missing(job_new(sb, KIND_SIMPLE, events, arg));
}

static struct sandbox_job *entries(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_ENTRIES, events, arg);

	return str_eq(path, STR("/dir")) ? job : missing(job);
}

struct sandbox_job *sandbox_list(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	return entries(sb, path, events, arg);
}

struct sandbox_job *sandbox_stat(struct sandbox *sb, struct str path, const struct job_events *events, void *arg)
{
	return entries(sb, path, events, arg);
}

struct sandbox_job *sandbox_glob(struct sandbox *sb, struct str pattern, const struct job_events *events, void *arg)
{
	return entries(sb, pattern, events, arg);
}

struct sandbox_job *sandbox_move(struct sandbox *sb, struct str from, struct str to, const struct job_events *events,
				 void *arg)
{
	(void)from;
	(void)to;
	return job_new(sb, KIND_SIMPLE, events, arg);
}

struct sandbox_job *sandbox_chmod(struct sandbox *sb, struct str path, unsigned mode, const struct job_events *events,
				  void *arg)
{
	(void)path;
	(void)mode;
	return job_new(sb, KIND_SIMPLE, events, arg);
}

struct sandbox_job *sandbox_connect(struct sandbox *sb, uint16_t port, const struct job_events *events, void *arg)
{
	struct sandbox_job *job = job_new(sb, KIND_CONNECT, events, arg);

	job->port = port;
	return job;
}

void sandbox_job_kill(struct sandbox_job *job)
{
	job->killed = true;
	after(job->next, 0);
}

void sandbox_job_cancel(struct sandbox_job *job)
{
	job->cancelled = true;
	after(job->next, 0);
}

void sandbox_job_pause(struct sandbox_job *job, bool paused)
{
	job->paused = paused;
	if (!paused && !job->hanging)
		after(job->next, 0);
}

/* --- sandboxes ------------------------------------------------------------------------------------------------ */

static void on_started(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;

	(void)fd;
	(void)what;
	sb->events->on_started(sb->arg, sb->fails ? -EPERM : 0, sb->fails ? "it was told to fail" : "");
	if (sb->fails)
		sandbox_destroy(sb);
}

static void maybe_stopped(struct sandbox_host *host)
{
	LIST_FOREACH (n, &host->sandboxes)
		if (!CONTAINER_OF(n, struct sandbox, link)->kept)
			return;
	if (host->stopped)
		after(host->stopped, 0);
}

static void sandbox_free(struct sandbox *sb)
{
	list_remove(&sb->link);
	event_free(sb->started);
	event_free(sb->gone);
	kept_free(sb->kept);
	free(sb);
}

static void on_gone(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	struct sandbox_host *host = sb->host;

	(void)fd;
	(void)what;
	while (!list_empty(&sb->jobs)) {
		struct sandbox_job *job = LIST_FIRST(&sb->jobs, struct sandbox_job, link);
		job->result = (struct job_result){.outcome = JOB_GONE};
		end_job(job);
	}
	if (sb->events->on_gone)
		sb->events->on_gone(sb->arg);
	sandbox_free(sb);
	maybe_stopped(host);
}

static struct sandbox *sandbox_new(struct sandbox_host *host, const struct sandbox_events *events, void *arg)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));

	CHECK(sb);
	sb->host = host;
	sb->events = events;
	sb->arg = arg;
	list_init(&sb->jobs);
	list_add_tail(&host->sandboxes, &sb->link);
	sb->started = event_new(loop_base(host->loop), -1, 0, on_started, sb);
	sb->gone = event_new(loop_base(host->loop), -1, 0, on_gone, sb);
	CHECK(sb->started && sb->gone);
	return sb;
}

struct sandbox *sandbox_start(struct sandbox_host *host, const struct sandbox_spec *spec,
			      const struct sandbox_events *events, void *arg)
{
	struct sandbox *sb = sandbox_new(host, events, arg);

	snprintf(sb->id, sizeof(sb->id), "%s", spec->id);
	sb->fails = spec->memory_mb == 13;
	if (spec->memory_mb != 14)
		after(sb->started, 0);
	return sb;
}

void sandbox_destroy(struct sandbox *sb)
{
	if (sb->destroyed)
		return;
	sb->destroyed = true;
	kept_free(sb->kept);
	sb->kept = NULL;
	event_del(sb->started);
	after(sb->gone, 20);
}

bool sandbox_host_keeps(const struct sandbox_host *host)
{
	return host->keeps;
}

void sandbox_keep(struct sandbox *sb, struct str note)
{
	kept_free(sb->kept);
	sb->kept = calloc(1, sizeof(*sb->kept));
	CHECK(sb->kept);
	list_init(&sb->kept->link);
	for (size_t i = 0; i < KEPT_FDS; i++)
		sb->kept->fds[i] = -1;
	memcpy(sb->kept->id, sb->id, sizeof(sb->id));
	buf_add_str(&sb->kept->note, note);
}

bool sandbox_is_kept(const struct sandbox *sb)
{
	return sb->kept;
}

void sandbox_leave(struct sandbox *sb)
{
	while (!list_empty(&sb->jobs))
		job_free(LIST_FIRST(&sb->jobs, struct sandbox_job, link));
	/* Let go newest first; a keeper has the oldest first. */
	if (sb->kept)
		list_add_head(&left, &sb->kept->link);
	sb->kept = NULL;
	sandbox_free(sb);
}

struct kept *sandbox_host_next_kept(struct sandbox_host *host)
{
	struct kept *kept = LIST_FIRST(&left, struct kept, link);

	(void)host;
	if (kept)
		list_remove(&kept->link);
	return kept;
}

struct sandbox *sandbox_resume(struct sandbox_host *host, struct kept **kept, const struct sandbox_events *events,
			       void *arg)
{
	struct sandbox *sb = sandbox_new(host, events, arg);

	memcpy(sb->id, (*kept)->id, sizeof(sb->id));
	sb->kept = *kept;
	*kept = NULL;
	return sb;
}

struct str sandbox_log(const struct sandbox *sb)
{
	(void)sb;
	return STR("late output\nlast line");
}

/* --- the host ------------------------------------------------------------------------------------------------- */

int sandbox_host_new(struct loop *loop, const struct sandbox_host_config *config, struct sandbox_host **out, char *why,
		     size_t why_size)
{
	struct sandbox_host *host = calloc(1, sizeof(*host));

	(void)why;
	(void)why_size;
	CHECK(host);
	host->keeps = config->keep_ms > 0;
	if (host->keeps)
		close(config->keeper);
	host->loop = loop;
	list_init(&host->sandboxes);
	*out = host;
	return 0;
}

static void on_host_stopped(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox_host *host = arg;

	(void)fd;
	(void)what;
	host->on_stopped(host->on_stopped_arg);
}

void sandbox_host_stop(struct sandbox_host *host, void (*on_stopped)(void *arg), void *arg)
{
	host->on_stopped = on_stopped;
	host->on_stopped_arg = arg;
	host->stopped = event_new(loop_base(host->loop), -1, 0, on_host_stopped, host);
	CHECK(host->stopped);
	LIST_FOREACH_SAFE (n, &host->sandboxes) {
		struct sandbox *sb = CONTAINER_OF(n, struct sandbox, link);
		if (!sb->kept)
			sandbox_destroy(sb);
	}
	maybe_stopped(host);
}

void sandbox_host_free(struct sandbox_host *host)
{
	if (!host)
		return;
	CHECK(list_empty(&host->sandboxes));
	if (host->stopped)
		event_free(host->stopped);
	free(host);
}

struct str init_image_bytes(void)
{
	return STR("");
}
