/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/command.h"

#include <unistd.h>

#include "cli/remote.h"
#include "cli/show.h"
#include "cli/term.h"

int command_get(const struct command *c, const char *path, struct buf *answer)
{
	struct api_request r = {.method = "GET", .path = path, .answer = answer, .timeout_ms = API_TIMEOUT_MS};

	return api_call(c->api, &r, c->fault);
}

int command_print(const struct command *c, struct str answer, command_show_fn show)
{
	struct buf out = BUF_EMPTY;
	int rc = c->options->json ? show_json(&out, answer, isatty(1), c->fault) : show(&out, answer, c->fault);

	if (rc == 0)
		return show_flush(&out, c->fault);
	buf_fini(&out);
	return -1;
}

int command_ask(const struct command *c, struct api_request *r, struct buf *path, struct buf *body,
		command_show_fn show)
{
	struct buf answer = BUF_EMPTY;
	int rc;

	r->answer = &answer;
	rc = remote_call(c->api, r, path, body, c->fault);
	if (rc == 0)
		rc = command_print(c, buf_str(&answer), show);
	buf_fini(&answer);
	return rc;
}

int command_print_word(const struct command *c, struct str answer, const char *word)
{
	struct buf out = BUF_EMPTY;

	if (c->options->json)
		return command_print(c, answer, NULL);
	if (isatty(1))
		term_escape(&out, str_from(word), TERM_LINE);
	else
		buf_add_cstr(&out, word);
	buf_add_char(&out, '\n');
	return show_flush(&out, c->fault);
}
