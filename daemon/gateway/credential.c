/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/credential.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "gateway/config.h"

static bool group_is_ours(gid_t gid)
{
	gid_t groups[256];
	int n = getgroups(256, groups);

	if (gid == getegid())
		return true;
	for (int i = 0; i < n; i++)
		if (groups[i] == gid)
			return true;
	return false;
}

/* systemd shows the ACL of a credential as mode 0440, and guards the directory itself. */
static bool below_credentials_directory(const char *path)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");
	size_t n = dir ? strlen(dir) : 0;

	return n && strncmp(path, dir, n) == 0 && path[n] == '/' && !strstr(path + n, "/../");
}

/* What is wrong with a key file's owner and mode, or NULL. */
static const char *bad_permissions(const struct stat *st)
{
	if (st->st_uid != 0 && st->st_uid != geteuid())
		return "belongs to somebody else, expected root or the daemon's own user";
	if (st->st_mode & 0022)
		return "is writable by its group or by others, expected mode 0600 or 0400";
	if (st->st_mode & 0007)
		return "is open to everybody, expected mode 0600 or 0400";
	if ((st->st_mode & 0040) && (st->st_uid != 0 || !group_is_ours(st->st_gid)))
		return "is readable by its group, which is allowed only for a file of root in a group of the daemon";
	return NULL;
}

/* Checks the bytes and drops one final newline; what is wrong, or NULL. */
static const char *bad_value(const char *bytes, size_t *n)
{
	if (*n && bytes[*n - 1] == '\n')
		(*n)--;
	if (*n == 0)
		return "is empty";
	for (size_t i = 0; i < *n; i++)
		if ((unsigned char)bytes[i] <= 0x20 || (unsigned char)bytes[i] >= 0x7f)
			return "holds white space, a control character or a byte that is not ASCII";
	return NULL;
}

static int open_key_file(const char *path, char *why, size_t why_size)
{
	struct stat st;
	const char *wrong;
	int rc;
	/* O_NONBLOCK: a fifo must not hold us up. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0) {
		rc = -errno;
		snprintf(why, why_size, "%s: %s", path, rc == -ELOOP ? "is a symbolic link" : strerror(-rc));
		return rc;
	}
	if (fstat(fd, &st) < 0) {
		rc = -errno;
		snprintf(why, why_size, "%s: %s", path, strerror(-rc));
		close(fd);
		return rc;
	}
	if (!S_ISREG(st.st_mode))
		wrong = "is not a regular file";
	else
		wrong = below_credentials_directory(path) ? NULL : bad_permissions(&st);
	if (wrong) {
		snprintf(why, why_size, "%s: %s", path, wrong);
		close(fd);
		return -EPERM;
	}
	return fd;
}

/* Reads at most SECRET_MAX_BYTES and a newline into bytes. The length, or negative. */
static ssize_t read_key_file(const char *path, char bytes[SECRET_MAX_BYTES + 2], char *why, size_t why_size)
{
	size_t n = 0;
	ssize_t got;
	int fd = open_key_file(path, why, why_size);

	if (fd < 0)
		return fd;
	do {
		got = read(fd, bytes + n, SECRET_MAX_BYTES + 2 - n);
		if (got > 0)
			n += (size_t)got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	close(fd);
	if (got < 0) {
		snprintf(why, why_size, "%s: cannot be read", path);
		return -EIO;
	}
	return (ssize_t)n;
}

static ssize_t read_variable(const char *name, char bytes[SECRET_MAX_BYTES + 2], char *why, size_t why_size)
{
	const char *value = getenv(name);
	size_t n = value ? strnlen(value, SECRET_MAX_BYTES + 2) : 0;

	if (!value) {
		snprintf(why, why_size, "variable %s: is not set", name);
		return -ENOENT;
	}
	memcpy(bytes, value, n);
	return (ssize_t)n;
}

int credential_path(const struct config_key *k, char path[PATH_MAX], char *why, size_t why_size)
{
	const char *dir = k->source == CONFIG_SOURCE_SYSTEMD ? getenv("CREDENTIALS_DIRECTORY") : "";
	int n;

	if (!dir || (k->source == CONFIG_SOURCE_SYSTEMD && dir[0] != '/')) {
		snprintf(why, why_size, "systemd credential %s: CREDENTIALS_DIRECTORY is not set", k->from);
		return -ENOENT;
	}
	n = snprintf(path, PATH_MAX, "%s%s%s", dir, dir[0] ? "/" : "", k->from);
	if (n >= PATH_MAX) {
		snprintf(why, why_size, "%s: %s", k->from, strerror(ENAMETOOLONG));
		return -ENAMETOOLONG;
	}
	return 0;
}

static ssize_t read_source(const struct config_key *k, char bytes[SECRET_MAX_BYTES + 2], char *why, size_t why_size)
{
	char path[PATH_MAX];
	int rc;

	if (k->source == CONFIG_SOURCE_ENV)
		return read_variable(k->from, bytes, why, why_size);
	rc = credential_path(k, path, why, why_size);
	return rc ? rc : read_key_file(path, bytes, why, why_size);
}

static const char *kind_of(const struct config_key *k)
{
	switch (k->source) {
	case CONFIG_SOURCE_ENV:
		return "variable ";
	case CONFIG_SOURCE_SYSTEMD:
		return "systemd credential ";
	case CONFIG_SOURCE_COMMAND:
		return "command ";
	case CONFIG_SOURCE_FILE:
	case CONFIG_SOURCE_NONE:
		return "";
	}
	return "";
}

/* Whether the bytes are a key; its length in *n. */
static int check_value(const struct config_key *k, const char *bytes, size_t *n, char *why, size_t why_size)
{
	const char *wrong = bad_value(bytes, n);

	if (!wrong && *n > SECRET_MAX_BYTES)
		wrong = "is longer than 4096 bytes";
	if (!wrong)
		return 0;
	snprintf(why, why_size, "%s%s: %s", kind_of(k), k->from, wrong);
	return -EINVAL;
}

/* Reads and checks; the length in bytes, or negative and why. */
static ssize_t read_value(const struct config_key *k, char bytes[SECRET_MAX_BYTES + 2], char *why, size_t why_size)
{
	ssize_t got = read_source(k, bytes, why, why_size);
	size_t n = got < 0 ? 0 : (size_t)got;
	int rc = got < 0 ? (int)got : check_value(k, bytes, &n, why, why_size);

	return rc ? rc : (ssize_t)n;
}

int credential_check(const struct config_key *k, char *why, size_t why_size)
{
	char bytes[SECRET_MAX_BYTES + 2];
	ssize_t n;

	if (k->source == CONFIG_SOURCE_COMMAND) {
		if (access(k->from, X_OK) == 0)
			return 0;
		snprintf(why, why_size, "command %s: %s", k->from, strerror(errno));
		return -ENOENT;
	}
	n = read_value(k, bytes, why, why_size);
	explicit_bzero(bytes, sizeof(bytes));
	return n < 0 ? (int)n : 0;
}

bool credential_is_out_of_reach(const struct config_key *k)
{
	const char *dir = getenv("CREDENTIALS_DIRECTORY");

	if (k->source != CONFIG_SOURCE_SYSTEMD)
		return false;
	return !dir || !dir[0] || (access(dir, X_OK) < 0 && errno == EACCES);
}

int credential_take(const struct config_key *k, char *bytes, size_t n, struct secret **out, char *why, size_t why_size)
{
	size_t all = n;
	int rc = check_value(k, bytes, &n, why, why_size);

	if (rc == 0) {
		rc = secret_take(bytes, n, out);
		if (rc)
			snprintf(why, why_size, "%s: out of memory", k->from);
	}
	explicit_bzero(bytes, all);
	return rc;
}

int credential_load(const struct config_key *k, struct secret **out, char *why, size_t why_size)
{
	char bytes[SECRET_MAX_BYTES + 2];
	ssize_t n = read_value(k, bytes, why, why_size);
	int rc = n < 0 ? (int)n : secret_take(bytes, (size_t)n, out);

	explicit_bzero(bytes, sizeof(bytes));
	if (rc == 0 && k->source == CONFIG_SOURCE_ENV) {
		/* The bytes on the stack of the program's start, too: /proc/PID/environ shows those. */
		char *value = getenv(k->from);
		explicit_bzero(value, strlen(value));
		unsetenv(k->from);
	}
	if (rc == -ENOMEM)
		snprintf(why, why_size, "%s: out of memory", k->from);
	return rc;
}
