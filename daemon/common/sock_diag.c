/* SPDX-License-Identifier: Apache-2.0 */
#include "common/sock_diag.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	ANSWER_BYTES = 4096,
	STALE_MAX = 16, /* answers to earlier questions that are skipped */
};

struct question {
	struct nlmsghdr head;
	struct inet_diag_req_v2 ask;
};

int sock_diag_open(void)
{
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG);

	return fd < 0 ? -errno : fd;
}

/* Address and port in the kernel's order of bytes; false for another family. */
static bool take_end(const struct sockaddr_storage *from, uint32_t address[4], uint16_t *port)
{
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)from;
		address[0] = in->sin_addr.s_addr;
		*port = in->sin_port;
		return true;
	}
	if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *in6 = (const void *)from;
		memcpy(address, &in6->sin6_addr, sizeof(in6->sin6_addr));
		*port = in6->sin6_port;
		return true;
	}
	return false;
}

static int ask(int diag, const struct question *q)
{
	const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	ssize_t n;

	do
		n = sendto(diag, q, sizeof(*q), 0, (const struct sockaddr *)&kernel, sizeof(kernel));
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

/* What one message says: 0, or -EAGAIN when it answers another question. */
static int read_answer(const struct nlmsghdr *m, size_t n, const struct question *q, struct sock_diag_owner *out)
{
	const struct inet_diag_msg *found = NLMSG_DATA(m);
	const struct nlmsgerr *error = NLMSG_DATA(m);

	if (!NLMSG_OK(m, n) || m->nlmsg_seq != q->head.nlmsg_seq)
		return -EAGAIN;
	if (m->nlmsg_type == NLMSG_ERROR && m->nlmsg_len >= NLMSG_LENGTH(sizeof(*error)))
		return error->error ? error->error : -EPROTO;
	if (m->nlmsg_type != SOCK_DIAG_BY_FAMILY || m->nlmsg_len < NLMSG_LENGTH(sizeof(*found)))
		return -EPROTO;
	/* Without a connected socket of these ends the kernel may show a listening one. */
	if (found->id.idiag_sport != q->ask.id.idiag_sport || found->id.idiag_dport != q->ask.id.idiag_dport)
		return -ENOENT;
	*out = (struct sock_diag_owner){found->idiag_state, found->idiag_uid, found->idiag_inode};
	return 0;
}

int sock_diag_find(int diag, const struct sockaddr_storage *own, const struct sockaddr_storage *remote,
		   struct sock_diag_owner *out)
{
	static uint32_t serial;
	union {
		struct nlmsghdr head;
		char bytes[ANSWER_BYTES];
	} answer;
	struct question q = {
		.head = {.nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
		.ask = {.sdiag_family = (uint8_t)own->ss_family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = ~0U},
	};
	int rc;

	q.head.nlmsg_seq = ++serial;
	q.ask.id.idiag_cookie[0] = q.ask.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (own->ss_family != remote->ss_family || !take_end(own, q.ask.id.idiag_src, &q.ask.id.idiag_sport) ||
	    !take_end(remote, q.ask.id.idiag_dst, &q.ask.id.idiag_dport))
		return -EAFNOSUPPORT;
	rc = ask(diag, &q);
	for (int i = 0; rc == 0 && i < STALE_MAX; i++) {
		ssize_t n = recv(diag, &answer, sizeof(answer), MSG_DONTWAIT);
		if (n < 0)
			return errno == EINTR ? -EAGAIN : -errno;
		rc = read_answer(&answer.head, (size_t)n, &q, out);
		if (rc != -EAGAIN)
			return rc;
		rc = 0;
	}
	return rc ? rc : -EPROTO;
}
