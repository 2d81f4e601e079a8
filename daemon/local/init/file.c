/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every path is cleaned by name, then opened or changed by the kernel as any program inside could: whatever a link
 * points to, it is the sandbox's. Opening never waits (O_NONBLOCK), and content comes from and goes to regular files only.
 */
#include "local/init/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "local/box_path.h"
#include "local/init/job.h"
#include "local/init/walk.h"
#include "local/init/worker.h"

/* Cleans a path of a request, or answers and returns false. */
static bool clean(struct init *init, const struct wire_request *m, struct str path, char *out)
{
	int rc = box_path_clean(path, out);

	if (rc < 0)
		init_fail_errno(init, m->job, -rc, "file");
	return rc >= 0;
}

static void answer(struct init *init, const struct wire_request *m, int rc)
{
	if (rc < 0)
		init_fail_errno(init, m->job, -rc, "file");
	else
		init_done(init, m->job, 0);
}

void file_stat(struct init *init, const struct wire_request *m)
{
	char path[BOX_PATH_MAX + 1];
	struct wire_event e = {.type = WIRE_ENTRY, .job = m->job};
	struct stat st;

	if (!clean(init, m, m->path, path))
		return;
	/* A link that leads nowhere is shown as itself. */
	if (stat(path, &st) < 0 && lstat(path, &st) < 0) {
		answer(init, m, -errno);
		return;
	}
	walk_fill_entry(&e, str_from(path), &st);
	wire_put_event(&init->out, &e);
	init_done(init, m->job, 0);
}

void file_chmod(struct init *init, const struct wire_request *m)
{
	char path[BOX_PATH_MAX + 1];
	struct stat st;

	if (!clean(init, m, m->path, path))
		return;
	if (stat(path, &st) < 0)
		answer(init, m, -errno);
	else if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		answer(init, m, -EINVAL);
	else
		answer(init, m, chmod(path, m->mode & 0777) < 0 ? -errno : 0);
}

void file_delete(struct init *init, const struct wire_request *m)
{
	char path[BOX_PATH_MAX + 1];

	if (!clean(init, m, m->path, path))
		return;
	if (unlink(path) == 0 || (m->recursive && (errno == ENOENT || errno == ENOTDIR)))
		answer(init, m, 0);
	else if (errno != EISDIR)
		answer(init, m, -errno);
	else if (rmdir(path) == 0)
		answer(init, m, 0);
	else if (m->recursive && errno == ENOTEMPTY)
		worker_start(init, m->job, walk_delete, "file", path, path);
	else
		answer(init, m, -errno);
}

void file_list(struct init *init, const struct wire_request *m)
{
	char path[BOX_PATH_MAX + 1];

	if (clean(init, m, m->path, path))
		worker_start(init, m->job, walk_list, "directory", path, path);
}

void file_glob(struct init *init, const struct wire_request *m)
{
	char pattern[BOX_PATH_MAX + 1];

	if (clean(init, m, m->path, pattern))
		worker_start(init, m->job, walk_glob, "directory", pattern, NULL);
}

/* --- move ------------------------------------------------------------------------------------------------------ */

/* The target of a move into an existing directory is inside it. 0 or negative errno. */
static int move_target(const char *from, char *to)
{
	struct stat st;
	const char *name = strrchr(from, '/');
	size_t n = strlen(to);

	if (stat(to, &st) < 0 || !S_ISDIR(st.st_mode))
		return 0;
	if (n + strlen(name) > BOX_PATH_MAX)
		return -ENAMETOOLONG;
	if (strcmp(to, "/") == 0)
		n = 0;
	memcpy(to + n, name, strlen(name) + 1);
	return 0;
}

static int move_now(const char *from, char *to)
{
	struct stat st;

	if (lstat(from, &st) < 0)
		return -errno;
	if (strcmp(from, "/") == 0)
		return -EBUSY;
	int rc = move_target(from, to);
	if (rc == 0)
		rc = walk_make_parents(to);
	if (rc == 0 && rename(from, to) < 0)
		rc = -errno;
	return rc;
}

void file_move(struct init *init, const struct wire_request *m)
{
	char from[BOX_PATH_MAX + 1], to[BOX_PATH_MAX + 1];

	if (!clean(init, m, m->path, from) || !clean(init, m, m->to, to))
		return;
	int rc = move_now(from, to);
	/* /tmp, /app, /workspace and home are mounts of their own. */
	if (rc == -EXDEV)
		worker_start(init, m->job, walk_move, "file", from, to);
	else
		answer(init, m, rc);
}

/* --- read ------------------------------------------------------------------------------------------------------ */

struct reading {
	struct job job;   /* first */
	int fd;           /* owned */
	uint64_t left;    /* bytes to send yet */
	struct buf ready; /* content read ahead: files of /proc do not know their size */
};

static struct reading *reading_of(struct job *job)
{
	return CONTAINER_OF(job, struct reading, job);
}

static bool reading_is_runnable(const struct job *job)
{
	return job->credit > 0 && init_may_send(job->init);
}

/* The next piece, from what was read ahead or from the file. Bytes or negative errno; 0: the file ended early. */
static ssize_t reading_next(struct reading *r, char *mem, size_t n)
{
	if (r->ready.len) {
		n = n < r->ready.len ? n : r->ready.len;
		memcpy(mem, buf_data(&r->ready), n);
		buf_consume(&r->ready, n);
		return (ssize_t)n;
	}
	ssize_t got = read(r->fd, mem, n);
	return got < 0 ? -errno : got;
}

static void reading_work(struct job *job, const struct pollfd *fds, size_t nfds)
{
	struct reading *r = reading_of(job);
	char mem[WIRE_DATA_MAX];
	size_t n = sizeof(mem);

	(void)fds;
	(void)nfds;
	if (!reading_is_runnable(job) && r->left)
		return;
	n = r->left < n ? (size_t)r->left : n;
	n = job->credit < (int64_t)n ? (size_t)job->credit : n;
	ssize_t got = n ? reading_next(r, mem, n) : 0;
	if (got > 0) {
		wire_put_event(
			&job->init->out,
			&(struct wire_event){.type = WIRE_DATA, .job = job->id, .bytes = str_of(mem, (size_t)got)});
		job->credit -= got;
		r->left -= (uint64_t)got;
	} else if (r->left) {
		init_fail(job->init, job->id, got < 0 ? (int)-got : EIO, "the file changed while it was read");
		job_free(job);
		return;
	}
	if (r->left == 0) {
		init_done(job->init, job->id, 0);
		job_free(job);
	}
}

static void reading_cancel(struct job *job)
{
	init_fail(job->init, job->id, ECANCELED, "cancelled");
	job_free(job);
}

static void reading_free(struct job *job)
{
	struct reading *r = reading_of(job);

	fd_close(&r->fd);
	buf_fini(&r->ready);
	free(r);
}

static const struct job_ops reading_ops = {
	.is_runnable = reading_is_runnable,
	.work = reading_work,
	.cancel = reading_cancel,
	.free = reading_free,
};

/* Opens and measures it. 0 or negative errno. */
static int reading_open(struct reading *r, const char *path)
{
	struct stat st;

	r->fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (r->fd < 0 || fstat(r->fd, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	r->left = (uint64_t)st.st_size;
	if (st.st_size > 0)
		return 0;
	char *to = buf_reserve(&r->ready, WIRE_WINDOW);
	ssize_t n = to ? read(r->fd, to, WIRE_WINDOW) : 0;
	if (n < 0)
		return -errno;
	buf_commit(&r->ready, (size_t)n);
	r->left = r->ready.len;
	return 0;
}

void file_read(struct init *init, const struct wire_request *m)
{
	char path[BOX_PATH_MAX + 1];

	if (!clean(init, m, m->path, path))
		return;
	struct job *job = job_new(init, m->job, &reading_ops, sizeof(struct reading));
	if (!job)
		return;
	struct reading *r = reading_of(job);
	int rc = reading_open(r, path);
	if (rc) {
		answer(init, m, rc);
		job_free(job);
		return;
	}
	wire_put_event(&init->out, &(struct wire_event){.type = WIRE_SIZE, .job = m->job, .size = r->left});
	reading_work(job, NULL, 0);
}

/* --- write ----------------------------------------------------------------------------------------------------- */

/*
 * Content goes to a temporary file beside the target, which then takes its name: readers see the old content or the new,
 * and a link of that name is replaced, not followed.
 */
struct writing {
	struct job job;              /* first */
	int dir;                     /* owned: the directory of the target */
	int fd;                      /* owned: the temporary file */
	char temp[32];               /* its name; "" when there is none */
	char path[BOX_PATH_MAX + 1]; /* the target */
	uint32_t mode;
	uint64_t left; /* bytes of content yet to come */
};

static struct writing *writing_of(struct job *job)
{
	return CONTAINER_OF(job, struct writing, job);
}

static void writing_free(struct job *job)
{
	struct writing *w = writing_of(job);

	if (w->temp[0])
		(void)unlinkat(w->dir, w->temp, 0);
	fd_close(&w->fd);
	fd_close(&w->dir);
	free(w);
}

static void writing_end(struct writing *w, int rc)
{
	struct job *job = &w->job;

	if (rc)
		init_fail_errno(job->init, job->id, -rc, "directory");
	else
		init_done(job->init, job->id, 0);
	job_free(job);
}

static int writing_commit(struct writing *w)
{
	if (fchmod(w->fd, w->mode & 0777) < 0)
		return -errno;
	if (renameat(w->dir, w->temp, w->dir, strrchr(w->path, '/') + 1) < 0)
		return -errno;
	w->temp[0] = 0;
	return 0;
}

static void writing_on_content(struct job *job, struct str bytes)
{
	struct writing *w = writing_of(job);

	if (bytes.n > w->left) {
		writing_end(w, -EPROTO);
		return;
	}
	int rc = fd_write_all(w->fd, bytes.p, bytes.n);
	w->left -= bytes.n;
	if (rc == 0 && w->left)
		return;
	writing_end(w, rc ? rc : writing_commit(w));
}

static void writing_cancel(struct job *job)
{
	init_fail(job->init, job->id, ECANCELED, "cancelled");
	job_free(job);
}

static const struct job_ops writing_ops = {
	.on_content = writing_on_content,
	.cancel = writing_cancel,
	.free = writing_free,
};

static int open_temp(struct writing *w)
{
	static unsigned number;
	int tries = 0;

	do {
		snprintf(w->temp, sizeof(w->temp), ".sg-write-%u~", number++);
		w->fd = openat(w->dir, w->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	} while (w->fd < 0 && errno == EEXIST && ++tries < 100);
	if (w->fd >= 0)
		return 0;
	w->temp[0] = 0;
	return -errno;
}

static int open_parent(struct writing *w)
{
	char *slash = strrchr(w->path, '/');
	char saved = slash[1];

	slash[1] = 0;
	w->dir = open(w->path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	slash[1] = saved;
	return w->dir < 0 ? -errno : 0;
}

static int check_target(const struct writing *w)
{
	struct stat st;

	if (lstat(w->path, &st) < 0)
		return 0;
	if (S_ISDIR(st.st_mode))
		return -EISDIR;
	return S_ISREG(st.st_mode) || S_ISLNK(st.st_mode) ? 0 : -EINVAL;
}

static int writing_open(struct writing *w)
{
	int rc = check_target(w);

	if (rc == 0)
		rc = walk_make_parents(w->path);
	if (rc == 0)
		rc = open_parent(w);
	if (rc == 0)
		rc = open_temp(w);
	if (rc == 0 && w->left == 0)
		rc = writing_commit(w);
	return rc;
}

void file_write(struct init *init, const struct wire_request *m)
{
	struct job *job = job_new(init, m->job, &writing_ops, sizeof(struct writing));

	if (!job)
		return;
	struct writing *w = writing_of(job);
	w->dir = w->fd = -1;
	w->mode = m->mode;
	w->left = m->size;
	int rc = box_path_clean(m->path, w->path);
	if (rc > 0)
		rc = writing_open(w);
	if (rc || w->left == 0)
		writing_end(w, rc);
}
