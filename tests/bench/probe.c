/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that measures one thing at a time over a Unix socket and prints numbers, separated by spaces:
 *
 *   requests N CONNECTIONS   N small requests, one at a time on each connection: seconds
 *   latency N                N small requests one after the other: median and 99th percentile, in microseconds
 *   down BYTES | up BYTES    one long body: seconds
 *   chunks N GAP-MS          a stream of N timed chunks: median and 99th percentile of their way here, in microseconds
 *   idle N                   opens N connections, one request on each, prints "ready", keeps them until stdin ends
 *   streams N                opens N streams that go on, waits for each head, prints "ready", keeps them likewise
 *
 * Anything but the answer expected ends it with status 1: a fast error must not look like a good figure.
 *
 * usage: bench_probe SOCKET-PATH COMMAND ARGUMENTS
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
	BLOCK_BYTES = 262144,
	ANSWER_MAX_BYTES = 4096,
	CONNECTIONS_MAX = 65536
};

#define SANDBOX "/api/v1/sandboxes/sb-0123456789ab"

static char small_request[512];
static size_t small_request_bytes;

static const char *socket_path;
static char block[BLOCK_BYTES];

static void die(const char *what)
{
	fprintf(stderr, "bench_probe: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int dial(void)
{
	const struct timeval patience = {.tv_sec = 60};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(socket_path) >= sizeof(address.sun_path))
		die("the path is too long");
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		die(socket_path);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0)
		die("SO_RCVTIMEO");
	return fd;
}

static void send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(fd, p, n, MSG_NOSIGNAL);
		if (sent < 0)
			die("send");
		p += sent;
		n -= (size_t)sent;
	}
}

static size_t receive(int fd, char *to, size_t n)
{
	ssize_t got = recv(fd, to, n, 0);

	errno = got == 0 ? 0 : errno;
	if (got <= 0)
		die("the connection ended");
	return (size_t)got;
}

/* The length of a terminated head, 0 while it is not complete; anything but 200 is fatal. */
static size_t head_length(const char *text)
{
	const char *end = strstr(text, "\r\n\r\n");

	errno = 0;
	if (end && strncmp(text, "HTTP/1.1 200", 12) != 0)
		die("the answer is not 200");
	return end ? (size_t)(end - text) + 4 : 0;
}

static uint64_t content_length(const char *head)
{
	const char *at = strcasestr(head, "\r\ncontent-length:");

	errno = 0;
	if (!at)
		die("an answer without Content-Length");
	return strtoull(at + 17, NULL, 10);
}

/* Reads a head and what came with it into `text`; returns the body bytes still to come. */
static uint64_t read_head(int fd, char text[ANSWER_MAX_BYTES + 1])
{
	size_t have = 0;
	size_t head;

	do {
		if (have == ANSWER_MAX_BYTES)
			die("the head is too long");
		have += receive(fd, text + have, ANSWER_MAX_BYTES - have);
		text[have] = '\0';
	} while ((head = head_length(text)) == 0);
	return content_length(text) - (have - head);
}

static void read_body(int fd, uint64_t left)
{
	while (left)
		left -= receive(fd, block, left < sizeof(block) ? (size_t)left : sizeof(block));
}

static void ask(int fd)
{
	char text[ANSWER_MAX_BYTES + 1];

	send_all(fd, small_request, small_request_bytes);
	read_body(fd, read_head(fd, text));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void print_times(uint64_t *ns, size_t n)
{
	qsort(ns, n, sizeof(*ns), compare);
	printf("%.2f %.2f\n", (double)ns[n / 2] / 1000, (double)ns[n * 99 / 100] / 1000);
}

static uint64_t *new_times(size_t n)
{
	uint64_t *ns = n ? calloc(n, sizeof(*ns)) : NULL;

	if (!ns)
		die("a count is needed");
	return ns;
}

static void run_latency(size_t n)
{
	uint64_t *ns = new_times(n);
	int fd = dial();

	for (size_t i = 0; i < n; i++) {
		uint64_t start = now_ns();
		ask(fd);
		ns[i] = now_ns() - start;
	}
	print_times(ns, n);
	free(ns);
	close(fd);
}

static void run_requests(size_t n, size_t connections)
{
	struct pollfd *fds = connections && connections <= CONNECTIONS_MAX ? calloc(connections, sizeof(*fds)) : NULL;
	uint64_t start;
	size_t sent = 0;
	size_t done = 0;

	if (!fds)
		die("a number of connections is needed");
	for (size_t i = 0; i < connections; i++)
		fds[i] = (struct pollfd){.fd = dial(), .events = POLLIN};
	start = now_ns();
	for (; sent < n && sent < connections; sent++)
		send_all(fds[sent].fd, small_request, small_request_bytes);
	while (done < n) {
		if (poll(fds, connections, 60000) <= 0)
			die("no answer within a minute");
		for (size_t i = 0; i < connections; i++) {
			char text[ANSWER_MAX_BYTES + 1];
			if (!fds[i].revents)
				continue;
			read_body(fds[i].fd, read_head(fds[i].fd, text));
			done++;
			if (sent < n) {
				send_all(fds[i].fd, small_request, small_request_bytes);
				sent++;
			}
		}
	}
	printf("%.6f\n", (double)(now_ns() - start) / 1e9);
	for (size_t i = 0; i < connections; i++)
		close(fds[i].fd);
	free(fds);
}

static void run_down(uint64_t bytes)
{
	char text[ANSWER_MAX_BYTES + 1];
	uint64_t start = now_ns();
	int fd = dial();
	int n = snprintf(text, sizeof(text),
			 "GET " SANDBOX "/files?bytes=%" PRIu64 " HTTP/1.1\r\nHost: localhost\r\n\r\n", bytes);

	send_all(fd, text, (size_t)n);
	read_body(fd, read_head(fd, text));
	errno = 0;
	if (content_length(text) != bytes)
		die("another length was announced");
	printf("%.6f\n", (double)(now_ns() - start) / 1e9);
	close(fd);
}

static void run_up(uint64_t bytes)
{
	char text[ANSWER_MAX_BYTES + 1];
	uint64_t start = now_ns();
	int fd = dial();
	int n = snprintf(text, sizeof(text),
			 "POST " SANDBOX "/files HTTP/1.1\r\nHost: localhost\r\nContent-Length: %" PRIu64 "\r\n\r\n",
			 bytes);

	send_all(fd, text, (size_t)n);
	for (uint64_t left = bytes; left;) {
		size_t step = left < sizeof(block) ? (size_t)left : sizeof(block);
		send_all(fd, block, step);
		left -= step;
	}
	read_body(fd, read_head(fd, text));
	printf("%.6f\n", (double)(now_ns() - start) / 1e9);
	close(fd);
}

/* Takes the times out of the lines that arrived; each line stands in a chunk of its own, so it arrives whole. */
static size_t take_lines(const char *text, uint64_t at_ns, uint64_t *ns, size_t have, size_t max)
{
	for (const char *line = text; (line = strchr(line, '\n')); line++) {
		char *end;
		uint64_t sent = strtoull(line + 1, &end, 10);
		/* Sizes of chunks are short and end with CR; only a time is followed by LF. */
		if (end > line + 10 && *end == '\n' && have < max)
			ns[have++] = at_ns - sent;
	}
	return have;
}

static void run_chunks(size_t n, unsigned gap_ms)
{
	uint64_t *ns = new_times(n);
	size_t have = 0;
	char text[ANSWER_MAX_BYTES + 1];
	int fd = dial();
	int len = snprintf(text, sizeof(text),
			   "GET " SANDBOX "/logs?count=%zu&gap=%u HTTP/1.1\r\nHost: localhost\r\n\r\n", n, gap_ms);

	send_all(fd, text, (size_t)len);
	while (have < n) {
		size_t got = receive(fd, text, ANSWER_MAX_BYTES);
		uint64_t at_ns = now_ns();
		text[got] = '\0';
		have = take_lines(text, at_ns, ns, have, n);
	}
	print_times(ns, n);
	free(ns);
	close(fd);
}

/* Says that all is open, and keeps it so until whoever started this closes our input. */
static void hold(void)
{
	char byte;

	printf("ready\n");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
}

static void run_idle(size_t n)
{
	for (size_t i = 0; i < n; i++)
		ask(dial());
	hold();
}

static void run_streams(size_t n)
{
	static const char request[] = "GET " SANDBOX "/logs?count=1000000&gap=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";

	for (size_t i = 0; i < n; i++) {
		char text[ANSWER_MAX_BYTES + 1];
		size_t have = 0;
		int fd = dial();

		send_all(fd, request, sizeof(request) - 1);
		do {
			if (have == ANSWER_MAX_BYTES)
				die("the head is too long");
			have += receive(fd, text + have, ANSWER_MAX_BYTES - have);
			text[have] = '\0';
		} while (head_length(text) == 0);
	}
	hold();
}

static void allow_many_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void make_small_request(const char *path)
{
	int n = snprintf(
		small_request, sizeof(small_request),
		"GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench/1\r\nAccept: application/json\r\n\r\n", path);

	if (n < 0 || (size_t)n >= sizeof(small_request))
		die("the path is too long");
	small_request_bytes = (size_t)n;
}

int main(int argc, char **argv)
{
	const char *command = argc > 2 ? argv[2] : "";
	uint64_t first = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
	uint64_t second = argc > 4 ? strtoull(argv[4], NULL, 10) : 0;

	if (argc < 4) {
		fprintf(stderr,
			"usage: bench_probe SOCKET-PATH requests|latency|down|up|chunks|idle|streams N [N [PATH]]\n");
		return 2;
	}
	socket_path = argv[1];
	make_small_request(argc > 5 ? argv[5] : SANDBOX);
	allow_many_descriptors();
	if (strcmp(command, "requests") == 0)
		run_requests(first, second);
	else if (strcmp(command, "latency") == 0)
		run_latency(first);
	else if (strcmp(command, "down") == 0)
		run_down(first);
	else if (strcmp(command, "up") == 0)
		run_up(first);
	else if (strcmp(command, "chunks") == 0)
		run_chunks(first, (unsigned)second);
	else if (strcmp(command, "idle") == 0)
		run_idle(first);
	else if (strcmp(command, "streams") == 0)
		run_streams(first);
	else
		die("unknown command");
	return 0;
}
