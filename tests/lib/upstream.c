/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread accepts, one per connection follows its script with non-blocking calls and poll; a pipe that becomes
 * readable at the stop ends every wait. All shared state is below one mutex; each change of it wakes the waiters.
 */
#include "lib/upstream.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/json_write.h"
#include "lib/raw.h"
#include "lib/wait.h"
#include "lib/wire.h"

enum {
	ECHO_BODY_MAX = 65536
};

struct up_request {
	struct buf head;
	struct buf body;
};

struct up_connection {
	struct upstream *up; /* borrowed */
	unsigned index;      /* in order of accept */
	int fd;              /* owned by its thread */
	pthread_t thread;
	const struct up_step *script; /* the upstream's copy; NULL echoes */
	struct buf received;          /* everything, below the mutex */
	size_t taken;                 /* bytes of `received` that whole requests used */
	unsigned requests;            /* whole requests on this connection */
	size_t sent;
	bool peer_closed; /* the other side closed first */
	bool done;        /* its thread has closed it */
};

struct upstream {
	char path[128];
	char url[160];
	unsigned port;
	int listener;
	int stop_pipe[2]; /* readable at its end 0: everybody stops */
	pthread_t acceptor;
	struct up_step **scripts; /* owned, copies: a failed test's stack is gone before its threads are */
	size_t nscripts;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool gates[UP_MAX_GATES];
	bool refusing;
	struct up_connection *connections[UP_MAX_CONNECTIONS];
	unsigned nconnections, open, most_open;
	struct up_request *requests;
	unsigned nrequests, room;
};

static void changed(struct upstream *u)
{
	pthread_cond_broadcast(&u->changed);
}

/* --- a connection's thread -------------------------------------------------- */

/* Waits for events on the connection, or for the stop: false then. */
static bool ready(struct up_connection *c, short events, int ms)
{
	struct pollfd p[2] = {{.fd = c->fd, .events = events}, {.fd = c->up->stop_pipe[0], .events = POLLIN}};
	int n;

	do
		n = poll(p, 2, ms);
	while (n < 0 && errno == EINTR);
	return !(p[1].revents & (POLLIN | POLLHUP));
}

/* Receives what there is, waiting for it; false at the end of the connection or at the stop. */
static bool receive(struct up_connection *c)
{
	char piece[65536];
	ssize_t n;

	if (!ready(c, POLLIN, -1))
		return false;
	n = recv(c->fd, piece, sizeof(piece), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	pthread_mutex_lock(&c->up->lock);
	if (n > 0)
		buf_add(&c->received, piece, (size_t)n);
	else
		c->peer_closed = true;
	changed(c->up);
	pthread_mutex_unlock(&c->up->lock);
	return n > 0;
}

static struct str pending(struct up_connection *c)
{
	struct str all = buf_str(&c->received);

	return str_of(all.p ? all.p + c->taken : NULL, all.n - c->taken);
}

/* Stores a whole request; the caller holds the lock. */
static void remember(struct upstream *u, struct str head, struct buf *body)
{
	struct up_request *r;

	if (u->nrequests == u->room) {
		u->room = u->room ? u->room * 2 : 64;
		u->requests = realloc(u->requests, u->room * sizeof(*u->requests));
		if (!u->requests)
			abort();
	}
	r = &u->requests[u->nrequests++];
	*r = (struct up_request){.body = *body};
	buf_add(&r->head, head.p, head.n);
	*body = BUF_EMPTY;
}

enum {
	REQUEST_MORE = -1,
	REQUEST_MALFORMED = -2
};

/* Takes a whole request off what was received: its number among all, or why there is none. */
static int take_request(struct up_connection *c)
{
	struct buf body = BUF_EMPTY;
	struct str all = pending(c), head;
	size_t n = wire_head_bytes(all), used = 0;
	enum wire_extent extent;

	int number = REQUEST_MORE;

	if (!n)
		return REQUEST_MORE;
	head = str_of(all.p, n);
	extent = wire_body(head, str_of(all.p + n, all.n - n), false, false, &used, &body);
	if (extent == WIRE_COMPLETE) {
		pthread_mutex_lock(&c->up->lock);
		remember(c->up, head, &body);
		number = (int)c->up->nrequests - 1;
		c->taken += n + used;
		c->requests++;
		changed(c->up);
		pthread_mutex_unlock(&c->up->lock);
	}
	buf_fini(&body);
	return extent == WIRE_BROKEN ? REQUEST_MALFORMED : number;
}

/* The number of the next whole request, or negative when none comes. */
static int read_request(struct up_connection *c)
{
	int number;

	while ((number = take_request(c)) == REQUEST_MORE)
		if (!receive(c))
			return REQUEST_MORE;
	return number;
}

static bool send_bytes(struct up_connection *c, const char *p, size_t n)
{
	while (n) {
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			p += sent;
			n -= (size_t)sent;
			pthread_mutex_lock(&c->up->lock);
			c->sent += (size_t)sent;
			changed(c->up);
			pthread_mutex_unlock(&c->up->lock);
		} else if (errno != EAGAIN && errno != EINTR) {
			return false;
		} else if (!ready(c, POLLOUT, -1)) {
			return false;
		}
	}
	return true;
}

static bool wait_gate(struct up_connection *c, size_t gate)
{
	/* The acceptor's stop opens all gates. */
	pthread_mutex_lock(&c->up->lock);
	while (!c->up->gates[gate] && !c->up->refusing)
		pthread_cond_wait(&c->up->changed, &c->up->lock);
	pthread_mutex_unlock(&c->up->lock);
	return ready(c, 0, 0);
}

/* The head without what must not go back to a client. */
static void add_masked(struct buf *out, struct str head)
{
	while (head.n) {
		const char *end = memmem(head.p, head.n, "\r\n", 2);
		size_t n = end ? (size_t)(end - head.p) + 2 : head.n;
		struct str line = str_of(head.p, n);

		if (memmem(line.p, line.n, PLANTED_SECRET, sizeof(PLANTED_SECRET) - 1)) {
			buf_add_str(out, str_cut(&line, ':'));
			buf_add_cstr(out, ": <key>\r\n");
		} else {
			buf_add_str(out, line);
		}
		head = str_of(head.p + n, head.n - n);
	}
}

static bool answer_echo(struct up_connection *c, const struct up_request *r)
{
	struct buf json = BUF_EMPTY, head = BUF_EMPTY, out = BUF_EMPTY;
	struct json_writer w = json_writer(&json);
	struct str line = wire_first_line(buf_str(&r->head));
	bool head_only = str_eq(str_cut(&line, ' '), STR("HEAD")), good;

	line = wire_first_line(buf_str(&r->head));
	add_masked(&head, buf_str(&r->head));
	json_object_begin(&w, NULL);
	json_uint(&w, "connection", c->index);
	json_uint(&w, "request", c->requests);
	json_str(&w, "method", str_cut(&line, ' '));
	json_str(&w, "target", wire_target(buf_str(&r->head)));
	json_str(&w, "head", buf_str(&head));
	json_uint(&w, "body_bytes", r->body.len);
	if (r->body.len <= ECHO_BODY_MAX)
		json_str(&w, "body", buf_str(&r->body));
	json_object_end(&w);
	buf_addf(&out, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", json.len);
	if (!head_only)
		buf_add_str(&out, buf_str(&json));
	good = send_bytes(c, buf_data(&out), out.len);
	buf_fini(&json);
	buf_fini(&head);
	buf_fini(&out);
	return good;
}

static bool echo(struct up_connection *c)
{
	struct up_request copy = {0};
	int number = read_request(c);
	bool good;

	if (number < 0)
		return false;
	/* Other connections may move the table while this one sends. */
	pthread_mutex_lock(&c->up->lock);
	buf_add_str(&copy.head, buf_str(&c->up->requests[number].head));
	buf_add_str(&copy.body, buf_str(&c->up->requests[number].body));
	pthread_mutex_unlock(&c->up->lock);
	good = answer_echo(c, &copy);
	buf_fini(&copy.head);
	buf_fini(&copy.body);
	return good;
}

static bool read_head(struct up_connection *c)
{
	while (!wire_head_bytes(pending(c)))
		if (!receive(c))
			return false;
	return true;
}

static bool read_bytes(struct up_connection *c, size_t n)
{
	while (c->received.len < n)
		if (!receive(c))
			return false;
	return true;
}

static bool send_bytewise(struct up_connection *c, struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!send_bytes(c, s.p + i, 1))
			return false;
	return true;
}

static bool send_repeat(struct up_connection *c, const struct up_step *step)
{
	for (size_t i = 0; i < step->n; i++)
		if (!send_bytes(c, step->bytes, strlen(step->bytes)))
			return false;
	return true;
}

static void set_reset(struct up_connection *c)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

/* One step; false when the script ends there. */
static bool run_step(struct up_connection *c, const struct up_step *step)
{
	struct str bytes = str_of(step->bytes, step->n ? step->n : step->bytes ? strlen(step->bytes) : 0);

	switch (step->op) {
	case UP_READ_HEAD:
		return read_head(c);
	case UP_READ:
		return read_request(c) >= 0;
	case UP_READ_BYTES:
		return read_bytes(c, step->n);
	case UP_READ_EOF:
		while (receive(c))
			;
		return true;
	case UP_SEND:
		return send_bytes(c, bytes.p, bytes.n);
	case UP_SEND_REPEAT:
		return send_repeat(c, step);
	case UP_SEND_BYTEWISE:
		return send_bytewise(c, bytes);
	case UP_ECHO:
		return echo(c);
	case UP_DELAY:
		return ready(c, 0, (int)step->n);
	case UP_GATE:
		return wait_gate(c, step->n);
	case UP_HALF_CLOSE:
		return shutdown(c->fd, SHUT_WR) == 0;
	case UP_RESET:
		set_reset(c);
		return false;
	case UP_CLOSE:
	case UP_END:
	case UP_FOREVER:
		break;
	}
	return false;
}

static void run_script(struct up_connection *c)
{
	const struct up_step *step = c->script;

	for (;;) {
		if (step->op == UP_FOREVER)
			step = c->script;
		if (!run_step(c, step))
			break;
		step++;
	}
	if (step->op == UP_END)
		while (receive(c))
			;
}

static void *connection_main(void *arg)
{
	struct up_connection *c = arg;

	if (c->script)
		run_script(c);
	else
		while (echo(c))
			;
	pthread_mutex_lock(&c->up->lock);
	close(c->fd);
	c->fd = -1;
	c->done = true;
	c->up->open--;
	changed(c->up);
	pthread_mutex_unlock(&c->up->lock);
	return NULL;
}

/* --- accepting -------------------------------------------------------------- */

static void adopt(struct upstream *u, int fd)
{
	struct up_connection *c = calloc(1, sizeof(*c));
	int one = 1;

	if (!c)
		abort();
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c->up = u;
	c->fd = fd;
	pthread_mutex_lock(&u->lock);
	if (u->nconnections == UP_MAX_CONNECTIONS)
		abort();
	c->index = u->nconnections;
	if (u->nscripts)
		c->script = u->scripts[c->index < u->nscripts ? c->index : u->nscripts - 1];
	u->connections[u->nconnections++] = c;
	u->open++;
	if (u->open > u->most_open)
		u->most_open = u->open;
	if (pthread_create(&c->thread, NULL, connection_main, c) != 0)
		abort();
	changed(u);
	pthread_mutex_unlock(&u->lock);
}

static void *acceptor_main(void *arg)
{
	struct upstream *u = arg;

	for (;;) {
		struct pollfd p[2] = {{.fd = u->listener, .events = POLLIN}, {.fd = u->stop_pipe[0], .events = POLLIN}};
		int fd;

		if (poll(p, 2, -1) < 0 && errno == EINTR)
			continue;
		if (p[1].revents)
			return NULL;
		fd = accept4(u->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0)
			adopt(u, fd);
		else if (errno == EINVAL)
			return NULL; /* shut down: upstream_refuse */
	}
}

static void listen_unix(struct upstream *u, const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};

	cr_assert_lt(strlen(path), sizeof(at.sun_path));
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", path);
	snprintf(u->path, sizeof(u->path), "%s", path);
	snprintf(u->url, sizeof(u->url), "unix://%s", path);
	unlink(path);
	u->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(u->listener, (struct sockaddr *)&at, sizeof(at)), 0, "bind %s: %s", path, strerror(errno));
	/* For gateways that run as somebody else. */
	cr_assert_eq(chmod(path, 0666), 0);
}

static void listen_tcp(struct upstream *u)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t n = sizeof(at);

	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	u->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(u->listener, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(getsockname(u->listener, (struct sockaddr *)&at, &n), 0);
	u->port = ntohs(at.sin_port);
	snprintf(u->url, sizeof(u->url), "http://127.0.0.1:%u", u->port);
}

/* A copy of one script with the step that ends it. */
static struct up_step *copy_script(const struct up_step *script)
{
	size_t n = 1;
	struct up_step *copy;

	while (script[n - 1].op != UP_END && script[n - 1].op != UP_FOREVER)
		n++;
	copy = malloc(n * sizeof(*copy));
	cr_assert_not_null(copy);
	memcpy(copy, script, n * sizeof(*copy));
	return copy;
}

static void copy_scripts(struct upstream *u, const struct up_step *const *scripts, size_t nscripts)
{
	u->scripts = calloc(nscripts ? nscripts : 1, sizeof(*u->scripts));
	cr_assert_not_null(u->scripts);
	for (size_t i = 0; i < nscripts; i++)
		u->scripts[i] = copy_script(scripts[i]);
	u->nscripts = nscripts;
}

struct upstream *upstream_start(const char *path, const struct up_step *const *scripts, size_t nscripts)
{
	struct upstream *u = calloc(1, sizeof(*u));
	pthread_condattr_t attr;

	cr_assert_not_null(u);
	copy_scripts(u, scripts, nscripts);
	pthread_mutex_init(&u->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&u->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (path)
		listen_unix(u, path);
	else
		listen_tcp(u);
	cr_assert_eq(listen(u->listener, 4096), 0);
	cr_assert_eq(pipe2(u->stop_pipe, O_CLOEXEC), 0);
	cr_assert_eq(pthread_create(&u->acceptor, NULL, acceptor_main, u), 0);
	return u;
}

struct upstream *upstream_echo(const char *path)
{
	return upstream_start(path, NULL, 0);
}

void upstream_refuse(struct upstream *u)
{
	if (u->listener < 0)
		return;
	(void)shutdown(u->listener, SHUT_RDWR);
	if (u->path[0])
		unlink(u->path);
	if (!u->path[0]) {
		/* A listening TCP socket that was shut down still holds its port: the dial must be refused. */
		pthread_join(u->acceptor, NULL);
		close(u->listener);
		u->listener = -1;
	}
}

void upstream_stop(struct upstream *u)
{
	if (!u)
		return;
	pthread_mutex_lock(&u->lock);
	u->refusing = true;
	changed(u);
	pthread_mutex_unlock(&u->lock);
	close(u->stop_pipe[1]);
	if (u->listener >= 0) {
		pthread_join(u->acceptor, NULL);
		close(u->listener);
	}
	for (unsigned i = 0; i < u->nconnections; i++) {
		pthread_join(u->connections[i]->thread, NULL);
		buf_fini(&u->connections[i]->received);
		free(u->connections[i]);
	}
	for (unsigned i = 0; i < u->nrequests; i++) {
		buf_fini(&u->requests[i].head);
		buf_fini(&u->requests[i].body);
	}
	free(u->requests);
	for (size_t i = 0; i < u->nscripts; i++)
		free(u->scripts[i]);
	free(u->scripts);
	close(u->stop_pipe[0]);
	if (u->path[0])
		unlink(u->path);
	pthread_cond_destroy(&u->changed);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

/* --- questions of the test -------------------------------------------------- */

const char *upstream_url(const struct upstream *u)
{
	return u->url;
}

unsigned upstream_port(const struct upstream *u)
{
	return u->port;
}

static void set_gate(struct upstream *u, unsigned gate, bool open)
{
	cr_assert_lt(gate, UP_MAX_GATES);
	pthread_mutex_lock(&u->lock);
	u->gates[gate] = open;
	changed(u);
	pthread_mutex_unlock(&u->lock);
}

void upstream_open_gate(struct upstream *u, unsigned gate)
{
	set_gate(u, gate, true);
}

void upstream_shut_gate(struct upstream *u, unsigned gate)
{
	set_gate(u, gate, false);
}

static unsigned ask(struct upstream *u, const unsigned *counter)
{
	unsigned value;

	pthread_mutex_lock(&u->lock);
	value = *counter;
	pthread_mutex_unlock(&u->lock);
	return value;
}

unsigned upstream_connections(struct upstream *u)
{
	return ask(u, &u->nconnections);
}

unsigned upstream_open(struct upstream *u)
{
	return ask(u, &u->open);
}

unsigned upstream_most_open(struct upstream *u)
{
	return ask(u, &u->most_open);
}

unsigned upstream_requests(struct upstream *u)
{
	return ask(u, &u->nrequests);
}

/* Waits below the lock until holds(u, i, n), up to WAIT_MS. */
static bool await(struct upstream *u, bool (*holds)(struct upstream *u, unsigned i, size_t n), unsigned i, size_t n)
{
	struct timespec end;
	bool good;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WAIT_MS / 1000;
	pthread_mutex_lock(&u->lock);
	while (!(good = holds(u, i, n)))
		if (pthread_cond_timedwait(&u->changed, &u->lock, &end) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&u->lock);
	return good;
}

static bool has_requests(struct upstream *u, unsigned i, size_t n)
{
	(void)i;
	return u->nrequests >= n;
}

static bool has_connections(struct upstream *u, unsigned i, size_t n)
{
	(void)i;
	return u->nconnections >= n;
}

static bool has_few_open(struct upstream *u, unsigned i, size_t n)
{
	(void)i;
	return u->open <= n;
}

static bool has_closed(struct upstream *u, unsigned i, size_t n)
{
	(void)n;
	return i < u->nconnections && u->connections[i]->peer_closed;
}

static bool has_bytes(struct upstream *u, unsigned i, size_t n)
{
	return i < u->nconnections && u->connections[i]->received.len >= n;
}

bool upstream_wait_requests(struct upstream *u, unsigned n)
{
	return await(u, has_requests, 0, n);
}

bool upstream_wait_connections(struct upstream *u, unsigned n)
{
	return await(u, has_connections, 0, n);
}

bool upstream_wait_open(struct upstream *u, unsigned n)
{
	return await(u, has_few_open, 0, n);
}

bool upstream_wait_closed(struct upstream *u, unsigned i)
{
	return await(u, has_closed, i, 0);
}

bool upstream_wait_bytes(struct upstream *u, unsigned i, size_t n)
{
	return await(u, has_bytes, i, n);
}

static bool has_sent(struct upstream *u, unsigned i, size_t n)
{
	return i < u->nconnections && u->connections[i]->sent >= n;
}

bool upstream_wait_sent(struct upstream *u, unsigned i, size_t n)
{
	return await(u, has_sent, i, n);
}

static struct buf copy_of(const struct buf *b)
{
	struct buf out = BUF_EMPTY;

	buf_add_str(&out, buf_str(b));
	return out;
}

struct buf upstream_received(struct upstream *u, unsigned i)
{
	struct buf out = BUF_EMPTY;

	pthread_mutex_lock(&u->lock);
	if (i < u->nconnections)
		out = copy_of(&u->connections[i]->received);
	pthread_mutex_unlock(&u->lock);
	return out;
}

struct buf upstream_everything(struct upstream *u)
{
	struct buf out = BUF_EMPTY;

	pthread_mutex_lock(&u->lock);
	for (unsigned i = 0; i < u->nconnections; i++)
		buf_add_str(&out, buf_str(&u->connections[i]->received));
	pthread_mutex_unlock(&u->lock);
	return out;
}

struct buf upstream_request_head(struct upstream *u, unsigned nth)
{
	struct buf out = BUF_EMPTY;

	pthread_mutex_lock(&u->lock);
	if (nth < u->nrequests)
		out = copy_of(&u->requests[nth].head);
	pthread_mutex_unlock(&u->lock);
	return out;
}

struct buf upstream_request_body(struct upstream *u, unsigned nth)
{
	struct buf out = BUF_EMPTY;

	pthread_mutex_lock(&u->lock);
	if (nth < u->nrequests)
		out = copy_of(&u->requests[nth].body);
	pthread_mutex_unlock(&u->lock);
	return out;
}

size_t upstream_sent(struct upstream *u, unsigned i)
{
	size_t n = 0;

	pthread_mutex_lock(&u->lock);
	if (i < u->nconnections)
		n = u->connections[i]->sent;
	pthread_mutex_unlock(&u->lock);
	return n;
}
