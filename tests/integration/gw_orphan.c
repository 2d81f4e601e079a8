/* SPDX-License-Identifier: Apache-2.0 */
/* A spawn whose client leaves: its exchange goes on, and the sandbox in its answer is destroyed. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(orphan, .fini = gw_fini);

#define SPAWN        "POST /api/v1/sandboxes HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}"
#define CREATED_HEAD "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n"
#define CREATED_BODY "{\"id\":\"sb-0123abcd\"}"

/* Until the status counts so many of a kind; the last count. */
static json_int_t wait_count(struct gw *gw, const char *path, json_int_t want)
{
	json_int_t seen = -1;

	for (unsigned i = 0; i < 2000 && seen != want; i++) {
		json_t *status = gw_get(gw, "/gateway/v1/status");

		seen = json_number_at(status, path);
		json_decref(status);
	}
	return seen;
}

static void expect_delete(struct gw *gw, unsigned nth)
{
	struct buf head;

	cr_assert(upstream_wait_requests(gw->up, nth + 1));
	head = upstream_request_head(gw->up, nth);
	cr_expect(buf_contains(&head, "DELETE /api/v1/sandboxes/sb-0123abcd HTTP/1.1\r\n"));
	cr_expect(buf_contains(&head, "X-API-Key: " GW_KEY "\r\n"));
	cr_expect(buf_contains(&head, "X-User-ID: " GW_USER_ID "\r\n"));
	buf_fini(&head);
}

/* The client leaves before the answer: the spawn is not cut short, and its sandbox is destroyed with the same identity. */
Test(orphan, leaves_before_the_answer)
{
	const struct up_step *const scripts[] = {SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0},
							UP_TEXT(CREATED_HEAD CREATED_BODY), {UP_READ, NULL, 0},
							UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0})};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);

	cr_assert(raw_text(&r, SPAWN));
	cr_assert(upstream_wait_requests(gw->up, 1));
	raw_close(&r);
	cr_expect_eq(wait_count(gw, "unclaimed_spawns.present", 1), 1);
	cr_expect_eq(upstream_open(gw->up), 1, "the request was cut short");
	upstream_open_gate(gw->up, 0);
	expect_delete(gw, 1);
	cr_expect_eq(wait_count(gw, "unclaimed_spawns.destroyed", 1), 1);
	cr_expect_eq(upstream_connections(gw->up), 1);
	gw_stop(gw);
}

/* The same within the answer: what had come of it counts, with a part of head or body on either side. */
Test(orphan, leaves_within_the_answer)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_SEND, CREATED_HEAD, 30}, {UP_GATE, NULL, 0},
		       {UP_SEND, CREATED_HEAD CREATED_BODY + 30, 0}, {UP_READ, NULL, 0}, UP_TEXT(UP_OK_TEXT)),
		SCRIPT({UP_READ, NULL, 0}, {UP_SEND, CREATED_HEAD CREATED_BODY, sizeof(CREATED_HEAD) + 6},
		       {UP_GATE, NULL, 1}, {UP_SEND, CREATED_BODY + 7, 0}, {UP_READ, NULL, 0}, UP_TEXT(UP_OK_TEXT)),
	};

	for (unsigned i = 0; i < 2; i++) {
		struct gw_options options = {.scripts = &scripts[i], .nscripts = 1};
		struct gw *gw = gw_start(&options);
		struct raw r = gw_connect(gw);

		cr_assert(raw_text(&r, SPAWN));
		cr_assert(upstream_wait_requests(gw->up, 1));
		raw_close(&r);
		cr_expect_eq(wait_count(gw, "unclaimed_spawns.present", 1), 1);
		upstream_open_gate(gw->up, i);
		expect_delete(gw, 1);
		cr_expect_eq(wait_count(gw, "unclaimed_spawns.destroyed", 1), 1);
		gw_stop(gw);
	}
}

/* An answer without a sandbox leaves nothing to do. */
Test(orphan, nothing_made)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0},
		       UP_TEXT("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"), {UP_FOREVER, NULL, 0}),
	};
	struct gw_options options = {.scripts = scripts, .nscripts = 1};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);

	cr_assert(raw_text(&r, SPAWN));
	cr_assert(upstream_wait_requests(gw->up, 1));
	raw_close(&r);
	cr_expect_eq(wait_count(gw, "unclaimed_spawns.present", 1), 1);
	upstream_open_gate(gw->up, 0);
	cr_expect_eq(wait_count(gw, "unclaimed_spawns.nothing_made", 1), 1);
	cr_expect_eq(upstream_requests(gw->up), 1);
	gw_stop(gw);
}

/* A DELETE that fails is tried again. */
Test(orphan, delete_again)
{
	const struct up_step *const scripts[] = {
		SCRIPT({UP_READ, NULL, 0}, {UP_GATE, NULL, 0}, UP_TEXT(CREATED_HEAD CREATED_BODY), {UP_READ, NULL, 0},
		       {UP_CLOSE, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"),
		       {UP_FOREVER, NULL, 0}),
		SCRIPT({UP_READ, NULL, 0}, UP_TEXT(UP_OK_TEXT), {UP_FOREVER, NULL, 0}),
	};
	struct gw_options options = {.scripts = scripts, .nscripts = 3};
	struct gw *gw = gw_start(&options);
	struct raw r = gw_connect(gw);

	cr_assert(raw_text(&r, SPAWN));
	cr_assert(upstream_wait_requests(gw->up, 1));
	raw_close(&r);
	cr_expect_eq(wait_count(gw, "unclaimed_spawns.present", 1), 1);
	upstream_open_gate(gw->up, 0);
	for (unsigned i = 1; i <= 3; i++)
		expect_delete(gw, i);
	cr_expect_eq(wait_count(gw, "unclaimed_spawns.destroyed", 1), 1);
	gw_stop(gw);
}
