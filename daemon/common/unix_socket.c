/* SPDX-License-Identifier: Apache-2.0 */
#include "common/unix_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"

static int set_address(struct sockaddr_un *addr, const char *path)
{
	size_t n = strlen(path);

	if (n > UNIX_SOCKET_PATH_MAX)
		return -ENAMETOOLONG;
	memset(addr, 0, sizeof(*addr));
	addr->sun_family = AF_UNIX;
	memcpy(addr->sun_path, path, n + 1);
	return 0;
}

/* Connects; `flags` may be SOCK_NONBLOCK: then a full backlog is -EAGAIN. */
static int dial(const char *path, int flags)
{
	struct sockaddr_un addr;
	int rc = set_address(&addr, path);
	int fd;

	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
		rc = -errno;
		close(fd);
		return rc;
	}
	return fd;
}

int unix_socket_connect(const char *path)
{
	return dial(path, 0);
}

int unix_socket_connect_now(const char *path)
{
	return dial(path, SOCK_NONBLOCK);
}

/* Nobody else may be able to take the socket away or put another one in its place. */
static int check_directory(const char *path, char *why, size_t why_size)
{
	char copy[UNIX_SOCKET_PATH_MAX + 1];
	struct stat st;

	snprintf(copy, sizeof(copy), "%s", path);
	const char *dir = dirname(copy);
	if (stat(dir, &st) < 0) {
		int rc = -errno;
		snprintf(why, why_size, "%s: %s", dir, strerror(-rc));
		return rc;
	}
	if ((st.st_mode & 0022) && !(st.st_mode & S_ISVTX)) {
		snprintf(why, why_size, "%s: others may write to this directory (mode %04o)", dir,
			 (unsigned)(st.st_mode & 07777));
		return -EPERM;
	}
	return 0;
}

/* Makes room at the path if what is there is a socket that nobody listens on. */
static int remove_stale(const char *path, char *why, size_t why_size)
{
	struct stat st;
	int rc;

	if (lstat(path, &st) < 0) {
		if (errno == ENOENT)
			return 0;
		rc = -errno;
		snprintf(why, why_size, "%s: %s", path, strerror(-rc));
		return rc;
	}
	if (!S_ISSOCK(st.st_mode)) {
		snprintf(why, why_size, "%s: exists and is not a socket", path);
		return -EEXIST;
	}
	rc = dial(path, SOCK_NONBLOCK);
	/* One that hangs with a full backlog is as live as any, and must not hang us. */
	if (rc >= 0 || rc == -EAGAIN) {
		fd_close(&rc);
		snprintf(why, why_size, "%s: another program is listening there", path);
		return -EADDRINUSE;
	}
	if (rc != -ECONNREFUSED) {
		snprintf(why, why_size, "%s: a socket is there and cannot be asked whether it is in use: %s", path,
			 strerror(-rc));
		return rc;
	}
	if (unlink(path) < 0) {
		rc = -errno;
		snprintf(why, why_size, "%s: stale socket cannot be removed: %s", path, strerror(-rc));
		return rc;
	}
	return 0;
}

static int bind_and_listen(int fd, const struct unix_socket_spec *spec, char *why, size_t why_size)
{
	struct sockaddr_un addr;
	const char *step = "bind";
	int rc = set_address(&addr, spec->path);

	if (rc == 0) {
		mode_t old = umask(0177);
		rc = bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ? -errno : 0;
		umask(old);
	}
	if (rc == 0 && (spec->uid != (uid_t)-1 || spec->gid != (gid_t)-1)) {
		step = "chown";
		rc = lchown(spec->path, spec->uid, spec->gid) < 0 ? -errno : 0;
	}
	if (rc == 0) {
		step = "chmod";
		rc = chmod(spec->path, spec->mode) < 0 ? -errno : 0;
	}
	if (rc == 0) {
		step = "listen";
		rc = listen(fd, spec->backlog) < 0 ? -errno : 0;
	}
	if (rc)
		snprintf(why, why_size, "%s: %s: %s", spec->path, step, strerror(-rc));
	return rc;
}

int unix_socket_listen(const struct unix_socket_spec *spec, char *why, size_t why_size)
{
	struct stat st;
	int fd;
	int rc;

	if (strlen(spec->path) > UNIX_SOCKET_PATH_MAX) {
		snprintf(why, why_size, "%s: longer than the %d bytes that a socket path may have", spec->path,
			 UNIX_SOCKET_PATH_MAX);
		return -ENAMETOOLONG;
	}
	rc = check_directory(spec->path, why, why_size);
	if (rc == 0)
		rc = remove_stale(spec->path, why, why_size);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		rc = -errno;
		snprintf(why, why_size, "socket: %s", strerror(-rc));
		return rc;
	}
	rc = bind_and_listen(fd, spec, why, why_size);
	if (rc) {
		/* What was bound but could not be completed is ours to remove. */
		if (rc != -EADDRINUSE && lstat(spec->path, &st) == 0 && S_ISSOCK(st.st_mode))
			unlink(spec->path);
		fd_close(&fd);
		return rc;
	}
	return fd;
}
