/* SPDX-License-Identifier: Apache-2.0 */
/* What is written of requests: the audit, the access log, and that neither is ever waited for. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(audit, .fini = gw_fini);

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GET_X        "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n"
/* Planted where no log may find it. */
#define PLANT "PLANTEDTEXT"

static char audit_path[160];
static char log_options[400];

/* A gateway whose audit goes to a file of the scratch directory; `more` is further keys of log. */
static struct gw *start(struct gw_options *options, const char *more)
{
	struct gw *gw = gw_prepare(options);

	snprintf(audit_path, sizeof(audit_path), "%s/audit.log", gw->dir.path);
	snprintf(log_options, sizeof(log_options), "level: debug, audit: %s%s", audit_path, more);
	options->log = log_options;
	gw_configure(gw, options);
	gw_run(gw, options);
	return gw;
}

struct lines_wait {
	const char *path;
	unsigned n;
};

static unsigned count_lines(const char *path)
{
	struct buf text = scratch_read(path);
	unsigned n = 0;

	for (size_t i = 0; i < text.len; i++)
		n += buf_data(&text)[i] == '\n';
	buf_fini(&text);
	return n;
}

static bool has_lines(void *arg)
{
	struct lines_wait *w = arg;

	return count_lines(w->path) >= w->n;
}

/* The lines of a file as an array, owned by the caller; fails the test unless each is JSON in printable ASCII. */
static json_t *parse_lines(const char *path)
{
	struct buf text = scratch_read(path);
	json_t *all = json_array();

	for (struct str rest = buf_str(&text); rest.n;) {
		struct str line = str_cut(&rest, '\n');
		json_t *json = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, NULL);

		cr_assert_not_null(json, "no JSON: %.*s", STR_ARG(line));
		for (size_t i = 0; i < line.n; i++)
			cr_assert(line.p[i] >= 0x20 && line.p[i] < 0x7f, "%.*s", STR_ARG(line));
		json_array_append_new(all, json);
	}
	buf_fini(&text);
	return all;
}

static json_t *wait_lines(const char *path, unsigned n)
{
	struct lines_wait w = {path, n};

	cr_assert(wait_until(has_lines, &w, WAIT_MS), "%u lines in %s, expected %u", count_lines(path), path, n);
	return parse_lines(path);
}

static void ask(struct gw *gw, const char *request, unsigned status)
{
	struct answer a = gw_ask(gw, "%s", request);

	expect_status(&a, status);
	answer_fini(&a);
}

static const char *text_in(json_t *line, const char *key)
{
	const char *text = json_string_value(json_object_get(line, key));

	return text ? text : "";
}

static json_int_t number_in(json_t *line, const char *key)
{
	return json_integer_value(json_object_get(line, key));
}

/* What a request of one class leaves behind. */
struct event {
	const char *request;
	unsigned status;
	const char *kind; /* NULL: no line */
	const char *method;
	const char *route;
	const char *sandbox;
	const char *reason;
};

#define HEAD " HTTP/1.1\r\nHost: h\r\nX-Planted: " PLANT "\r\nCookie: " PLANT "\r\n"
#define BODY "Content-Length: 19\r\n\r\n{\"x\":\"" PLANT "\"}"

static const struct event events[] = {
	{"GET /api/v1/sandboxes?q=" PLANT HEAD "\r\n", 200, NULL, "", "", "", ""},
	{"OPTIONS /api/v1/sandboxes?q=" PLANT HEAD "\r\n", 204, NULL, "", "", "", ""},
	{"GET /gateway/v1/whoami?q=" PLANT HEAD "\r\n", 200, NULL, "", "", "", ""},
	{"POST /api/v1/sandboxes?q=" PLANT HEAD BODY, 200, "change", "POST", "/api/v1/sandboxes", "", "done"},
	{"POST /api/v1/sandboxes/sb-1/exec?q=" PLANT HEAD BODY, 200, "change", "POST", "/api/v1/sandboxes/{id}/exec",
	 "sb-1", "done"},
	{"PUT /api/v1/templates/" PLANT HEAD BODY, 200, "change", "PUT", "/api/v1/templates/{name}", "", "done"},
	{"PATCH /api/v1/" PLANT HEAD BODY, 200, "change", "PATCH", "/api/v1/*", "", "done"},
	{"DELETE /api/v1/sandboxes/sb-2" HEAD "\r\n", 200, "change", "DELETE", "/api/v1/sandboxes/{id}", "sb-2",
	 "done"},
	{"GET /" PLANT HEAD "\r\n", 403, "refusal", "GET", "*", "", "FORBIDDEN"},
	{"GET /api/v1/worker/" PLANT HEAD "\r\n", 403, "refusal", "GET", "/api/v1/worker/*", "", "FORBIDDEN"},
	{"GET /api/v1/../" PLANT HEAD "\r\n", 400, "refusal", "GET", "", "", "BAD_REQUEST"},
	{"GET /gateway/v1/" PLANT HEAD "\r\n", 404, "refusal", "GET", "/gateway/v1/*", "", "NOT_FOUND"},
	{"POST /gateway/v1/health" HEAD BODY, 405, "refusal", "POST", "/gateway/v1/*", "", "BAD_REQUEST"},
	{"GET /api/v1/x HTTP/1.1\r\n" PLANT "\r\n\r\n", 400, "refusal", "?", "", "", "BAD_REQUEST"},
	{"GET /api/v1/x" HEAD "Stacygate-Timeout: " PLANT "\r\n\r\n", 400, "refusal", "GET", "/api/v1/*", "",
	 "BAD_REQUEST"},
	{"POST /api/v1/x" HEAD "Content-Length: 4000\r\n\r\n", 413, "refusal", "?", "", "", "TOO_LARGE"},
};

static void check_event(json_t *line, const struct event *e)
{
	cr_expect_str_eq(text_in(line, "kind"), e->kind, "%s", e->request);
	cr_expect_str_eq(text_in(line, "method"), e->method, "%s", e->request);
	cr_expect_str_eq(text_in(line, "route"), e->route, "%s", e->request);
	cr_expect_str_eq(text_in(line, "sandbox"), e->sandbox, "%s", e->request);
	cr_expect_str_eq(text_in(line, "reason"), e->reason, "%s", e->request);
	cr_expect_eq(number_in(line, "status"), e->status, "%s", e->request);
	cr_expect_eq(number_in(line, "uid"), getuid());
	cr_expect_eq(number_in(line, "gid"), getgid());
	cr_expect_eq(number_in(line, "pid"), getpid());
	cr_expect_str_eq(text_in(line, "rule"), "me");
	cr_expect_str_eq(text_in(line, "user_id"), GW_USER_ID);
	cr_expect_gt(strlen(text_in(line, "request_id")), 0, "%s", e->request);
	cr_expect_eq(number_in(line, "upstream_status"), strcmp(e->kind, "change") ? 0 : 200, "%s", e->request);
	cr_expect_str_eq(text_in(line, "upstream"), strcmp(e->kind, "change") ? "" : "main", "%s", e->request);
}

static json_int_t output_number(struct gw *gw, const char *path)
{
	json_t *status = gw_get(gw, "/gateway/v1/status");
	json_int_t n = json_number_at(status, path);

	json_decref(status);
	return n;
}

/* Each request that changes something or is refused is one line, no other is any, and none holds what the request said. */
Test(audit, every_class_of_event)
{
	struct gw_options options = {.top = "bounds: { body: 1024 }"};
	struct gw *gw = start(&options, "");
	struct buf text;
	struct stat st;
	unsigned n = 0;

	for (size_t i = 0; i < COUNT(events); i++) {
		json_t *lines;

		ask(gw, events[i].request, events[i].status);
		if (!events[i].kind)
			continue;
		lines = wait_lines(audit_path, ++n);
		cr_assert_eq(json_array_size(lines), n, "%s", events[i].request);
		check_event(json_array_get(lines, n - 1), &events[i]);
		json_decref(lines);
	}
	cr_expect_eq(output_number(gw, "outputs.audit.written"), n);
	cr_expect_eq(output_number(gw, "outputs.audit.dropped"), 0);
	cr_assert_eq(stat(audit_path, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0640);
	text = scratch_read(audit_path);
	cr_expect(!buf_contains(&text, PLANT));
	cr_expect(!buf_contains(&text, PLANTED_SECRET));
	buf_fini(&text);
	gw_stop(gw);
}

/* A tunnel is a change, told at its end. */
Test(audit, tunnel)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ_HEAD, NULL, 0},
		       UP_TEXT("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
		       {UP_READ_EOF, NULL, 0}, {UP_CLOSE, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = start(&options, "");
	struct raw r = gw_connect(gw);
	json_t *lines;

	cr_assert(raw_text(&r, "GET /api/v1/sandboxes/sb-1/exec/ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n"
			       "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
			       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
	cr_assert(raw_read_text(&r, "\r\n\r\n", WAIT_MS));
	cr_assert(raw_text(&r, PLANT));
	raw_close(&r);
	lines = wait_lines(audit_path, 1);
	cr_expect_str_eq(json_text_at(lines, "0.kind"), "change");
	cr_expect_str_eq(json_text_at(lines, "0.route"), "/api/v1/sandboxes/{id}/exec/ws");
	cr_expect_eq(json_number_at(lines, "0.upstream_status"), 101);
	json_decref(lines);
	gw_stop(gw);
}

struct admission {
	struct gw *gw;
	struct raw r;
};

/* Whether a connection is taken: the one that asked whether the gateway is there may still count. */
static bool is_admitted(void *arg)
{
	struct admission *a = arg;

	a->r = gw_connect(a->gw);
	if (raw_text(&a->r, GET_X) && raw_read_text(&a->r, "\r\n\r\n", WAIT_MS))
		return true;
	raw_close(&a->r);
	return false;
}

/* Without a rule, without an upstream, over a bound: refused at different places, and each says why. */
Test(audit, refusals_elsewhere)
{
	struct gw_options options = {
		.clients = "[ { name: other, match: { uid: 4000000 }, upstream: main, credential: team, user_id: x, "
			   "allow: [all], isolation: none } ]"};
	struct gw *gw = start(&options, "");
	struct admission only;
	struct raw second;
	json_t *lines;

	ask(gw, GET_X, 403);
	lines = wait_lines(audit_path, 1);
	cr_expect_str_eq(json_text_at(lines, "0.reason"), "FORBIDDEN");
	cr_expect_null(json_object_get(json_array_get(lines, 0), "rule"));
	json_decref(lines);
	gw_stop(gw);

	options = (struct gw_options){.no_upstream = true};
	gw = start(&options, "");
	ask(gw, GET_X, 502);
	ask(gw, "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n", 502);
	lines = wait_lines(audit_path, 2);
	for (size_t i = 0; i < 2; i++) {
		json_t *line = json_array_get(lines, i);
		cr_expect_str_eq(text_in(line, "kind"), "refusal");
		cr_expect_str_eq(text_in(line, "code"), "CONNECTION_ERROR");
		cr_expect_str_eq(text_in(line, "upstream"), "main");
	}
	json_decref(lines);
	gw_stop(gw);

	options = (struct gw_options){.top = "bounds: { connections_per_uid: 1 }"};
	gw = start(&options, "");
	only.gw = gw;
	cr_assert(wait_until(is_admitted, &only, WAIT_MS));
	second = gw_connect(gw);
	cr_expect(raw_closes(&second, WAIT_MS));
	lines = wait_lines(audit_path, 1);
	cr_expect_str_eq(json_text_at(lines, "0.kind"), "refusal");
	cr_expect_eq(json_number_at(lines, "0.uid"), getuid());
	cr_expect(strstr(json_text_at(lines, "0.reason"), "connections_per_uid") != NULL);
	json_decref(lines);
	raw_close(&only.r);
	raw_close(&second);
	gw_stop(gw);
}

static bool exists(void *arg)
{
	return access(arg, F_OK) == 0;
}

/* SIGUSR1 behind a rename: the old file keeps what it has, the new one gets the rest; when it cannot be made, the old one. */
Test(audit, reopen)
{
	static const char delete[] = "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n";
	struct gw_options options = {0};
	struct gw *gw = start(&options, "");
	const char *old = scratch_path(&gw->dir, "audit.log.1");
	const char *older = scratch_path(&gw->dir, "audit.log.2");

	ask(gw, delete, 200);
	cr_assert_eq(rename(audit_path, old), 0);
	ask(gw, delete, 200);
	json_decref(wait_lines(old, 2));
	daemon_signal(gw->daemon, SIGUSR1);
	cr_assert(wait_until(exists, audit_path, WAIT_MS));
	ask(gw, delete, 200);
	json_decref(wait_lines(audit_path, 1));
	cr_expect_eq(count_lines(old), 2);

	cr_assert_eq(rename(audit_path, older), 0);
	cr_assert_eq(mkdir(audit_path, 0700), 0);
	daemon_signal(gw->daemon, SIGUSR1);
	cr_expect(daemon_wait_log(gw->daemon, "audit.log cannot be opened anew, the old file is written on: Is a dir"));
	ask(gw, delete, 200);
	json_decref(wait_lines(older, 2));
	gw_stop(gw);
}

/* What cannot be opened: -t says where, a start is exit 3, a reload keeps what is in force. */
Test(audit, cannot_be_opened)
{
	struct gw_options options = {0};
	struct gw *gw = start(&options, "");
	const char *check[] = {"-t", "-c", gw->config, NULL};
	const char *run[] = {"-c", gw->config, NULL};
	struct daemon_spec spec = {.argv = check};
	struct buf err = BUF_EMPTY;

	snprintf(log_options, sizeof(log_options), "audit: %s/none/audit.log", gw->dir.path);
	gw_configure(gw, &options);
	cr_expect_eq(daemon_run(&gw->dir, &spec, NULL, &err), 1);
	cr_expect(buf_contains(&err, "stacygate.yaml:17:15: log.audit: "), "%.*s", STR_ARG(buf_str(&err)));
	cr_expect(buf_contains(&err, "No such file or directory"));
	buf_reset(&err);
	daemon_signal(gw->daemon, SIGHUP);
	cr_assert(daemon_wait_log(gw->daemon, "reload failed"));
	cr_expect_gt(daemon_count_log(gw->daemon, "none/audit.log cannot be opened: No such file"), 0);
	ask(gw, "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n", 200);
	json_decref(wait_lines(audit_path, 1));
	daemon_stop(gw->daemon);
	gw->daemon = NULL;
	spec.argv = run;
	cr_expect_eq(daemon_run(&gw->dir, &spec, NULL, &err), 3);
	cr_expect(buf_contains(&err, ": log.audit: "), "%.*s", STR_ARG(buf_str(&err)));
	buf_fini(&err);
	gw_fini();
}

static bool audit_is_off(void *arg)
{
	json_t *status = gw_get(arg, "/gateway/v1/status");
	bool off = strcmp(json_text_at(status, "outputs.audit.to"), "off") == 0;

	json_decref(status);
	return off;
}

/* A reload may switch an output off and on; the counters go on. */
Test(audit, reload)
{
	static const char delete[] = "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n";
	struct gw_options options = {0};
	struct gw *gw = start(&options, "");

	ask(gw, delete, 200);
	json_decref(wait_lines(audit_path, 1));
	snprintf(log_options, sizeof(log_options), "audit: off");
	gw_configure(gw, &options);
	daemon_signal(gw->daemon, SIGHUP);
	cr_assert(wait_until(audit_is_off, gw, WAIT_MS));
	ask(gw, delete, 200);
	cr_expect_eq(output_number(gw, "outputs.audit.written"), 1);
	cr_expect_eq(count_lines(audit_path), 1);
	gw_stop(gw);
}

/* With format json every line on stderr is an object, those of the access log with fields; so is a log that starts up. */
Test(audit, json_format)
{
	struct gw_options options = {.log = "level: debug, format: json, access: stderr, audit: stderr"};
	struct gw *gw = gw_start(&options);
	char log[512];
	json_t *lines;
	unsigned requests = 0, connections = 0, audits = 0;

	ask(gw, "GET /api/v1/%C3%A9\"?token=" PLANT " HTTP/1.1\r\nHost: h\r\n\r\n", 200);
	ask(gw, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 403);
	ask(gw, "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n", 200);
	snprintf(log, sizeof(log), "%s", gw->daemon->err);
	daemon_stop(gw->daemon);
	gw->daemon = NULL;
	lines = parse_lines(log);
	for (size_t i = 0; i < json_array_size(lines); i++) {
		json_t *line = json_array_get(lines, i);

		cr_expect_eq(strlen(text_in(line, "time")), 24);
		audits += json_object_get(line, "kind") != NULL;
		connections += strcmp(text_in(line, "message"), "connected") == 0;
		if (strcmp(text_in(line, "message"), "request") != 0)
			continue;
		requests++;
		cr_expect_gt(number_in(line, "status"), 0);
		cr_expect_gt(strlen(text_in(line, "path")), 0);
	}
	cr_expect_eq(requests, 3);
	cr_expect_geq(connections, 2);
	cr_expect_eq(audits, 2);
	json_decref(lines);
	gw_fini();
}

/* The line of a refused request names the code that the client got, at any level of the log. */
Test(audit, access_names_the_code)
{
	struct gw_options options = {.log = "level: error, access: stderr"};
	struct gw *gw = gw_start(&options);

	ask(gw, "GET /secret HTTP/1.1\r\nHost: h\r\n\r\n", 403);
	cr_expect(daemon_wait_log(gw->daemon, "\"GET /secret\" status=403 upstream_status=0 "));
	cr_expect_eq(daemon_count_log(gw->daemon, " code=FORBIDDEN id="), 1);
	ask(gw, GET_X, 200);
	cr_expect(daemon_wait_log(gw->daemon, "\"GET /api/v1/x\" status=200"));
	cr_expect_eq(daemon_count_log(gw->daemon, " code="), 1);
	gw_stop(gw);
}

/* --- outputs that take nothing -------------------------------------------------------------------------------------- */

static void ask_often(struct gw *gw, const char *request, unsigned times)
{
	struct raw r = gw_connect(gw);

	for (unsigned i = 0; i < times; i++) {
		struct answer a;

		cr_assert(raw_text(&r, request));
		a = raw_answer(&r, false, WAIT_MS);
		expect_status(&a, 200);
		answer_fini(&a);
	}
	raw_close(&r);
}

struct fifo_wait {
	int fd;
	struct buf got;
	const char *text;
};

static bool fifo_says(void *arg)
{
	struct fifo_wait *w = arg;

	(void)!fd_read_all(w->fd, 1 << 26, &w->got);
	return buf_contains(&w->got, w->text);
}

/*
 * L10: stderr is a blocking pipe that nobody reads. Requests go on, what does not fit is counted, and when somebody reads,
 * every line comes whole and one says how many are missing.
 */
Test(audit, L10_stderr_is_not_read, .timeout = 120)
{
	struct gw_options options = {.log = "level: info, access: stderr, audit: stderr"};
	struct gw *gw = gw_prepare(&options);
	const char *fifo = scratch_path(&gw->dir, "fifo");
	char command[600];
	const char *argv[] = {"-c", command, NULL};
	struct daemon_spec spec = {.program = "/bin/sh", .argv = argv, .ready_socket = gw->socket};
	struct fifo_wait w = {.got = BUF_EMPTY, .text = "lines of this log are missing here"};
	json_int_t dropped;

	cr_assert_eq(mkfifo(fifo, 0600), 0);
	w.fd = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	cr_assert_geq(w.fd, 0);
	snprintf(command, sizeof(command), "exec '%s/stacygated' -c '%s' 2>'%s'", getenv("SG_BUILDDIR"), gw->config,
		 fifo);
	gw->daemon = daemon_start(&gw->dir, &spec);
	ask_often(gw, GET_X, 3000);
	dropped = output_number(gw, "outputs.access.dropped");
	cr_expect_gt(dropped, 0);
	cr_expect_gt(output_number(gw, "outputs.access.written"), 0);
	for (unsigned i = 0; i < 200 && !fifo_says(&w); i++)
		ask_often(gw, GET_X, 1);
	cr_expect(fifo_says(&w), "nobody says what is missing");
	cr_expect_not(buf_contains(&w.got, PLANTED_SECRET));
	for (struct str rest = buf_str(&w.got); rest.n;) {
		struct str line = str_cut(&rest, '\n');

		cr_assert(line.n > 30 && (line.p[0] == '{' || line.p[4] == '-') && line.p[line.n - 1] != ' ',
			  "torn: %.*s", STR_ARG(line));
	}
	buf_fini(&w.got);
	close(w.fd);
	gw_stop(gw);
}

/* L10: the disk is full. Requests go on, lines are counted, and when there is room again one says how many are missing. */
Test(audit, L10_full_disk, .timeout = 120)
{
	static const char delete[] = "DELETE /api/v1/sandboxes/sb-1 HTTP/1.1\r\nHost: h\r\n\r\n";
	struct gw_options options = {0};
	struct gw *gw = gw_prepare(&options);
	json_int_t dropped;
	json_t *lines;
	size_t n;

	snprintf(audit_path, sizeof(audit_path), "%s/small/audit.log", gw->dir.path);
	cr_assert_eq(mkdir(scratch_path(&gw->dir, "small"), 0700), 0);
	if (!have_root("a full disk"))
		return;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("tmpfs", scratch_path(&gw->dir, "small"), "tmpfs", 0, "size=64k") < 0) {
		cr_log_info("SKIPPED, no tmpfs can be mounted: %s", strerror(errno));
		return;
	}
	snprintf(log_options, sizeof(log_options), "level: info, audit: %s", audit_path);
	options.log = log_options;
	gw_configure(gw, &options);
	gw_run(gw, &options);
	ask_often(gw, delete, 1000);
	dropped = output_number(gw, "outputs.audit.dropped");
	cr_expect_gt(dropped, 0);
	cr_expect_eq(dropped + output_number(gw, "outputs.audit.written"), 1000);
	cr_assert_eq(truncate(audit_path, 0), 0);
	ask_often(gw, delete, 1);
	lines = wait_lines(audit_path, 2);
	n = json_array_size(lines);
	cr_expect_str_eq(text_in(json_array_get(lines, n - 2), "kind"), "lost");
	cr_expect_eq(number_in(json_array_get(lines, n - 2), "lines"), dropped);
	cr_expect_str_eq(text_in(json_array_get(lines, n - 1), "kind"), "change");
	json_decref(lines);
	cr_expect_eq(daemon_count_log(gw->daemon, "audit.log takes no lines: they are lost"), 1);
	cr_expect_eq(daemon_count_log(gw->daemon, "audit.log takes lines again; "), 1);
	daemon_stop(gw->daemon);
	gw->daemon = NULL;
	cr_assert_eq(umount(scratch_path(&gw->dir, "small")), 0);
	gw_fini();
}
