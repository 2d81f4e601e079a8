/* SPDX-License-Identifier: Apache-2.0 */
/* A file is written under another name, then renamed: who waits for it sees all of it or nothing. */
#include "local/key_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/secret.h"
#include "local/api_keys.h"

static const char ordinary_name[] = "api.key";
static const char admin_name[] = "admin.key";

static int complain(char *why, size_t why_size, const char *path, int rc)
{
	snprintf(why, why_size, "%s: %s", path, strerror(-rc));
	return rc;
}

static int fill(int fd, gid_t gid, const struct secret *key)
{
	struct str bytes = secret_bytes(key);
	int rc = 0;

	if (gid != (gid_t)-1 && (fchown(fd, (uid_t)-1, gid) < 0 || fchmod(fd, 0640) < 0))
		return -errno;
	rc = fd_write_all(fd, bytes.p, bytes.n);
	if (rc == 0)
		rc = fd_write_all(fd, "\n", 1);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	return rc;
}

static int write_key(const char *dir, const char *name, gid_t gid, const struct secret *key, char *why, size_t why_size)
{
	char path[PATH_MAX];
	char fresh[PATH_MAX];
	int fd;
	int rc;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path) ||
	    (size_t)snprintf(fresh, sizeof(fresh), "%s/.%s.new", dir, name) >= sizeof(fresh))
		return complain(why, why_size, dir, -ENAMETOOLONG);
	/* What a start that broke off has left. */
	if (unlink(fresh) < 0 && errno != ENOENT)
		return complain(why, why_size, fresh, -errno);
	fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return complain(why, why_size, fresh, -errno);
	rc = fill(fd, gid, key);
	close(fd);
	if (rc == 0 && rename(fresh, path) < 0)
		rc = -errno;
	if (rc == 0)
		return 0;
	unlink(fresh);
	return complain(why, why_size, path, rc);
}

/* The key of the file, else a new one, which is written there. */
static int keep_one(const char *dir, const char *name, gid_t gid, struct secret **out, char *why, size_t why_size)
{
	char path[PATH_MAX];
	int rc;

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path))
		return complain(why, why_size, dir, -ENAMETOOLONG);
	if (access(path, F_OK) == 0)
		return api_keys_read(path, out, why, why_size);
	if (errno != ENOENT)
		return complain(why, why_size, path, -errno);
	rc = secret_random(out);
	if (rc)
		return complain(why, why_size, path, rc);
	return write_key(dir, name, gid, *out, why, why_size);
}

int key_files_keep(const char *dir, gid_t gid, struct api_keys *out, char *why, size_t why_size)
{
	int rc = keep_one(dir, ordinary_name, gid, &out->ordinary, why, why_size);

	return rc ? rc : keep_one(dir, admin_name, gid, &out->admin, why, why_size);
}

int key_files_lay_beside(const char *socket, gid_t gid, const struct api_keys *keys, char *why, size_t why_size)
{
	const char *slash = strrchr(socket, '/');
	char dir[PATH_MAX];
	int rc;

	if (!slash || (size_t)snprintf(dir, sizeof(dir), "%.*s", (int)(slash - socket), socket) >= sizeof(dir))
		return complain(why, why_size, socket, -ENAMETOOLONG);
	rc = write_key(dir, ordinary_name, gid, keys->ordinary, why, why_size);
	return rc ? rc : write_key(dir, admin_name, gid, keys->admin, why, why_size);
}
