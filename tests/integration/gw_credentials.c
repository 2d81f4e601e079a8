/* SPDX-License-Identifier: Apache-2.0 */
/* Keys that change while the gateway runs: by file, by systemd, by command, and at the server first. */
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

#define KEY_A         PLANTED_SECRET "-a"
#define KEY_B         PLANTED_SECRET "-b-which-is-longer"
#define KEY_ADMIN     PLANTED_SECRET "-admin"
#define GET_READY     "GET /gateway/v1/ready HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_X         "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
#define REFUSAL       "{\"code\":\"UNAUTHORIZED\",\"message\":\"invalid or missing API key\"}"
#define COUNT(array)  (sizeof(array) / sizeof((array)[0]))
#define ANY_ADMIN_KEY "X-Admin-API-Key: "

/* --- a server that knows keys ------------------------------------------------------------------------------------------ */

enum {
	TAKES_A = 1,
	TAKES_B = 2,
	CONNECTIONS_MAX = 256
};

/* Answers 200 to the keys it takes and 401 to others, each request on its own, in a thread per connection. */
static struct {
	int fd;
	pthread_t thread;
	pthread_t connections[CONNECTIONS_MAX];
	size_t n;
	atomic_int takes;       /* TAKES_... */
	atomic_int holds;       /* requests wait while this is set */
	atomic_uint held;       /* that have waited */
	atomic_uint refused;    /* 401s */
	atomic_uint requests;   /* all */
	atomic_uint with_admin; /* requests with an admin key */
	pthread_mutex_t gate;   /* of `holds` */
	pthread_cond_t opened;
	atomic_bool stops;
} server;

static bool server_takes(const char *head)
{
	int takes = atomic_load(&server.takes);

	return ((takes & TAKES_A) && strstr(head, "X-API-Key: " KEY_A "\r\n")) ||
	       ((takes & TAKES_B) && strstr(head, "X-API-Key: " KEY_B "\r\n"));
}

/* Reads one request; false at the end. Bodies are short, and tests send them with their heads. */
static bool read_request(int fd, char head[8192])
{
	size_t n = 0;

	while (n < 8191) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t got;
		if (poll(&p, 1, 50) == 0) {
			if (atomic_load(&server.stops))
				return false;
			continue;
		}
		got = recv(fd, head + n, 8191 - n, 0);
		if (got <= 0)
			return false;
		n += (size_t)got;
		head[n] = '\0';
		if (strstr(head, "\r\n\r\n"))
			return true;
	}
	return false;
}

static void *serve_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	char head[8192];
	char answer[300];

	while (read_request(fd, head)) {
		bool good;
		const char *body = "{}";
		if (atomic_load(&server.holds)) {
			atomic_fetch_add(&server.held, 1);
			pthread_mutex_lock(&server.gate);
			while (atomic_load(&server.holds))
				pthread_cond_wait(&server.opened, &server.gate);
			pthread_mutex_unlock(&server.gate);
		}
		good = server_takes(head);
		if (!good)
			body = REFUSAL;
		atomic_fetch_add(&server.requests, 1);
		atomic_fetch_add(&server.refused, !good);
		atomic_fetch_add(&server.with_admin, strstr(head, ANY_ADMIN_KEY KEY_ADMIN "\r\n") != NULL);
		snprintf(answer, sizeof(answer),
			 "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
			 good ? "200 OK" : "401 Unauthorized", strlen(body), body);
		if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
			break;
	}
	close(fd);
	return NULL;
}

static void *serve(void *arg)
{
	(void)arg;
	while (!atomic_load(&server.stops)) {
		struct pollfd p = {.fd = server.fd, .events = POLLIN};
		int fd = poll(&p, 1, 50) > 0 ? accept4(server.fd, NULL, NULL, SOCK_CLOEXEC) : -1;
		if (fd < 0)
			continue;
		if (server.n == CONNECTIONS_MAX ||
		    pthread_create(&server.connections[server.n], NULL, serve_connection, (void *)(intptr_t)fd))
			close(fd);
		else
			server.n++;
	}
	return NULL;
}

static void server_start(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	memset(&server, 0, sizeof(server));
	pthread_mutex_init(&server.gate, NULL);
	pthread_cond_init(&server.opened, NULL);
	atomic_store(&server.takes, TAKES_A);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	server.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(server.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	cr_assert_eq(listen(server.fd, 128), 0);
	cr_assert_eq(pthread_create(&server.thread, NULL, serve, NULL), 0);
}

/* Those that wait are answered. */
static void server_let_go(void)
{
	pthread_mutex_lock(&server.gate);
	atomic_store(&server.holds, 0);
	pthread_cond_broadcast(&server.opened);
	pthread_mutex_unlock(&server.gate);
}

static void server_stop(void)
{
	server_let_go();
	atomic_store(&server.stops, true);
	pthread_join(server.thread, NULL);
	for (size_t i = 0; i < server.n; i++)
		pthread_join(server.connections[i], NULL);
	close(server.fd);
}

/* --- a gateway in front of it -------------------------------------------------------------------------------------------- */

static struct scratch dir;
static struct daemon *gateway;
static char socket_path[160];

static void end(void)
{
	daemon_kill_all();
	scratch_fini(&dir);
}

TestSuite(credentials, .fini = end);

/* Writes the configuration: `keys` is what stands inside the credential, `more` inside the rule. */
static void configure(const char *keys, const char *more)
{
	char text[2048];
	int n = snprintf(text, sizeof(text),
			 "listen: [ { path: %s } ]\nupstreams: { main: { url: \"unix://%s\" } }\n"
			 "credentials: { team: { %s } }\nclients: [ { name: me, match: { uid: %u }, upstream: main, "
			 "credential: team, user_id: alice, allow: [all]%s%s } ]\n"
			 "log: { level: debug, access: stderr }\n",
			 socket_path, scratch_path(&dir, "server.sock"), keys, (unsigned)getuid(),
			 strstr(more, "isolation: owner") ? "" : ", isolation: none", more);

	scratch_file(&dir, "c.yaml", 0644, text, (size_t)n);
}

static void prepare(void)
{
	scratch_init(&dir);
	snprintf(socket_path, sizeof(socket_path), "%s", scratch_path(&dir, "gw.sock"));
	server_start(scratch_path(&dir, "server.sock"));
}

static void start(const char *keys, const char *more, const char *const *env)
{
	const char *argv[] = {"-c", scratch_path(&dir, "c.yaml"), NULL};
	struct daemon_spec spec = {.argv = argv, .env = env, .ready_socket = socket_path};

	configure(keys, more);
	gateway = daemon_start(&dir, &spec);
}

static void stop(void)
{
	daemon_stop(gateway);
	server_stop();
}

/* A credential whose ordinary key is a file of the test's directory, now with this key. */
static const char *from_file(const char *key)
{
	static char keys[300];

	snprintf(keys, sizeof(keys), "api_key: { file: %s }", scratch_text(&dir, "team.key", 0600, key));
	return keys;
}

static void replace_file(const char *name, const char *key, mode_t mode)
{
	const char *to = scratch_path(&dir, "%s", name);

	cr_assert_eq(rename(scratch_text(&dir, "new.key", mode, key), to), 0);
}

static json_t *get(const char *path)
{
	char request[200];
	struct answer a;
	json_t *json;

	snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path);
	a = raw_once(socket_path, request);
	expect_status(&a, 200);
	json = answer_json(&a);
	answer_fini(&a);
	return json;
}

/* The ordinary key's part of health. */
struct wanted {
	json_int_t changes; /* exactly; -1: any */
	bool trouble;
};

static bool health_is(void *arg)
{
	const struct wanted *want = arg;
	json_t *health = get("/gateway/v1/health");
	json_t *key = json_object_get(json_array_get(json_object_get(health, "credentials"), 0), "api_key");
	bool degraded = strcmp(json_text_at(health, "status"), "degraded") == 0;
	bool good = (want->changes < 0 || json_number_at(key, "changes") == want->changes) &&
		    want->trouble == (json_object_get(key, "error") != NULL) && want->trouble == degraded;

	json_decref(health);
	return good;
}

static bool wait_health(json_int_t changes, bool trouble)
{
	struct wanted want = {changes, trouble};

	return wait_until(health_is, &want, WAIT_MS);
}

static unsigned ask(const char *request)
{
	struct answer a = raw_once(socket_path, request);
	unsigned status = a.status;

	cr_expect_eq(a.end, ANSWER_COMPLETE);
	answer_fini(&a);
	return status;
}

/* A request whose answer is waited for to have a status. */
struct asked {
	const char *request;
	unsigned status;
};

static bool is_answered(void *arg)
{
	const struct asked *asked = arg;

	return ask(asked->request) == asked->status;
}

static void wait_status(const char *request, unsigned status)
{
	struct asked asked = {request, status};

	cr_assert(wait_until(is_answered, &asked, WAIT_MS), "not %u", status);
}

struct count {
	atomic_uint *of;
	unsigned n;
};

static bool is_reached(void *arg)
{
	const struct count *c = arg;

	return atomic_load(c->of) >= c->n;
}

static void wait_count(atomic_uint *of, unsigned n)
{
	struct count c = {of, n};

	cr_assert(wait_until(is_reached, &c, WAIT_MS), "%u, expected %u", atomic_load(of), n);
}

/* A program of the test's: a shell script. */
static const char *script(const char *name, const char *text)
{
	return scratch_text(&dir, name, 0755, text);
}

static unsigned lines_of(const char *name)
{
	struct buf b = scratch_read(scratch_path(&dir, "%s", name));
	unsigned n = 0;

	for (size_t i = 0; i < b.len; i++)
		n += buf_data(&b)[i] == '\n';
	buf_fini(&b);
	return n;
}

/* --- files ------------------------------------------------------------------------------------------------------------------ */

/* A key that is replaced by a rename is used without a reload; a request that is under way keeps the one it began with. */
Test(credentials, file_replaced)
{
	struct raw r;
	struct answer a;

	prepare();
	start(from_file(KEY_A "\n"), "", NULL);
	cr_expect_eq(ask(GET_X), 200);
	atomic_store(&server.holds, 1);
	r = raw_unix(socket_path);
	cr_assert(raw_text(&r, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
	wait_count(&server.held, 1);
	replace_file("team.key", KEY_B "\n", 0600);
	cr_assert(wait_health(1, false));
	server_let_go();
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	atomic_store(&server.takes, TAKES_B);
	cr_expect_eq(ask(GET_X), 200);
	cr_expect_eq(atomic_load(&server.refused), 0);
	raw_close(&r);
	stop();
}

/* What is empty, open to others or gone keeps the last good key, says so once, and names no byte of it. */
Test(credentials, last_good_key_stays)
{
	static const struct {
		const char *text;
		mode_t mode;
		const char *says;
	} rows[] = {
		{"", 0600, "team.key: is empty"},
		{KEY_B " and more", 0600, "holds white space"},
		{KEY_B, 0644, "is open to everybody"},
	};

	prepare();
	start(from_file(KEY_A), "", NULL);
	for (unsigned i = 0; i < COUNT(rows); i++) {
		replace_file("team.key", rows[i].text, rows[i].mode);
		cr_assert(daemon_wait_log(gateway, rows[i].says), "row %u", i);
		cr_expect(wait_health(0, true));
		cr_expect_eq(ask(GET_X), 200, "row %u", i);
		/* Touched again, it is read again and in vain: nothing new is to be said. */
		replace_file("team.key", rows[i].text, rows[i].mode);
		cr_expect(wait_health(0, true));
	}
	cr_assert_eq(unlink(scratch_path(&dir, "team.key")), 0);
	cr_assert(daemon_wait_log(gateway, "No such file"));
	cr_expect_eq(ask(GET_X), 200);
	cr_expect_eq(ask(GET_READY), 200, "it has a key");
	scratch_text(&dir, "team.key", 0600, KEY_B);
	cr_expect(wait_health(1, false));
	atomic_store(&server.takes, TAKES_B);
	cr_expect_eq(ask(GET_X), 200);
	for (unsigned i = 0; i < COUNT(rows); i++)
		cr_expect_eq(daemon_count_log(gateway, rows[i].says), 1, "row %u", i);
	stop();
}

/* X7: a credential of systemd: its mode is systemd's affair, and the directory is replaced as a whole. */
Test(credentials, systemd)
{
	char variable[200];
	const char *env[] = {variable, NULL};

	prepare();
	snprintf(variable, sizeof(variable), "CREDENTIALS_DIRECTORY=%s", scratch_path(&dir, "creds"));
	cr_assert_eq(mkdir(scratch_path(&dir, "creds"), 0700), 0);
	scratch_text(&dir, "creds/team", 0440, KEY_A "\n");
	start("api_key: { systemd: team }", "", env);
	cr_expect_eq(ask(GET_X), 200);
	cr_assert_eq(mkdir(scratch_path(&dir, "next"), 0700), 0);
	scratch_text(&dir, "next/team", 0440, KEY_B "\n");
	cr_assert_eq(rename(scratch_path(&dir, "creds"), scratch_path(&dir, "last")), 0);
	cr_assert_eq(rename(scratch_path(&dir, "next"), scratch_path(&dir, "creds")), 0);
	cr_assert(wait_health(1, false));
	atomic_store(&server.takes, TAKES_B);
	cr_expect_eq(ask(GET_X), 200);
	stop();
}

/* Two rules with a credential each, both of one variable: each of them works, also after a reload. */
Test(credentials, one_variable_twice)
{
	static const char *const env[] = {"TEAM_KEY=" KEY_A, NULL};

	prepare();
	start("api_key: { env: TEAM_KEY } }, second: { api_key: { env: TEAM_KEY }",
	      " }, { name: other, match: { uid: 54321 }, upstream: main, credential: second, user_id: bob, allow: "
	      "[all], "
	      "isolation: none",
	      env);
	cr_expect_eq(ask(GET_X), 200);
	daemon_signal(gateway, SIGHUP);
	cr_assert(daemon_wait_log(gateway, "configuration 2 is in force"));
	cr_expect_eq(ask(GET_X), 200);
	stop();
}

/* --- commands --------------------------------------------------------------------------------------------------------------- */

/* A command's output is the key, again at its ttl; its argv is what was written, without a shell, and it is given nothing. */
Test(credentials, command)
{
	static const char *const env[] = {"TEAM_KEY=" PLANTED_SECRET, "HOME=/nowhere", "LD_LIBRARY_PATH=/nowhere",
					  NULL};
	char keys[800];
	struct buf seen;

	prepare();
	script("helper",
	       "#!/bin/sh\ncd \"${0%/*}\" || exit 1\n"
	       "{ printf '<%s>' \"$@\"; echo; env; ls -l /proc/self/fd; cat; ps -o args= -p $$; } > seen.new\n"
	       "mv seen.new seen\necho run >> runs\ncat team.key\n");
	scratch_text(&dir, "team.key", 0600, KEY_A "\n");
	snprintf(keys, sizeof(keys),
		 "api_key: { command: [%s, \"a b\", \"$HOME; exit 1\", \"*\", \"\"], ttl: 100ms }, "
		 "admin_api_key: { env: TEAM_KEY }",
		 scratch_path(&dir, "helper"));
	start(keys, ", admin: true", env);
	cr_expect(wait_health(0, false));
	wait_status(GET_READY, 200);
	cr_expect_eq(ask(GET_X), 200);
	scratch_text(&dir, "team.key", 0600, KEY_B "\n");
	cr_assert(wait_health(1, false));
	atomic_store(&server.takes, TAKES_B);
	cr_expect_eq(ask(GET_X), 200);
	cr_expect_geq(lines_of("runs"), 2);
	seen = scratch_read(scratch_path(&dir, "seen"));
	cr_expect(buf_contains(&seen, "<a b><$HOME; exit 1><*><>"), "%.*s", STR_ARG(buf_str(&seen)));
	cr_expect(buf_contains(&seen, "PATH="));
	cr_expect(!buf_contains(&seen, PLANTED_SECRET), "X4: a key is in its environment or arguments");
	cr_expect(!buf_contains(&seen, "HOME=/"));
	cr_expect(!buf_contains(&seen, "nowhere"));
	cr_expect(buf_contains(&seen, "0 -> /dev/null"), "%.*s", STR_ARG(buf_str(&seen)));
	cr_expect(!buf_contains(&seen, "socket:"), "L12: it has a descriptor of ours: %.*s", STR_ARG(buf_str(&seen)));
	buf_fini(&seen);
	stop();
}

/* A command that fails lets the daemon start; its requests are 503 and readiness says which credential, until it works. */
Test(credentials, command_fails_at_first)
{
	char keys[400];
	struct answer a;

	prepare();
	script("helper",
	       "#!/bin/sh\ncd \"${0%/*}\" && cat team.key 2>/dev/null || { echo " PLANTED_SECRET "-half; exit 7; }\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s] }", scratch_path(&dir, "helper"));
	start(keys, "", NULL);
	cr_assert(daemon_wait_log(gateway, "exited with status 7"));
	a = raw_once(socket_path, GET_X);
	expect_error(&a, 503, "UNAVAILABLE");
	cr_expect(buf_contains(&a.body, "credential not loaded"));
	cr_expect_eq(wire_count(answer_head(&a), "Retry-After"), 1);
	answer_fini(&a);
	a = raw_once(socket_path, GET_READY);
	expect_error(&a, 503, "UNAVAILABLE");
	cr_expect(buf_contains(&a.body, "team"));
	answer_fini(&a);
	cr_expect(wait_health(0, true));
	cr_expect_eq(atomic_load(&server.requests), 0);
	scratch_text(&dir, "team.key", 0600, KEY_A);
	cr_expect(wait_health(0, false));
	cr_expect_eq(ask(GET_X), 200);
	cr_expect_eq(ask(GET_READY), 200);
	cr_expect_eq(daemon_count_log(gateway, "exited with status 7"), 1);
	stop();
}

static bool is_gone(void *arg)
{
	struct buf b = scratch_read(scratch_path(&dir, "pids"));
	bool gone = true;

	(void)arg;
	buf_add_char(&b, '\0');
	for (char *p = buf_data(&b); *p;) {
		long pid = strtol(p, &p, 10);
		while (*p == '\n' || *p == ' ')
			p++;
		gone = gone && pid > 0 && kill((pid_t)pid, 0) < 0 && errno == ESRCH;
	}
	buf_fini(&b);
	return gone;
}

struct runs {
	const char *file;
	unsigned n;
};

static bool has_run(void *arg)
{
	const struct runs *runs = arg;

	cr_expect_eq(ask(GET_X), 503); /* answered meanwhile, and at once */
	return lines_of(runs->file) >= runs->n;
}

/* One that hangs is killed after its timeout with all that it started, and nobody waits for it meanwhile; the same at a stop. */
Test(credentials, command_hangs)
{
	char keys[400];

	prepare();
	script("helper", "#!/bin/sh\ncd \"${0%/*}\"\nsleep 1000 &\necho $$ $! >> pids\nwait\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], timeout: 300ms }", scratch_path(&dir, "helper"));
	start(keys, "", NULL);
	cr_assert(wait_until(has_run, &(struct runs){"pids", 1}, WAIT_MS));
	cr_assert(daemon_wait_log(gateway, "did not end within its timeout"));
	cr_assert(wait_until(has_run, &(struct runs){"pids", 2}, WAIT_MS)); /* again, after the pause */
	stop();
	cr_expect(wait_until(is_gone, NULL, WAIT_MS), "something of it runs on");
}

/* What one prints is bounded, and what is left running of one that ended well is killed, though it holds the pipe open. */
Test(credentials, command_output)
{
	char keys[400];

	prepare();
	script("helper", "#!/bin/sh\nyes " PLANTED_SECRET "\n");
	script("leaves", "#!/bin/sh\ncd \"${0%/*}\"\nsleep 1000 &\necho $! >> pids\necho " KEY_A "\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], timeout: 5m }", scratch_path(&dir, "helper"));
	start(keys, "", NULL);
	cr_assert(daemon_wait_log(gateway, "prints more than a key may have"));
	/* A reload brings a command that was in no configuration when the launcher was forked. */
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], timeout: 5m }", scratch_path(&dir, "leaves"));
	configure(keys, "");
	daemon_signal(gateway, SIGHUP);
	cr_assert(daemon_wait_log(gateway, "configuration 2 is in force"));
	cr_expect(wait_health(0, false));
	cr_expect_eq(ask(GET_X), 200);
	cr_expect(wait_until(is_gone, NULL, WAIT_MS));
	stop();
}

static bool has_lines(void *arg)
{
	const struct runs *runs = arg;

	return lines_of(runs->file) >= runs->n;
}

/* Without the launcher no command can be run any more: the key that is there stays, and health says why it will not change. */
Test(credentials, launcher_gone)
{
	char keys[400];
	struct buf pid;

	prepare();
	script("helper", "#!/bin/sh\ncd \"${0%/*}\"\necho $PPID >> launcher\necho " KEY_A "\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], ttl: 100ms }", scratch_path(&dir, "helper"));
	start(keys, "", NULL);
	wait_status(GET_X, 200);
	cr_assert(wait_until(has_lines, &(struct runs){"launcher", 1}, WAIT_MS));
	pid = scratch_read(scratch_path(&dir, "launcher"));
	buf_add_char(&pid, '\0');
	cr_assert_eq(kill((pid_t)strtol(buf_data(&pid), NULL, 10), SIGKILL), 0);
	buf_fini(&pid);
	cr_expect(daemon_wait_log(gateway, "the launcher process is gone; restart the daemon"));
	cr_expect(wait_health(0, true));
	cr_expect_eq(ask(GET_X), 200);
	stop();
}

/* --- refused by the server -------------------------------------------------------------------------------------------------- */

/* A key that the server took back while a request was on its way: the request is sent once more with the new one. */
Test(credentials, refused_while_under_way)
{
	struct raw r;
	struct raw post;
	struct answer a;

	prepare();
	start(from_file(KEY_A), "", NULL);
	atomic_store(&server.holds, 1);
	r = raw_unix(socket_path);
	post = raw_unix(socket_path);
	cr_assert(raw_text(&r, GET_X));
	cr_assert(raw_text(&post, "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"));
	wait_count(&server.held, 2);
	replace_file("team.key", KEY_B, 0600);
	cr_assert(wait_health(1, false));
	atomic_store(&server.takes, TAKES_B);
	server_let_go();
	a = raw_answer(&r, false, WAIT_MS);
	expect_status(&a, 200);
	answer_fini(&a);
	/* What may not run twice is told what the server said, in its words. */
	a = raw_answer(&post, false, WAIT_MS);
	expect_status(&a, 401);
	cr_expect(str_eq(buf_str(&a.body), STR(REFUSAL)));
	cr_expect_eq(wire_count(answer_head(&a), "Stacygate-Error"), 0);
	answer_fini(&a);
	cr_expect_eq(atomic_load(&server.requests), 3);
	raw_close(&r);
	raw_close(&post);
	stop();
}

/* A server that refuses the key for good is asked once: the file is read again once in a while, the 401 passed on as it is. */
Test(credentials, refused_for_good)
{
	prepare();
	start(from_file(KEY_A), "", NULL);
	atomic_store(&server.takes, TAKES_B);
	for (unsigned i = 0; i < 20; i++) {
		struct answer a = raw_once(socket_path, GET_X);
		expect_status(&a, 401);
		cr_expect(str_eq(buf_str(&a.body), STR(REFUSAL)));
		answer_fini(&a);
	}
	cr_expect_eq(atomic_load(&server.requests), 20);
	cr_expect_eq(daemon_count_log(gateway, "the server refuses the key"), 1);
	stop();
}

/* With a command the key is fetched at the first 401; all who are refused meanwhile wait for the same run. */
Test(credentials, refused_and_fetched)
{
	enum {
		AT_ONCE = 20
	};
	char keys[400];
	struct raw r[AT_ONCE];
	struct raw gone;

	prepare();
	scratch_text(&dir, "team.key", 0600, KEY_A);
	script("helper", "#!/bin/sh\ncd \"${0%/*}\" && echo run >> runs && while [ -e slow ]; do sleep 0.02; done && "
			 "cat team.key\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], ttl: 24h }", scratch_path(&dir, "helper"));
	start(keys, "", NULL);
	wait_status(GET_X, 200);
	cr_expect_eq(lines_of("runs"), 1);
	scratch_text(&dir, "slow", 0600, "");
	scratch_text(&dir, "team.key", 0600, KEY_B);
	atomic_store(&server.takes, TAKES_B);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		r[i] = raw_unix(socket_path);
		cr_assert(raw_text(&r[i], GET_X));
	}
	gone = raw_unix(socket_path);
	cr_assert(raw_text(&gone, GET_X));
	wait_count(&server.refused, AT_ONCE + 1);
	raw_close(&gone); /* one of them does not wait for it */
	cr_expect_eq(ask("GET /gateway/v1/whoami HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
	cr_assert_eq(unlink(scratch_path(&dir, "slow")), 0);
	for (unsigned i = 0; i < AT_ONCE; i++) {
		struct answer a = raw_answer(&r[i], false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
		raw_close(&r[i]);
	}
	cr_expect_eq(lines_of("runs"), 2);
	/* The new one refused as well, at once: it stands. */
	atomic_store(&server.takes, TAKES_A);
	cr_expect_eq(ask(GET_X), 401);
	cr_expect_eq(lines_of("runs"), 2);
	stop();
}

/* --- rotation under load ---------------------------------------------------------------------------------------------------- */

enum {
	LOAD_CLIENTS = 8
};

/* Clients that ask all the time, every second one for what may not be sent twice. */
static struct {
	pthread_t threads[LOAD_CLIENTS];
	atomic_uint done[LOAD_CLIENTS];
	atomic_uint failed;
	atomic_bool stops;
	bool safe_only;
} load;

static void *load_one(void *arg)
{
	size_t i = (size_t)(uintptr_t)arg;
	bool safe = load.safe_only || i % 2;
	const char *request = safe ? GET_X : "POST /api/v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
	struct raw r = raw_unix(socket_path);

	while (!atomic_load(&load.stops)) {
		struct answer a = {0};
		bool good = raw_text(&r, request);
		if (good) {
			a = raw_answer(&r, false, WAIT_MS);
			good = a.end == ANSWER_COMPLETE && a.status == 200;
			answer_fini(&a);
		}
		atomic_fetch_add(&load.failed, !good);
		atomic_fetch_add(&load.done[i], 1);
		if (!good)
			break;
	}
	raw_close(&r);
	return NULL;
}

static void load_start(bool safe_only)
{
	memset(&load, 0, sizeof(load));
	load.safe_only = safe_only;
	for (size_t i = 0; i < LOAD_CLIENTS; i++)
		cr_assert_eq(pthread_create(&load.threads[i], NULL, load_one, (void *)(uintptr_t)i), 0);
}

static unsigned load_stop(void)
{
	atomic_store(&load.stops, true);
	for (size_t i = 0; i < LOAD_CLIENTS; i++)
		pthread_join(load.threads[i], NULL);
	return atomic_load(&load.failed);
}

/* Until each client has had so many more answers: with 2, what was under way is over. */
static void load_go_on(unsigned n)
{
	for (size_t i = 0; i < LOAD_CLIENTS && atomic_load(&load.failed) == 0; i++)
		wait_count(&load.done[i], atomic_load(&load.done[i]) + n);
}

/*
 * L14: a key rotated as it should be (the server takes both for a while), over and over in traffic, with reloads in between:
 * not one request fails.
 */
Test(credentials, rotation_under_load)
{
	enum {
		ROUNDS = 10
	};
	json_int_t changes = 0;

	prepare();
	start(from_file(KEY_A), "", NULL);
	load_start(false);
	for (unsigned i = 0; i < ROUNDS; i++) {
		bool to_b = i % 2 == 0;
		load_go_on(10);
		atomic_store(&server.takes, TAKES_A | TAKES_B);
		replace_file("team.key", to_b ? KEY_B : KEY_A, 0600);
		if (i % 3 == 1)
			daemon_signal(gateway, SIGHUP);
		cr_assert(wait_health(++changes, false));
		load_go_on(2);
		atomic_store(&server.takes, to_b ? TAKES_B : TAKES_A);
	}
	load_go_on(10);
	cr_expect_eq(load_stop(), 0);
	cr_expect_eq(atomic_load(&server.refused), 0);
	cr_expect_geq(daemon_count_log(gateway, "is in force"), 3);
	stop();
}

/* The same with a server that takes the new key at once and the old one no more: what may be repeated does not fail. */
Test(credentials, hard_rotation_under_load)
{
	char keys[400];

	prepare();
	scratch_text(&dir, "team.key", 0600, KEY_A);
	script("helper", "#!/bin/sh\ncd \"${0%/*}\" && cat team.key\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], ttl: 24h }", scratch_path(&dir, "helper"));
	start(keys, "", NULL);
	wait_status(GET_X, 200);
	load_start(true);
	load_go_on(10);
	scratch_text(&dir, "team.key", 0600, KEY_B);
	atomic_store(&server.takes, TAKES_B);
	load_go_on(20);
	cr_expect_eq(load_stop(), 0);
	cr_expect_gt(atomic_load(&server.refused), 0);
	stop();
}

/* --- the admin key ---------------------------------------------------------------------------------------------------------- */

/* It goes up with requests to admin routes of rules with admin: true, and with nothing else. */
Test(credentials, admin_key)
{
	char keys[600];

	prepare();
	snprintf(keys, sizeof(keys), "%s, admin_api_key: { file: %s }", from_file(KEY_A),
		 scratch_text(&dir, "admin.key", 0600, KEY_ADMIN));
	start(keys, ", admin: true", NULL);
	cr_expect_eq(ask(GET_X), 200);
	cr_expect_eq(ask("GET /api/v1/administrator HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
	cr_expect_eq(atomic_load(&server.with_admin), 0);
	cr_expect_eq(ask("GET /api/v1/admin/metrics HTTP/1.1\r\nHost: h\r\nX-Admin-API-Key: mine\r\n\r\n"), 200);
	cr_expect_eq(atomic_load(&server.with_admin), 1);
	stop();
}

/* Without one, admin routes are refused here and say what is missing; the rule's other rights are as ever. */
Test(credentials, no_admin_key)
{
	prepare();
	start(from_file(KEY_A), ", admin: true", NULL);
	cr_expect_eq(ask(GET_X), 200);
	cr_expect_eq(ask("GET /gateway/v1/status HTTP/1.1\r\nHost: h\r\n\r\n"), 200);
	cr_expect_eq(ask("GET /api/v1/admin/metrics HTTP/1.1\r\nHost: h\r\n\r\n"), 403);
	cr_expect_eq(atomic_load(&server.requests), 1);
	stop();
}

/* --- the gateway's own requests ---------------------------------------------------------------------------------------------- */

/* They wait for no key either, carry the one of the moment, and a refusal of it has it read again. */
Test(credentials, requests_of_the_gateway)
{
	char keys[400];
	struct answer a;

	prepare();
	script("helper", "#!/bin/sh\ncd \"${0%/*}\" && cat team.key\n");
	snprintf(keys, sizeof(keys), "api_key: { command: [%s], ttl: 24h }", scratch_path(&dir, "helper"));
	start(keys, ", isolation: owner", NULL);
	cr_assert(wait_health(0, true));
	a = raw_once(socket_path, "DELETE /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\n\r\n");
	expect_error(&a, 503, "UNAVAILABLE");
	cr_expect(buf_contains(&a.body, "credential not loaded"));
	answer_fini(&a);
	cr_expect_eq(atomic_load(&server.requests), 0);
	scratch_text(&dir, "team.key", 0600, KEY_A);
	cr_assert(wait_health(0, false));
	/* The look at whose the sandbox is: the server says nothing of use, or refuses the key. */
	cr_expect_eq(ask("GET /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n"), 502);
	cr_expect_geq(atomic_load(&server.requests), 1);
	cr_expect_eq(atomic_load(&server.refused), 0);
	scratch_text(&dir, "team.key", 0600, KEY_B);
	atomic_store(&server.takes, TAKES_B);
	cr_expect_eq(ask("GET /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n"), 502);
	cr_expect_geq(atomic_load(&server.refused), 1);
	cr_expect(wait_health(1, false));
	stop();
}
