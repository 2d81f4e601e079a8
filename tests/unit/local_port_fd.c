/* SPDX-License-Identifier: Apache-2.0 */
/* What an init may pass for a port, and the host names that lead there. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "local/port_fd.h"
#include "local/preview_host.h"

/* A listening socket on a free port of the loopback address, which *at becomes. */
static int listen_at(int family, struct sockaddr_storage *at)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)at;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)at;
	socklen_t size = sizeof(*at);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memset(at, 0, sizeof(*at));
	at->ss_family = (sa_family_t)family;
	if (family == AF_INET)
		in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else
		in6->sin6_addr = in6addr_loopback;
	if (bind(fd, (struct sockaddr *)at, family == AF_INET ? sizeof(*in4) : sizeof(*in6)) < 0) {
		close(fd);
		return -1;
	}
	cr_assert_eq(listen(fd, 8), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)at, &size), 0);
	return fd;
}

/* Both ends of a TCP connection and their listener; -1 where the family is missing. */
struct tcp {
	int listener;
	int client;
	int server;
};

static struct tcp tcp_new(int family)
{
	struct sockaddr_storage at;
	struct tcp t = {listen_at(family, &at), -1, -1};

	if (t.listener < 0)
		return t;
	t.client = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(connect(t.client, (struct sockaddr *)&at,
			     family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6)),
		     0);
	t.server = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC);
	cr_assert_geq(t.server, 0);
	return t;
}

static void tcp_end(struct tcp *t)
{
	fd_close(&t->listener);
	fd_close(&t->client);
	fd_close(&t->server);
}

/* B2: only connected TCP sockets are connections; files, pipes, other sockets and other states of TCP are not. */
Test(port_fd, B2_judged)
{
	struct sockaddr_in nowhere = {
		.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct tcp t = tcp_new(AF_INET), t6 = tcp_new(AF_INET6);
	int pair[2], pipes[2];
	int fresh = socket(AF_INET, SOCK_STREAM, 0), udp = socket(AF_INET, SOCK_DGRAM, 0);
	int file = open("/dev/null", O_RDWR | O_CLOEXEC);

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	cr_assert_eq(pipe(pipes), 0);
	cr_assert_eq(connect(udp, (struct sockaddr *)&nowhere, sizeof(nowhere)), 0);
	cr_expect(port_fd_is_connection(t.client));
	cr_expect(port_fd_is_connection(t.server));
	if (t6.client >= 0)
		cr_expect(port_fd_is_connection(t6.client));
	const int bad[] = {t.listener, pair[0], pipes[0], pipes[1], fresh, udp, file, -1};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_not(port_fd_is_connection(bad[i]), "%zu", i);
	/* One whose other side has gone has no peer. */
	const struct linger reset = {1, 0};
	cr_assert_eq(setsockopt(t.server, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
	fd_close(&t.server);
	cr_expect_not(port_fd_is_connection(t.client));
	tcp_end(&t);
	tcp_end(&t6);
	for (size_t i = 1; i < sizeof(bad) / sizeof(bad[0]) - 1; i++)
		close(bad[i]);
	close(pair[1]);
}

static unsigned open_descriptors(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Bytes come with one descriptor, with none, or with too many, which are closed; one without room is known as lost. */
Test(port_fd, received)
{
	struct rlimit limit, small;
	int pair[2], got = 0;
	char bytes[8];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	int three[3] = {pair[0], pair[1], pair[0]};
	unsigned before = open_descriptors();

	cr_expect_eq(port_fd_recv(pair[1], bytes, sizeof(bytes), &got), -EAGAIN);
	cr_expect_eq(got, PORT_FD_NONE);
	cr_assert_eq(fd_send(pair[0], "ab", 2, NULL, 0), 2);
	cr_expect_eq(port_fd_recv(pair[1], bytes, sizeof(bytes), &got), 2);
	cr_expect_eq(got, PORT_FD_NONE);
	cr_assert_eq(fd_send(pair[0], "abc", 3, three, 1), 3);
	cr_expect_eq(port_fd_recv(pair[1], bytes, 1, &got), 1);
	cr_expect_geq(got, 0);
	cr_expect(fcntl(got, F_GETFD) & FD_CLOEXEC);
	port_fd_close(&got);
	cr_expect_eq(got, PORT_FD_NONE);
	cr_expect_eq(port_fd_recv(pair[1], bytes, sizeof(bytes), &got), 2);
	cr_expect_eq(got, PORT_FD_NONE);
	for (size_t n = 2; n <= 3; n++) {
		cr_assert_eq(fd_send(pair[0], "a", 1, three, n), 1);
		cr_expect_eq(port_fd_recv(pair[1], bytes, sizeof(bytes), &got), 1);
		cr_expect_eq(got, PORT_FD_MANY);
		cr_expect_eq(open_descriptors(), before);
	}
	/* Every descriptor below the limit is in use. */
	cr_assert_eq(fd_send(pair[0], "a", 1, three, 1), 1);
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	int lowest = dup(0);
	cr_assert_geq(lowest, 0);
	close(lowest);
	small = (struct rlimit){(rlim_t)lowest, limit.rlim_max};
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &small), 0);
	ssize_t n = port_fd_recv(pair[1], bytes, sizeof(bytes), &got);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	cr_expect_eq(n, 1);
	cr_expect_eq(got, PORT_FD_LOST);
	close(pair[0]);
	cr_expect_eq(port_fd_recv(pair[1], bytes, sizeof(bytes), &got), 0);
	close(pair[1]);
}

/* B2: a socket that was told to linger does not make the close wait for a peer who does not read. */
Test(port_fd, B2_close_does_not_wait)
{
	static const char block[1 << 16];
	const struct linger long_time = {1, 20};
	struct tcp t = tcp_new(AF_INET);

	cr_assert_eq(setsockopt(t.client, SOL_SOCKET, SO_LINGER, &long_time, sizeof(long_time)), 0);
	while (send(t.client, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
	uint64_t began = clock_ms();
	port_fd_close(&t.client);
	cr_expect_lt(clock_ms() - began, 5000);
	tcp_end(&t);
}

/* --- hosts ------------------------------------------------------------------------------------------------------ */

/* The form is {port}-{id}.localhost, of which a host name knows no case, with any port of the front behind it. */
Test(preview_host, taken)
{
	static const struct {
		const char *host;
		uint16_t port;
		const char *id;
	} hosts[] = {
		{"3000-sb-a1b2c3d4.localhost", 3000, "sb-a1b2c3d4"},
		{"1-sb-0.localhost", 1, "sb-0"},
		{"65535-SB-A1B2C3D4.LOCALHOST:8080", 65535, "sb-a1b2c3d4"},
		{"80-sb-x-y.localhost:1", 80, "sb-x-y"},
	};
	struct preview_host got;

	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); i++) {
		cr_expect_eq(preview_host_parse(str_from(hosts[i].host), &got), PREVIEW_HOST_OK, "%s", hosts[i].host);
		cr_expect_eq(got.port, hosts[i].port, "%s", hosts[i].host);
		cr_expect_str_eq(got.id, hosts[i].id);
	}
}

Test(preview_host, refused)
{
	static const char *const bad_ports[] = {"0-sb-a.localhost", "65536-sb-a.localhost", "00-sb-a.localhost",
						"080-sb-a.localhost", "18446744073709551617-sb-a.localhost"};
	static const char *const others[] = {
		"",
		"localhost",
		"localhost:80",
		"3000-sb-a",
		"3000-sb-a.",
		"3000-sb-a.localhost.",
		"3000-sb-a.localhost:",
		"3000-sb-a.localhost:x",
		"3000-sb-a.localhost:80:80",
		"3000-sb-a.localhosts",
		"3000-sb-a.x.localhost",
		"x.3000-sb-a.localhost",
		"3000-a.localhost",
		"-sb-a.localhost",
		"+1-sb-a.localhost",
		" 1-sb-a.localhost",
		"1 -sb-a.localhost",
		"3000-sb-a_b.localhost",
		"3000-sb-\303\244.localhost",
		"3000-sb-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.localhost",
		"3000-sb-a.example.com",
	};
	struct preview_host got;

	for (size_t i = 0; i < sizeof(bad_ports) / sizeof(bad_ports[0]); i++)
		cr_expect_eq(preview_host_parse(str_from(bad_ports[i]), &got), PREVIEW_HOST_BAD_PORT, "%s",
			     bad_ports[i]);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		cr_expect_eq(preview_host_parse(str_from(others[i]), &got), PREVIEW_HOST_NONE, "%s", others[i]);
	cr_expect_eq(preview_host_parse(str_of(NULL, 0), &got), PREVIEW_HOST_NONE);
	cr_expect_eq(preview_host_parse(str_of("1-sb-a\0b.localhost", 19), &got), PREVIEW_HOST_NONE);
}
