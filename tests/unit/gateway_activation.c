/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/activation: which passed descriptor is whose, and that the variables which say so are believed only when they fit.
 * Descriptors are passed from 3 on, where the test program has some of its own: each test is a child that gives them up.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "gateway/activation.h"
#include "gateway/config.h"
#include "lib/scratch.h"

static struct scratch scratch;
static struct activation a;

#define EXPECT(what)                                                                                                   \
	do {                                                                                                           \
		if (!(what)) {                                                                                         \
			dprintf(2, "line %d: %s\n", __LINE__, #what);                                                  \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

/* Runs it where no descriptor above 2 is open. */
static void in_child(void (*body)(void))
{
	int status = -1;
	pid_t pid = fork();

	cr_assert(pid >= 0);
	if (pid == 0) {
		close_range(3, ~0U, 0);
		body();
		activation_fini(&a);
		_exit(0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "see above");
}

static void begin(void)
{
	log_init("test", LOG_LEVEL_ERROR);
	scratch_init(&scratch);
}

static void end(void)
{
	scratch_fini(&scratch);
}

TestSuite(activation, .init = begin, .fini = end);

static void say(int n, const char *names)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%d", n);
	setenv("LISTEN_FDS", text, 1);
	if (names)
		setenv("LISTEN_FDNAMES", names, 1);
	else
		unsetenv("LISTEN_FDNAMES");
}

/* The next descriptor, inheritable and blocking as a manager passes it. */
static int pass_unix(const char *name, int type, bool listening)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, type, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", scratch_path(&scratch, "%s", name));
	EXPECT(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	if (listening)
		EXPECT(listen(fd, 5) == 0);
	return fd;
}

static int pass_tcp(bool ipv6, uint32_t address, uint16_t *port)
{
	struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(*port), .sin_addr = {htonl(address)}};
	struct sockaddr_in6 in6 = {
		.sin6_family = AF_INET6, .sin6_port = htons(*port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	socklen_t size = sizeof(in4);
	int fd = socket(ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);

	if (bind(fd, ipv6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4, ipv6 ? sizeof(in6) : sizeof(in4)) < 0 ||
	    listen(fd, 5) < 0) {
		close(fd);
		return -1;
	}
	if (!ipv6 && getsockname(fd, (struct sockaddr *)&in4, &size) == 0)
		*port = ntohs(in4.sin_port);
	return fd;
}

/* Path before name, name where the path is another, and each gets a copy of its own. */
static void by_path_and_name(void)
{
	char first[200], second[200];
	const char *path = NULL;
	char why[300];
	int fd, again;

	snprintf(first, sizeof(first), "%s", scratch_path(&scratch, "first"));
	snprintf(second, sizeof(second), "%s", scratch_path(&scratch, "second"));
	EXPECT(pass_unix("first", SOCK_STREAM, true) == 3);
	EXPECT(pass_unix("second", SOCK_STREAM, true) == 4);
	say(2, "b:a");
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(!getenv("LISTEN_PID") && !getenv("LISTEN_FDS") && !getenv("LISTEN_FDNAMES"));
	EXPECT(a.n == 2);
	EXPECT(fcntl(3, F_GETFD) == FD_CLOEXEC);
	EXPECT(fcntl(3, F_GETFL) & O_NONBLOCK);
	/* The name says "second", the path "first": the path counts. */
	fd = activation_unix(&a, "a", first, &path, why, sizeof(why));
	EXPECT(fd > 4 && strcmp(path, first) == 0);
	EXPECT(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	again = activation_unix(&a, "a", "/elsewhere", &path, why, sizeof(why));
	EXPECT(again > 4 && again != fd && strcmp(path, second) == 0);
	EXPECT(activation_unix(&a, "c", "/elsewhere", &path, why, sizeof(why)) == -ENOENT);
	close(fd);
	close(again);
}

Test(activation, by_path_and_name)
{
	in_child(by_path_and_name);
}

/* What is for another process, is no number or is far too much passes nothing; fewer names than sockets are no fault. */
static void variables(void)
{
	static const struct {
		const char *pid, *count;
	} bad[] = {{"1", "1"},
		   {"x", "1"},
		   {"", "1"},
		   {NULL, "x"},
		   {NULL, "-1"},
		   {NULL, "0"},
		   {NULL, "99999999999999999999"},
		   {NULL, "65537"}};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		say(1, NULL);
		if (bad[i].pid)
			setenv("LISTEN_PID", bad[i].pid, 1);
		setenv("LISTEN_FDS", bad[i].count, 1);
		EXPECT(activation_take(&a, "client") == 0);
		EXPECT(a.n == 0);
		EXPECT(!getenv("LISTEN_FDS"));
	}
	EXPECT(pass_unix("s", SOCK_STREAM, true) == 3);
	EXPECT(pass_unix("t", SOCK_STREAM, true) == 4);
	say(2, "one");
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(strcmp(a.sockets[0].name, "one") == 0);
	EXPECT(strcmp(a.sockets[1].name, "unknown") == 0);
	activation_fini(&a);
	EXPECT(fcntl(3, F_GETFD) == -1);
	say(1, NULL);
	EXPECT(activation_take(&a, "client") == -EBADF);
}

Test(activation, variables)
{
	in_child(variables);
}

/* What is no listening stream socket is no listener, and what nobody wants is closed. */
static void kinds(void)
{
	const char *path;
	char why[300];
	int fd;

	EXPECT(pass_unix("datagram", SOCK_DGRAM, false) == 3);
	EXPECT(pass_unix("silent", SOCK_STREAM, false) == 4);
	EXPECT(pass_unix("wanted", SOCK_STREAM, true) == 5);
	EXPECT(pass_unix("stray", SOCK_STREAM, true) == 6);
	say(4, "datagram:silent:wanted:stray");
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(activation_unix(&a, "datagram", "/x", &path, why, sizeof(why)) == -EINVAL);
	EXPECT(activation_unix(&a, "silent", "/x", &path, why, sizeof(why)) == -EINVAL);
	fd = activation_unix(&a, "wanted", "/x", &path, why, sizeof(why));
	EXPECT(fd >= 0);
	log_set_level(LOG_LEVEL_ERROR);
	activation_close_unwanted(&a);
	EXPECT(fcntl(3, F_GETFD) == -1 && fcntl(4, F_GETFD) == -1 && fcntl(6, F_GETFD) == -1);
	EXPECT(fcntl(5, F_GETFD) != -1);
	EXPECT(activation_unix(&a, "stray", "/x", &path, why, sizeof(why)) == -ENOENT);
	close(fd);
}

Test(activation, kinds)
{
	in_child(kinds);
}

/* A connection of the stored name is one; a listener or a datagram socket of that name is not, nor is another's connection. */
static void stored(void)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int pair[2], fd;

	EXPECT(pass_unix("client", SOCK_STREAM, true) == 3);
	EXPECT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pair[0] == 4 && pair[1] == 5);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", scratch_path(&scratch, "client"));
	EXPECT((fd = socket(AF_UNIX, SOCK_STREAM, 0)) == 6 && connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	EXPECT(socket(AF_UNIX, SOCK_STREAM, 0) == 7);
	say(5, "client:client:other:client:client");
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(a.stores);
	EXPECT(a.sockets[0].kind == ACTIVATION_UNIX && a.sockets[2].kind == ACTIVATION_OTHER);
	EXPECT(activation_take_client(&a) == 4);
	EXPECT(activation_take_client(&a) == 6);
	EXPECT(activation_take_client(&a) == -1);
	EXPECT(fcntl(4, F_GETFD) == FD_CLOEXEC && (fcntl(4, F_GETFL) & O_NONBLOCK));
	activation_fini(&a);
	EXPECT(fcntl(4, F_GETFD) != -1 && fcntl(6, F_GETFD) != -1);
	/* A manager that says that it stores nothing. */
	close_range(3, ~0U, 0);
	EXPECT(unlink(at.sun_path) == 0 && pass_unix("client", SOCK_STREAM, true) == 3);
	say(1, "host");
	setenv("FDSTORE", "0", 1);
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(!a.stores);
}

Test(activation, stored)
{
	in_child(stored);
}

/* A port wants both loopback addresses, and no other. */
static void ports(void)
{
	struct loopback doors;
	char why[300] = "";
	uint16_t port = 0, other = 0;
	int six = -1;

	for (int tries = 0; tries < 64 && six < 0; tries++) {
		close_range(3, ~0U, 0);
		port = 0;
		EXPECT(pass_tcp(false, INADDR_LOOPBACK, &port) == 3);
		six = pass_tcp(true, 0, &port);
	}
	EXPECT(six == 4);
	EXPECT(pass_tcp(false, INADDR_ANY, &other) == 5);
	say(3, "web:web:all");
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(activation_tcp(&a, "x", port, &doors, why, sizeof(why)) == 0);
	EXPECT(doors.fds[0] > 5 && doors.fds[1] > 5 && doors.diag >= 0 && doors.port == port);
	loopback_close(&doors);
	EXPECT(activation_tcp(&a, "x", 1, &doors, why, sizeof(why)) == -ENOENT);
	EXPECT(activation_tcp(&a, "x", other, &doors, why, sizeof(why)) == -EINVAL);
	EXPECT(strstr(why, "whoever is not on this machine"));
	EXPECT(activation_tcp(&a, "web", 1, &doors, why, sizeof(why)) == -EINVAL);
	fd_close(&a.sockets[1].fd);
	EXPECT(activation_tcp(&a, "x", port, &doors, why, sizeof(why)) == -EADDRNOTAVAIL);
	EXPECT(strstr(why, "both loopback addresses"));
}

Test(activation, ports)
{
	in_child(ports);
}

/* Without listeners in the file: every passed one, by its name where that is only its own; a port's two addresses are one. */
static void offer(void)
{
	struct config_places places = {0};
	char why[300];
	struct config *c = config_new();

	EXPECT(pass_unix("s", SOCK_STREAM, true) == 3);
	EXPECT(pass_unix("t", SOCK_STREAM, true) == 4);
	EXPECT(pass_unix("u", SOCK_STREAM, true) == 5);
	EXPECT(pass_unix("datagram", SOCK_DGRAM, false) == 6);
	say(4, "host:both:both:datagram");
	EXPECT(activation_take(&a, "client") == 0);
	EXPECT(activation_offer(&a, &places) == 0);
	EXPECT(places.npassed == 3);
	EXPECT(config_complete(c, &places, why, sizeof(why)) == 0);
	EXPECT(c->nlisteners == 3);
	EXPECT(strcmp(c->listeners[0].name, "host") == 0);
	EXPECT(strcmp(c->listeners[0].path, scratch_path(&scratch, "s")) == 0);
	EXPECT(strcmp(c->listeners[1].name, scratch_path(&scratch, "t")) == 0);
	EXPECT(strcmp(c->listeners[2].name, scratch_path(&scratch, "u")) == 0);
	config_unref(c);
	config_places_fini(&places);
}

Test(activation, offer)
{
	in_child(offer);
}
