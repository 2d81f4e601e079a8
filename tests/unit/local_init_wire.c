/* SPDX-License-Identifier: Apache-2.0 */
/* The messages of the init: each comes back as it was put, nothing malformed is taken, nothing is read beyond the end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "local/init_wire.h"

static const struct wire_event events[] = {
	{.type = WIRE_READY},
	{.type = WIRE_SIZE, .job = 3, .size = 1ull << 40},
	{.type = WIRE_DATA, .job = 1, .stream = 2, .bytes = {"out\0put", 7}},
	{.type = WIRE_LOG, .bytes = {"log", 3}},
	{.type = WIRE_ENTRY, .job = 9, .path = {"/a/b", 4}, .size = 12, .mode = 0755, .is_dir = true, .mtime_sec = -5},
	{.type = WIRE_DONE, .job = 0xffffffff, .error = ENOENT, .text = {"no such file", 12}},
	{.type = WIRE_DONE, .job = 2, .exit_code = -1},
	{.type = WIRE_DONE, .job = 2, .exit_code = 255},
	{.type = WIRE_CONNECTED, .job = 7},
};

static const struct wire_request requests[] = {
	{.type = WIRE_EXEC_MORE, .job = 1, .bytes = {"abc", 3}},
	{.type = WIRE_EXEC, .job = 1, .bytes = {"d", 1}},
	{.type = WIRE_READ, .job = 2, .path = {"/a", 2}},
	{.type = WIRE_WRITE, .job = 3, .path = {"b", 1}, .mode = 0640, .size = 77},
	{.type = WIRE_CONTENT, .job = 3, .bytes = {"\0\1", 2}},
	{.type = WIRE_DELETE, .job = 4, .path = {"c", 1}, .recursive = true},
	{.type = WIRE_LIST, .job = 5, .path = {"/", 1}},
	{.type = WIRE_STAT, .job = 6, .path = {"x", 1}},
	{.type = WIRE_GLOB, .job = 7, .path = {"*", 1}},
	{.type = WIRE_MOVE, .job = 8, .path = {"from", 4}, .to = {"to", 2}},
	{.type = WIRE_CHMOD, .job = 9, .path = {"y", 1}, .mode = 0700},
	{.type = WIRE_KILL, .job = 10},
	{.type = WIRE_CANCEL, .job = 11},
	{.type = WIRE_CREDIT, .job = 12, .credit = 65536},
	{.type = WIRE_CONNECT, .job = 13, .port = 65535},
};
/* The fuzz target, linked in: what it requires holds for everything that this program makes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A copy of exactly n bytes: one read too many is a report of the sanitizer. */
static struct str exact(const char *p, size_t n)
{
	char *copy = malloc(n ? n : 1);

	memcpy(copy, p ? p : "", n);
	return str_of(copy, n);
}

static void drop(struct str s)
{
	free((void *)(uintptr_t)s.p);
}

Test(local_init_wire, events_come_back)
{
	for (size_t i = 0; i < COUNT(events); i++) {
		const struct wire_event *e = &events[i];
		struct wire_event got;
		struct buf b = BUF_EMPTY;
		size_t used;

		wire_put_event(&b, e);
		cr_assert_eq(wire_parse_event(buf_str(&b), &got, &used), 1, "%zu", i);
		cr_expect(used == b.len && got.type == e->type && got.job == e->job && got.size == e->size &&
				  got.stream == e->stream && got.mode == e->mode && got.is_dir == e->is_dir &&
				  got.mtime_sec == e->mtime_sec && got.error == e->error &&
				  got.exit_code == e->exit_code && str_eq(got.bytes, e->bytes) &&
				  str_eq(got.path, e->path) && str_eq(got.text, e->text),
			  "%zu", i);
		buf_fini(&b);
	}
}

Test(local_init_wire, requests_come_back)
{
	for (size_t i = 0; i < COUNT(requests); i++) {
		const struct wire_request *m = &requests[i];
		struct wire_request got;
		struct buf b = BUF_EMPTY;
		size_t used;

		wire_put_request(&b, m);
		cr_assert_eq(wire_parse_request(buf_str(&b), &got, &used), 1, "%zu", i);
		cr_expect(used == b.len && got.type == m->type && got.job == m->job && got.mode == m->mode &&
				  got.size == m->size && got.credit == m->credit && got.port == m->port &&
				  got.recursive == m->recursive && str_eq(got.bytes, m->bytes) &&
				  str_eq(got.path, m->path) && str_eq(got.to, m->to),
			  "%zu", i);
		buf_fini(&b);
	}
}

/* Cut anywhere, a message only waits for more; with its length cut to fit, it is refused or still within its bytes. */
Test(local_init_wire, every_truncation)
{
	for (size_t i = 0; i < COUNT(events); i++) {
		struct wire_event got;
		struct buf b = BUF_EMPTY;
		size_t used;

		wire_put_event(&b, &events[i]);
		for (size_t n = 0; n < b.len; n++) {
			struct str cut = exact(buf_data(&b), n);
			cr_expect_eq(wire_parse_event(cut, &got, &used), 0, "%zu cut at %zu", i, n);
			if (n >= WIRE_HEAD_BYTES) {
				((char *)(uintptr_t)cut.p)[0] = (char)(n - WIRE_HEAD_BYTES);
				int rc = wire_parse_event(cut, &got, &used);
				cr_expect(rc == -EPROTO || (rc == 1 && used == n), "%zu cut at %zu: %d", i, n, rc);
			}
			drop(cut);
		}
		buf_fini(&b);
	}
}

struct bad {
	const char *what;
	struct str bytes;
};

/* Head: length, job, type, zeros. */
#define HEAD(n, job, type) n "\0\0\0" job "\0\0\0" type "\0\0\0"

Test(local_init_wire, refused)
{
	static const struct bad bad[] = {
		{"too long", STR("\1\0\1\0\0\0\0\0\100\0\0\0")},
		{"huge", STR("\377\377\377\377\0\0\0\0\100\0\0\0")},
		{"type 0", STR(HEAD("\0", "\0", "\0"))},
		{"a request", STR(HEAD("\0", "\1", "\3"))},
		{"type 71", STR(HEAD("\0", "\0", "\107"))},
		{"connected without a job", STR(HEAD("\0", "\0", "\106"))},
		{"connected with a payload", STR(HEAD("\1", "\1", "\106") "x")},
		{"padding", STR("\0\0\0\0\0\0\0\0\100\1\0\0")},
		{"ready with a job", STR(HEAD("\0", "\1", "\100"))},
		{"ready with a payload", STR(HEAD("\1", "\0", "\100") "x")},
		{"size too short", STR(HEAD("\1", "\1", "\101") "x")},
		{"size negative", STR(HEAD("\10", "\1", "\101") "\0\0\0\0\0\0\0\200")},
		{"data without bytes", STR(HEAD("\1", "\1", "\102") "\1")},
		{"stream 3", STR(HEAD("\2", "\1", "\102") "\3x")},
		{"entry without a path", STR(HEAD("\25", "\1", "\103") "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
		{"entry, relative", STR(HEAD("\26", "\1", "\103") "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0a")},
		{"entry, NUL", STR(HEAD("\27", "\1", "\103") "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0/\0")},
		{"entry, mode", STR(HEAD("\26", "\1", "\103") "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\20\0\0\0/")},
		{"entry, kind", STR(HEAD("\26", "\1", "\103") "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\2/")},
		{"done, short", STR(HEAD("\7", "\1", "\104") "\0\0\0\0\0\0\0")},
		{"done, error", STR(HEAD("\10", "\1", "\104") "\0\20\0\0\0\0\0\0")},
		{"done, exit code", STR(HEAD("\10", "\1", "\104") "\0\0\0\0\0\1\0\0")},
		{"done, text", STR(HEAD("\11", "\1", "\104") "\1\0\0\0\0\0\0\0\n")},
		{"done, DEL", STR(HEAD("\11", "\1", "\104") "\1\0\0\0\0\0\0\0\177")},
		{"log with a job", STR(HEAD("\1", "\1", "\105") "x")},
		{"log, empty", STR(HEAD("\0", "\0", "\105"))},
	};
	struct wire_event got;
	size_t used;

	for (size_t i = 0; i < COUNT(bad); i++) {
		struct str s = exact(bad[i].bytes.p, bad[i].bytes.n);
		cr_expect_eq(wire_parse_event(s, &got, &used), -EPROTO, "%s", bad[i].what);
		drop(s);
	}
}

/* An init does not connect to port 0, nor to half a port. */
Test(local_init_wire, ports)
{
	struct wire_request got;
	size_t used;

	cr_expect_eq(wire_parse_request(STR(HEAD("\2", "\1", "\17") "\1\0"), &got, &used), 1);
	cr_expect(got.type == WIRE_CONNECT && got.port == 1);
	cr_expect_eq(wire_parse_request(STR(HEAD("\2", "\1", "\17") "\0\0"), &got, &used), -EPROTO);
	cr_expect_eq(wire_parse_request(STR(HEAD("\1", "\1", "\17") "\1"), &got, &used), -EPROTO);
	cr_expect_eq(wire_parse_request(STR(HEAD("\3", "\1", "\17") "\1\0\0"), &got, &used), -EPROTO);
	cr_expect_eq(wire_parse_request(STR(HEAD("\0", "\1", "\20")), &got, &used), -EPROTO);
}

/* Any byte of any message changed to anything: no crash, and never more used than there is. */
Test(local_init_wire, every_byte_changed)
{
	for (size_t i = 0; i < COUNT(events); i++) {
		struct wire_event got;
		struct wire_request request;
		struct buf b = BUF_EMPTY;
		size_t used;

		wire_put_event(&b, &events[i]);
		for (size_t at = 0; at < b.len; at++)
			for (int v = 0; v < 256; v++) {
				struct str s = exact(buf_data(&b), b.len);
				((char *)(uintptr_t)s.p)[at] = (char)v;
				used = 0;
				(void)LLVMFuzzerTestOneInput((const uint8_t *)s.p, s.n);
				if (wire_parse_event(s, &got, &used) == 1)
					cr_assert(used <= s.n && got.bytes.n + got.path.n + got.text.n <= s.n);
				if (wire_parse_request(s, &request, &used) == 1)
					cr_assert(used <= s.n &&
						  request.bytes.n + request.path.n + request.to.n <= s.n);
				drop(s);
			}
		buf_fini(&b);
	}
}

Test(local_init_wire, commands)
{
	const struct str argv[] = {STR("sh"), STR("")}, env[] = {STR("A=b")}, nul[] = {STR("a\0b")};
	struct buf b = BUF_EMPTY;
	struct wire_exec x;

	cr_assert_eq(wire_put_exec(&b, argv, 2, env, 1, STR("/w")), 0);
	cr_assert_eq(wire_parse_exec(buf_str(&b), &x), 0);
	cr_assert(x.nargv == 2 && x.nenv == 1 && memcmp(x.strings, "sh\0\0A=b\0/w", 11) == 0);
	for (size_t n = 0; n < b.len; n++) {
		struct str cut = exact(buf_data(&b), n);
		cr_expect_eq(wire_parse_exec(cut, &x), -EPROTO, "cut at %zu", n);
		drop(cut);
	}
	buf_reset(&b);
	cr_expect_eq(wire_put_exec(&b, argv, 0, NULL, 0, STR("")), -EINVAL);
	buf_reset(&b);
	cr_expect_eq(wire_put_exec(&b, nul, 1, NULL, 0, STR("")), -EINVAL);
	buf_reset(&b);
	struct str big = str_of(calloc(1, WIRE_EXEC_MAX), WIRE_EXEC_MAX);
	memset((void *)(uintptr_t)big.p, 'x', big.n);
	cr_expect_eq(wire_put_exec(&b, &big, 1, NULL, 0, STR("")), -E2BIG);
	drop(big);
	buf_fini(&b);
}

/* Pseudo-random messages with a right head, a million bytes of them, through the fuzz target. */
Test(local_init_wire, random_payloads)
{
	uint64_t x = 88172645463325252u;
	uint8_t mem[WIRE_HEAD_BYTES + 64];

	for (int i = 0; i < 20000; i++) {
		for (size_t k = 0; k < sizeof(mem); k++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			mem[k] = (uint8_t)(x & (k % 3 ? 0x07 : 0xff));
		}
		memset(mem, 0, WIRE_HEAD_BYTES);
		mem[0] = (uint8_t)(x >> 8) % 65;
		mem[4] = (uint8_t)(x >> 16) % 3;
		mem[8] = i % 2 ? (uint8_t)(WIRE_READY + (x >> 24) % 7) : (uint8_t)(1 + (x >> 24) % 15);
		(void)LLVMFuzzerTestOneInput(mem, sizeof(mem));
	}
}
