/* SPDX-License-Identifier: Apache-2.0 */
/*
 *   STARTING --> RUNNING --> DRAINING --> FLUSHING --> STOPPING --> STOPPED
 *       |                        |                        ^
 *       +------------------------+------------------------+
 *
 * Start: the launcher is forked while this process holds nothing that it must not inherit; then the lock in the state
 * directory says that no other gateway runs on it; then loop, dialler, embedded server, pools; the sockets come last, when
 * the embedded server has answered. Stop: sockets, then requests (they may finish), then the spans that wait, then the
 * embedded server, then the rest
 * in the opposite order. A second signal skips the waiting.
 *
 * A reload makes a whole new snapshot and the listeners that it adds; only when all that is there is anything changed.
 */
#include "gateway/gateway.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/check.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/process.h"
#include "common/sm.h"
#include "common/unix_socket.h"
#include "gateway/activation.h"
#include "gateway/config.h"
#include "gateway/config_yaml.h"
#include "gateway/dial.h"
#include "gateway/front.h"
#include "gateway/journal.h"
#include "gateway/keyring.h"
#include "gateway/launcher.h"
#include "gateway/launcher_process.h"
#include "gateway/listener.h"
#include "gateway/local_server.h"
#include "gateway/logs.h"
#include "gateway/names.h"
#include "gateway/notify.h"
#include "gateway/own_user.h"
#include "gateway/peer.h"
#include "gateway/snapshot.h"
#include "gateway/template_cache.h"
#include "gateway/trace_export.h"
#include "gateway/upstream.h"

enum {
	LOCAL_START_MS = 10000,
	FLUSH_MAX_MS = 3000,
	WHY_MAX_BYTES = 512, /* of what a failed start or reload says */
	SIGNALS = 4
};

enum gateway_state {
	GATEWAY_STARTING,
	GATEWAY_RUNNING,
	GATEWAY_DRAINING,
	GATEWAY_FLUSHING, /* no request is under way; spans of those that were are delivered */
	GATEWAY_STOPPING,
	GATEWAY_STOPPED,
	GATEWAY_STATES,
};

static const char *const state_names[GATEWAY_STATES] = {"starting", "running",  "draining",
							"flushing", "stopping", "stopped"};

static const uint32_t state_edges[GATEWAY_STATES] = {
	[GATEWAY_STARTING] = SM_TO(GATEWAY_RUNNING) | SM_TO(GATEWAY_STOPPING),
	[GATEWAY_RUNNING] = SM_TO(GATEWAY_DRAINING),
	[GATEWAY_DRAINING] = SM_TO(GATEWAY_FLUSHING) | SM_TO(GATEWAY_STOPPING),
	[GATEWAY_FLUSHING] = SM_TO(GATEWAY_STOPPING),
	[GATEWAY_STOPPING] = SM_TO(GATEWAY_STOPPED),
	[GATEWAY_STOPPED] = 0,
};

static const struct sm sm = {"gateway", state_names, state_edges, GATEWAY_STATES};

struct gateway {
	const struct gateway_options *options; /* borrowed */
	struct config *config;                 /* owned reference; in force, or about to be while STARTING */
	enum gateway_state state;
	int exit_status;
	int lock_fd;                    /* owned; holds the lock of the state directory */
	char *local_socket;             /* owned; private path of the embedded server */
	char *local_state;              /* owned */
	struct launcher *launcher;      /* owned */
	struct loop *loop;              /* owned */
	struct logs *logs;              /* owned */
	struct dialer *dialer;          /* owned */
	struct keyring *keyring;        /* owned */
	struct local_server *local;     /* owned; NULL while no upstream is `local` */
	struct event *signals[SIGNALS]; /* owned */
	struct event *timer;            /* owned; patience while starting and draining */
	uint64_t drain_ends_ms;         /* clock_ms(), from DRAINING on */
	size_t nlisteners;
	struct listener **listeners; /* owned */
	struct front_shared fronts;
	bool fronts_made;
	struct names *names;     /* owned */
	struct journal *journal; /* owned */
	char listener_trouble[160];
};

static void move(struct gateway *g, enum gateway_state to)
{
	g->state = sm_move(&sm, 0, g->state, to);
}

/* --- directories and the lock ----------------------------------------------------------------------------------------- */

/* mkdir -p; what exists is left as it is. */
static int make_directories(const char *path, mode_t mode)
{
	char part[PATH_MAX];

	if (strlen(path) >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t n = 1; n <= strlen(path); n++) {
		if (path[n] != '/' && path[n] != '\0')
			continue;
		memcpy(part, path, n);
		part[n] = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST)
			return -errno;
	}
	return 0;
}

static bool start_failed(struct gateway *g, const char *what, const char *why)
{
	char *text;

	log_error("cannot start: %s: %s", what, why);
	if (asprintf(&text, "%s: %s", what, why) < 0)
		text = NULL;
	notify_failed(g->options->notify, text ? text : what);
	free(text);
	g->exit_status = GATEWAY_EXIT_START;
	return false;
}

static bool lock_state(struct gateway *g)
{
	const char *dir = g->options->places->state_dir;
	char path[PATH_MAX];
	int rc = make_directories(dir, 0700);

	if (rc)
		return start_failed(g, dir, strerror(-rc));
	if ((size_t)snprintf(path, sizeof(path), "%s/lock", dir) >= sizeof(path))
		return start_failed(g, dir, strerror(ENAMETOOLONG));
	g->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (g->lock_fd < 0)
		return start_failed(g, path, strerror(errno));
	if (flock(g->lock_fd, LOCK_EX | LOCK_NB) < 0)
		return start_failed(g, path,
				    errno == EWOULDBLOCK ? "another stacygated is running on this state directory"
							 : strerror(errno));
	return true;
}

/* Keeps the host name of the first start, since a renamed machine must not make strangers of its users. */
static void keep_host(struct gateway *g)
{
	char *path = config_host_file(g->options->places);
	char now[HOST_NAME_MAX + 1] = "";
	int fd = path ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;

	if (fd >= 0) {
		if (fd_write_all(fd, g->config->host, strlen(g->config->host)) || fd_write_all(fd, "\n", 1))
			log_warn("%s: cannot be written: {host} may change with the machine's name", path);
		close(fd);
	}
	free(path);
	if (gethostname(now, sizeof(now) - 1) == 0 && !g->config->host_written && now[0] &&
	    strcmp(now, g->config->host) != 0)
		log_warn("this machine is called \"%s\" now; {host} stays \"%s\" as at the first start (write host: to "
			 "change it)",
			 now, g->config->host);
}

/* Before anything is accepted: that who is accepted can be known. */
static bool check_rights(struct gateway *g)
{
	char why[WHY_MAX_BYTES];

	return peer_check_rights(g->config, why, sizeof(why)) == 0 || start_failed(g, "identity of clients", why);
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
			log_warn("the limit of descriptors cannot be raised: %s", strerror(errno));
	}
}

/* --- the embedded server ------------------------------------------------------------------------------------------------- */

static bool has_local(const struct config *c)
{
	for (size_t i = 0; i < c->nupstreams; i++)
		if (c->upstreams[i].scheme == CONFIG_LOCAL)
			return true;
	return false;
}

static bool holds_command(const struct config_key *k, char *const *argv)
{
	return k->source == CONFIG_SOURCE_COMMAND && config_same_argv(k->argv, argv);
}

static bool config_has_command(const struct config *c, char *const *argv)
{
	for (size_t i = 0; i < c->ncredentials; i++)
		if (holds_command(&c->credentials[i].api_key, argv) ||
		    holds_command(&c->credentials[i].admin_api_key, argv))
			return true;
	return false;
}

/*
 * In the launcher, which runs what the configuration holds and nothing that it is merely asked for: a command that it does not
 * know may be one of a reload, so the file is read again, by the launcher itself.
 */
static bool may_run(void *arg, char *const *argv)
{
	struct gateway *g = arg;
	struct config *config;
	struct buf faults = BUF_EMPTY;

	if (config_has_command(g->config, argv))
		return true;
	if (config_load(g->options->file, g->options->places, &config, &faults) == 0) {
		config_unref(g->config);
		g->config = config;
	}
	buf_fini(&faults);
	return config_has_command(g->config, argv);
}

/* In the launcher, which has opened the program by now: it may lie where only root comes. */
static int settle(void *arg)
{
	const struct gateway *g = arg;
	char why[WHY_MAX_BYTES];
	int rc = own_user_become(g->config, why, sizeof(why));

	if (rc)
		log_error("launcher: %s", why);
	return rc;
}

static bool place_local_socket(struct gateway *g)
{
	const struct config_places *places = g->options->places;

	if (places->local_socket) {
		g->local_socket = strdup(places->local_socket);
		return g->local_socket;
	}
	return asprintf(&g->local_socket, "%s/local.sock",
			places->runtime_dir ? places->runtime_dir : places->state_dir) >= 0;
}

static bool fork_launcher(struct gateway *g)
{
	const struct config_places *places = g->options->places;
	struct launcher_program program = {
		.verbose = g->options->verbose, .may_run = may_run, .settle = settle, .arg = g};
	char path[PATH_MAX];
	int rc;

	if (!place_local_socket(g) || asprintf(&g->local_state, "%s/local", places->state_dir) < 0)
		return start_failed(g, "launcher", strerror(ENOMEM));
	if (has_local(g->config) && g->local_socket[0] != '/')
		return start_failed(g, g->local_socket, "STACYGATE_LOCAL_SOCKET must hold an absolute path");
	if (has_local(g->config) && strlen(g->local_socket) > UNIX_SOCKET_PATH_MAX)
		return start_failed(g, g->local_socket, "longer than the 107 bytes that a socket path may have");
	process_find("stacygate-local", SG_LIBEXECDIR, path);
	program.program = path;
	program.socket = g->local_socket;
	program.state_dir = g->local_state;
	rc = launcher_fork(&program, &g->launcher);
	return rc ? start_failed(g, "launcher", strerror(-rc)) : true;
}

static void begin_listening(struct gateway *g);
static void stop_local(void *arg);
static void stop_loop(struct gateway *g);

static void on_local_ready(void *arg, bool survived)
{
	struct gateway *g = arg;
	const struct config *c = snapshot_config(g->fronts.snapshot);

	g->fronts.stats.local_trouble = NULL;
	for (size_t i = 0; i < c->nupstreams; i++)
		if (c->upstreams[i].scheme == CONFIG_LOCAL)
			upstream_recovered(snapshot_upstream(g->fronts.snapshot, i));
	if (!survived)
		front_local_restarted(&g->fronts);
	if (g->state == GATEWAY_STARTING)
		begin_listening(g);
}

static void on_local_stopped(void *arg)
{
	struct gateway *g = arg;

	if (g->state == GATEWAY_STOPPING)
		stop_loop(g);
}

static const struct local_server_events local_events = {on_local_ready, on_local_stopped};

static int make_local(struct gateway *g)
{
	const char *dir = g->options->places->runtime_dir;
	int rc;

	if (g->options->places->local_socket)
		return local_server_new_foreign(g->loop, g->keyring, g->local_socket, &local_events, g, &g->local);
	rc = make_directories(dir ? dir : g->options->places->state_dir, geteuid() == 0 ? 0755 : 0700);

	if (rc == 0)
		rc = local_server_new(g->loop, g->launcher, g->local_socket, &local_events, g, &g->local);
	return rc;
}

static struct snapshot_local local_of(const struct gateway *g)
{
	return (struct snapshot_local){g->local_socket, g->local ? local_server_key(g->local) : NULL,
				       g->local ? local_server_admin_key(g->local) : NULL};
}

/* --- listeners --------------------------------------------------------------------------------------------------------------- */

static void on_accept(void *arg, struct listener *l, int fd)
{
	struct gateway *g = arg;

	g->fronts.stats.local_trouble = g->local ? local_server_trouble(g->local) : NULL;
	front_accept(&g->fronts, fd, listener_name(l), listener_diag(l));
}

static struct listener *kept_listener(const struct gateway *g, const struct config_listener *entry)
{
	for (size_t i = 0; i < g->nlisteners; i++)
		if (g->listeners[i] && listener_same(g->listeners[i], entry))
			return g->listeners[i];
	return NULL;
}

/* Whether a listener is one of the set. */
static bool is_among(const struct listener *l, struct listener *const *set, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (set[i] == l)
			return true;
	return false;
}

/*
 * Makes the listeners of a configuration: those that mean a present one keep it, the others are bound. At start one that
 * cannot be bound beside others is an error in log and health; on a reload it fails the whole.
 */
static int make_listeners(struct gateway *g, const struct config *c, bool all_or_nothing, struct listener **set,
			  char *why, size_t why_size)
{
	size_t bound = 0;
	int rc = 0;

	for (size_t i = 0; i < c->nlisteners; i++) {
		const struct config_listener *entry = &c->listeners[i];
		char text[WHY_MAX_BYTES / 2] = "out of memory";
		set[i] = kept_listener(g, entry);
		rc = set[i] ? listener_offer(set[i], entry, text, sizeof(text))
			    : listener_start(g->loop, entry, g->options->passed, on_accept, g, &set[i], text,
					     sizeof(text));
		if (rc == 0) {
			bound++;
			continue;
		}
		config_say(c, entry->at, why, why_size, "listener %s: %s", entry->name, text);
		log_error("%s", why);
		if (all_or_nothing)
			break;
		snprintf(g->listener_trouble, sizeof(g->listener_trouble), "%s", text);
	}
	if (bound && !(rc && all_or_nothing))
		return 0;
	for (size_t i = 0; i < c->nlisteners; i++)
		if (set[i] && !is_among(set[i], g->listeners, g->nlisteners))
			listener_stop(set[i]);
		else if (set[i])
			listener_withdraw(set[i]);
	return rc;
}

/* The listeners of a new configuration, beside the present ones. */
struct new_set {
	const struct gateway *g;
	struct listener *const *set; /* NULL where one could not be bound */
	size_t n;
};

/* What a connection's listener is to be called (front_rename_listeners). */
static const char *new_name(void *arg, const char *name)
{
	const struct new_set *new = arg;
	const struct gateway *g = new->g;

	for (size_t i = 0; i < g->nlisteners; i++)
		if (g->listeners[i] && strcmp(listener_name(g->listeners[i]), name) == 0)
			return is_among(g->listeners[i], new->set, new->n) ? listener_offered_name(g->listeners[i])
									   : "";
	return NULL;
}

/* Those of a reload that stay take over what the new entries say. */
static void adopt_entries(struct gateway *g, struct listener *const *set, size_t n)
{
	struct new_set new = {g, set, n};

	front_rename_listeners(&g->fronts, new_name, &new);
	for (size_t i = 0; i < n; i++)
		if (set[i] && is_among(set[i], g->listeners, g->nlisteners))
			listener_adopt(set[i]);
}

static void use_listeners(struct gateway *g, struct listener **set, size_t n)
{
	if (n)
		adopt_entries(g, set, n);
	for (size_t i = 0; i < n; i++)
		if (set[i] && !is_among(set[i], g->listeners, g->nlisteners))
			log_info("listening on %s", listener_where(set[i]));
	for (size_t i = 0; i < g->nlisteners; i++) {
		if (!g->listeners[i] || is_among(g->listeners[i], set, n))
			continue;
		if (n)
			log_info("no longer listening on %s", listener_where(g->listeners[i]));
		listener_stop(g->listeners[i]);
	}
	free(g->listeners);
	g->listeners = set;
	g->nlisteners = n;
	g->fronts.stats.listener_trouble = g->listener_trouble[0] ? g->listener_trouble : NULL;
}

static void stop_listeners(struct gateway *g)
{
	use_listeners(g, NULL, 0);
}

/* --- start ------------------------------------------------------------------------------------------------------------------- */

/* Idle connections of the process before this one go on, each asked anew who it is. */
static void take_stored(struct gateway *g)
{
	unsigned taken = 0, strange = 0;
	int fd;

	while ((fd = activation_take_client(g->options->passed)) >= 0) {
		struct listener *l = NULL;
		for (size_t i = 0; i < g->nlisteners && !l; i++)
			if (g->listeners[i] && listener_accepted(g->listeners[i], fd))
				l = g->listeners[i];
		if (l) {
			taken++;
			on_accept(g, l, fd);
		} else {
			strange++;
			fd_close(&fd);
		}
	}
	if (taken + strange == 0)
		return;
	notify_unstore(g->options->notify);
	log_info("%u idle connections go on; %u are closed, whose listener is no more", taken, strange);
}

static bool store_some(void *arg, const int *fds, size_t n)
{
	const struct gateway *g = arg;

	return notify_store(g->options->notify, fds, n);
}

static void begin_listening(struct gateway *g)
{
	struct listener **set = calloc(g->config->nlisteners, sizeof(*set));
	char why[256] = "out of memory";

	event_del(g->timer);
	if (!set || make_listeners(g, g->config, false, set, why, sizeof(why))) {
		free(set);
		start_failed(g, "no listener", why);
		stop_local(g);
		return;
	}
	use_listeners(g, set, g->config->nlisteners);
	take_stored(g);
	activation_close_unwanted(g->options->passed);
	move(g, GATEWAY_RUNNING);
	log_info("ready");
	notify_ready(g->options->notify);
}

/* --- reload -------------------------------------------------------------------------------------------------------------------- */

static void log_lines(enum log_level level, const struct buf *lines)
{
	for (struct str rest = buf_str(lines); rest.n;) {
		struct str line = str_cut(&rest, '\n');
		log_write(level, "%.*s", STR_ARG(line));
	}
}

/* Puts a loaded configuration in force, or changes nothing and says why. */
static int apply(struct gateway *g, struct config *config, char *why, size_t why_size)
{
	struct listener **set = calloc(config->nlisteners, sizeof(*set));
	struct snapshot *snapshot = NULL;
	struct snapshot_local local;
	struct logs_outputs outputs = {0};
	bool new_local = has_local(config) && !g->local;
	int rc = set ? 0 : -ENOMEM;

	snprintf(why, why_size, "out of memory");
	if (rc == 0 && own_user_differs(config)) {
		snprintf(why, why_size, "user is \"%s\" now: only a start can change it", config->user);
		rc = -EPERM;
	}
	if (rc == 0)
		rc = peer_check_rights(config, why, why_size);
	if (rc == 0)
		rc = logs_open(g->logs, config, &outputs, why, why_size);
	if (rc == 0 && new_local)
		rc = make_local(g);
	local = local_of(g);
	if (rc == 0)
		rc = snapshot_new(g->loop, g->dialer, g->keyring, config, &local, g->fronts.snapshot, &snapshot, why,
				  why_size);
	if (rc == 0)
		rc = make_listeners(g, config, true, set, why, why_size);
	if (rc) {
		logs_outputs_fini(&outputs);
		snapshot_unref(snapshot);
		free(set);
		if (new_local && g->local) {
			local_server_free(g->local);
			g->local = NULL;
		}
		return rc;
	}
	if (new_local)
		local_server_start(g->local);
	else if (g->local && !has_local(config))
		log_info("no upstream is local any more: the embedded server runs on until this daemon stops");
	logs_use(g->logs, &outputs);
	g->listener_trouble[0] = '\0';
	use_listeners(g, set, config->nlisteners);
	front_use_snapshot(&g->fronts, snapshot);
	snapshot_unref(snapshot);
	config_unref(g->config);
	g->config = config_ref(config);
	log_set_level(g->options->verbose ? LOG_LEVEL_DEBUG : config->log_level);
	return 0;
}

static void note_reload(struct control_reload *r, bool failed, struct str said)
{
	struct str line = str_cut(&said, '\n');

	r->wall_ns = clock_wall_ns();
	r->failed = failed;
	snprintf(r->error, sizeof(r->error), "%.*s", failed ? (int)line.n : 0, line.p ? line.p : "");
}

/* `said` gets the lines that the log gets: warnings, or the faults. */
static int reload(struct gateway *g, struct buf *said)
{
	struct config *config = NULL;
	char why[WHY_MAX_BYTES];
	int rc;

	notify_reloading(g->options->notify);
	rc = config_load(g->options->file, g->options->places, &config, said);
	if (rc == 0) {
		config_warnings(config, said);
		logs_warnings(config, said);
		log_lines(LOG_LEVEL_WARN, said);
		rc = apply(g, config, why, sizeof(why));
		if (rc) {
			log_error("%s", why);
			buf_reset(said);
			buf_addf(said, "%s\n", why);
		}
		config_unref(config);
	} else {
		log_lines(LOG_LEVEL_ERROR, said);
	}
	if (rc) {
		if (!said->len)
			buf_addf(said, "%s\n", strerror(-rc));
		g->fronts.stats.reloads_failed++;
		log_error("reload failed: the old configuration stays in force");
	} else {
		log_info("reloaded: configuration %llu is in force", (unsigned long long)g->fronts.stats.generation);
	}
	note_reload(&g->fronts.stats.last_reload, rc != 0, buf_str(said));
	notify_ready(g->options->notify);
	return rc;
}

static void reload_by_signal(struct gateway *g)
{
	struct buf said = BUF_EMPTY;

	if (reload(g, &said)) {
		/* The log says it. */
	}
	buf_fini(&said);
}

static int reload_by_request(void *arg, struct buf *said, uint64_t *generation)
{
	struct gateway *g = arg;
	int rc;

	if (g->state != GATEWAY_RUNNING) {
		buf_add_cstr(said, "the daemon is stopping\n");
		return -ESHUTDOWN;
	}
	rc = reload(g, said);
	*generation = g->fronts.stats.generation;
	return rc;
}

/* --- stop ---------------------------------------------------------------------------------------------------------------------- */

static void stop_loop(struct gateway *g)
{
	move(g, GATEWAY_STOPPED);
	loop_stop(g->loop);
}

static void stop_local(void *arg)
{
	struct gateway *g = arg;

	move(g, GATEWAY_STOPPING);
	if (g->local)
		local_server_stop(g->local);
	else
		stop_loop(g);
}

/* Every request has ended. */
static void on_fronts_idle(void *arg)
{
	struct gateway *g = arg;
	uint64_t now_ms = clock_ms();
	uint64_t left_ms = g->drain_ends_ms > now_ms ? g->drain_ends_ms - now_ms : 0;

	if (g->state != GATEWAY_DRAINING)
		return;
	event_del(g->timer);
	move(g, GATEWAY_FLUSHING);
	if (!trace_export_finish(g->fronts.traces, left_ms < FLUSH_MAX_MS ? left_ms : FLUSH_MAX_MS, stop_local, g))
		stop_local(g);
}

static void drain(struct gateway *g)
{
	uint64_t ms = g->config->drain_timeout_ms;
	struct timeval tv = clock_span(ms);

	log_info("stopping: no new connections; %llu present ones may finish within the drain_timeout",
		 (unsigned long long)g->fronts.stats.connections);
	move(g, GATEWAY_DRAINING);
	g->drain_ends_ms = clock_ms() + ms;
	notify_stopping(g->options->notify, ms);
	if (g->options->passed->stores)
		front_store_idle(&g->fronts, store_some, g);
	stop_listeners(g);
	event_add(g->timer, &tv);
	if (front_is_idle(&g->fronts))
		on_fronts_idle(g);
	else
		front_drain_all(&g->fronts);
}

static void stop_at_once(struct gateway *g)
{
	log_info("stopping at once");
	notify_stopping(g->options->notify, 0);
	if (g->launcher)
		launcher_kill(g->launcher);
	if (g->state == GATEWAY_DRAINING || g->state == GATEWAY_FLUSHING || g->state == GATEWAY_STARTING)
		move(g, GATEWAY_STOPPING);
	stop_loop(g);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct gateway *g = arg;
	const char *trouble;

	(void)fd;
	(void)what;
	if (g->state == GATEWAY_STARTING) {
		trouble = g->local ? local_server_trouble(g->local) : NULL;
		start_failed(g, "upstream local does not answer within 10 s", trouble ? trouble : "no answer");
		move(g, GATEWAY_STOPPING);
		local_server_stop(g->local);
	} else if (g->state == GATEWAY_DRAINING) {
		log_warn("drain_timeout passed: %llu connections are cut",
			 (unsigned long long)g->fronts.stats.connections);
		front_cut_all(&g->fronts);
	}
}

static void on_signal(evutil_socket_t number, short what, void *arg)
{
	struct gateway *g = arg;

	(void)what;
	switch (number) {
	case SIGHUP:
		if (g->state == GATEWAY_RUNNING)
			reload_by_signal(g);
		return;
	case SIGUSR1:
		logs_reopen(g->logs);
		return;
	default:
		if (g->state == GATEWAY_RUNNING)
			drain(g);
		else if (g->state != GATEWAY_STOPPED)
			stop_at_once(g);
	}
}

/* --- the line for people ------------------------------------------------------------------------------------------------------ */

/* What is wrong, the most urgent first; NULL: nothing. */
static const char *trouble_of(const struct gateway *g, const char **where)
{
	const struct config *c = snapshot_config(g->fronts.snapshot);
	const char *trouble = NULL;

	for (size_t i = 0; i < c->nupstreams && !trouble; i++) {
		*where = c->upstreams[i].name;
		if (c->upstreams[i].scheme == CONFIG_LOCAL && g->local)
			trouble = local_server_trouble(g->local);
		if (!trouble)
			trouble = upstream_trouble(snapshot_upstream(g->fronts.snapshot, i));
	}
	if (!trouble && g->listener_trouble[0]) {
		*where = "listener";
		trouble = g->listener_trouble;
	}
	return trouble;
}

static void describe(void *arg, char *text, size_t size)
{
	const struct gateway *g = arg;
	const char *where = NULL;
	const char *trouble = g->fronts.snapshot ? trouble_of(g, &where) : NULL;

	snprintf(text, size, "%s, %llu connections%s%s%s%s%s",
		 g->state == GATEWAY_RUNNING ? "serving" : state_names[g->state],
		 (unsigned long long)g->fronts.stats.connections,
		 g->fronts.stats.last_reload.failed ? "; the last reload failed, see the log" : "", trouble ? "; " : "",
		 trouble ? where : "", trouble ? ": " : "", trouble ? trouble : "");
}

/* --- the whole ------------------------------------------------------------------------------------------------------------------ */

/* Before the signals, one of which has the files opened anew. */
static bool build_logs(struct gateway *g)
{
	struct logs_outputs outputs;
	char why[WHY_MAX_BYTES];

	g->logs = logs_new(g->loop);
	if (!g->logs)
		return start_failed(g, "log", strerror(ENOMEM));
	if (logs_open(g->logs, g->config, &outputs, why, sizeof(why)))
		return start_failed(g, "log", why);
	logs_use(g->logs, &outputs);
	return true;
}

static bool build_loop(struct gateway *g)
{
	static const int numbers[SIGNALS] = {SIGHUP, SIGUSR1, SIGTERM, SIGINT};

	g->loop = loop_new();
	if (!g->loop)
		return start_failed(g, "event loop", strerror(ENOMEM));
	if (!build_logs(g))
		return false;
	g->dialer = dialer_new(g->loop);
	if (!g->dialer)
		return start_failed(g, "dialler", strerror(ENOMEM));
	g->names = names_new(g->loop, names_from_system);
	if (!g->names)
		return start_failed(g, "look-up of names", strerror(ENOMEM));
	if (launcher_attach(g->launcher, g->loop) || keyring_new(g->loop, g->launcher, &g->keyring))
		return start_failed(g, "keyring", strerror(ENOMEM));
	for (size_t i = 0; i < SIGNALS; i++) {
		g->signals[i] = evsignal_new(loop_base(g->loop), numbers[i], on_signal, g);
		if (!g->signals[i] || event_add(g->signals[i], NULL) < 0)
			return start_failed(g, "signals", strerror(ENOMEM));
	}
	g->timer = evtimer_new(loop_base(g->loop), on_timer, g);
	if (!g->timer)
		return start_failed(g, "timer", strerror(ENOMEM));
	g->fronts_made = true;
	if (front_shared_init(&g->fronts, g->loop, g->dialer, g->names))
		return start_failed(g, "tables", strerror(ENOMEM));
	template_cache_set_place(g->fronts.templates, g->options->places->state_dir);
	g->fronts.logs = g->logs;
	g->fronts.stats.logs = g->logs;
	g->fronts.operate = (struct operate_hooks){reload_by_request, g};
	g->fronts.on_idle = on_fronts_idle;
	g->fronts.arg = g;
	if (notify_watch(g->options->notify, g->loop, describe, g))
		return start_failed(g, "watchdog", strerror(ENOMEM));
	return true;
}

static bool build_snapshot(struct gateway *g)
{
	struct snapshot *snapshot;
	struct snapshot_local local;
	char why[256];

	if (has_local(g->config)) {
		int rc = make_local(g);
		if (rc)
			return start_failed(g, "local server", strerror(-rc));
	}
	local = local_of(g);
	if (snapshot_new(g->loop, g->dialer, g->keyring, g->config, &local, NULL, &snapshot, why, sizeof(why))) {
		log_error("%s", why);
		g->exit_status = GATEWAY_EXIT_CONFIG;
		return false;
	}
	front_use_snapshot(&g->fronts, snapshot);
	snapshot_unref(snapshot);
	return true;
}

static void on_record(void *arg, struct str key, struct str value)
{
	front_recall(arg, key, value);
}

/* What the process before this one had under way. */
static bool build_journal(struct gateway *g)
{
	char path[PATH_MAX];
	int rc;

	if ((size_t)snprintf(path, sizeof(path), "%s/journal", g->options->places->state_dir) >= sizeof(path))
		return start_failed(g, "journal", strerror(ENAMETOOLONG));
	rc = journal_open(path, on_record, &g->fronts, &g->journal);
	if (rc)
		return start_failed(g, path, strerror(-rc));
	front_restore(&g->fronts, g->journal);
	return true;
}

static void run(struct gateway *g)
{
	struct timeval patience = {.tv_sec = LOCAL_START_MS / 1000};

	if (g->local) {
		event_add(g->timer, &patience);
		local_server_start(g->local);
	} else {
		begin_listening(g);
	}
	if (g->state != GATEWAY_STOPPED)
		loop_run(g->loop);
}

/* The one place that says in which order things go; each step also for what was only half built. */
static void take_down(struct gateway *g)
{
	stop_listeners(g);
	if (g->fronts_made) {
		front_cut_all(&g->fronts);
		loop_run_deferred(g->loop);
		front_shared_fini(&g->fronts);
		loop_run_deferred(g->loop);
	}
	journal_free(g->journal);
	local_server_free(g->local);
	keyring_free(g->keyring);
	dialer_free(g->dialer);
	names_free(g->names);
	if (g->timer)
		event_free(g->timer);
	for (size_t i = 0; i < SIGNALS; i++)
		if (g->signals[i])
			event_free(g->signals[i]);
	launcher_free(g->launcher);
	notify_unwatch(g->options->notify);
	logs_free(g->logs);
	loop_free(g->loop);
	config_unref(g->config);
	fd_close(&g->lock_fd);
	free(g->local_socket);
	free(g->local_state);
}

/* What is root's to do, then what nobody needs to be root for. */
static bool become_user(struct gateway *g)
{
	char why[WHY_MAX_BYTES] = "out of memory";

	if (own_user_prepare(g->config, g->options->places, why, sizeof(why)))
		return start_failed(g, "identity", why);
	if (!fork_launcher(g))
		return false;
	if (own_user_become(g->config, why, sizeof(why)))
		return start_failed(g, "identity", why);
	if (geteuid() == 0)
		log_warn(
			"running as root: whoever finds a fault in this daemon has the machine; `user:` names another");
	return true;
}

int gateway_run(struct config *config, const struct gateway_options *options)
{
	struct gateway g = {.options = options, .config = config, .lock_fd = -1, .state = GATEWAY_STARTING};

	raise_descriptor_limit();
	if (become_user(&g) && check_rights(&g) && lock_state(&g)) {
		keep_host(&g);
		if (build_loop(&g) && build_snapshot(&g) && build_journal(&g))
			run(&g);
	}
	take_down(&g);
	if (g.exit_status == GATEWAY_EXIT_OK)
		log_info("stopped");
	return g.exit_status;
}
