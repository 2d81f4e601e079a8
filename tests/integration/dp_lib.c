/* SPDX-License-Identifier: Apache-2.0 */
#include "integration/dp_lib.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"

/* --- an upstream played by the test --------------------------------------------------------------------------------- */

int dp_listen(const char *path)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%.100s", path);
	unlink(path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	cr_assert_eq(listen(fd, 4096), 0);
	return fd;
}

struct gw *dp_by_hand(const struct gw_options *options, int *listener)
{
	struct gw_options own = options ? *options : (struct gw_options){0};
	struct gw *gw;

	own.no_upstream = true;
	gw = gw_prepare(&own);
	*listener = dp_listen(gw->upstream_path);
	gw_run(gw, &own);
	return gw;
}

/* The harness's reader refuses the planted credential, which stands in every request head: those are read here. */
bool dp_read_head(struct raw *r, struct buf *head)
{
	uint64_t end = wait_now_ms() + WAIT_MS;
	size_t n;

	*head = BUF_EMPTY;
	while (!(n = wire_head_bytes(buf_str(&r->in)))) {
		char piece[4096];
		ssize_t got = recv(r->fd, piece, sizeof(piece), MSG_DONTWAIT);

		if (got > 0)
			buf_add(&r->in, piece, (size_t)got);
		else if (got == 0 || errno != EAGAIN || wait_now_ms() > end || !wait_fd(r->fd, POLLIN, WAIT_MS))
			return false;
	}
	buf_add(head, buf_data(&r->in), n);
	buf_consume(&r->in, n);
	return true;
}

struct raw dp_accept(int listener, struct buf *head)
{
	struct raw r = {.fd = -1};

	cr_assert(wait_fd(listener, POLLIN, WAIT_MS), "the gateway does not connect");
	r.fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	cr_assert_geq(r.fd, 0);
	cr_assert(dp_read_head(&r, head), "no request on the connection");
	return r;
}

/* --- two identities ---------------------------------------------------------------------------------------------------- */

static const char *bob_path(struct gw *gw)
{
	return scratch_path(&gw->dir, "bob.sock");
}

static void add_rule(struct buf *out, const char *name)
{
	buf_addf(
		out,
		"  - name: %s\n    match: { listener: %s }\n    upstream: main\n    credential: team\n    user_id: %s\n"
		"    admin: true\n",
		name, name, name);
}

/* Listeners come up one after the other, and the harness waits for the first. */
static bool bob_is_served(void *arg)
{
	struct raw probe;
	bool served = raw_try_unix(&probe, bob_path(arg)) == 0;

	raw_close(&probe);
	return served;
}

struct gw *dp_two_start(const struct gw_options *options)
{
	struct gw *gw = gw_prepare(options);
	struct buf text = BUF_EMPTY;

	/* The one that the start waits for is bound last. */
	buf_addf(&text, "listen:\n  - { path: %s, name: bob }\n  - { path: %s, name: alice }\n", bob_path(gw),
		 gw->socket);
	buf_addf(&text, "upstreams:\n  main:\n    url: %s\n", upstream_url(gw->up));
	if (options->pool)
		buf_addf(&text, "    pool: { %s }\n", options->pool);
	if (options->timeouts)
		buf_addf(&text, "    timeouts: { %s }\n", options->timeouts);
	buf_addf(&text, "credentials:\n  team:\n    api_key: { file: %s }\nclients:\n", gw->key_file);
	add_rule(&text, "alice");
	add_rule(&text, "bob");
	buf_addf(&text, "log: { %s }\n", options->log ? options->log : "level: debug");
	if (options->top)
		buf_addf(&text, "%s\n", options->top);
	scratch_file(&gw->dir, "stacygate.yaml", 0644, buf_data(&text), text.len);
	buf_fini(&text);
	gw_run(gw, options);
	cr_assert(wait_until(bob_is_served, gw, WAIT_MS));
	return gw;
}

struct raw dp_bob(struct gw *gw)
{
	return raw_unix(bob_path(gw));
}

/* --- questions to the gateway ------------------------------------------------------------------------------------------- */

void dp_ask_ok(struct gw *gw)
{
	struct answer a = gw_ask(gw, GET_X);

	expect_status(&a, 200);
	answer_fini(&a);
}

json_int_t dp_status(struct gw *gw, const char *path)
{
	json_t *json = gw_get(gw, "/gateway/v1/status");
	json_int_t n = json_number_at(json, path);

	json_decref(json);
	return n;
}

struct status_wait {
	struct gw *gw;
	const char *path;
	json_int_t value;
	bool or_more;
};

static bool status_holds(void *arg)
{
	struct status_wait *w = arg;
	json_int_t n = dp_status(w->gw, w->path);

	return n == w->value || (w->or_more && n > w->value);
}

bool dp_wait_status(struct gw *gw, const char *path, json_int_t value)
{
	struct status_wait w = {gw, path, value, false};

	return wait_until(status_holds, &w, WAIT_MS);
}

bool dp_wait_status_least(struct gw *gw, const char *path, json_int_t value)
{
	struct status_wait w = {gw, path, value, true};

	return wait_until(status_holds, &w, WAIT_MS);
}

struct fds_wait {
	struct gw *gw;
	int n;
};

static bool fds_hold(void *arg)
{
	struct fds_wait *w = arg;

	return daemon_fds(w->gw->daemon) <= w->n;
}

bool dp_wait_fds(struct gw *gw, int n)
{
	struct fds_wait w = {gw, n};

	return wait_until(fds_hold, &w, WAIT_MS);
}

/* --- bytes -------------------------------------------------------------------------------------------------------------- */

unsigned dp_rounds(unsigned usually, unsigned in_full)
{
	return getenv("SG_LONG") ? in_full : usually;
}

unsigned dp_random(uint32_t *state, unsigned below)
{
	*state = *state * 1664525 + 1013904223;
	return (*state >> 8) % below;
}

enum {
	PATTERN_BYTES = 65521,
	PIECE_MAX = 40000
};

/* One table for each direction; the prime length keeps it out of step with every buffer. */
static char pattern[2][PATTERN_BYTES + PIECE_MAX];

static void make_pattern(void)
{
	uint32_t x[2] = {17, 71};

	if (pattern[0][0])
		return;
	for (unsigned d = 0; d < 2; d++) {
		for (size_t i = 0; i < PATTERN_BYTES; i++)
			pattern[d][i] = (char)dp_random(&x[d], 256);
		memcpy(pattern[d] + PATTERN_BYTES, pattern[d], PIECE_MAX);
		pattern[d][0] = pattern[d][PATTERN_BYTES] = 1;
	}
}

void dp_pattern(bool from_a, size_t at, char *out, size_t n)
{
	make_pattern();
	for (size_t i = 0; i < n; i++)
		out[i] = pattern[from_a ? 0 : 1][(at + i) % PATTERN_BYTES];
}

struct flow {
	struct raw *from, *to;
	const char *bytes;
	size_t total, sent, got;
};

static size_t piece_size(uint32_t *x)
{
	return dp_random(x, 3) ? 1 + dp_random(x, PIECE_MAX - 1) : 1 + dp_random(x, 20);
}

static void send_some(struct flow *f, uint32_t *x)
{
	size_t n = piece_size(x);

	if (n > f->total - f->sent)
		n = f->total - f->sent;
	f->sent += raw_push(f->from, f->bytes + f->sent % PATTERN_BYTES, n);
}

static void check_some(struct flow *f, const char *p, size_t n)
{
	cr_assert_leq(f->got + n, f->sent, "more bytes than were sent");
	cr_assert_eq(memcmp(p, f->bytes + f->got % PATTERN_BYTES, n), 0, "other bytes at %zu", f->got);
	f->got += n;
}

static void take_some(struct flow *f, uint32_t *x)
{
	char piece[PIECE_MAX];
	ssize_t n = recv(f->to->fd, piece, piece_size(x), MSG_DONTWAIT);

	cr_assert(n > 0 || (n < 0 && errno == EAGAIN), "ended after %zu of %zu bytes", f->got, f->total);
	if (n > 0)
		check_some(f, piece, (size_t)n);
}

void dp_exchange_bytes(struct raw *a, size_t n, struct raw *b, size_t m)
{
	struct flow flows[2];
	uint64_t end = wait_now_ms() + WAIT_MS * 3;
	uint32_t x = 5;

	make_pattern();
	flows[0] = (struct flow){a, b, pattern[0], n, 0, 0};
	flows[1] = (struct flow){b, a, pattern[1], m, 0, 0};
	while (flows[0].got < n || flows[1].got < m) {
		size_t before = flows[0].got + flows[1].got + flows[0].sent + flows[1].sent;

		for (unsigned i = 0; i < 2; i++) {
			if (flows[i].sent < flows[i].total)
				send_some(&flows[i], &x);
			if (flows[i].got < flows[i].total)
				take_some(&flows[i], &x);
		}
		cr_assert_lt(wait_now_ms(), end, "%zu of %zu and %zu of %zu bytes came", flows[0].got, n, flows[1].got,
			     m);
		if (flows[0].got + flows[1].got + flows[0].sent + flows[1].sent == before)
			(void)wait_fd(-1, 0, 1);
	}
}
