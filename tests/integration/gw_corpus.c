/* SPDX-License-Identifier: Apache-2.0 */
/*
 * P28: raw requests of public test suites, where they are present (STACYGATE_CORPUS, else ../shared/corpus beside the
 * sources), sent to the gateway one by one. Each is refused, or waits for more, or goes up as whole well-formed requests
 * written anew: one key, one user id, one framing, nothing smuggled. A few of our own are always replayed.
 */
#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/gateway.h"
#include "lib/wait.h"
#include "lib/wire.h"

TestSuite(corpus, .fini = gw_fini);

/* Whether the head is what a careful writer makes: CRLF only, visible ASCII and blanks, a name before each colon. */
static bool is_clean_head(struct str head)
{
	size_t line = 0;

	for (size_t i = 0; i < head.n; i++) {
		unsigned char c = (unsigned char)head.p[i];

		if (c == '\r' && i + 1 < head.n && head.p[i + 1] == '\n') {
			line = i + 2;
			i++;
		} else if ((c < 0x20 && c != '\t') || c == 0x7f || ((c == ' ' || c == '\t') && i == line)) {
			return false;
		}
	}
	return true;
}

static void check_upstream(struct gw *gw, const char *name)
{
	unsigned n = upstream_requests(gw->up);
	struct buf all = upstream_everything(gw->up);

	for (unsigned i = 0; i < n; i++) {
		struct buf head = upstream_request_head(gw->up, i);
		struct str h = buf_str(&head);

		cr_expect(is_clean_head(h), "%s: not a clean head: %.*s", name, STR_ARG(h));
		cr_expect(wire_header_is(h, "X-API-Key", GW_KEY), "%s: %.*s", name, STR_ARG(h));
		cr_expect(wire_header_is(h, "X-User-ID", GW_USER_ID), "%s", name);
		cr_expect_eq(wire_count(h, "Host"), 1, "%s", name);
		cr_expect_leq(wire_count(h, "Content-Length") + wire_count(h, "Transfer-Encoding"), 1, "%s: %.*s", name,
			      STR_ARG(h));
		cr_expect(str_ends(wire_first_line(h), STR(" HTTP/1.1")), "%s: %.*s", name, STR_ARG(h));
		cr_expect(str_starts(wire_target(h), STR("/api/v1")), "%s: %.*s", name, STR_ARG(h));
		buf_fini(&head);
	}
	buf_fini(&all);
}

/* What the suites call their paths is not below /api/v1: there the request is about framing, so it is moved there. */
static struct buf below_api(const struct buf *raw)
{
	struct buf out = BUF_EMPTY;
	struct str all = buf_str(raw);
	const char *slash = all.n ? memmem(all.p, all.n < 16 ? all.n : 16, " /", 2) : NULL;

	if (!slash) {
		buf_add_str(&out, all);
		return out;
	}
	buf_add(&out, all.p, (size_t)(slash - all.p) + 1);
	buf_add_cstr(&out, "/api/v1");
	buf_add(&out, slash + 1, all.n - (size_t)(slash - all.p) - 1);
	return out;
}

static void replay(struct gw *gw, const char *name, const struct buf *raw)
{
	struct buf request = below_api(raw);
	struct raw r = gw_connect(gw);

	(void)raw_send(&r, buf_data(&request), request.len);
	raw_half_close(&r);
	cr_expect(raw_closes(&r, WAIT_MS), "%s: neither answered nor closed", name);
	/* Whatever came back is answers, the gateway's own or the upstream's. */
	cr_expect(r.in.len == 0 || str_starts(buf_str(&r.in), STR("HTTP/1.1 ")), "%s", name);
	raw_close(&r);
	buf_fini(&request);
}

static unsigned replay_folder(struct gw *gw, const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;
	unsigned n = 0;

	if (!dir)
		return 0;
	while ((entry = readdir(dir))) {
		char path[1024];
		struct buf raw;

		if (!str_ends(str_from(entry->d_name), STR(".raw")))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
		raw = scratch_read(path);
		replay(gw, path, &raw);
		buf_fini(&raw);
		n++;
	}
	closedir(dir);
	check_upstream(gw, folder);
	return n;
}

Test(corpus, suites)
{
	static const char *const suites[] = {"llhttp", "garden", "hdg", "h1spec"};
	const char *set = getenv("STACYGATE_CORPUS"), *src = getenv("SG_SRCDIR");
	char base[600];

	if (set)
		snprintf(base, sizeof(base), "%s", set);
	else
		snprintf(base, sizeof(base), "%s/../shared/corpus", src ? src : ".");
	if (access(base, R_OK) != 0) {
		cr_log_info("SKIPPED: no corpus at %s", base);
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		struct gw *gw = gw_start(NULL);
		char folder[700];
		struct answer a;

		snprintf(folder, sizeof(folder), "%s/%s", base, suites[i]);
		cr_expect_gt(replay_folder(gw, folder), 5, "%s is empty", folder);
		a = gw_ask(gw, "GET /api/v1/x HTTP/1.1\r\nHost: h\r\n\r\n");
		expect_status(&a, 200);
		answer_fini(&a);
		gw_stop(gw);
	}
}

Test(corpus, own)
{
	static const char *const own[] = {
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\naGET /evil HTTP/1.1\r\nHost: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-API-Key: theirs\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: theirs\r\nConnection: X-User-ID\r\n\r\n\r\n\r\nGET / "
		"HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS / HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Method: PUT\r\n\r\n",
	};
	struct gw *gw = gw_start(NULL);
	unsigned before;

	for (unsigned i = 0; i < 5; i++) {
		struct buf raw = BUF_EMPTY;

		buf_add_cstr(&raw, own[i]);
		replay(gw, own[i], &raw);
		buf_fini(&raw);
	}
	before = upstream_requests(gw->up);
	cr_expect_geq(before, 4);
	check_upstream(gw, "own");
	gw_stop(gw);
}
