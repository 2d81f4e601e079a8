/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/template.h"

#include "cli/remote.h"
#include "cli/show.h"
#include "common/clock.h"
#include "common/json_write.h"

static const char *name_of(const struct command *c)
{
	return c->options->operands.at[0];
}

static int table(struct buf *out, struct str answer, struct fault *f)
{
	return show_templates(out, answer, clock_wall_ns() / 1000000000, f);
}

int template_ls(const struct command *c)
{
	struct api_request r = {.method = "GET", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	buf_add_cstr(&path, "/api/v1/templates");
	return command_ask(c, &r, &path, NULL, table);
}

int template_get(const struct command *c)
{
	struct api_request r = {.method = "GET", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	remote_template_path(&path, str_from(name_of(c)), "");
	return command_ask(c, &r, &path, NULL, show_pairs);
}

/* Sends the request and prints the template's name. */
static int do_and_name(const struct command *c, struct api_request *r, struct buf *path, struct buf *body)
{
	struct buf answer = BUF_EMPTY;
	int rc;

	r->answer = &answer;
	rc = remote_call(c->api, r, path, body, c->fault);
	if (rc == 0)
		rc = command_print_word(c, buf_str(&answer), name_of(c));
	buf_fini(&answer);
	return rc;
}

/* That an existing one is replaced is the gateway's doing: the server knows POST for a new name only. */
int template_save(const struct command *c)
{
	struct api_request r = {.method = "POST", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	buf_add_cstr(&path, "/api/v1/templates");
	json_object_begin(&w, NULL);
	json_cstr(&w, "name", name_of(c));
	remote_add_fields(&w, c->options);
	json_object_end(&w);
	return do_and_name(c, &r, &path, &body);
}

int template_rm(const struct command *c)
{
	struct api_request r = {.method = "DELETE", .timeout_ms = API_TIMEOUT_MS};
	struct buf path = BUF_EMPTY;

	remote_template_path(&path, str_from(name_of(c)), "");
	return do_and_name(c, &r, &path, NULL);
}

int template_spawn(const struct command *c)
{
	char id[REMOTE_ID_SIZE];
	struct buf answer = BUF_EMPTY;
	int rc = remote_spawn(c->api, name_of(c), c->options, &answer, id, c->fault);

	if (rc == 0)
		rc = command_print_word(c, buf_str(&answer), id);
	buf_fini(&answer);
	return rc;
}
