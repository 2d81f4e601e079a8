/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/copy.h"
#include "cli/lease.h"
#include "cli/preview.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/show.h"
#include "cli/stream_exec.h"
#include "cli/template.h"
#include "cli/term.h"
#include "cli/top.h"
#include "common/clock.h"
#include "common/json_write.h"

static int64_t now_s(void)
{
	return clock_wall_ns() / 1000000000;
}

static int ls_table(struct buf *out, struct str answer, struct fault *f)
{
	return show_sandboxes(out, answer, now_s(), f);
}

static int ls(const struct command *c)
{
	struct api_request r = {.method = "GET", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	buf_add_cstr(&path, "/api/v1/sandboxes");
	return command_ask(c, &r, &path, NULL, ls_table);
}

static int spawn(const struct command *c)
{
	char id[REMOTE_ID_SIZE];
	struct buf answer = BUF_EMPTY;
	int rc = remote_spawn(c->api, NULL, c->options, &answer, id, c->fault);

	if (rc == 0)
		rc = command_print_word(c, buf_str(&answer), id);
	buf_fini(&answer);
	return rc;
}

static int get(const struct command *c)
{
	struct api_request r = {.method = "GET", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	remote_path(&path, c->options->operands.at[0], "");
	return command_ask(c, &r, &path, NULL, show_pairs);
}

static int log_lines(struct buf *out, struct str answer, struct fault *f)
{
	return show_lines(out, answer, isatty(1), f);
}

static int logs(const struct command *c)
{
	struct api_request r = {.method = "GET", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	remote_path(&path, c->options->operands.at[0], "/logs");
	if (c->options->lines)
		buf_addf(&path, "?lines=%llu", (unsigned long long)c->options->lines);
	return command_ask(c, &r, &path, NULL, log_lines);
}

static int expiry(struct buf *out, struct str answer, struct fault *f)
{
	return show_expiry(out, answer, now_s(), f);
}

/* Half an hour unless it is said, as the SDKs have it. */
static int extend(const struct command *c)
{
	const struct words *words = &c->options->operands;
	struct api_request r = {.method = "POST", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	remote_path(&path, words->at[0], "/extend");
	json_object_begin(&w, NULL);
	json_cstr(&w, "ttl", words->n > 1 ? words->at[1] : "30m");
	json_object_end(&w);
	return command_ask(c, &r, &path, &body, expiry);
}

static int prune(const struct command *c)
{
	struct api_request r = {.method = "DELETE", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	buf_add_cstr(&path, "/api/v1/sandboxes");
	return command_ask(c, &r, &path, NULL, show_pairs);
}

static int run(const struct command *c)
{
	return run_command(c->api, c->options, c->fault);
}

static int exec(const struct command *c)
{
	int code = 0;

	if (stream_exec(c->api, c->options->operands.at[0], c->options, &code, c->fault) < 0)
		return -1;
	return code;
}

static int print_copied(const struct command *c, uint64_t bytes)
{
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	if (!c->options->json)
		return 0;
	json_object_begin(&w, NULL);
	json_uint(&w, "bytes", bytes);
	json_object_end(&w);
	buf_add_char(&out, '\n');
	return show_flush(&out, c->fault);
}

static int copy_between(const struct command *c, const char *remote, size_t id_len, const char *local, bool up,
			uint64_t *bytes)
{
	char *id = str_dup(str_of(remote, id_len));
	const char *path = remote + id_len + 1;
	int rc;

	if (!id)
		return fault_memory(c->fault);
	if (up)
		rc = copy_up(c->api, id, local, path, bytes, c->fault);
	else
		rc = copy_down(c->api, id, path, local, bytes, c->fault);
	free(id);
	return rc;
}

static int cp(const struct command *c)
{
	const char *from = c->options->operands.at[0];
	const char *to = c->options->operands.at[1];
	size_t from_len = 0;
	size_t to_len = 0;
	bool up = options_is_remote(to, &to_len);
	bool down = !up && options_is_remote(from, &from_len);
	uint64_t bytes = 0;
	int rc;

	rc = up ? copy_between(c, to, to_len, from, true, &bytes) : copy_between(c, from, from_len, to, false, &bytes);
	/* The file itself went to standard output. */
	if (rc == 0 && !(down && strcmp(to, "-") == 0))
		rc = print_copied(c, bytes);
	return rc;
}

static void add_killed(struct buf *out, struct json_writer *w, const char *id, bool json)
{
	if (!json) {
		buf_addf(out, "%s\n", id);
		return;
	}
	json_object_begin(w, NULL);
	json_cstr(w, "id", id);
	json_cstr(w, "status", "destroyed");
	json_object_end(w);
}

/* One that fails does not keep the others alive; the last fault decides the exit status, each is told. */
static int kill_all(const struct command *c)
{
	const struct words *ids = &c->options->operands;
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);
	struct fault last = {0};

	if (c->options->json)
		json_array_begin(&w, NULL);
	for (size_t i = 0; i < ids->n; i++) {
		if (remote_destroy(c->api, ids->at[i], c->fault) == 0) {
			add_killed(&out, &w, ids->at[i], c->options->json);
			continue;
		}
		fault_print(&last, c->options->json);
		last = *c->fault;
	}
	if (c->options->json) {
		json_array_end(&w);
		buf_add_char(&out, '\n');
	}
	if (show_flush(&out, c->fault) < 0)
		return -1;
	*c->fault = last;
	return last.kind == FAULT_NONE ? 0 : -1;
}

static int pairs(const struct command *c, const char *path, struct buf *answer)
{
	int rc = command_get(c, path, answer);

	return rc == 0 ? command_print(c, buf_str(answer), show_pairs) : rc;
}

static int whoami(const struct command *c)
{
	struct buf answer = BUF_EMPTY;
	int rc = pairs(c, "/gateway/v1/whoami", &answer);

	buf_fini(&answer);
	return rc;
}

static int status(const struct command *c)
{
	struct buf answer = BUF_EMPTY;
	int rc = pairs(c, "/gateway/v1/status", &answer);

	buf_fini(&answer);
	return rc;
}

/* A gateway that answers but is not well is exit 1, so that a script can ask. */
static int health(const struct command *c)
{
	struct buf answer = BUF_EMPTY;
	int rc = pairs(c, "/gateway/v1/health", &answer);

	if (rc == 0) {
		json_t *root = json_loadb(buf_data(&answer), answer.len, 0, NULL);
		const char *status = json_string_value(json_object_get(root, "status"));

		rc = status && strcmp(status, "ok") == 0 ? 0 : 1;
		json_decref(root);
	}
	buf_fini(&answer);
	return rc;
}

/* For people and for Prometheus it is the same text. */
static int metrics(const struct command *c)
{
	struct buf answer = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);
	int rc = command_get(c, "/gateway/v1/metrics", &answer);

	if (rc == 0 && c->options->json) {
		json_object_begin(&w, NULL);
		json_str(&w, "metrics", buf_str(&answer));
		json_object_end(&w);
		buf_add_char(&out, '\n');
	} else if (rc == 0 && isatty(1)) {
		term_escape(&out, buf_str(&answer), TERM_STREAM);
	} else if (rc == 0) {
		buf_add_str(&out, buf_str(&answer));
	}
	buf_fini(&answer);
	return rc == 0 ? show_flush(&out, c->fault) : rc;
}

/* What is wrong with the configuration is said line by line, as a compiler does. */
static int reload(const struct command *c)
{
	struct api_request r = {.method = "POST", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;
	int rc;

	buf_add_cstr(&path, "/gateway/v1/reload");
	rc = command_ask(c, &r, &path, NULL, show_pairs);
	c->fault->lines = rc < 0;
	return rc;
}

int commands_run(const struct command *c, enum verb verb)
{
	static int (*const runs[VERB_COUNT])(const struct command *c) = {
		[VERB_RUN] = run,
		[VERB_SPAWN] = spawn,
		[VERB_LS] = ls,
		[VERB_GET] = get,
		[VERB_EXEC] = exec,
		[VERB_CP] = cp,
		[VERB_LOGS] = logs,
		[VERB_EXTEND] = extend,
		[VERB_KILL] = kill_all,
		[VERB_PRUNE] = prune,
		[VERB_TEMPLATE_LS] = template_ls,
		[VERB_TEMPLATE_GET] = template_get,
		[VERB_TEMPLATE_SAVE] = template_save,
		[VERB_TEMPLATE_RM] = template_rm,
		[VERB_TEMPLATE_SPAWN] = template_spawn,
		[VERB_PREVIEW] = preview_command,
		[VERB_LEASES] = lease_ls,
		[VERB_LEASES_RENEW] = lease_renew,
		[VERB_LEASES_RELEASE] = lease_release,
		[VERB_WHOAMI] = whoami,
		[VERB_HEALTH] = health,
		[VERB_STATUS] = status,
		[VERB_TOP] = top_command,
		[VERB_METRICS] = metrics,
		[VERB_RELOAD] = reload,
	};

	if (verb < VERB_COUNT && runs[verb])
		return runs[verb](c);
	return fault_set(c->fault, FAULT_USAGE, "USAGE", "unknown command");
}
