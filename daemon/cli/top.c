/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream of the gateway after the other: it ends when another configuration comes into force and when the gateway stops, and then
 * it is asked for again, at most once a second. Keys and signals are waited for together with the stream.
 *
 * Failures: a first connection that fails, and a refusal (403), are the command's; later ones are shown, and the last document stays.
 * The terminal is taken over when the first document is there, so that until then errors come as from any command.
 */
#include "cli/top.h"

#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/ndjson.h"
#include "cli/show.h"
#include "cli/top_screen.h"
#include "cli/top_view.h"
#include "common/clock.h"

enum {
	RETRY_MS = 1000
};

struct top {
	const struct command *c;
	struct top_view view;
	struct top_screen *screen; /* owned; NULL before the first document, and with --json */
	struct api_watch watch;
	struct ndjson lines; /* owned */
	bool heard;          /* a document has come */
	bool quit;           /* the user has seen enough */
	bool ended;          /* it was our side that ended the request */
};

_Static_assert((int)API_WATCHED == (int)TOP_SCREEN_FDS, "all that the screen waits for is watched");

/* ---- the screen -------------------------------------------------------- */

static int draw(struct top *t)
{
	struct canvas canvas;
	int rc = 0;

	top_screen_begin(t->screen, &canvas);
	top_view_draw(&t->view, &canvas, clock_ms());
	if (canvas.failed)
		rc = fault_memory(t->c->fault);
	else
		top_screen_show(t->screen, &canvas);
	canvas_fini(&canvas);
	return rc;
}

static int take_keys(struct top *t, bool *redraw)
{
	int key;
	int rc;

	while ((rc = top_screen_read(t->screen, &key, redraw, t->c->fault)) > 0) {
		*redraw = true;
		t->quit = top_view_key(&t->view, key);
		if (t->quit)
			return -1;
	}
	return rc;
}

/* Time alone is reason enough to draw: a silent gateway is to be seen as one. */
static int on_turn(void *user)
{
	struct top *t = user;
	bool redraw = clock_ms() - t->view.heard_ms > RETRY_MS;

	if (t->screen && (take_keys(t, &redraw) < 0 || (redraw && draw(t) < 0)))
		t->ended = true;
	return t->ended ? -1 : 0;
}

/* ---- documents --------------------------------------------------------- */

static int print(const struct top *t, struct str document)
{
	struct buf out = BUF_EMPTY;

	if (show_json(&out, document, isatty(1), t->c->fault) == 0)
		return show_flush(&out, t->c->fault);
	buf_fini(&out);
	return -1;
}

static int show(struct top *t, struct str document)
{
	json_t *root = json_loadb(document.p, document.n, JSON_ALLOW_NUL, NULL);

	if (!json_is_object(root)) {
		json_decref(root);
		return fault_set(t->c->fault, FAULT_ERROR, "BAD_ANSWER",
				 "the stream holds a document that is no object");
	}
	top_view_take(&t->view, root, clock_ms());
	if (!t->screen && top_screen_open(&t->screen, t->c->fault) < 0)
		return -1;
	top_screen_fds(t->screen, t->watch.fds);
	return draw(t);
}

/* The gateway writes each event as one line of data; what else there is are comments and how soon to ask again. */
static int on_line(void *user, struct str line)
{
	static const struct str data = STR("data:");
	struct top *t = user;

	if (!str_starts(line, data))
		return 0;
	line = str_trim(str_of(line.p + data.n, line.n - data.n));
	t->heard = true;
	return t->c->options->json ? print(t, line) : show(t, line);
}

static int on_bytes(void *user, struct str bytes)
{
	struct top *t = user;
	int rc = ndjson_feed(&t->lines, bytes, on_line, t);

	if (rc == -EMSGSIZE)
		rc = fault_set(t->c->fault, FAULT_ERROR, "BAD_ANSWER", "the stream holds a document that is too long");
	else if (rc == -ENOMEM)
		rc = fault_memory(t->c->fault);
	t->ended |= rc < 0;
	return rc;
}

/* ---- the stream, and the next ------------------------------------------ */

static int follow(struct top *t)
{
	struct api_request r = {.method = "GET",
				.path = "/gateway/v1/status",
				.accept = "text/event-stream",
				.sink = on_bytes,
				.user = t,
				.watch = &t->watch};

	ndjson_fini(&t->lines);
	return api_call(t->c->api, &r, t->c->fault);
}

/* Whether a stream's end is that of the command; without a fault it becomes one where nothing has ever come. */
static bool is_over(struct top *t, int rc)
{
	const struct fault *f = t->c->fault;

	if (rc == 0 && !t->heard) {
		fault_set(t->c->fault, FAULT_ERROR, "BAD_ANSWER",
			  "the gateway has no stream of its status (is it older than this client?)");
		return true;
	}
	return rc < 0 && (t->ended || !t->heard || f->kind != FAULT_ERROR || f->status == 403);
}

/* Waits until then as a request would. */
static int wait_until(struct top *t, uint64_t at_ms)
{
	uint64_t now;

	while ((now = clock_ms()) < at_ms) {
		struct pollfd fds[1 + API_WATCHED] = {{.fd = interrupt_fd(), .events = POLLIN}};

		for (size_t i = 0; i < API_WATCHED; i++)
			fds[1 + i] = (struct pollfd){.fd = t->watch.fds[i], .events = POLLIN};
		if (poll(fds, 1 + API_WATCHED, (int)(at_ms - now)) < 0 && errno != EINTR)
			return fault_errno(t->c->fault, "poll", errno);
		if (interrupt_pending())
			return fault_set(t->c->fault, FAULT_INTERRUPTED, "INTERRUPTED", "stopped by a signal");
		if (on_turn(t) < 0)
			return -1;
	}
	return 0;
}

static int run(struct top *t)
{
	for (;;) {
		uint64_t began_ms = clock_ms();
		int rc = follow(t);

		if (is_over(t, rc))
			return -1;
		top_view_lost(&t->view, rc < 0 ? t->c->fault->message : NULL);
		if (t->screen && draw(t) < 0)
			return -1;
		if (wait_until(t, began_ms + RETRY_MS) < 0)
			return -1;
	}
}

int top_command(const struct command *c)
{
	struct top t = {.c = c, .watch = {.fds = {-1, -1}, .on_turn = on_turn}};
	int rc;

	if (!c->options->json && !top_screen_is_possible())
		return fault_set(c->fault, FAULT_USAGE, "USAGE",
				 "top: standard input and output are no terminal: `stacygate status` shows it once, "
				 "`stacygate top --json` "
				 "prints it every second");
	rc = run(&t);
	top_screen_close(t.screen);
	ndjson_fini(&t.lines);
	top_view_fini(&t.view);
	if (!t.quit)
		return rc;
	*c->fault = (struct fault){0};
	return 0;
}
