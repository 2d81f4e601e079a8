/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/own_user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "gateway/config.h"

enum {
	GROUPS_MAX = 65536 /* NGROUPS_MAX */
};

bool own_user_differs(const struct config *c)
{
	return c->user && (geteuid() != c->user_uid || getuid() != c->user_uid);
}

static int refuse(const struct config *c, char *why, size_t why_size)
{
	snprintf(why, why_size, "user \"%s\": only root can become another user", c->user);
	return -EPERM;
}

/* --- directories --------------------------------------------------------------------------------------------------------- */

/* One that was made here; nobody else could reach it until now. */
static int give(const struct config *c, const char *path, mode_t mode)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int rc = fd < 0 ? -errno : 0;

	if (rc == 0 && (fchown(fd, c->user_uid, c->user_gid) < 0 || fchmod(fd, mode) < 0))
		rc = -errno;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* mkdir -p; what exists is left as it is. */
static int make_all(const struct config *c, const char *path, mode_t mode, char *why, size_t why_size)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	int rc = n < sizeof(part) ? 0 : -ENAMETOOLONG;

	for (size_t i = 1; i <= n && rc == 0; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdir(part, 0700) == 0)
			rc = give(c, part, mode);
		else if (errno != EEXIST)
			rc = -errno;
	}
	if (rc)
		snprintf(why, why_size, "%s: %s", path, strerror(-rc));
	return rc;
}

int own_user_prepare(const struct config *c, const struct config_places *places, char *why, size_t why_size)
{
	int rc;

	if (!own_user_differs(c))
		return 0;
	if (geteuid() != 0)
		return refuse(c, why, why_size);
	rc = make_all(c, places->state_dir, 0700, why, why_size);
	if (rc == 0 && places->runtime_dir)
		rc = make_all(c, places->runtime_dir, 0755, why, why_size);
	for (size_t i = 0; i < c->nlisteners && rc == 0; i++) {
		const struct config_listener *l = &c->listeners[i];
		char *copy = l->path ? strdup(l->path) : NULL;
		if (l->path && !copy)
			return -ENOMEM;
		if (copy)
			rc = make_all(c, dirname(copy), l->mode & 0077 ? 0755 : 0700, why, why_size);
		free(copy);
	}
	return rc;
}

/* --- identity ------------------------------------------------------------------------------------------------------------ */

int own_user_become(const struct config *c, char *why, size_t why_size)
{
	const char *step = "groups";
	int rc;

	if (!own_user_differs(c))
		return 0;
	if (geteuid() != 0)
		return refuse(c, why, why_size);
	rc = initgroups(c->user, c->user_gid) < 0 ? -errno : 0;
	if (rc == 0) {
		step = "identity";
		rc = setresgid(c->user_gid, c->user_gid, c->user_gid) < 0 ||
				     setresuid(c->user_uid, c->user_uid, c->user_uid) < 0
			     ? -errno
			     : 0;
	}
	/* A change of identity may make a process dumpable again. */
	if (rc == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		rc = -errno;
	if (rc) {
		snprintf(why, why_size, "user \"%s\": %s: %s", c->user, step, strerror(-rc));
		return rc;
	}
	CHECK(c->user_uid == 0 || setuid(0) < 0);
	return 0;
}

bool own_user_is_in(const struct config *c, unsigned gid)
{
	int n = 256;
	gid_t *groups = malloc((size_t)n * sizeof(*groups));
	bool is = false;

	/* With too little room the number that there are is told. */
	if (groups && getgrouplist(c->user, c->user_gid, groups, &n) < 0 && n <= GROUPS_MAX) {
		free(groups);
		groups = malloc((size_t)n * sizeof(*groups));
		if (groups && getgrouplist(c->user, c->user_gid, groups, &n) < 0)
			n = 0;
	}
	for (int i = 0; groups && i < n && !is; i++)
		is = groups[i] == gid;
	free(groups);
	return is;
}
