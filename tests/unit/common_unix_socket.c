/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/unix_socket.h"

static char dir[64];
static char path[128];
static char why[256];

static void setup(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof(dir), "%.30s/common-socket.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert_not_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/x.sock", dir);
	why[0] = '\0';
}

static void teardown(void)
{
	unlink(path);
	chmod(dir, 0700);
	rmdir(dir);
}

TestSuite(common_unix_socket, .init = setup, .fini = teardown);

static int listen_here(mode_t mode)
{
	struct unix_socket_spec spec = {.path = path, .mode = mode, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 8};

	return unix_socket_listen(&spec, why, sizeof(why));
}

/* A fresh one has its mode, whatever the umask, is non-blocking and CLOEXEC, and takes connections. */
Test(common_unix_socket, fresh)
{
	struct stat st;

	umask(0177);
	int fd = listen_here(0666);
	cr_assert_geq(fd, 0, "%s", why);
	cr_assert_eq(lstat(path, &st), 0);
	cr_expect(S_ISSOCK(st.st_mode));
	cr_expect_eq(st.st_mode & 07777, 0666);
	cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	int client = unix_socket_connect(path);
	cr_expect_geq(client, 0);
	cr_expect_eq(fcntl(client, F_GETFD), FD_CLOEXEC);
	cr_expect_eq(umask(0), 0177, "the umask is what it was");
	fd_close(&client);
	fd_close(&fd);
}

/* A socket that nobody listens on is replaced (ID12). */
Test(common_unix_socket, stale)
{
	struct stat before;
	struct stat after;
	int fd = listen_here(0600);

	cr_assert_geq(fd, 0);
	fd_close(&fd);
	cr_assert_eq(lstat(path, &before), 0);
	fd = listen_here(0600);
	cr_assert_geq(fd, 0, "%s", why);
	cr_assert_eq(lstat(path, &after), 0);
	int client = unix_socket_connect(path);
	cr_expect_geq(client, 0);
	fd_close(&client);
	fd_close(&fd);
}

/* One that answers is left alone and reported. */
Test(common_unix_socket, live)
{
	int fd = listen_here(0600);

	cr_assert_geq(fd, 0);
	cr_expect_eq(listen_here(0600), -EADDRINUSE);
	cr_expect_not_null(strstr(why, path));
	cr_expect_not_null(strstr(why, "listening"));
	int client = unix_socket_connect(path);
	cr_expect_geq(client, 0, "it still works");
	fd_close(&client);
	fd_close(&fd);
}

/* One whose backlog is full is as live as any, and asking it does not wait. */
Test(common_unix_socket, live_and_full)
{
	struct unix_socket_spec spec = {.path = path, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 0};
	int waiting[16];
	size_t n = 0;
	struct sockaddr_storage addr;
	socklen_t addr_len = sizeof(addr);
	int fd = unix_socket_listen(&spec, why, sizeof(why));

	cr_assert_geq(fd, 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)&addr, &addr_len), 0);
	while (n < 16) {
		waiting[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		cr_assert_geq(waiting[n], 0);
		if (connect(waiting[n++], (struct sockaddr *)&addr, addr_len) < 0)
			break;
	}
	cr_assert_eq(errno, EAGAIN, "the backlog of 0 did not fill");
	alarm(20);
	cr_expect_eq(listen_here(0600), -EADDRINUSE, "%s", why);
	alarm(0);
	while (n)
		fd_close(&waiting[--n]);
	fd_close(&fd);
}

/* Anything but a socket is refused and untouched, a symbolic link too, even one to a socket. */
Test(common_unix_socket, not_a_socket)
{
	char text[8] = "";
	int file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	cr_assert_eq(fd_write_all(file, "precious", 8), 0);
	cr_expect_eq(listen_here(0600), -EEXIST);
	cr_expect_not_null(strstr(why, "not a socket"));
	cr_expect_eq(pread(file, text, 8, 0), 8);
	cr_expect_eq(memcmp(text, "precious", 8), 0);
	fd_close(&file);
	unlink(path);
	cr_assert_eq(symlink("/etc/passwd", path), 0);
	cr_expect_eq(listen_here(0600), -EEXIST);
	unlink(path);
	cr_assert_eq(symlink("nothing-there", path), 0);
	cr_expect_eq(listen_here(0600), -EEXIST);
	unlink(path);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_expect_eq(listen_here(0600), -EEXIST);
	rmdir(path);
}

/* A directory in which others could replace the socket is refused; a sticky one is not (ID13). */
Test(common_unix_socket, directory_of_others)
{
	cr_assert_eq(chmod(dir, 0777), 0);
	cr_expect_eq(listen_here(0600), -EPERM);
	cr_expect_not_null(strstr(why, "0777"));
	cr_expect_eq(access(path, F_OK), -1, "nothing was made");
	cr_assert_eq(chmod(dir, 0770), 0);
	cr_expect_eq(listen_here(0600), -EPERM);
	cr_assert_eq(chmod(dir, 01777), 0);
	int fd = listen_here(0600);
	cr_expect_geq(fd, 0, "%s", why);
	fd_close(&fd);
}

/* No directory, or a path that no address holds, is an error that says so. */
Test(common_unix_socket, impossible_paths)
{
	char deep[200];
	struct unix_socket_spec spec = {.path = deep, .mode = 0600, .uid = (uid_t)-1, .gid = (gid_t)-1, .backlog = 8};

	snprintf(deep, sizeof(deep), "%s/none/x.sock", dir);
	cr_expect_eq(unix_socket_listen(&spec, why, sizeof(why)), -ENOENT);
	cr_expect_eq(unix_socket_connect(deep), -ENOENT);
	snprintf(deep, sizeof(deep), "%s/%0*d", dir, (int)(UNIX_SOCKET_PATH_MAX - strlen(dir)), 0);
	cr_assert_eq(strlen(deep), UNIX_SOCKET_PATH_MAX + 1);
	cr_expect_eq(unix_socket_listen(&spec, why, sizeof(why)), -ENAMETOOLONG);
	cr_expect_not_null(strstr(why, "107"));
	cr_expect_eq(unix_socket_connect(deep), -ENAMETOOLONG);
	deep[UNIX_SOCKET_PATH_MAX] = '\0';
	int fd = unix_socket_listen(&spec, why, sizeof(why));
	cr_expect_geq(fd, 0, "the longest: %s", why);
	unlink(deep);
	fd_close(&fd);
}

/* An owner that may not be given leaves nothing behind. */
Test(common_unix_socket, owner_not_permitted)
{
	struct unix_socket_spec spec = {.path = path, .mode = 0600, .uid = (uid_t)-1, .gid = 0, .backlog = 8};

	if (geteuid() == 0) {
		/* root may give it away: then it must be given. */
		struct stat st;
		spec.uid = 65533;
		spec.gid = 65533;
		int fd = unix_socket_listen(&spec, why, sizeof(why));
		cr_assert_geq(fd, 0, "%s", why);
		cr_assert_eq(lstat(path, &st), 0);
		cr_expect_eq(st.st_uid, 65533);
		cr_expect_eq(st.st_gid, 65533);
		fd_close(&fd);
		return;
	}
	cr_expect_eq(unix_socket_listen(&spec, why, sizeof(why)), -EPERM);
	cr_expect_not_null(strstr(why, "chown"));
	cr_expect_eq(access(path, F_OK), -1, "left behind");
}
