/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stands in for the init of a sandbox and breaks the protocol in the way that its last argument, the name of the
 * sandbox, says; with "door..." when the next server comes. Then it stays, deaf to everything, until it is killed. Static, as the real one.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "local/init_wire.h"

static int sock;
static int leash;
static int door = -1;

static void send_bytes(const void *p, size_t n)
{
	int flags = fcntl(sock, F_GETFL);

	(void)fcntl(sock, F_SETFL, flags & ~O_NONBLOCK);
	(void)!fd_write_all(sock, p, n);
}

static void send_raw(uint32_t length, uint32_t job, uint32_t type, const void *payload, size_t n)
{
	const uint32_t head[3] = {length, job, type};

	send_bytes(head, sizeof(head));
	send_bytes(payload, n);
}

static void send_event(const struct wire_event *event)
{
	struct buf out = BUF_EMPTY;

	wire_put_event(&out, event);
	send_bytes(buf_data(&out), out.len);
	buf_fini(&out);
}

static void ready(void)
{
	send_event(&(struct wire_event){.type = WIRE_READY});
}

static void send_fds(void)
{
	int pair[2], files[4];

	(void)!socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	files[0] = pair[0];
	files[1] = open("/dev/null", O_RDONLY);
	files[2] = socket(AF_INET, SOCK_STREAM, 0);
	(void)!listen(files[2], 1);
	files[3] = pair[1];
	/* Valid bytes with descriptors that nobody asked for, then what no init may send. */
	(void)!fd_send(sock, "\0", 1, files, 4);
	for (int i = 0; i < 10; i++)
		(void)!fd_send(sock, "\377", 1, files, 4);
	send_bytes("\377\377\377\377\377\377\377\377\377\377\377\377", 12);
}

/* The job is always the first, 1: an exec. */
static void flood(enum wire_event_type type)
{
	static char mem[WIRE_DATA_MAX];

	for (int i = 0; i < 64; i++)
		send_event(&(struct wire_event){
			.type = type, .job = type == WIRE_LOG ? 0 : 1, .stream = 1, .bytes = str_of(mem, sizeof(mem))});
}

/* --- ports ------------------------------------------------------------------------------------------------------ */

static void send_connected(uint32_t job, const int *fds, size_t n)
{
	const uint32_t head[3] = {0, job, WIRE_CONNECTED};

	(void)!fd_send(sock, head, sizeof(head), fds, n);
}

static int listening(struct sockaddr_in *at)
{
	socklen_t size = sizeof(*at);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	*at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	(void)!bind(fd, (struct sockaddr *)at, size);
	(void)!listen(fd, 8);
	(void)!getsockname(fd, (struct sockaddr *)at, &size);
	return fd;
}

static int connected(int type)
{
	struct sockaddr_in at;
	int fd = socket(AF_INET, type, 0);

	(void)listening(&at);
	(void)!connect(fd, (struct sockaddr *)&at, sizeof(at));
	return fd;
}

/* Passes one descriptor of a kind for the job 1, a connect. */
static int wrong_descriptor(const char *mode)
{
	struct sockaddr_in at;
	int pair[2];

	if (strcmp(mode, "portfile") == 0)
		return open("/dev/null", O_RDWR);
	if (strcmp(mode, "portunix") == 0)
		return socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 ? -1 : pair[0];
	if (strcmp(mode, "portlisten") == 0)
		return listening(&at);
	if (strcmp(mode, "portfresh") == 0)
		return socket(AF_INET, SOCK_STREAM, 0);
	if (strcmp(mode, "portudp") == 0)
		return connected(SOCK_DGRAM);
	return -1;
}

static void ports(const char *mode)
{
	const uint32_t head[3] = {0, 1, WIRE_CONNECTED};
	int fds[2] = {connected(SOCK_STREAM), connected(SOCK_STREAM)};
	int wrong = wrong_descriptor(mode);

	if (wrong >= 0)
		send_connected(1, &wrong, 1);
	else if (strcmp(mode, "portfine") == 0 || strcmp(mode, "portexec") == 0)
		send_connected(1, fds, 1);
	else if (strcmp(mode, "portnone") == 0)
		send_connected(1, NULL, 0);
	else if (strcmp(mode, "porttwo") == 0)
		send_connected(1, fds, 2);
	else if (strcmp(mode, "portjob") == 0)
		send_connected(77, fds, 1);
	else if (strcmp(mode, "portmany") == 0)
		(void)(send_connected(1, fds, 1), send_connected(1, fds + 1, 1));
	else if (strcmp(mode, "portdone") == 0)
		send_event(&(struct wire_event){.type = WIRE_DONE, .job = 1});
	else if (strcmp(mode, "portlate") == 0)
		(void)!fd_send(sock, "\1\0\0\0\0\0\0\0\105\0\0\0x", 13, fds, 1);
	else if (strcmp(mode, "portsplit") == 0)
		(void)!(fd_send(sock, head, 5, fds, 1) && fd_send(sock, (const char *)head + 5, 7, NULL, 0));
}

static void before_ready(const char *mode)
{
	if (strcmp(mode, "garbage") == 0)
		send_bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	else if (strcmp(mode, "oversized") == 0)
		send_raw(0x7fffffff, 0, WIRE_READY, "", 0);
	else if (strcmp(mode, "truncated") == 0)
		(void)(send_bytes("\5\0\0", 3), shutdown(sock, SHUT_WR));
	else if (strcmp(mode, "badtype") == 0)
		send_raw(0, 0, 99, "", 0);
	else if (strcmp(mode, "earlydata") == 0)
		flood(WIRE_DATA);
	else if (strcmp(mode, "exits") == 0)
		_exit(0);
}

static void after_ready(const char *mode)
{
	const struct str a = STR("a");

	if (strcmp(mode, "fds") == 0)
		send_fds();
	else if (strcmp(mode, "twice") == 0)
		ready();
	else if (strcmp(mode, "unknownjob") == 0)
		send_event(&(struct wire_event){.type = WIRE_DONE, .job = 77});
	else if (strcmp(mode, "stream0") == 0)
		send_event(&(struct wire_event){.type = WIRE_DATA, .job = 1, .stream = 0, .bytes = a});
	else if (strcmp(mode, "window") == 0)
		flood(WIRE_DATA);
	else if (strcmp(mode, "nosize") == 0)
		send_event(&(struct wire_event){.type = WIRE_SIZE, .job = 1, .size = 5});
	else if (strcmp(mode, "relative") == 0)
		send_event(&(struct wire_event){.type = WIRE_ENTRY, .job = 1, .path = a});
	else if (strcmp(mode, "nul") == 0)
		send_event(&(struct wire_event){.type = WIRE_ENTRY, .job = 1, .path = STR("/a\0b")});
	else if (strcmp(mode, "control") == 0)
		send_event(&(struct wire_event){.type = WIRE_DONE, .job = 1, .error = 2, .text = STR("\033[2J")});
	else if (strcmp(mode, "entries") == 0)
		send_event(&(struct wire_event){.type = WIRE_ENTRY, .job = 1, .path = STR("/a")});
	else if (strcmp(mode, "logflood") == 0)
		flood(WIRE_LOG);
	else if (strcmp(mode, "padding") == 0)
		send_raw(0, 0, WIRE_READY | 0x100, "", 0);
	else if (strcmp(mode, "requests") == 0)
		send_raw(1, 1, WIRE_READ, "a", 1);
	else if (strncmp(mode, "port", 4) == 0)
		ports(mode);
}

/* --- the next server ------------------------------------------------------------------------------------------- */

/* Waits until the server is gone, and takes the socket to the next one. */
static void take_next(const char *mode)
{
	char bytes[4096];
	size_t n = 1;

	(void)fcntl(sock, F_SETFL, 0);
	(void)fcntl(door, F_SETFL, 0);
	while (read(sock, bytes, sizeof(bytes)) > 0)
		;
	if (strcmp(mode, "doorexits") == 0)
		_exit(0);
	close(sock);
	(void)!fd_recv(door, bytes, 1, &sock, &n);
}

static void at_door(const char *mode)
{
	if (strcmp(mode, "doorshut") == 0) {
		close(door);
		return;
	}
	if (strcmp(mode, "doorstays") == 0) {
		close(leash);
		return;
	}
	take_next(mode);
	if (strcmp(mode, "doorgarbage") == 0)
		send_bytes("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	else if (strcmp(mode, "doorcloses") == 0)
		close(sock);
	else if (strcmp(mode, "doordata") == 0)
		flood(WIRE_DATA);
	else if (strcmp(mode, "doortwice") == 0)
		(void)(ready(), ready());
	else if (strcmp(mode, "doorfds") == 0)
		(void)(ready(), send_fds());
	else if (strcmp(mode, "doorrequest") == 0)
		(void)(ready(), send_raw(1, 1, WIRE_READ, "a", 1));
}

static bool greets_first(const char *mode)
{
	static const char *const silent[] = {"garbage",   "oversized", "truncated", "badtype",
					     "earlydata", "exits",     "deaf"};

	for (size_t i = 0; i < sizeof(silent) / sizeof(silent[0]); i++)
		if (strcmp(mode, silent[i]) == 0)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	if (argc != 4 && argc != 5)
		return 1;
	const char *mode = argv[3] + strlen("sb-");
	sock = (int)strtol(argv[1], NULL, 10);
	leash = (int)strtol(argv[2], NULL, 10);
	if (argc == 5)
		door = (int)strtol(argv[4], NULL, 10);
	signal(SIGPIPE, SIG_IGN);
	if (greets_first(mode)) {
		ready();
		/* The server has told about the start before it hears of more. */
		usleep(100000);
		after_ready(mode);
		if (strncmp(mode, "door", 4) == 0)
			at_door(mode);
	} else {
		before_ready(mode);
	}
	for (;;)
		pause();
}
