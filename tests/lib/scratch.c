/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/scratch.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

void scratch_init(struct scratch *s)
{
	const char *base = getenv("TMPDIR");

	if (!base || strlen(base) > sizeof(s->path) - 16)
		base = "/tmp";
	snprintf(s->path, sizeof(s->path), "%s/sg.XXXXXX", base);
	cr_assert_not_null(mkdtemp(s->path), "no directory below %s", base);
	cr_assert_eq(chmod(s->path, 0711), 0);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static int open_up(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)type;
	(void)ftw;
	if (S_ISDIR(st->st_mode))
		(void)chmod(path, 0700);
	return 0;
}

void scratch_fini(struct scratch *s)
{
	if (!s->path[0])
		return;
	nftw(s->path, open_up, 16, FTW_PHYS);
	nftw(s->path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	s->path[0] = '\0';
}

const char *scratch_path(const struct scratch *s, const char *fmt, ...)
{
	static char ring[16][512];
	static unsigned next;
	char *out = ring[next++ % 16];
	size_t n = (size_t)snprintf(out, sizeof(ring[0]), "%s/", s->path);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(out + n, sizeof(ring[0]) - n, fmt, ap);
	va_end(ap);
	return out;
}

const char *scratch_file(const struct scratch *s, const char *name, mode_t mode, const char *content, size_t n)
{
	const char *path = scratch_path(s, "%s", name);
	int fd;

	/* One that this user may not write to is replaced. */
	if (access(path, W_OK) < 0)
		(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0, "%s cannot be written", path);
	cr_assert_eq(fd_write_all(fd, content, n), 0);
	cr_assert_eq(fchmod(fd, mode), 0);
	close(fd);
	return path;
}

const char *scratch_text(const struct scratch *s, const char *name, mode_t mode, const char *content)
{
	return scratch_file(s, name, mode, content, strlen(content));
}

struct buf scratch_read(const char *path)
{
	struct buf out = BUF_EMPTY;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return out;
	cr_assert_eq(fd_read_all(fd, 64u << 20, &out), 0);
	close(fd);
	return out;
}

bool buf_contains(const struct buf *b, const char *needle)
{
	return b->len && memmem(buf_data(b), b->len, needle, strlen(needle)) != NULL;
}
