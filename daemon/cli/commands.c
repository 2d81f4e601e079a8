/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/commands.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/copy.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/show.h"
#include "cli/stream_exec.h"
#include "common/clock.h"
#include "common/json_write.h"

/* 0 on success, which is the exit status too; -1 with the fault. */
static int get(const struct commands *c, const char *path, struct buf *answer)
{
	struct api_request r = {.method = "GET", .path = path, .answer = answer, .timeout_ms = API_TIMEOUT_MS};

	return api_call(c->api, &r, c->fault);
}

static int print_json(const struct commands *c, struct str answer)
{
	struct buf out = BUF_EMPTY;

	if (show_json(&out, answer, isatty(1), c->fault) < 0) {
		buf_fini(&out);
		return -1;
	}
	return show_flush(&out, c->fault);
}

static int spawn(const struct commands *c)
{
	char id[REMOTE_ID_SIZE];
	struct buf answer = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	int rc = remote_spawn(c->api, c->options, &answer, id, c->fault);

	if (rc == 0 && c->options->json) {
		rc = print_json(c, buf_str(&answer));
	} else if (rc == 0) {
		buf_addf(&out, "%s\n", id);
		rc = show_flush(&out, c->fault);
	}
	buf_fini(&answer);
	return rc;
}

static int ls(const struct commands *c)
{
	struct buf answer = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	int rc = get(c, "/api/v1/sandboxes", &answer);

	if (rc == 0 && c->options->json) {
		rc = print_json(c, buf_str(&answer));
	} else if (rc == 0) {
		rc = show_sandboxes(&out, buf_str(&answer), clock_wall_ns() / 1000000000, c->fault);
		if (rc == 0)
			rc = show_flush(&out, c->fault);
	}
	buf_fini(&out);
	buf_fini(&answer);
	return rc;
}

static int exec(const struct commands *c)
{
	int code = 0;

	if (stream_exec(c->api, c->options->operands.at[0], c->options, &code, c->fault) < 0)
		return -1;
	return code;
}

static int print_copied(const struct commands *c, uint64_t bytes)
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

static int copy_between(const struct commands *c, const char *remote, size_t id_len, const char *local, bool up,
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

static int cp(const struct commands *c)
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
static int kill_all(const struct commands *c)
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

static int pairs(const struct commands *c, const char *path, struct buf *answer)
{
	struct buf out = BUF_EMPTY;
	int rc = get(c, path, answer);

	if (rc == 0 && c->options->json) {
		rc = print_json(c, buf_str(answer));
	} else if (rc == 0) {
		rc = show_pairs(&out, buf_str(answer), c->fault);
		if (rc == 0)
			rc = show_flush(&out, c->fault);
	}
	buf_fini(&out);
	return rc;
}

static int whoami(const struct commands *c)
{
	struct buf answer = BUF_EMPTY;
	int rc = pairs(c, "/gateway/v1/whoami", &answer);

	buf_fini(&answer);
	return rc;
}

/* A gateway that answers but is not well is exit 1, so that a script can ask. */
static int health(const struct commands *c)
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

int commands_run(const struct commands *c, enum verb verb)
{
	switch (verb) {
	case VERB_RUN:
		return run_command(c->api, c->options, c->fault);
	case VERB_SPAWN:
		return spawn(c);
	case VERB_LS:
		return ls(c);
	case VERB_EXEC:
		return exec(c);
	case VERB_CP:
		return cp(c);
	case VERB_KILL:
		return kill_all(c);
	case VERB_WHOAMI:
		return whoami(c);
	case VERB_HEALTH:
		return health(c);
	case VERB_COUNT:
		break;
	}
	return fault_set(c->fault, FAULT_USAGE, "USAGE", "unknown command");
}
