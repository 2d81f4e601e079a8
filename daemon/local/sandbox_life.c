/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of one sandbox. bubblewrap is started at once; its info pipe names the init, which is watched and killed by
 * pidfd from then on; the init's first message makes the sandbox run.
 *
 *     STARTING, RESUMING --ready--> RUNNING
 *               |                      |
 *               +---- destroy, failure, an end of init or bubblewrap
 *                                      |
 *                                  STOPPING --init gone, bubblewrap reaped--> REMOVING --directory gone--> GONE
 *
 * Only the readability of the init's pidfd means that nothing runs inside any more: the kernel ends a pid namespace before it
 * lets its process 1 become a zombie. When bubblewrap ended before it named an init, the end of the socket says the same,
 * since every process of the sandbox held it.
 *
 * A sandbox that is kept (see keeper.c) leaves this by sandbox_leave() and comes back, to another server, as RESUMING: its init
 * gets a new socket, on which it must greet again. Whose it is and by which pidfd it is killed the keeper says, not the init.
 * What ends is not kept any more from the moment that this is decided.
 *
 * Everything that comes from the init is hostile. A message that breaks the protocol ends the sandbox, nothing else.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/process.h"
#include "local/port_fd.h"
#include "local/sandbox_private.h"

enum {
	RECEIVE_MAX = 128 * 1024, /* bytes taken from an init per turn */
	INFO_MAX = 4096,
	ERRORS_MAX = 4096,
};

static const bool edges[SANDBOX_STATES][SANDBOX_STATES] = {
	[SANDBOX_STARTING] = {[SANDBOX_RUNNING] = true, [SANDBOX_STOPPING] = true},
	[SANDBOX_RESUMING] = {[SANDBOX_RUNNING] = true, [SANDBOX_STOPPING] = true},
	[SANDBOX_RUNNING] = {[SANDBOX_STOPPING] = true},
	[SANDBOX_STOPPING] = {[SANDBOX_REMOVING] = true},
	[SANDBOX_REMOVING] = {[SANDBOX_GONE] = true},
};

static const char *const state_names[SANDBOX_STATES] = {"starting", "resuming", "running",
							"stopping", "removing", "gone"};

bool sandbox_state_allows(enum sandbox_state from, enum sandbox_state to)
{
	return edges[from][to];
}

static void kill_inside(struct sandbox *sb)
{
	if (sb->init_pidfd >= 0)
		(void)process_pidfd_kill(sb->init_pidfd, SIGKILL);
}

static void sandbox_enter(struct sandbox *sb, enum sandbox_state to)
{
	struct sandbox_host *host = sb->host;

	CHECK(sandbox_state_allows(sb->state, to));
	log_debug("sandbox %s: %s -> %s", sb->id, state_names[sb->state], state_names[to]);
	sb->state = to;
	deadline_clear(&sb->start_deadline);
	deadline_clear(&sb->stop_deadline);
	switch (to) {
	case SANDBOX_STARTING:
	case SANDBOX_RESUMING:
	case SANDBOX_RUNNING:
		break;
	case SANDBOX_STOPPING:
		sandbox_stop_keeping(sb);
		kill_inside(sb);
		deadline_clear(&sb->log_deadline);
		deadline_set(&host->stop_queue, &sb->stop_deadline);
		break;
	case SANDBOX_REMOVING:
	case SANDBOX_GONE:
		break;
	}
	loop_defer(host->loop, &sb->work);
}

static void drop_event(struct event **ev)
{
	if (*ev)
		event_free(*ev);
	*ev = NULL;
}

static bool watch(struct sandbox *sb, struct event **ev, int fd, short what, event_callback_fn on_event)
{
	*ev = event_new(loop_base(sb->host->loop), fd, what, on_event, sb);
	return *ev && event_add(*ev, NULL) == 0;
}

static void set_start_error(struct sandbox *sb, int error, const char *why)
{
	if (sb->start_told || sb->start_error)
		return;
	sb->start_error = error;
	snprintf(sb->start_why, sizeof(sb->start_why), "%s", why);
}

void sandbox_destroy(struct sandbox *sb)
{
	if (sb->state > SANDBOX_RUNNING)
		return;
	set_start_error(sb, -ECANCELED, "the sandbox was destroyed");
	sandbox_enter(sb, SANDBOX_STOPPING);
}

void sandbox_fail(struct sandbox *sb, const char *why)
{
	if (sb->state > SANDBOX_RUNNING)
		return;
	log_warn("sandbox %s: %s", sb->id, why);
	set_start_error(sb, -EPROTO, "the sandbox broke down");
	sandbox_enter(sb, SANDBOX_STOPPING);
}

/* --- the socket ------------------------------------------------------------------------------------------------ */

static void on_ready(struct sandbox *sb)
{
	if (sb->state >= SANDBOX_RUNNING) {
		sandbox_fail(sb, "its init greets twice");
		return;
	}
	sandbox_enter(sb, SANDBOX_RUNNING);
}

static bool on_log(struct sandbox *sb, const struct wire_event *e)
{
	if (e->cost > sb->log_window)
		return false;
	sb->log_window -= e->cost;
	sb->log_owed += e->cost;
	if (list_empty(&sb->log_deadline.link))
		deadline_set(&sb->host->log_queue, &sb->log_deadline);
	buf_add_str(&sb->log, e->bytes);
	if (sb->log.len > SANDBOX_LOG_MAX)
		buf_consume(&sb->log, sb->log.len - SANDBOX_LOG_MAX);
	return true;
}

/* A window at a time and slowly, so that a command that prints for ever in the background costs little. */
static void on_log_deadline(struct deadline *d)
{
	struct sandbox *sb = CONTAINER_OF(d, struct sandbox, log_deadline);

	wire_put_request(&sb->out, &(struct wire_request){.type = WIRE_CREDIT, .credit = (uint32_t)sb->log_owed});
	sb->log_window += sb->log_owed;
	sb->log_owed = 0;
	loop_defer(sb->host->loop, &sb->flush);
}

static void on_event(struct sandbox *sb, const struct wire_event *e)
{
	bool ok = true;

	if (e->type == WIRE_READY)
		on_ready(sb);
	else if (sb->state < SANDBOX_RUNNING)
		ok = false;
	else if (e->type == WIRE_LOG)
		ok = on_log(sb, e);
	else
		ok = sandbox_job_on_event(sb, e);
	if (!ok)
		sandbox_fail(sb, "its init sends what it may not");
}

int sandbox_take_passed(struct sandbox *sb)
{
	int fd = sb->npassed ? sb->passed[0] : PORT_FD_NONE;

	if (sb->npassed && --sb->npassed)
		sb->passed[0] = sb->passed[1];
	return fd;
}

static void drop_passed(struct sandbox *sb)
{
	while (sb->npassed) {
		int fd = sandbox_take_passed(sb);
		port_fd_close(&fd);
	}
}

/* Keeps what came with some bytes until the message in them takes it. */
static void keep_passed(struct sandbox *sb, int fd)
{
	if (fd == PORT_FD_NONE)
		return;
	if (sb->npassed < SANDBOX_PASSED_MAX && fd != PORT_FD_MANY) {
		sb->passed[sb->npassed++] = fd;
		return;
	}
	port_fd_close(&fd);
	sandbox_fail(sb, "its init passes several descriptors");
}

static void take_messages(struct sandbox *sb)
{
	struct wire_event event;
	size_t used;
	int rc = 0;

	/* A callback may end the sandbox; what came after that is not heard. */
	while (sb->state <= SANDBOX_RUNNING && (rc = wire_parse_event(buf_str(&sb->in), &event, &used)) == 1) {
		on_event(sb, &event);
		buf_consume(&sb->in, used);
	}
	if (rc < 0)
		sandbox_fail(sb, "its init sends no valid message");
	else if (sb->npassed > 1 || (sb->npassed && sb->in.len == 0))
		sandbox_fail(sb, "its init passes a descriptor that nobody asked for");
}

static void on_sock_end(struct sandbox *sb)
{
	sb->sock_ended = true;
	event_del(sb->on_sock);
	if (sb->state != SANDBOX_STARTING)
		sandbox_fail(sb, "its init ended");
	/* While it starts, bubblewrap's exit tells why; that follows at once, once nobody is left inside. */
	kill_inside(sb);
	loop_defer(sb->host->loop, &sb->work);
}

static void on_sock(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	char *to = buf_reserve(&sb->in, RECEIVE_MAX);

	(void)what;
	if (!to) {
		buf_fini(&sb->in);
		sandbox_fail(sb, "no memory");
		return;
	}
	int passed;
	ssize_t n = port_fd_recv(fd, to, RECEIVE_MAX, &passed);
	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		on_sock_end(sb);
		return;
	}
	keep_passed(sb, passed);
	if (sb->state > SANDBOX_RUNNING) {
		drop_passed(sb);
		buf_reset(&sb->in);
		return;
	}
	buf_commit(&sb->in, (size_t)n);
	take_messages(sb);
}

static void sandbox_send(struct sandbox *sb)
{
	if (sb->state > SANDBOX_RUNNING || sb->sock_ended)
		return;
	sandbox_jobs_feed(sb);
	while (sb->out.len) {
		ssize_t n = send(sb->child.sock, buf_data(&sb->out), sb->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			break;
		buf_consume(&sb->out, (size_t)n);
		sandbox_jobs_feed(sb);
	}
	/* An error other than a full socket shows when it is read. */
	if (sb->out.len)
		event_add(sb->on_sock_room, NULL);
	if (sb->out.failed)
		sandbox_fail(sb, "no memory");
}

static void on_sock_room(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	sandbox_send(arg);
}

static void on_flush(struct deferred *d)
{
	sandbox_send(CONTAINER_OF(d, struct sandbox, flush));
}

/* --- bubblewrap and the init -------------------------------------------------------------------------------------- */

/* The number behind "child-pid", once it is whole; 0 before. */
static pid_t parse_info(struct str info)
{
	const char *key = "\"child-pid\":";
	const char *at = info.n ? memmem(info.p, info.n, key, strlen(key)) : NULL;
	uint64_t pid;

	if (!at)
		return 0;
	at += strlen(key);
	struct str rest = str_trim(str_of(at, (size_t)(info.p + info.n - at)));
	size_t digits = 0;
	while (digits < rest.n && isdigit((unsigned char)rest.p[digits]))
		digits++;
	if (digits == rest.n || str_parse_u64(str_of(rest.p, digits), &pid) || pid > INT32_MAX)
		return 0;
	return (pid_t)pid;
}

/* Whether the process is a child of bubblewrap's: its number may have gone to somebody else by now. */
static bool is_child_of(pid_t pid, pid_t parent)
{
	char path[64], mem[512];
	long ppid = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, mem, sizeof(mem) - 1) : -1;
	fd_close(&fd);
	if (n <= 0)
		return false;
	mem[n] = 0;
	/* pid (name) state ppid */
	const char *at = strrchr(mem, ')');
	if (at && at[1] == ' ' && at[2])
		ppid = strtol(at + 3, NULL, 10);
	return ppid == parent;
}

static void on_init_end(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;

	(void)fd;
	(void)what;
	drop_event(&sb->on_init);
	fd_close(&sb->init_pidfd);
	if (sb->state != SANDBOX_STARTING)
		sandbox_fail(sb, "its init ended");
	loop_defer(sb->host->loop, &sb->work);
}

static void open_init(struct sandbox *sb, pid_t pid)
{
	sb->init_pidfd = process_pidfd(pid);
	if (sb->init_pidfd >= 0 && !is_child_of(pid, sb->child.pid))
		fd_close(&sb->init_pidfd);
	if (sb->init_pidfd < 0) {
		sb->init_pidfd = -1;
		return;
	}
	if (!watch(sb, &sb->on_init, sb->init_pidfd, EV_READ, on_init_end)) {
		kill_inside(sb);
		fd_close(&sb->init_pidfd);
		sandbox_fail(sb, "no memory");
	} else if (sb->state > SANDBOX_RUNNING) {
		kill_inside(sb);
	}
}

static void on_info(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	char *to = buf_reserve(&sb->info, INFO_MAX);
	ssize_t n = to ? read(fd, to, INFO_MAX) : 0;

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		buf_commit(&sb->info, (size_t)n);
	pid_t pid = parse_info(buf_str(&sb->info));
	if (pid == 0 && n > 0 && sb->info.len < INFO_MAX)
		return;
	sb->info_done = true;
	drop_event(&sb->on_info);
	if (pid)
		open_init(sb, pid);
	loop_defer(sb->host->loop, &sb->work);
}

void sandbox_look_for_init(struct sandbox *sb)
{
	if (!sb->info_done)
		on_info(sb->child.info, EV_READ, sb);
}

static void on_errors(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	char mem[1024];
	ssize_t n = read(fd, mem, sizeof(mem));

	(void)what;
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		drop_event(&sb->on_errors);
	else if (sb->errors.len < ERRORS_MAX)
		buf_add(&sb->errors, mem, (size_t)n);
}

static void explain_exit(struct sandbox *sb)
{
	char why[sizeof(sb->start_why)];

	/* What it wrote before it ended is in the pipe. */
	if (sb->on_errors)
		on_errors(sb->child.errors, EV_READ, sb);
	int error = bwrap_explain(buf_str(&sb->errors), why, sizeof(why));
	log_warn("sandbox %s: cannot be started: %s: %.*s", sb->id, why,
		 (int)(sb->errors.len < 500 ? sb->errors.len : 500), sb->errors.len ? buf_data(&sb->errors) : "");
	set_start_error(sb, error, why);
}

static void on_bwrap_end(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	siginfo_t info = {0};

	(void)what;
	/* An earlier server's is reaped by somebody else: that it ended is all there is. */
	if (sb->child.pid > 0 && (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0))
		return;
	sb->bwrap_reaped = true;
	drop_event(&sb->on_bwrap);
	/* Its info may be waiting still. */
	sandbox_look_for_init(sb);
	sb->info_done = true;
	if (sb->state == SANDBOX_STARTING)
		explain_exit(sb);
	if (sb->state <= SANDBOX_RUNNING)
		sandbox_enter(sb, SANDBOX_STOPPING);
	loop_defer(sb->host->loop, &sb->work);
}

static void on_start_deadline(struct deadline *d)
{
	struct sandbox *sb = CONTAINER_OF(d, struct sandbox, start_deadline);

	log_warn("sandbox %s: its init does not answer", sb->id);
	set_start_error(sb, -ETIMEDOUT, "the sandbox did not start in time");
	sandbox_enter(sb, SANDBOX_STOPPING);
}

/* Killing bubblewrap is the last resort: see bwrap.c. */
static void on_stop_deadline(struct deadline *d)
{
	struct sandbox *sb = CONTAINER_OF(d, struct sandbox, stop_deadline);

	if (!sb->bwrap_reaped) {
		log_warn("sandbox %s: bubblewrap does not end and is killed", sb->id);
		(void)process_pidfd_kill(sb->child.pidfd, SIGKILL);
		deadline_set(&sb->host->stop_queue, &sb->stop_deadline);
	} else if (sb->init_pidfd < 0 && !sb->sock_ended) {
		log_error("sandbox %s: a process of it may be left", sb->id);
		sb->sock_ended = true;
		loop_defer(sb->host->loop, &sb->work);
	} else {
		log_error("sandbox %s: its init does not die", sb->id);
		kill_inside(sb);
		deadline_set(&sb->host->stop_queue, &sb->stop_deadline);
	}
}

/* --- the end -------------------------------------------------------------------------------------------------------- */

static bool processes_gone(const struct sandbox *sb)
{
	/* A sandbox whose bubblewrap could not be forked has none. */
	if (sb->child.pid < 0)
		return true;
	return sb->bwrap_reaped && sb->init_pidfd < 0 && sb->sock_ended;
}

static void close_channels(struct sandbox *sb)
{
	drop_event(&sb->on_sock);
	drop_event(&sb->on_sock_room);
	drop_event(&sb->on_info);
	drop_event(&sb->on_errors);
	drop_event(&sb->on_bwrap);
	drop_event(&sb->on_init);
	drop_passed(sb);
	fd_close(&sb->init_pidfd);
	bwrap_child_close(&sb->child);
}

static void start_removal(struct sandbox *sb);

static void on_retry_deadline(struct deadline *d)
{
	start_removal(CONTAINER_OF(d, struct sandbox, retry_deadline));
}

static void removal_done(struct sandbox *sb, bool removed)
{
	struct sandbox_host *host = sb->host;

	if (!removed && sb->removals < SANDBOX_REMOVE_TRIES) {
		deadline_set(&host->retry_queue, &sb->retry_deadline);
		return;
	}
	if (!removed)
		log_error("sandbox %s: its directory cannot be removed; the next start tries again", sb->id);
	else
		sandbox_host_free_uid(host, sb->uid);
	sandbox_enter(sb, SANDBOX_GONE);
}

static void on_remover_end(evutil_socket_t fd, short what, void *arg)
{
	struct sandbox *sb = arg;
	siginfo_t info = {0};

	(void)what;
	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
		return;
	drop_event(&sb->on_remover);
	fd_close(&sb->remover_pidfd);
	sb->remover = 0;
	removal_done(sb, info.si_code == CLD_EXITED && info.si_status == 0);
}

static void start_removal(struct sandbox *sb)
{
	sb->removals++;
	pid_t pid = state_dir_start_removal(&sb->host->state, sb->id);
	if (pid < 0) {
		removal_done(sb, false);
		return;
	}
	sb->remover = pid;
	sb->remover_pidfd = process_pidfd(pid);
	if (sb->remover_pidfd < 0 ||
	    !watch(sb, &sb->on_remover, sb->remover_pidfd, EV_READ | EV_PERSIST, on_remover_end)) {
		drop_event(&sb->on_remover);
		sb->remover_pidfd = sb->remover_pidfd < 0 ? -1 : sb->remover_pidfd;
		fd_close(&sb->remover_pidfd);
		/* Not to be watched: without memory or descriptors this one wait blocks. */
		int status = 0;
		bool reaped = waitpid(pid, &status, 0) == pid;
		removal_done(sb, reaped && status == 0);
	}
}

static void sandbox_free(struct sandbox *sb)
{
	struct sandbox_host *host = sb->host;

	CHECK(list_empty(&sb->jobs));
	close_channels(sb);
	deferred_cancel(&sb->work);
	deferred_cancel(&sb->flush);
	deadline_clear(&sb->start_deadline);
	deadline_clear(&sb->stop_deadline);
	deadline_clear(&sb->log_deadline);
	deadline_clear(&sb->retry_deadline);
	deadline_clear(&sb->keep_deadline);
	fd_close(&sb->note);
	buf_fini(&sb->info);
	buf_fini(&sb->errors);
	buf_fini(&sb->in);
	buf_fini(&sb->out);
	buf_fini(&sb->log);
	list_remove(&sb->link);
	free(sb->id);
	free(sb);
	if (host->stopping)
		loop_defer(host->loop, &host->stopped);
}

static void tell_start(struct sandbox *sb)
{
	if (sb->start_told || sb->state == SANDBOX_STARTING)
		return;
	sb->start_told = true;
	if (sb->state != SANDBOX_RUNNING && sb->start_error == 0)
		sb->start_error = -ECANCELED;
	if (sb->events.on_started)
		sb->events.on_started(sb->arg, sb->start_error, sb->start_error ? sb->start_why : NULL);
}

/* sandbox_maybe_destroy: every completion ends here, outside of all callbacks. */
static void on_work(struct deferred *d)
{
	struct sandbox *sb = CONTAINER_OF(d, struct sandbox, work);

	tell_start(sb);
	sandbox_jobs_work(sb);
	if (sb->state == SANDBOX_STOPPING && processes_gone(sb)) {
		close_channels(sb);
		sandbox_enter(sb, SANDBOX_REMOVING);
		start_removal(sb);
	} else if (sb->state == SANDBOX_GONE) {
		if (sb->events.on_gone)
			sb->events.on_gone(sb->arg);
		sandbox_free(sb);
	}
}

/* --- the beginning --------------------------------------------------------------------------------------------------- */

static bool watch_all(struct sandbox *sb)
{
	sb->on_sock_room = event_new(loop_base(sb->host->loop), sb->child.sock, EV_WRITE, on_sock_room, sb);
	return sb->on_sock_room && watch(sb, &sb->on_sock, sb->child.sock, EV_READ | EV_PERSIST, on_sock) &&
	       watch(sb, &sb->on_info, sb->child.info, EV_READ | EV_PERSIST, on_info) &&
	       watch(sb, &sb->on_errors, sb->child.errors, EV_READ | EV_PERSIST, on_errors) &&
	       watch(sb, &sb->on_bwrap, sb->child.pidfd, EV_READ | EV_PERSIST, on_bwrap_end);
}

static int start_child(struct sandbox *sb)
{
	struct sandbox_host *host = sb->host;
	char box[4096];
	int rc = sandbox_host_take_uid(host, &sb->uid);

	if (rc)
		return rc;
	if (snprintf(box, sizeof(box), "%s/%s", host->state.path, sb->id) >= (int)sizeof(box))
		return -ENAMETOOLONG;
	rc = state_dir_make_box(&host->state, sb->id, sb->uid);
	if (rc)
		return rc;
	const struct bwrap_spec spec = {.box = box,
					.host_name = sb->id,
					.uid = sb->uid,
					.door = host->keeper >= 0,
					.init_image = host->init_image};
	return bwrap_spawn(&host->bwrap, &spec, &sb->child);
}

/* Its child cannot be watched, so it is waited for here: with its channels closed its init ends by itself. */
static void abandon_child(struct sandbox *sb)
{
	close_channels(sb);
	if (sb->child.pid > 0)
		(void)waitpid(sb->child.pid, NULL, 0);
	sb->child.pid = -1;
}

static bool is_valid_id(const char *id)
{
	return id[0] && strlen(id) <= 63 && strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(id);
}

static struct sandbox *sandbox_new(struct sandbox_host *host, const char *id, const struct sandbox_events *events,
				   void *arg)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));

	if (!sb || !(sb->id = strdup(id))) {
		free(sb);
		return NULL;
	}
	sb->host = host;
	sb->events = *events;
	sb->arg = arg;
	sb->child = bwrap_child_none;
	sb->init_pidfd = sb->remover_pidfd = sb->note = -1;
	sb->log_window = WIRE_LOG_WINDOW;
	list_init(&sb->jobs);
	deadline_init(&sb->start_deadline, on_start_deadline);
	deadline_init(&sb->stop_deadline, on_stop_deadline);
	deadline_init(&sb->log_deadline, on_log_deadline);
	deadline_init(&sb->retry_deadline, on_retry_deadline);
	deadline_init(&sb->keep_deadline, sandbox_on_keep_deadline);
	deferred_init(&sb->work, on_work);
	deferred_init(&sb->flush, on_flush);
	list_add_tail(&host->sandboxes, &sb->link);
	return sb;
}

struct sandbox *sandbox_start(struct sandbox_host *host, const struct sandbox_spec *spec,
			      const struct sandbox_events *events, void *arg)
{
	CHECK(is_valid_id(spec->id) && !host->stopping);
	struct sandbox *sb = sandbox_new(host, spec->id, events, arg);
	if (!sb)
		return NULL;
	int rc = start_child(sb);
	if (rc == 0 && !watch_all(sb))
		rc = -ENOMEM;
	if (rc == 0) {
		deadline_set(&host->start_queue, &sb->start_deadline);
		return sb;
	}
	log_warn("sandbox %s: cannot be started: %s", sb->id, strerror(-rc));
	abandon_child(sb);
	set_start_error(sb, rc, rc == -EAGAIN ? "too many sandboxes" : "the sandbox could not be set up");
	sandbox_enter(sb, SANDBOX_STOPPING);
	return sb;
}

struct str sandbox_log(const struct sandbox *sb)
{
	return buf_str(&sb->log);
}

/* --- outliving the host ---------------------------------------------------------------------------------------------- */

void sandbox_leave(struct sandbox *sb)
{
	/* One whose end was decided as the loop stopped: its directory goes at the next start. */
	if (!sb->kept)
		kill_inside(sb);
	drop_event(&sb->on_remover);
	fd_close(&sb->remover_pidfd);
	sandbox_jobs_drop(sb);
	sandbox_free(sb);
}

/* Gives the init a socket to us. */
static int open_door(struct sandbox *sb, int door)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -errno;
	ssize_t n = fd_send(door, "", 1, pair + 1, 1);
	close(pair[1]);
	sb->child.sock = pair[0];
	sb->on_sock_room = event_new(loop_base(sb->host->loop), pair[0], EV_WRITE, on_sock_room, sb);
	if (n < 0)
		return (int)n;
	return sb->on_sock_room && watch(sb, &sb->on_sock, pair[0], EV_READ | EV_PERSIST, on_sock) ? 0 : -ENOMEM;
}

/* Takes its descriptors over. NULL: it cannot be watched, and was killed. */
static struct sandbox *sandbox_of_kept(struct sandbox_host *host, struct kept *kept,
				       const struct sandbox_events *events, void *arg)
{
	struct sandbox *sb = sandbox_new(host, kept->id, events, arg);

	if (!sb) {
		(void)process_pidfd_kill(kept->fds[KEPT_INIT], SIGKILL);
		return NULL;
	}
	sb->state = SANDBOX_RESUMING;
	sb->start_told = sb->info_done = sb->kept = true;
	sb->uid = kept->uid;
	sb->child.pid = 0;
	sb->child.leash = kept->fds[KEPT_LEASH];
	sb->child.pidfd = kept->fds[KEPT_BWRAP];
	sb->init_pidfd = kept->fds[KEPT_INIT];
	kept->fds[KEPT_LEASH] = kept->fds[KEPT_BWRAP] = kept->fds[KEPT_INIT] = -1;
	if (watch(sb, &sb->on_bwrap, sb->child.pidfd, EV_READ | EV_PERSIST, on_bwrap_end) &&
	    watch(sb, &sb->on_init, sb->init_pidfd, EV_READ, on_init_end))
		return sb;
	kill_inside(sb);
	sandbox_free(sb);
	return NULL;
}

struct sandbox *sandbox_resume(struct sandbox_host *host, struct kept **kept, const struct sandbox_events *events,
			       void *arg)
{
	struct sandbox *sb = sandbox_of_kept(host, *kept, events, arg);
	int rc = -EPROTONOSUPPORT;

	if (sb && (*kept)->wire == WIRE_VERSION)
		rc = open_door(sb, (*kept)->fds[KEPT_DOOR]);
	kept_free(*kept);
	*kept = NULL;
	if (!sb)
		return NULL;
	if (rc == 0) {
		deadline_set(&host->start_queue, &sb->start_deadline);
		return sb;
	}
	log_warn("sandbox %s: cannot be taken up: %s", sb->id, strerror(-rc));
	sb->sock_ended = true;
	sandbox_enter(sb, SANDBOX_STOPPING);
	return sb;
}
