/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/lease.h"

#include "cli/remote.h"
#include "cli/show.h"
#include "common/clock.h"
#include "common/json_write.h"

#define LEASES "/gateway/v1/leases"

static int table(struct buf *out, struct str answer, struct fault *f)
{
	return show_leases(out, answer, clock_wall_ns() / 1000000000, f);
}

int lease_ls(const struct command *c)
{
	struct api_request r = {.method = "GET", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	buf_add_cstr(&path, LEASES);
	return command_ask(c, &r, &path, NULL, table);
}

/* Sends the request and prints the sandbox's id; with --json the answer, which may have no body. */
static int change(const struct command *c, struct api_request *r, struct buf *body)
{
	const char *id = c->options->operands.at[0];
	struct buf path = BUF_EMPTY;
	struct buf answer = BUF_EMPTY;
	int rc;

	buf_addf(&path, LEASES "/%s", id);
	r->answer = &answer;
	rc = remote_call(c->api, r, &path, body, c->fault);
	if (rc == 0)
		rc = command_print_word(c, answer.len ? buf_str(&answer) : STR("{}"), id);
	buf_fini(&answer);
	return rc;
}

int lease_renew(const struct command *c)
{
	const struct words *words = &c->options->operands;
	struct api_request r = {.method = "PUT", .timeout_ms = API_TIMEOUT_MS};
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	if (words->n > 1)
		json_cstr(&w, "lease", words->at[1]);
	json_object_end(&w);
	return change(c, &r, &body);
}

int lease_release(const struct command *c)
{
	struct api_request r = {.method = "DELETE", .timeout_ms = API_TIMEOUT_MS};

	return change(c, &r, NULL);
}
