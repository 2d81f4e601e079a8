/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Start: loop, sandbox host (which locks the state directory and clears it), templates, API, sockets. Ready is when a
 * socket accepts, so the sockets come last.
 *
 * Stop, in this order: no new connections, no new spawns; every sandbox destroyed, whose waiting requests are answered
 * by that; then connections, records, host, loop. With --keep those that run are left to the keeper (keeper.c) instead, and
 * what is being answered breaks off. A second signal, or STOP_MAX_MS, ends the process without waiting:
 * the sandboxes die with it, and the next start removes what they leave.
 */
#include "local/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/unix_socket.h"
#include "local/api.h"
#include "local/events.h"
#include "local/httpd.h"
#include "local/init_image.h"
#include "local/key_files.h"
#include "local/preview.h"
#include "local/records.h"
#include "local/sandbox.h"
#include "local/templates.h"

enum {
	EXIT_OK = 0,
	EXIT_NOT_STARTED = 3,
	BACKLOG = 128,
	STOP_MAX_MS = 10000,
	BEAT_MS = 15000,
	CONNECT_MS = 10000,
	DESCRIPTORS = 4096
};

struct server {
	const struct options *options; /* borrowed */
	struct loop *loop;             /* owned */
	struct sandbox_host *host;     /* owned */
	int keeper;                    /* taken over by the host; with --keep */
	struct api api;                /* records, templates, events and previews are owned */
	struct httpd *httpd;           /* owned */
	struct event *sigterm;         /* owned */
	struct event *sigint;          /* owned */
	struct event *life;            /* owned; NULL without a life descriptor */
	struct deadline_queue stop_queue;
	struct deadline stop_limit;                 /* set while stopping */
	const char *unix_bound[OPTIONS_LISTEN_MAX]; /* borrowed: sockets to unlink */
	size_t nunix_bound;
};

/* --- stopping ----------------------------------------------------------------------------------------------------- */

static void unlink_sockets(struct server *s)
{
	for (size_t i = 0; i < s->nunix_bound; i++)
		unlink(s->unix_bound[i]);
	s->nunix_bound = 0;
}

static void on_stopped(void *arg)
{
	struct server *s = arg;

	loop_stop(s->loop);
}

static void destroy_one(struct record *r, void *arg)
{
	(void)arg;
	record_destroy_unless_kept(r);
}

static void stop(struct server *s, const char *why)
{
	if (s->api.stopping) {
		log_warn("%s again: ending at once", why);
		unlink_sockets(s);
		_exit(EXIT_OK);
	}
	log_info("%s: stopping", why);
	s->api.stopping = true;
	httpd_drain(s->httpd);
	unlink_sockets(s);
	deadline_set(&s->stop_queue, &s->stop_limit);
	records_each(s->api.records, destroy_one, NULL);
	sandbox_host_stop(s->host, on_stopped, s);
}

static void on_stop_limit(struct deadline *d)
{
	(void)d;
	log_error("sandboxes do not end: the next start removes what they leave");
	_exit(EXIT_OK);
}

static void on_signal(evutil_socket_t signal, short what, void *arg)
{
	(void)what;
	stop(arg, signal == SIGTERM ? "SIGTERM" : "SIGINT");
}

/* Whoever started us holds the other end; what he writes means nothing, the end means that he is gone. */
static void on_life(evutil_socket_t fd, short what, void *arg)
{
	struct server *s = arg;
	char bytes[256];
	ssize_t n = read(fd, bytes, sizeof(bytes));

	(void)what;
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
		return;
	event_del(s->life);
	if (!s->api.stopping)
		stop(s, "the life descriptor has ended");
}

/* --- starting ----------------------------------------------------------------------------------------------------- */

static int make_tcp(const struct listen_spec *spec, char *why, size_t why_size)
{
	struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(spec->port)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(spec->port)};
	struct sockaddr *address = spec->ipv6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in4;
	socklen_t size = spec->ipv6 ? sizeof(in6) : sizeof(in4);
	int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1;
	int error;

	in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	in6.sin6_addr = in6addr_loopback;
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0 &&
	    bind(fd, address, size) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	error = errno;
	snprintf(why, why_size, "port %u: %s", spec->port, strerror(error));
	fd_close(&fd);
	return -error;
}

/* The port that was chosen, for whoever started us with port 0. */
static void announce_tcp(int fd, bool ipv6)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	unsigned port;

	if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
		return;
	port = ntohs(ipv6 ? ((struct sockaddr_in6 *)&address)->sin6_port : ((struct sockaddr_in *)&address)->sin_port);
	printf("listening on http://%s:%u\n", ipv6 ? "[::1]" : "127.0.0.1", port);
	fflush(stdout);
	log_info("listening on %s:%u", ipv6 ? "[::1]" : "127.0.0.1", port);
}

static int listen_one(struct server *s, const struct listen_spec *spec)
{
	const struct unix_socket_spec unix_spec = {
		.path = spec->unix_path,
		.mode = s->options->group == (gid_t)-1 ? 0600 : 0660,
		.uid = (uid_t)-1,
		.gid = s->options->group,
		.backlog = BACKLOG,
	};
	char why[300] = "";
	int fd = 0;
	int rc;

	/* Who can connect finds the keys. */
	if (spec->unix_path && s->options->keys_dir)
		fd = key_files_lay_beside(spec->unix_path, s->options->group, &s->api.keys, why, sizeof(why));
	if (fd == 0)
		fd = spec->unix_path ? unix_socket_listen(&unix_spec, why, sizeof(why))
				     : make_tcp(spec, why, sizeof(why));
	if (fd < 0) {
		log_error("cannot listen: %s", why);
		return fd;
	}
	if (spec->unix_path)
		s->unix_bound[s->nunix_bound++] = spec->unix_path;
	rc = httpd_listen(s->httpd, fd, !spec->unix_path);
	if (rc == 0 && spec->unix_path)
		log_info("listening on %s", spec->unix_path);
	else if (rc == 0)
		announce_tcp(fd, spec->ipv6);
	return rc;
}

static int start_host(struct server *s)
{
	struct sandbox_host_config config = {.state_dir = s->options->state_dir,
					     .init_image = init_image_bytes(),
					     .keep_ms = s->options->keep_ms,
					     .keeper = s->keeper};
	char why[512] = "";
	int rc = sandbox_host_new(s->loop, &config, &s->host, why, sizeof(why));

	if (rc)
		log_error("cannot run sandboxes: %s", why);
	return rc;
}

/* A preview takes two descriptors, a client one, a sandbox some; a process usually gets 1,024. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= DESCRIPTORS)
		return;
	limit.rlim_cur = limit.rlim_max < DESCRIPTORS ? limit.rlim_max : DESCRIPTORS;
	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		log_warn("the limit of descriptors cannot be raised: %s", strerror(errno));
}

static int watch_ends(struct server *s)
{
	struct event_base *base = loop_base(s->loop);
	int fd = s->options->life_fd;

	s->sigterm = evsignal_new(base, SIGTERM, on_signal, s);
	s->sigint = evsignal_new(base, SIGINT, on_signal, s);
	if (!s->sigterm || !s->sigint || event_add(s->sigterm, NULL) || event_add(s->sigint, NULL))
		return -ENOMEM;
	if (fd < 0)
		return 0;
	if (fd_set_nonblock(fd)) {
		log_error("--life-fd %d: not an open descriptor", fd);
		return -EBADF;
	}
	s->life = event_new(base, fd, EV_READ | EV_PERSIST, on_life, s);
	return s->life && event_add(s->life, NULL) == 0 ? 0 : -ENOMEM;
}

static int start(struct server *s)
{
	const struct httpd_limits limits = httpd_default_limits();
	int rc = watch_ends(s);

	raise_descriptor_limit();
	if (rc == 0)
		rc = start_host(s);
	if (rc)
		return rc;
	s->api.loop = s->loop;
	s->api.state_dir = s->options->state_dir;
	s->api.started_ns = clock_ns();
	s->api.beat_ms = BEAT_MS;
	s->api.records = records_new(s->loop, s->host);
	s->api.templates = templates_open(s->options->state_dir);
	s->api.events = events_new();
	s->api.previews = previews_new(s->loop, CONNECT_MS);
	s->httpd = httpd_new(s->loop, &limits, api_handler(), &s->api);
	if (!s->api.records || !s->api.templates || !s->api.events || !s->api.previews || !s->httpd)
		return -ENOMEM;
	api_watch_records(&s->api);
	records_resume(s->api.records);
	for (size_t i = 0; i < s->options->nlisten && rc == 0; i++)
		rc = listen_one(s, &s->options->listen[i]);
	return rc;
}

/* --- life --------------------------------------------------------------------------------------------------------- */

static void free_event(struct event *ev)
{
	if (ev)
		event_free(ev);
}

static void take_down(struct server *s)
{
	unlink_sockets(s);
	httpd_free(s->httpd);
	previews_free(s->api.previews);
	records_free(s->api.records);
	sandbox_host_free(s->host);
	templates_free(s->api.templates);
	events_free(s->api.events);
	free_event(s->sigterm);
	free_event(s->sigint);
	free_event(s->life);
	deadline_queue_fini(&s->stop_queue);
	loop_free(s->loop);
}

int server_run(const struct options *options, const struct api_keys *keys, int keeper)
{
	struct server s = {.options = options, .api.keys = *keys, .keeper = keeper, .loop = loop_new()};
	int rc;

	if (!s.loop) {
		log_error("out of memory");
		return EXIT_NOT_STARTED;
	}
	deadline_queue_init(&s.stop_queue, s.loop, STOP_MAX_MS);
	deadline_init(&s.stop_limit, on_stop_limit);
	rc = start(&s);
	if (rc == 0) {
		log_info("ready");
		loop_run(s.loop);
		log_info("stopped");
	} else if (rc == -ENOMEM) {
		log_error("out of memory");
	}
	take_down(&s);
	return rc ? EXIT_NOT_STARTED : EXIT_OK;
}
