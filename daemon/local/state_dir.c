/* SPDX-License-Identifier: Apache-2.0 */
#include "local/state_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/str.h"
#include "local/tree_remove.h"

#define OPEN_DIR (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

static const char *const parts[] = {"tmp", "app", "workspace", "home"};
enum {
	PARTS = sizeof(parts) / sizeof(parts[0])
};

/* Makes the directory and what is missing above it. */
static int make_path(const char *path)
{
	char *copy = strdup(path);
	int rc = 0;

	if (!copy)
		return -ENOMEM;
	for (char *p = copy + 1; rc == 0; p++) {
		char c = *p;
		if (c != '/' && c != 0)
			continue;
		*p = 0;
		if (mkdir(copy, 0700) < 0 && errno != EEXIST)
			rc = -errno;
		*p = c;
		if (c == 0)
			break;
	}
	free(copy);
	return rc;
}

static int check_ours(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid())
		return -EPERM;
	return (st.st_mode & 0777) != 0700 && fchmod(fd, 0700) < 0 ? -errno : 0;
}

static int remove_box(int boxes, const char *id)
{
	int fd, rc;

	if (unlinkat(boxes, id, 0) == 0 || errno == ENOENT || unlinkat(boxes, id, AT_REMOVEDIR) == 0)
		return 0;
	fd = openat(boxes, id, OPEN_DIR);
	if (fd < 0)
		return -errno;
	rc = tree_remove_children(fd);
	close(fd);
	if (unlinkat(boxes, id, AT_REMOVEDIR) == 0)
		return 0;
	return rc ? rc : -errno;
}

int state_dir_clean(const struct state_dir *state, bool (*lives)(void *arg, const char *id), void *arg, char *why,
		    size_t why_size)
{
	int copy = openat(state->boxes, ".", OPEN_DIR);
	DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
	struct dirent *d;
	int rc = dir ? 0 : -errno;

	while (dir && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0 && !lives(arg, d->d_name)) {
			int one = remove_box(state->boxes, d->d_name);
			rc = rc ? rc : one;
		}
	if (dir)
		closedir(dir);
	if (rc)
		snprintf(why, why_size, "the state directory %s: %s", state->path, strerror(-rc));
	return rc;
}

static int open_boxes(struct state_dir *dir, const char *path)
{
	size_t size = strlen(path) + sizeof("/sandboxes");

	dir->path = malloc(size);
	if (!dir->path)
		return -ENOMEM;
	snprintf(dir->path, size, "%s/sandboxes", path);
	if (mkdirat(dir->fd, "sandboxes", 0700) < 0 && errno != EEXIST)
		return -errno;
	dir->boxes = openat(dir->fd, "sandboxes", OPEN_DIR);
	if (dir->boxes < 0)
		return -errno;
	return check_ours(dir->boxes);
}

int state_dir_open(struct state_dir *dir, const char *path, char *why, size_t why_size)
{
	int rc = path[0] == '/' ? make_path(path) : -EINVAL;

	*dir = (struct state_dir){.fd = -1, .boxes = -1};
	if (rc == 0 && (dir->fd = open(path, OPEN_DIR)) < 0)
		rc = -errno;
	if (rc == 0)
		rc = check_ours(dir->fd);
	if (rc == 0 && flock(dir->fd, LOCK_EX | LOCK_NB) < 0)
		rc = -errno;
	if (rc == 0)
		rc = open_boxes(dir, path);
	if (rc == 0)
		return 0;
	if (rc == -EWOULDBLOCK)
		snprintf(why, why_size, "the state directory %s is held by another server", path);
	else if (rc == -EPERM)
		snprintf(why, why_size, "the state directory %s is not ours", path);
	else
		snprintf(why, why_size, "the state directory %s: %s", path, strerror(-rc));
	state_dir_close(dir);
	return rc;
}

void state_dir_close(struct state_dir *dir)
{
	fd_close(&dir->boxes);
	fd_close(&dir->fd);
	free(dir->path);
	dir->path = NULL;
}

unsigned long state_dir_seed(const struct state_dir *dir)
{
	struct stat st = {0};

	(void)fstat(dir->fd, &st);
	/* Inode numbers of neighbours are close to each other: spread them. */
	return ((unsigned long)st.st_ino ^ (unsigned long)st.st_dev << 32) * 0x9e3779b97f4a7c15UL >> 20;
}

/* Nobody else reaches into the box (0700, ours) until its owner is set, last. */
static int fill_box(int box, uid_t uid)
{
	for (size_t i = 0; i < PARTS; i++) {
		if (mkdirat(box, parts[i], 0700) < 0 ||
		    (uid && fchownat(box, parts[i], uid, uid, AT_SYMLINK_NOFOLLOW) < 0) ||
		    fchmodat(box, parts[i], i == 0 ? 01777 : 0755, 0) < 0)
			return -errno;
	}
	return uid && fchown(box, uid, uid) < 0 ? -errno : 0;
}

int state_dir_make_box(const struct state_dir *dir, const char *id, uid_t uid)
{
	if (mkdirat(dir->boxes, id, 0700) < 0)
		return -errno;
	int box = openat(dir->boxes, id, OPEN_DIR);
	int rc = box < 0 ? -errno : fill_box(box, uid);
	fd_close(&box);
	return rc;
}

/*
 * In the child: nothing of the parent is kept (a lock, or the end of another sandbox's leash), and it does not outlive
 * it; what it leaves then goes at the next start.
 */
static _Noreturn void run_removal(int boxes, const char *id, pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent || dup2(boxes, 3) < 0 ||
	    close_range(4, ~0U, 0) < 0)
		_exit(2);
	_exit(remove_box(3, id) == 0 ? 0 : 1);
}

pid_t state_dir_start_removal(const struct state_dir *dir, const char *id)
{
	pid_t parent = getpid();
	pid_t pid = fork();

	if (pid == 0)
		run_removal(dir->boxes, id, parent);
	return pid < 0 ? -errno : pid;
}
