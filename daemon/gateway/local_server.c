/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   STOPPED --> STARTING --> READY
 *      ^           |  |        |
 *      |           |  +--------+--> BACKOFF --> STARTING ...     it ended by itself: again, after a while
 *      |           +---------------------+
 *      +--- STOPPING <-------------------+                       local_server_stop
 *
 * Its keys go through pipes, so they are in no file, argument or environment. While STARTING a short timer tries a request
 * with the key; the first 200 makes it READY. The wait before a restart doubles from 100 ms to 10 s and starts over once a
 * server has stayed READY for a minute.
 *
 * A foreign one, a service of its own, is not started but looked for, with the keys beside its socket. While READY an idle
 * connection to it is kept; when that ends, SO_PEERCRED of the next one says whether the process is still the same.
 */
#include "gateway/local_server.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/http_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/secret.h"
#include "common/unix_socket.h"
#include "gateway/config.h"
#include "gateway/keyring.h"
#include "gateway/launcher.h"

enum server_state {
	SERVER_STOPPED,
	SERVER_STARTING,
	SERVER_READY,
	SERVER_BACKOFF,
	SERVER_STOPPING,
	SERVER_STATES,
};

static const char *const state_names[SERVER_STATES] = {"stopped", "starting", "ready", "backoff", "stopping"};

static const uint32_t state_edges[SERVER_STATES] = {
	[SERVER_STOPPED] = SM_TO(SERVER_STARTING),
	[SERVER_STARTING] = SM_TO(SERVER_READY) | SM_TO(SERVER_BACKOFF) | SM_TO(SERVER_STOPPING),
	[SERVER_READY] = SM_TO(SERVER_BACKOFF) | SM_TO(SERVER_STOPPING),
	[SERVER_BACKOFF] = SM_TO(SERVER_STARTING) | SM_TO(SERVER_STOPPED),
	[SERVER_STOPPING] = SM_TO(SERVER_STOPPED),
};

static const struct sm sm = {"local server", state_names, state_edges, SERVER_STATES};

enum {
	PROBE_MS = 10,
	PROBE_FOREIGN_MS = 100,
	BACKOFF_MIN_MS = 100,
	BACKOFF_MAX_MS = 10000,
	STABLE_MS = 60000,
	STOP_MS = 5000,
	TROUBLE_SIZE = 512
};

struct local_server {
	struct loop *loop;         /* borrowed */
	struct launcher *launcher; /* borrowed; NULL: a foreign one, which somebody else starts and stops */
	const char *socket;        /* borrowed */
	struct key *key;           /* owned reference */
	struct key *admin_key;     /* the same */
	enum server_state state;
	int life_fd; /* owned; its end of file ends the server; of a foreign one: an idle connection, which ends with it */
	struct event *life;  /* owned; foreign: the end of life_fd; NULL without */
	pid_t pid;           /* foreign: who answered the last time; 0: nobody yet */
	int probe_fd;        /* owned; a request under way, or -1 */
	struct event *timer; /* owned; probing, back-off or the patience of a stop */
	uint64_t ready_at_ms;
	unsigned backoff_ms;
	bool launcher_gone;
	bool left_behind; /* the last one was killed, and none has cleared up after it yet */
	char trouble[TROUBLE_SIZE];
	const struct local_server_events *events; /* borrowed */
	void *arg;
};

const struct sm *local_server_sm(void)
{
	return &sm;
}

static void set_timer(struct local_server *s, unsigned ms)
{
	struct timeval tv = clock_span(ms);

	event_add(s->timer, &tv);
}

static unsigned probe_ms(const struct local_server *s)
{
	return s->launcher ? PROBE_MS : PROBE_FOREIGN_MS;
}

static void end_life(struct local_server *s)
{
	if (s->life)
		event_free(s->life);
	s->life = NULL;
	fd_close(&s->life_fd);
}

static void move(struct local_server *s, enum server_state to)
{
	s->state = sm_move(&sm, 0, s->state, to);
	event_del(s->timer);
	if (to != SERVER_STARTING)
		fd_close(&s->probe_fd);
	switch (to) {
	case SERVER_STARTING:
		set_timer(s, s->launcher ? PROBE_MS : 0);
		break;
	case SERVER_READY:
		s->trouble[0] = '\0';
		s->left_behind = false;
		s->ready_at_ms = clock_ms();
		break;
	case SERVER_BACKOFF:
		end_life(s);
		set_timer(s, s->backoff_ms);
		s->backoff_ms = s->backoff_ms * 2 < BACKOFF_MAX_MS ? s->backoff_ms * 2 : BACKOFF_MAX_MS;
		break;
	case SERVER_STOPPING:
		end_life(s);
		set_timer(s, STOP_MS);
		break;
	case SERVER_STOPPED:
		end_life(s);
		break;
	case SERVER_STATES:
		CHECK(!"not a state");
	}
}

/* --- starting ------------------------------------------------------------------------------------------------------------ */

/* A pipe that holds the key and ends behind it; the reading end, or negative. */
static int key_pipe(const struct key *key)
{
	struct str bytes = secret_bytes(key_secret(key));
	int ends[2];
	int rc;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	rc = fd_write_all(ends[1], bytes.p, bytes.n);
	close(ends[1]);
	if (rc) {
		close(ends[0]);
		return rc;
	}
	return ends[0];
}

static int launch(struct local_server *s)
{
	int pair[2] = {-1, -1};
	int key = key_pipe(s->key);
	int admin = key_pipe(s->admin_key);
	int rc = key < 0 ? key : admin < 0 ? admin : 0;

	if (rc == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		rc = -errno;
	if (rc == 0)
		rc = launcher_start(s->launcher, pair[1], key, admin);
	fd_close(&key);
	fd_close(&admin);
	fd_close(&pair[1]);
	if (rc) {
		fd_close(&pair[0]);
		return rc;
	}
	s->life_fd = pair[0];
	return 0;
}

static void begin(struct local_server *s)
{
	int rc;

	move(s, SERVER_STARTING);
	if (!s->launcher)
		return;
	rc = s->launcher_gone ? -ESRCH : launch(s);
	if (rc == 0)
		return;
	snprintf(s->trouble, sizeof(s->trouble), "cannot be started: %s",
		 s->launcher_gone ? "the launcher process is gone; restart the daemon" : strerror(-rc));
	log_error("local server: %s", s->trouble);
	move(s, SERVER_BACKOFF);
}

/* Sends the request that tells whether it answers. */
static void send_probe(struct local_server *s)
{
	struct buf request = BUF_EMPTY;
	int rc = -ENOMEM;

	if (!key_secret(s->key) || !key_secret(s->admin_key)) {
		snprintf(s->trouble, sizeof(s->trouble), "no key is to be read beside %s", s->socket);
		return;
	}
	s->probe_fd = s->launcher ? unix_socket_connect(s->socket) : unix_socket_connect_now(s->socket);
	if (s->probe_fd < 0) {
		if (!s->launcher)
			snprintf(s->trouble, sizeof(s->trouble), "%s: %s", s->socket, strerror(-s->probe_fd));
		s->probe_fd = -1;
		return;
	}
	http_write_request_line(&request, STR("GET"), STR("/api/v1/live"));
	http_write_header(&request, STR("Host"), STR("localhost"));
	http_write_header_secret(&request, STR("X-API-Key"), key_secret(s->key));
	http_write_header(&request, STR("Connection"), STR("close"));
	http_write_end(&request);
	if (!request.failed)
		rc = fd_set_nonblock(s->probe_fd);
	if (rc == 0)
		rc = fd_write_all(s->probe_fd, buf_data(&request), request.len);
	buf_wipe(&request);
	if (rc)
		fd_close(&s->probe_fd);
}

/* Whether it is the process that answered the last time, which is known of a foreign one only; takes note of it. */
static bool is_same(struct local_server *s, int fd)
{
	struct ucred who;
	socklen_t size = sizeof(who);
	pid_t before = s->pid;

	if (s->launcher || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0)
		return false;
	s->pid = who.pid;
	return before == who.pid;
}

static void watch_foreign(struct local_server *s);

static void answered(struct local_server *s)
{
	bool survived = is_same(s, s->probe_fd);

	move(s, SERVER_READY);
	log_info("local server: ready");
	if (!s->launcher) {
		s->backoff_ms = BACKOFF_MIN_MS;
		watch_foreign(s);
	}
	/* It may have ended in between. */
	if (s->state == SERVER_READY)
		s->events->on_ready(s->arg, survived);
}

static void probe(struct local_server *s)
{
	char head[16];
	ssize_t n;

	if (s->probe_fd < 0)
		send_probe(s);
	if (s->probe_fd >= 0) {
		n = recv(s->probe_fd, head, sizeof(head), MSG_DONTWAIT);
		if (n >= 12 && memcmp(head, "HTTP/1.1 200", 12) == 0) {
			answered(s);
			return;
		}
		if (n >= 12 && !s->launcher)
			snprintf(s->trouble, sizeof(s->trouble), "%s: answers with status %.3s", s->socket, head + 9);
		if (n >= 0 || (errno != EAGAIN && errno != EINTR))
			fd_close(&s->probe_fd);
	}
	set_timer(s, probe_ms(s));
}

/* --- a foreign one ----------------------------------------------------------------------------------------------------------- */

static void lose_foreign(struct local_server *s, int rc)
{
	snprintf(s->trouble, sizeof(s->trouble), "%s: %s", s->socket, strerror(-rc));
	log_error("local server: %s; it is looked for", s->trouble);
	move(s, SERVER_BACKOFF);
}

/* It closes what is idle for long, and everything when it ends: whether the same one is still there is asked anew. */
static void on_life(evutil_socket_t fd, short what, void *arg)
{
	struct local_server *s = arg;
	char byte;

	(void)what;
	if (recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	end_life(s);
	watch_foreign(s);
}

/* In READY: keeps a connection, by whose end is seen that the server ends. */
static void watch_foreign(struct local_server *s)
{
	int fd = unix_socket_connect_now(s->socket);
	pid_t before = s->pid;

	if (fd < 0) {
		lose_foreign(s, fd);
		return;
	}
	s->life_fd = fd;
	/* Another process has its sockets already: it has to answer before it counts. */
	if (!is_same(s, fd)) {
		s->pid = before;
		lose_foreign(s, -ECONNRESET);
		return;
	}
	s->life = event_new(loop_base(s->loop), fd, EV_READ | EV_PERSIST, on_life, s);
	if (!s->life || event_add(s->life, NULL) < 0)
		lose_foreign(s, -ENOMEM);
}

/* Nobody is to be stopped: it is let go. */
static void let_go(struct local_server *s)
{
	if (s->state == SERVER_STARTING || s->state == SERVER_READY)
		move(s, SERVER_STOPPING);
	if (s->state != SERVER_STOPPED)
		move(s, SERVER_STOPPED);
	s->events->on_stopped(s->arg);
}

/* --- what happens to it ---------------------------------------------------------------------------------------------------- */

static void on_ended(struct local_server *s, enum launcher_event event, int status)
{
	if (event == LAUNCHER_FAILED)
		snprintf(s->trouble, sizeof(s->trouble), "%s cannot be started: %s", launcher_server(s->launcher),
			 strerror(status));
	else if (event == LAUNCHER_GONE)
		snprintf(s->trouble, sizeof(s->trouble), "the launcher process is gone; restart the daemon");
	else if (WIFSIGNALED(status))
		snprintf(s->trouble, sizeof(s->trouble), "ended by signal %d", WTERMSIG(status));
	else
		snprintf(s->trouble, sizeof(s->trouble), "exited with status %d", WEXITSTATUS(status));
	switch (s->state) {
	case SERVER_STARTING:
	case SERVER_READY:
		if (s->state == SERVER_READY && clock_ms() - s->ready_at_ms > STABLE_MS)
			s->backoff_ms = BACKOFF_MIN_MS;
		s->left_behind = s->left_behind || (event == LAUNCHER_EXITED && WIFSIGNALED(status));
		log_error("local server: %s; next start in %u ms", s->trouble, s->backoff_ms);
		move(s, SERVER_BACKOFF);
		return;
	case SERVER_STOPPING:
		move(s, SERVER_STOPPED);
		s->events->on_stopped(s->arg);
		return;
	case SERVER_STOPPED:
	case SERVER_BACKOFF:
	case SERVER_STATES:
		return;
	}
}

static void on_launcher(void *arg, enum launcher_event event, int status)
{
	struct local_server *s = arg;

	s->launcher_gone = s->launcher_gone || event == LAUNCHER_GONE;
	on_ended(s, event, status);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct local_server *s = arg;

	(void)fd;
	(void)what;
	switch (s->state) {
	case SERVER_STARTING:
		probe(s);
		return;
	case SERVER_BACKOFF:
		begin(s);
		return;
	case SERVER_STOPPING:
		log_warn("local server: does not end within %d ms, killed", STOP_MS);
		launcher_kill(s->launcher);
		set_timer(s, STOP_MS);
		return;
	case SERVER_STOPPED:
	case SERVER_READY:
	case SERVER_STATES:
		return;
	}
}

void local_server_start(struct local_server *s)
{
	begin(s);
}

void local_server_stop(struct local_server *s)
{
	if (!s->launcher) {
		let_go(s);
		return;
	}
	switch (s->state) {
	case SERVER_STARTING:
	case SERVER_READY:
		move(s, SERVER_STOPPING);
		return;
	case SERVER_STOPPING:
		launcher_kill(s->launcher);
		return;
	case SERVER_BACKOFF:
		/* Directories of the dead one's sandboxes are left, and its socket: a server clears up when it starts. */
		if (s->left_behind && !s->launcher_gone)
			begin(s);
		if (s->state == SERVER_STARTING) {
			move(s, SERVER_STOPPING);
			return;
		}
		move(s, SERVER_STOPPED);
		s->events->on_stopped(s->arg);
		return;
	case SERVER_STOPPED:
		s->events->on_stopped(s->arg);
		return;
	case SERVER_STATES:
		return;
	}
}

/* --- life -------------------------------------------------------------------------------------------------------------------- */

static int make_key(struct key **out)
{
	struct secret *s;
	int rc = secret_random(&s);

	if (rc)
		return rc;
	*out = key_fixed(s);
	secret_unref(s);
	return *out ? 0 : -ENOMEM;
}

static struct local_server *make(struct loop *loop, const char *socket, const struct local_server_events *events,
				 void *arg)
{
	struct local_server *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->loop = loop;
	s->socket = socket;
	s->events = events;
	s->arg = arg;
	s->life_fd = s->probe_fd = -1;
	s->backoff_ms = BACKOFF_MIN_MS;
	s->timer = evtimer_new(loop_base(loop), on_timer, s);
	if (s->timer)
		return s;
	free(s);
	return NULL;
}

int local_server_new(struct loop *loop, struct launcher *launcher, const char *socket,
		     const struct local_server_events *events, void *arg, struct local_server **out)
{
	struct local_server *s = make(loop, socket, events, arg);
	int rc;

	if (!s)
		return -ENOMEM;
	s->launcher = launcher;
	rc = make_key(&s->key);
	if (rc == 0)
		rc = make_key(&s->admin_key);
	if (rc) {
		local_server_free(s);
		return rc;
	}
	launcher_on_server(launcher, on_launcher, s);
	*out = s;
	return 0;
}

/* The key in a file beside the socket, as soon as it is there. */
static int await_key(struct keyring *keyring, const char *socket, const char *name, struct key **out)
{
	struct config_key source = {.source = CONFIG_SOURCE_FILE};
	int rc = -ENOMEM;

	if (asprintf(&source.from, "%.*s/%s", (int)(strrchr(socket, '/') - socket), socket, name) >= 0)
		rc = keyring_await(keyring, &source, "local", out);
	free(source.from);
	return rc;
}

int local_server_new_foreign(struct loop *loop, struct keyring *keyring, const char *socket,
			     const struct local_server_events *events, void *arg, struct local_server **out)
{
	struct local_server *s = make(loop, socket, events, arg);
	int rc;

	if (!s)
		return -ENOMEM;
	rc = await_key(keyring, socket, "api.key", &s->key);
	if (rc == 0)
		rc = await_key(keyring, socket, "admin.key", &s->admin_key);
	if (rc) {
		local_server_free(s);
		return rc;
	}
	*out = s;
	return 0;
}

void local_server_free(struct local_server *s)
{
	if (!s)
		return;
	if (s->timer)
		event_free(s->timer);
	if (s->launcher)
		launcher_on_server(s->launcher, NULL, NULL);
	end_life(s);
	fd_close(&s->probe_fd);
	key_unref(s->key);
	key_unref(s->admin_key);
	free(s);
}

struct key *local_server_key(const struct local_server *s)
{
	return s->key;
}

struct key *local_server_admin_key(const struct local_server *s)
{
	return s->admin_key;
}

const char *local_server_trouble(const struct local_server *s)
{
	return s->state == SERVER_READY ? NULL : s->trouble[0] ? s->trouble : "starting";
}
