/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file API's read is binary safe, so a file comes as it is, streamed to a temporary name beside its
 * target. Size and, where the sandbox has cksum(1), checksum are compared; then mode and name are given. Any
 * fault removes the temporary file. To standard output everything goes as it comes, and a fault is told at
 * the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/copy.h"
#include "cli/encode.h"
#include "cli/interrupt.h"
#include "cli/progress.h"
#include "cli/remote.h"
#include "common/fd.h"

struct download {
	struct api *api;
	const char *id;
	struct fault *fault;
	struct str remote;
	struct remote_stat stat;
	struct buf target;       /* local path, ended by NUL; empty for standard output */
	struct buf temp;         /* beside it, ended by NUL */
	int fd;                  /* owned unless it is 1 */
	struct encode_cksum sum; /* of what came */
};

static const char *path_of(const struct buf *b)
{
	return buf_data(b);
}

static int add_dir_target(struct download *d, const char *dir)
{
	struct str name = copy_base_name(d->remote);

	if (name.n == 0 || str_eq(name, STR("..")))
		return fault_errno(d->fault, dir, EISDIR);
	buf_add_cstr(&d->target, dir);
	if (!str_ends(str_from(dir), STR("/")))
		buf_add_char(&d->target, '/');
	buf_add_str(&d->target, name);
	return 0;
}

/* What stands at the path may be replaced only if it is a regular file: a rename over a device would remove
 * it. */
static int check_replaceable(struct download *d)
{
	struct stat st;

	if (stat(path_of(&d->target), &st) < 0)
		return errno == ENOENT ? 0 : fault_errno(d->fault, path_of(&d->target), errno);
	if (S_ISREG(st.st_mode))
		return 0;
	return fault_set(d->fault, FAULT_ERROR, "LOCAL_ERROR",
			 "%s: not a regular file; \"-\" copies to standard output", path_of(&d->target));
}

/* A symbolic link stays, and the file behind it is replaced. */
static int follow_link(struct download *d)
{
	struct stat st;
	char *real;

	if (lstat(path_of(&d->target), &st) < 0 || !S_ISLNK(st.st_mode))
		return 0;
	real = realpath(path_of(&d->target), NULL);
	if (!real)
		return fault_errno(d->fault, path_of(&d->target), errno);
	buf_reset(&d->target);
	buf_add(&d->target, real, strlen(real) + 1);
	free(real);
	return d->target.failed ? fault_memory(d->fault) : 0;
}

static int find_target(struct download *d, const char *local)
{
	struct stat st;

	if (stat(local, &st) == 0 && S_ISDIR(st.st_mode)) {
		if (add_dir_target(d, local) < 0)
			return -1;
	} else {
		buf_add_cstr(&d->target, local);
	}
	buf_add_char(&d->target, 0);
	if (d->target.failed)
		return fault_memory(d->fault);
	return follow_link(d) < 0 ? -1 : check_replaceable(d);
}

static int open_temp(struct download *d)
{
	int rc = copy_temp_name(&d->temp, str_from(path_of(&d->target)), "");

	buf_add_char(&d->temp, 0);
	if (rc < 0 || d->temp.failed)
		return fault_memory(d->fault);
	d->fd = open(path_of(&d->temp), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return d->fd < 0 ? fault_errno(d->fault, path_of(&d->target), errno) : 0;
}

static int on_bytes(void *user, struct str bytes)
{
	struct download *d = user;
	int rc = d->fd == 1 ? interrupt_write(1, bytes.p, bytes.n) : fd_write_all(d->fd, bytes.p, bytes.n);

	encode_cksum_add(&d->sum, bytes);
	progress_bytes(api_progress(d->api), d->sum.bytes);
	if (rc == -EINTR)
		return fault_set(d->fault, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
	if (rc == -EPIPE && d->fd == 1)
		return fault_set(d->fault, FAULT_PIPE, "PIPE", "the reader has gone");
	return rc < 0 ? fault_errno(d->fault, d->fd == 1 ? "standard output" : path_of(&d->target), -rc) : 0;
}

static int check_sum(struct download *d)
{
	struct fault f = {0};
	bool has_crc = false;
	uint32_t crc = 0;
	uint64_t bytes = d->stat.bytes;

	/* A sandbox whose commands do not work, or see other files, can still be read: then the size must do.
	 */
	if (copy_remote_cksum(d->api, d->id, d->remote, &has_crc, &crc, &bytes, &f) < 0 &&
	    f.kind == FAULT_INTERRUPTED) {
		*d->fault = f;
		return -1;
	}
	if (d->sum.bytes != bytes || (has_crc && crc != encode_cksum_value(&d->sum)))
		return fault_set(d->fault, FAULT_ERROR, "COPY_FAILED",
				 "%.*s: what came (%llu bytes) is not what the sandbox holds (%llu bytes)",
				 STR_ARG(d->remote), (unsigned long long)d->sum.bytes, (unsigned long long)bytes);
	return 0;
}

static int put_in_place(struct download *d)
{
	int fd = d->fd;

	if (fchmod(fd, d->stat.mode) < 0)
		return fault_errno(d->fault, path_of(&d->target), errno);
	d->fd = -1;
	/* A full quota may be told only here. */
	if (close(fd) < 0 || rename(path_of(&d->temp), path_of(&d->target)) < 0)
		return fault_errno(d->fault, path_of(&d->target), errno);
	return 0;
}

static int receive(struct download *d)
{
	if (remote_read(d->api, d->id, d->remote, on_bytes, d, d->fault) < 0 || check_sum(d) < 0)
		return -1;
	return d->fd == 1 ? 0 : put_in_place(d);
}

static int receive_file(struct download *d, const char *local)
{
	int rc;

	if (find_target(d, local) < 0 || open_temp(d) < 0)
		return -1;
	progress_begin(api_progress(d->api), "copying", d->stat.bytes);
	rc = receive(d);
	progress_end(api_progress(d->api));
	if (rc < 0)
		unlink(path_of(&d->temp));
	fd_close(&d->fd);
	return rc;
}

static int check_remote(struct download *d)
{
	if (remote_stat(d->api, d->id, d->remote, &d->stat, d->fault) < 0)
		return -1;
	if (d->stat.is_dir)
		return fault_set(d->fault, FAULT_ERROR, "COPY_FAILED", "%.*s is a directory", STR_ARG(d->remote));
	return 0;
}

int copy_down(struct api *a, const char *id, const char *remote, const char *local, uint64_t *bytes, struct fault *f)
{
	struct download d = {.api = a, .id = id, .fault = f, .fd = 1};
	struct buf path = BUF_EMPTY;
	int rc;

	copy_remote_path(&path, str_from(remote));
	d.remote = buf_str(&path);
	rc = path.failed ? fault_memory(f) : check_remote(&d);
	if (rc == 0)
		rc = strcmp(local, "-") == 0 ? receive(&d) : receive_file(&d, local);
	*bytes = d.sum.bytes;
	buf_fini(&path);
	buf_fini(&d.target);
	buf_fini(&d.temp);
	return rc;
}
