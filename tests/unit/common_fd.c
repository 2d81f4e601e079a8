/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

static unsigned open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	cr_assert_not_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void make_pair(int pair[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

/* Flags are set and cleared; a bad descriptor is told. */
Test(common_fd, flags)
{
	int fd = open("/dev/null", O_RDONLY);

	cr_assert_eq(fd_set_nonblock(fd), 0);
	cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
	cr_assert_eq(fd_set_cloexec(fd, 1), 0);
	cr_expect_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fd_set_cloexec(fd, 0), 0);
	cr_expect_eq(fcntl(fd, F_GETFD), 0);
	fd_close(&fd);
	cr_expect_eq(fd, -1);
	fd_close(&fd);
	cr_expect_eq(fd_set_nonblock(-1), -EBADF);
	cr_expect_eq(fd_set_cloexec(-1, 1), -EBADF);
}

/* All of it is read, up to the limit and not beyond. */
Test(common_fd, read_all)
{
	struct buf b = BUF_EMPTY;
	char block[10000];
	int ends[2];

	memset(block, 'x', sizeof(block));
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	cr_assert_eq(fd_write_all(ends[1], block, sizeof(block)), 0);
	fd_close(&ends[1]);
	cr_expect_eq(fd_read_all(ends[0], 10000, &b), 0);
	cr_expect_eq(b.len, 10000);
	fd_close(&ends[0]);
	buf_fini(&b);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	cr_assert_eq(fd_write_all(ends[1], block, sizeof(block)), 0);
	fd_close(&ends[1]);
	cr_expect_eq(fd_read_all(ends[0], 9999, &b), -EFBIG);
	fd_close(&ends[0]);
	cr_expect_eq(fd_read_all(-1, 10, &b), -EBADF);
	buf_fini(&b);
}

/* A reader that is gone is an error, not a signal's end, when the program ignores SIGPIPE as ours do. */
Test(common_fd, write_all_to_nobody)
{
	int ends[2];

	signal(SIGPIPE, SIG_IGN);
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	fd_close(&ends[0]);
	cr_expect_eq(fd_write_all(ends[1], "x", 1), -EPIPE);
	cr_expect_eq(fd_write_all(ends[1], "", 0), 0);
	fd_close(&ends[1]);
}

/* Bytes and descriptors arrive together, the descriptors as the receiver's own, with CLOEXEC. */
Test(common_fd, pass)
{
	int pair[2];
	int ends[2];
	int got[FD_PASS_MAX];
	size_t ngot = FD_PASS_MAX;
	char text[16];
	struct stat sent;
	struct stat received;

	make_pair(pair);
	cr_assert_eq(pipe2(ends, 0), 0);
	cr_expect_eq(fd_send(pair[0], "two", 3, ends, 2), 3);
	cr_expect_eq(fd_recv(pair[1], text, sizeof(text), got, &ngot), 3);
	cr_assert_eq(ngot, 2);
	cr_expect_eq(memcmp(text, "two", 3), 0);
	for (size_t i = 0; i < 2; i++) {
		cr_expect_neq(got[i], ends[i]);
		cr_assert_eq(fstat(ends[i], &sent), 0);
		cr_assert_eq(fstat(got[i], &received), 0);
		cr_expect_eq(sent.st_ino, received.st_ino);
		cr_expect_eq(fcntl(got[i], F_GETFD), FD_CLOEXEC);
		fd_close(&got[i]);
		fd_close(&ends[i]);
	}
	fd_close(&pair[0]);
	ngot = FD_PASS_MAX;
	cr_expect_eq(fd_recv(pair[1], text, sizeof(text), got, &ngot), 0, "the end");
	cr_expect_eq(ngot, 0);
	fd_close(&pair[1]);
}

/* Descriptors beyond the room are closed, also those that the sender was not expected to have. */
Test(common_fd, pass_too_many)
{
	int pair[2];
	int many[FD_PASS_MAX];
	int got[1];
	char c;

	make_pair(pair);
	for (size_t i = 0; i < FD_PASS_MAX; i++)
		many[i] = STDIN_FILENO;
	many[0] = pair[0];
	unsigned before = open_descriptors();
	cr_expect_eq(fd_send(pair[0], "x", 1, many, FD_PASS_MAX), 1);
	size_t ngot = 1;
	cr_expect_eq(fd_recv(pair[1], &c, 1, got, &ngot), 1);
	cr_expect_eq(ngot, 1);
	fd_close(&got[0]);
	cr_expect_eq(fd_send(pair[0], "x", 1, many, FD_PASS_MAX), 1);
	ngot = 0;
	cr_expect_eq(fd_recv(pair[1], &c, 1, got, &ngot), 1);
	cr_expect_eq(ngot, 0);
	cr_expect_eq(open_descriptors(), before);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
}

/* A message of more descriptors than anybody sends here, from a peer that does not play by the rules. */
Test(common_fd, pass_beyond_the_control_buffer)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(100 * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = "x", .iov_len = 1};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control.bytes,
			     .msg_controllen = sizeof(control.bytes)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
	int pair[2];
	int got[FD_PASS_MAX];
	size_t ngot = FD_PASS_MAX;
	char byte;

	make_pair(pair);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(100 * sizeof(int));
	for (size_t i = 0; i < 100; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &pair[0], sizeof(int));
	unsigned before = open_descriptors();
	cr_assert_eq(sendmsg(pair[0], &msg, 0), 1);
	cr_expect_eq(fd_recv(pair[1], &byte, 1, got, &ngot), 1);
	cr_expect_leq(ngot, FD_PASS_MAX);
	for (size_t i = 0; i < ngot; i++)
		fd_close(&got[i]);
	cr_expect_eq(open_descriptors(), before);
	fd_close(&pair[0]);
	fd_close(&pair[1]);
}

/* With nothing there a non-blocking socket says so; a closed peer is an error and no signal. */
Test(common_fd, pass_without_waiting)
{
	int pair[2];
	int got[1];
	size_t ngot = 1;
	char c;

	make_pair(pair);
	cr_assert_eq(fd_set_nonblock(pair[1]), 0);
	cr_expect_eq(fd_recv(pair[1], &c, 1, got, &ngot), -EAGAIN);
	cr_expect_eq(ngot, 0);
	fd_close(&pair[1]);
	cr_expect_eq(fd_send(pair[0], "x", 1, NULL, 0), -EPIPE);
	fd_close(&pair[0]);
}
