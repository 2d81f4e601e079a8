/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NDJSON carries no exit code. So the command runs below a small shell script, which waits for it and writes
 * its status to a file of an unguessable name; after the stream's clean end that file is read through the
 * file API, or by a second command where a server's file API and its commands see different roots, and
 * removed.
 *
 *    ( exec 'prog' 'arg' ... )     a subshell that becomes the program: exactly the words, no builtin, no
 * alias; s=$?                          the shell outside survives an exec, an exit and the death of the
 * program umask 077; echo $s >FILE exit $s
 *
 * Failures: the program kills its whole process group or the server does (timeout): no file. The server tells
 * a timeout by a last record "exec timeout: ID" on stderr; such a record is held back until it is known to be
 * the last and the file is missing, so a program that prints the same text is not misread. A status that
 * cannot be learnt is said so and ends as 255. The stream breaks off: a fault, whatever the program did.
 */
#include "cli/stream_exec.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/ndjson.h"
#include "cli/remote.h"
#include "cli/sh_quote.h"
#include "cli/term.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/json_write.h"
#include "common/units.h"

enum {
	STATUS_PATH_SIZE = 64
};

struct run {
	struct api *api;
	const char *id;
	const struct options *options;
	struct fault *fault;
	struct ndjson lines;
	struct buf scratch;                 /* a record as it is written */
	char status_path[STATUS_PATH_SIZE]; /* in the sandbox */
	char timeout_text[160];             /* what the server says of a timeout */
	unsigned held;                      /* records of that text not shown yet */
};

void stream_exec_script(struct buf *out, char **command, const char *status_path)
{
	buf_add_cstr(out, "(exec");
	for (char **word = command; *word; word++) {
		buf_add_char(out, ' ');
		sh_quote(out, str_from(*word));
	}
	buf_addf(out, "); s=$?; umask 077; echo $s >%s; exit $s", status_path);
}

/* ---- output ------------------------------------------------------------ */

static int write_out(struct run *r, int fd, struct str bytes)
{
	int rc = interrupt_write(fd, bytes.p, bytes.n);

	if (rc == -EINTR)
		return fault_set(r->fault, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
	if (rc == -EPIPE)
		return fault_set(r->fault, FAULT_PIPE, "PIPE", "the reader has gone");
	return rc < 0 ? fault_errno(r->fault, fd == 1 ? "standard output" : "standard error", -rc) : 0;
}

static int write_record(struct run *r, struct str stream, struct str data)
{
	struct json_writer w = json_writer(&r->scratch);

	json_object_begin(&w, NULL);
	json_str(&w, "stream", stream);
	json_str(&w, "data", data);
	json_object_end(&w);
	buf_add_char(&r->scratch, '\n');
	return r->scratch.failed ? fault_memory(r->fault) : write_out(r, 1, buf_str(&r->scratch));
}

static int show(struct run *r, struct str stream, struct str data)
{
	int fd = str_eq(stream, STR("stderr")) ? 2 : 1;

	buf_reset(&r->scratch);
	if (r->options->json)
		return write_record(r, stream, data);
	if (!isatty(fd))
		return write_out(r, fd, data);
	term_escape(&r->scratch, data, TERM_STREAM);
	return r->scratch.failed ? fault_memory(r->fault) : write_out(r, fd, buf_str(&r->scratch));
}

static int show_held(struct run *r)
{
	int rc = 0;

	for (; rc == 0 && r->held > 0; r->held--)
		rc = show(r, STR("stderr"), str_from(r->timeout_text));
	return rc;
}

/* ---- the stream -------------------------------------------------------- */

static struct str member(const json_t *record, const char *key, struct str missing)
{
	const json_t *value = json_object_get(record, key);

	return json_is_string(value) ? str_of(json_string_value(value), json_string_length(value)) : missing;
}

static int on_record(struct run *r, const json_t *record)
{
	struct str stream = member(record, "stream", STR("stdout"));
	struct str data = member(record, "data", STR(""));

	if (str_eq(stream, STR("stderr")) && str_eq(data, str_from(r->timeout_text))) {
		r->held++;
		return 0;
	}
	if (show_held(r) < 0)
		return -1;
	return data.n > 0 ? show(r, stream, data) : 0;
}

static int on_line(void *user, struct str line)
{
	struct run *r = user;
	json_t *record = json_loadb(line.p, line.n, JSON_ALLOW_NUL, NULL);
	int rc;

	if (!json_is_object(record)) {
		json_decref(record);
		return fault_set(r->fault, FAULT_ERROR, "BAD_ANSWER", "the stream holds a line that is no record");
	}
	rc = on_record(r, record);
	json_decref(record);
	return rc;
}

/* What ndjson found, as a fault, unless the callback has set one. */
static int checked(struct run *r, int rc)
{
	if (rc == -EMSGSIZE)
		return fault_set(r->fault, FAULT_ERROR, "BAD_ANSWER", "the stream holds a line that is too long");
	if (rc == -ENOMEM)
		return fault_memory(r->fault);
	return rc;
}

static int on_bytes(void *user, struct str bytes)
{
	struct run *r = user;

	return checked(r, ndjson_feed(&r->lines, bytes, on_line, r));
}

static void add_body(struct buf *body, const struct run *r)
{
	const struct options *o = r->options;
	struct json_writer w = json_writer(body);
	struct buf script = BUF_EMPTY;

	stream_exec_script(&script, o->command, r->status_path);
	body->failed |= script.failed;
	json_object_begin(&w, NULL);
	json_str(&w, "command", buf_str(&script));
	json_bool(&w, "stream", true);
	if (o->env.n > 0) {
		json_object_begin(&w, "env");
		for (size_t i = 0; i < o->env.n; i++)
			json_member(&w, options_pair_key(o->env.at[i]), options_pair_value(o->env.at[i]));
		json_object_end(&w);
	}
	if (o->workdir)
		json_cstr(&w, "workdir", o->workdir);
	if (o->timeout)
		json_cstr(&w, "timeout", o->timeout);
	json_object_end(&w);
	buf_fini(&script);
}

static int follow(struct run *r)
{
	struct api_request request = {.method = "POST", .sink = on_bytes, .user = r};
	struct buf path = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	int rc;

	remote_path(&path, r->id, "/exec");
	add_body(&body, r);
	rc = remote_call(r->api, &request, &path, &body, r->fault);
	if (rc == 0)
		rc = checked(r, ndjson_finish(&r->lines, on_line, r));
	return rc;
}

/* ---- the status -------------------------------------------------------- */

static int collect(void *user, struct str bytes)
{
	struct buf *out = user;

	if (out->len < STATUS_PATH_SIZE)
		buf_add_str(out, bytes);
	return 0;
}

static bool parse_status(struct str text, int *code)
{
	uint64_t value;

	if (text.n == 0 || text.p[text.n - 1] != '\n' || str_parse_u64(str_of(text.p, text.n - 1), &value) < 0 ||
	    value > 255)
		return false;
	*code = (int)value;
	return true;
}

/* Where the file API does not see the file, a command may. */
static bool ask_a_shell(struct run *r, int *code, struct fault *f)
{
	struct buf script = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	int ended = 0;
	bool found = false;

	buf_addf(&script, "read -r s <%s && echo \"$s\"; rm -f %s", r->status_path, r->status_path);
	if (!script.failed && remote_sh(r->api, r->id, buf_str(&script), &ended, &out, NULL, f) == 0)
		found = parse_status(buf_str(&out), code);
	buf_fini(&script);
	buf_fini(&out);
	return found;
}

/* 1 with *code, 0 when the sandbox is there but has no status, -1 with the fault. */
static int find_status(struct run *r, int *code)
{
	struct fault f = {0};
	struct buf text = BUF_EMPTY;
	struct str path = str_from(r->status_path);
	int found = remote_read(r->api, r->id, path, collect, &text, &f) == 0 && parse_status(buf_str(&text), code);

	buf_fini(&text);
	if (found) {
		/* A file that stays behind in the sandbox changes nothing. */
		struct fault ignored = {0};

		remote_delete(r->api, r->id, path, &ignored);
		return 1;
	}
	if (f.kind == FAULT_NONE || f.status == 500)
		found = ask_a_shell(r, code, &f);
	/* 500 is how the server says that there is no such file; anything else is an outage or the sandbox's
	 * end. */
	if (found || f.kind == FAULT_NONE || f.status == 500)
		return found;
	*r->fault = f;
	return -1;
}

static int write_end(struct run *r, int code, bool known, const char *error, uint64_t took_ms)
{
	struct json_writer w = json_writer(&r->scratch);
	char duration[40];

	if (!r->options->json)
		return 0;
	buf_reset(&r->scratch);
	duration_format((int64_t)took_ms * 1000000, duration);
	json_object_begin(&w, NULL);
	if (known)
		json_int(&w, "exit_code", code);
	else
		json_nothing(&w, "exit_code");
	if (error)
		json_cstr(&w, "error", error);
	json_cstr(&w, "duration", duration);
	json_object_end(&w);
	buf_add_char(&r->scratch, '\n');
	return r->scratch.failed ? fault_memory(r->fault) : write_out(r, 1, buf_str(&r->scratch));
}

static void tell(const char *code, const char *text, bool json)
{
	struct fault f;

	fault_set(&f, FAULT_ERROR, code, "%s", text);
	if (!json)
		fault_print(&f, false);
}

static int conclude(struct run *r, int *code, uint64_t took_ms)
{
	static const char unknown[] = "the command left no exit status behind";
	int found = find_status(r, code);

	if (found < 0)
		return -1;
	if (found) {
		if (show_held(r) < 0)
			return -1;
		return write_end(r, *code, true, NULL, took_ms);
	}
	if (r->held > 0) {
		*code = STREAM_EXEC_TIMED_OUT;
		tell("TIMEOUT", r->timeout_text, r->options->json);
		return write_end(r, *code, false, r->timeout_text, took_ms);
	}
	*code = STREAM_EXEC_UNKNOWN;
	tell("NO_STATUS", unknown, r->options->json);
	return write_end(r, *code, false, unknown, took_ms);
}

static int make_status_path(struct run *r)
{
	unsigned char random[16];
	size_t at;

	if (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return fault_errno(r->fault, "getrandom", errno);
	at = (size_t)snprintf(r->status_path, sizeof(r->status_path), "/tmp/.stacygate-");
	for (size_t i = 0; i < sizeof(random); i++)
		at += (size_t)snprintf(r->status_path + at, sizeof(r->status_path) - at, "%02x", random[i]);
	return 0;
}

int stream_exec(struct api *a, const char *id, const struct options *o, int *code, struct fault *f)
{
	struct run r = {.api = a, .id = id, .options = o, .fault = f, .lines = NDJSON_EMPTY, .scratch = BUF_EMPTY};
	uint64_t started_ms = clock_ms();
	int rc = make_status_path(&r);

	snprintf(r.timeout_text, sizeof(r.timeout_text), "exec timeout: %s", id);
	if (rc == 0)
		rc = follow(&r);
	if (rc == 0)
		rc = conclude(&r, code, clock_ms() - started_ms);
	ndjson_fini(&r.lines);
	buf_fini(&r.scratch);
	return rc;
}
