/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Linked into a gateway of its own (--wrap): its calls on sockets move a few bytes at most, and now and then none, as
 * the kernel may do at any time and hardly ever does. The order is the same in every run.
 */
#include <errno.h>
#include <stdint.h>
#include <sys/socket.h>

ssize_t __real_recv(int fd, void *to, size_t n, int flags);
ssize_t __real_send(int fd, const void *from, size_t n, int flags);
ssize_t __real_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t n, int flags);
ssize_t __wrap_send(int fd, const void *from, size_t n, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);

/* How many bytes this call may move: 0 with errno set means none. */
static size_t allowance(void)
{
	static uint32_t x = 99;
	uint32_t n;

	x = x * 1664525 + 1013904223;
	n = (x >> 8) % 16;
	if (n > 1)
		return n % 7 + 1;
	errno = n ? EINTR : EAGAIN;
	return 0;
}

ssize_t __wrap_recv(int fd, void *to, size_t n, int flags)
{
	size_t most = allowance();

	if (flags & MSG_PEEK)
		return __real_recv(fd, to, n, flags);
	return most ? __real_recv(fd, to, n < most ? n : most, flags) : -1;
}

ssize_t __wrap_send(int fd, const void *from, size_t n, int flags)
{
	size_t most = allowance();

	return most ? __real_send(fd, from, n < most ? n : most, flags) : -1;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	size_t most = allowance();
	struct iovec piece;
	struct msghdr few = *msg;

	if (!most)
		return -1;
	/* What carries more than bytes, or nothing, is left as it is. */
	if (msg->msg_controllen || !msg->msg_iovlen || !msg->msg_iov[0].iov_len)
		return __real_sendmsg(fd, msg, flags);
	piece = msg->msg_iov[0];
	piece.iov_len = piece.iov_len < most ? piece.iov_len : most;
	few.msg_iov = &piece;
	few.msg_iovlen = 1;
	return __real_sendmsg(fd, &few, flags);
}
