/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uid, gid and groups are the socket's own. Executable and unit are the process's, and a pid alone may mean another
 * process by the time it is looked at. With SO_PEERPIDFD (Linux 6.5) the descriptor is the very process: its directory in
 * /proc is opened, and if the process still lives after that, the directory was its own. Without, the pid's process is
 * held by pidfd_open, and it must live and have the real uid of SO_PEERCRED after everything was read: the worst that a
 * pid in use again can do is to show another process of the same user.
 *
 * The name of an executable means what it means to this process: the file of that name here must be the one that runs, or
 * anybody could mount a file of any name in a namespace of his own.
 */
#include "gateway/peer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/loopback.h"
#include "common/process.h"
#include "gateway/config.h"
#include "gateway/identity.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77 /* Linux 6.5; headers of the build may be older than the kernel */
#endif

/* What a unit of systemd needs to be given for such rules. */
#define DROP_IN SG_PKGDATADIR "/identity.conf"

enum {
	PROC_FILE_MAX_BYTES = 65536,
	CAP_SYS_PTRACE_BIT = 19, /* capabilities(7) */
};

static int read_groups(int fd, struct identity *out)
{
	socklen_t size = 0;

	/* With no room the kernel says how much there must be; 0 means no supplementary groups. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0)
		return 0;
	if (errno != ERANGE)
		return -errno;
	out->groups = malloc(size);
	if (!out->groups)
		return -ENOMEM;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out->groups, &size) < 0)
		return -errno;
	out->ngroups = size / sizeof(gid_t);
	return 0;
}

int peer_identify(int fd, struct identity *out)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int rc;

	memset(out, 0, sizeof(*out));
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return -errno;
	out->uid = cred.uid;
	out->gid = cred.gid;
	out->pid = cred.pid;
	rc = read_groups(fd, out);
	if (rc)
		identity_fini(out);
	return rc;
}

/* --- loopback TCP ------------------------------------------------------------------------------------------------- */

int peer_identify_tcp(int fd, int diag, struct identity *out)
{
	int rc;

	memset(out, 0, sizeof(*out));
	rc = loopback_peer_uid(fd, diag, &out->uid);
	if (rc)
		return rc;
	out->over_tcp = true;
	out->traits_read = true;
	out->gid = (gid_t)-1;
	return 0;
}

/* --- executable and unit ---------------------------------------------------------------------------------------------- */

/* A pidfd of the process that connected; *certain: it is that one and no other that has its pid now. */
static int open_peer(int fd, pid_t pid, bool *certain)
{
	int pidfd = -1;
	socklen_t size = sizeof(pidfd);

	*certain = true;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &size) == 0)
		return pidfd;
	if (errno != ENOPROTOOPT)
		return -errno;
	*certain = false;
	return process_pidfd(pid);
}

static bool lives(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) == 0;
}

/* A small file of a process, whole; empty when it cannot be read. */
static struct buf read_at(int dir, const char *name)
{
	struct buf text = BUF_EMPTY;
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return text;
	if (fd_read_all(fd, PROC_FILE_MAX_BYTES, &text))
		buf_fini(&text);
	close(fd);
	return text;
}

static int read_exe(int dir, char **out)
{
	char path[PATH_MAX];
	struct stat runs, named;
	ssize_t n = readlinkat(dir, "exe", path, sizeof(path) - 1);

	if (n <= 0)
		return 0;
	path[n] = '\0';
	if (path[0] != '/' || fstatat(dir, "exe", &runs, 0) < 0 || stat(path, &named) < 0 ||
	    runs.st_dev != named.st_dev || runs.st_ino != named.st_ino)
		return 0;
	*out = strdup(path);
	return *out ? 0 : -ENOMEM;
}

static int read_unit(int dir, char **out)
{
	struct buf text = read_at(dir, "cgroup");
	int rc = identity_unit_of(buf_str(&text), out);

	buf_fini(&text);
	return rc;
}

static bool is_of_user(int dir, uid_t uid)
{
	struct buf text = read_at(dir, "status");
	uint64_t real;
	bool is = identity_status_field(buf_str(&text), STR("Uid"), 10, &real) == 0 && real == uid;

	buf_fini(&text);
	return is;
}

int peer_read_traits(int fd, struct identity *id)
{
	char path[32];
	bool certain;
	int pidfd, dir;
	int rc;

	if (id->traits_read || id->pid <= 0)
		return 0;
	id->traits_read = true;
	pidfd = open_peer(fd, id->pid, &certain);
	if (pidfd < 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d", (int)id->pid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = dir < 0 ? 0 : read_exe(dir, &id->exe);
	if (rc == 0 && dir >= 0)
		rc = read_unit(dir, &id->unit);
	if (dir < 0 || !(certain || is_of_user(dir, id->uid)) || !lives(pidfd)) {
		free(id->exe);
		free(id->unit);
		id->exe = id->unit = NULL;
	}
	fd_close(&dir);
	close(pidfd);
	return rc;
}

int peer_open_process(int fd, const struct identity *id)
{
	char path[32];
	bool certain;
	int pidfd, dir;

	if (id->over_tcp || id->pid <= 0)
		return -EACCES;
	pidfd = open_peer(fd, id->pid, &certain);
	if (pidfd < 0)
		return pidfd == -EINVAL ? -ESRCH : pidfd;
	if (!lives(pidfd)) {
		close(pidfd);
		return -ESRCH;
	}
	if (certain)
		return pidfd;
	snprintf(path, sizeof(path), "/proc/%d", (int)id->pid);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || !is_of_user(dir, id->uid) || !lives(pidfd))
		fd_close(&pidfd);
	fd_close(&dir);
	return pidfd < 0 ? -EACCES : pidfd;
}

/* --- what this process may know ----------------------------------------------------------------------------------------- */

/* Whether ids mean here what they mean to the kernel: one line that maps every id to itself. */
static bool is_identity_map(const char *file)
{
	struct buf text = read_at(AT_FDCWD, file);
	struct str rest = buf_str(&text);
	static const uint64_t want[3] = {0, 0, UINT32_MAX};
	bool is = true;

	for (size_t i = 0; i < 3; i++) {
		uint64_t n;
		while (rest.n && (rest.p[0] == ' ' || rest.p[0] == '\t'))
			rest = str_of(rest.p + 1, rest.n - 1);
		struct str word = str_cut(&rest, i < 2 ? ' ' : '\n');
		is = is && str_parse_u64(str_trim(word), &n) == 0 && n == want[i];
	}
	is = is && rest.n == 0;
	buf_fini(&text);
	return is;
}

static bool may_trace(void)
{
	struct buf text = read_at(AT_FDCWD, "/proc/self/status");
	uint64_t effective;
	bool may = identity_status_field(buf_str(&text), STR("CapEff"), 16, &effective) == 0 &&
		   (effective >> CAP_SYS_PTRACE_BIT & 1);

	buf_fini(&text);
	return may;
}

/* Whether /proc shows processes of other users: the first one is somebody else's, or there is nobody else. */
static bool sees_others(void)
{
	struct buf text = read_at(AT_FDCWD, "/proc/1/cgroup");
	struct buf mounts = read_at(AT_FDCWD, "/proc/self/mountinfo");
	bool hides = memmem(mounts.len ? buf_data(&mounts) : "", mounts.len, "hidepid=", 8);
	struct stat st;
	bool others = stat("/proc/1", &st) == 0 && (st.st_uid != geteuid() || !hides);
	bool sees = text.len > 0 && others;

	buf_fini(&text);
	buf_fini(&mounts);
	return sees;
}

/* Whether the rule can match nobody but this daemon's own user. */
static bool is_for_own_uid(const struct config_rule *r)
{
	return r->match_uids && r->uids.n == 1 && r->uids.ids[0] == geteuid();
}

static int refuse(char *why, size_t why_size, const struct config_rule *r, const char *what, const char *needs)
{
	snprintf(why, why_size,
		 "rule \"%s\" asks for the %s of other users' processes, which this daemon may not read: %s", r->name,
		 what, needs);
	return -EPERM;
}

int peer_check_rights(const struct config *c, char *why, size_t why_size)
{
	bool traces = may_trace();
	bool sees = traces || sees_others();

	if (!is_identity_map("/proc/self/uid_map") || !is_identity_map("/proc/self/gid_map")) {
		snprintf(
			why, why_size,
			"this process is in a user namespace, where the kernel does not show who its clients are: in a "
			"systemd unit set PrivateUsers=no");
		return -EPERM;
	}
	for (size_t i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		if (is_for_own_uid(r))
			continue;
		if (config_rule_asks_exe(r) && !traces)
			return refuse(why, why_size, r, "executable",
				      "it needs CAP_SYS_PTRACE (in the packaged unit: the lines for exe of " DROP_IN
				      ")");
		if (config_rule_asks_unit(r) && !sees)
			return refuse(
				why, why_size, r, "unit",
				"it needs a /proc without hidepid, or CAP_SYS_PTRACE (in the packaged unit: " DROP_IN
				")");
	}
	return 0;
}
