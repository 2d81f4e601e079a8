/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/canned.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/check.h"

enum {
	REQUESTS_MAX = 64,
	LINE_MAX_BYTES = 200,
};

struct canned {
	int listening;
	pthread_t thread;
	const char *const *answers; /* borrowed */
	atomic_uint requests;
	char lines[REQUESTS_MAX][LINE_MAX_BYTES];
};

/* Until the head is complete; 0 when the client closed before. */
static int read_head(int fd, char *line)
{
	char head[8192];
	size_t n = 0;

	while (n < sizeof(head) - 1) {
		ssize_t got = recv(fd, head + n, sizeof(head) - 1 - n, 0);
		if (got <= 0)
			return 0;
		n += (size_t)got;
		head[n] = '\0';
		if (strstr(head, "\r\n\r\n"))
			break;
	}
	*strstr(head, "\r\n") = '\0';
	snprintf(line, LINE_MAX_BYTES, "%.*s", LINE_MAX_BYTES - 1, head);
	return 1;
}

static void *serve(void *arg)
{
	struct canned *c = arg;
	int fd;

	while ((fd = accept(c->listening, NULL, NULL)) >= 0) {
		unsigned n = atomic_load(&c->requests);
		if (n < REQUESTS_MAX && read_head(fd, c->lines[n])) {
			size_t i = 0;
			while (i < n && c->answers[i + 1])
				i++;
			atomic_store(&c->requests, n + 1);
			send(fd, c->answers[i], strlen(c->answers[i]), MSG_NOSIGNAL);
		}
		close(fd);
	}
	return NULL;
}

struct canned *canned_start(const char *path, const char *const *answers)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct canned *c = calloc(1, sizeof(*c));

	CHECK(c != NULL);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	c->answers = answers;
	c->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(c->listening >= 0);
	CHECK(bind(c->listening, (struct sockaddr *)&address, sizeof(address)) == 0);
	CHECK(listen(c->listening, 64) == 0);
	CHECK(pthread_create(&c->thread, NULL, serve, c) == 0);
	return c;
}

void canned_stop(struct canned *c)
{
	shutdown(c->listening, SHUT_RDWR);
	pthread_join(c->thread, NULL);
	close(c->listening);
	free(c);
}

unsigned canned_requests(struct canned *c)
{
	return atomic_load(&c->requests);
}

const char *canned_line(struct canned *c, unsigned nth)
{
	return nth < canned_requests(c) ? c->lines[nth] : "";
}
