/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree is flattened: files of a subdirectory are unlinked, its own subdirectories are moved up to the top under a
 * new name, then it is removed. So depth costs neither stack nor descriptors nor path length, and every name used is
 * a single component below a descriptor, opened with O_NOFOLLOW.
 */
#include "local/tree_remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct remover {
	int top;       /* borrowed: the directory that is emptied */
	int error;     /* the first failure, or 0 */
	uint64_t next; /* number of the next directory that is moved up */
	bool progress; /* this pass removed or moved something */
};

static void note(struct remover *r, int error)
{
	if (r->error == 0)
		r->error = -error;
}

static bool is_dir(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

/* A directory moved up is named by 12 letters for a number; taken names (somebody else's) are stepped over. */
static int move_up(struct remover *r, int fd, const char *name)
{
	char to[24] = ".sg-remove-";

	for (;;) {
		uint64_t v = r->next++;
		for (size_t i = 0; i < 12; i++, v >>= 4)
			to[11 + i] = (char)('a' + (v & 15));
		if (syscall(SYS_renameat2, fd, name, r->top, to, 1 /* RENAME_NOREPLACE */) == 0)
			return 0;
		if (errno != EEXIST)
			return -errno;
	}
}

/* What is in a subdirectory: a file goes, an empty directory goes, another moves up. */
static void remove_or_move_up(struct remover *r, int fd, const char *name)
{
	/* Moving a directory to another parent writes its "..", hence the permission. */
	if (unlinkat(fd, name, 0) == 0 || unlinkat(fd, name, AT_REMOVEDIR) == 0 ||
	    (is_dir(fd, name) && fchmodat(fd, name, 0700, 0) == 0 && move_up(r, fd, name) == 0))
		r->progress = true;
	else
		note(r, errno);
}

typedef void visit_fn(struct remover *r, int fd, const char *name);

/* Calls visit for each entry; the directory may change meanwhile. */
static void for_each(struct remover *r, int fd, visit_fn *visit)
{
	_Alignas(struct dirent64) char mem[8192];

	if (lseek(fd, 0, SEEK_SET) < 0)
		note(r, errno);
	for (;;) {
		long n = syscall(SYS_getdents64, fd, mem, sizeof(mem));
		if (n < 0)
			note(r, errno);
		if (n <= 0)
			return;
		for (long at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(void *)(mem + at);
			at += d->d_reclen;
			if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
				visit(r, fd, d->d_name);
		}
	}
}

static int open_dir(int fd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int sub = openat(fd, name, flags);

	if (sub < 0 && errno == EACCES && is_dir(fd, name) && fchmodat(fd, name, 0700, 0) == 0)
		sub = openat(fd, name, flags);
	/* Readable, but perhaps not writable. */
	if (sub >= 0)
		(void)fchmod(sub, 0700);
	return sub;
}

static void remove_from_top(struct remover *r, int fd, const char *name)
{
	int sub;

	if (unlinkat(fd, name, 0) == 0 || unlinkat(fd, name, AT_REMOVEDIR) == 0) {
		r->progress = true;
		return;
	}
	if (!is_dir(fd, name) || (sub = open_dir(fd, name)) < 0) {
		note(r, errno);
		return;
	}
	for_each(r, sub, remove_or_move_up);
	close(sub);
	if (unlinkat(fd, name, AT_REMOVEDIR) < 0)
		note(r, errno);
	else
		r->progress = true;
}

static void look(struct remover *r, int fd, const char *name)
{
	(void)fd;
	(void)name;
	r->progress = true;
}

static bool is_empty(int fd)
{
	struct remover r = {.top = fd};

	for_each(&r, fd, look);
	return !r.progress;
}

int tree_remove_children(int fd)
{
	struct remover r = {.top = fd};

	/* Entries may be missed while a directory changes: pass after pass, as long as one gets somewhere. */
	do {
		r.progress = false;
		r.error = 0;
		for_each(&r, fd, remove_from_top);
	} while (r.progress && !is_empty(fd));
	if (r.error && is_empty(fd))
		return 0;
	return r.error;
}
