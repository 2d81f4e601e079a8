/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/fd.h"
#include "common/log.h"

/* Puts a pipe in the place of stderr; returns its reading end and keeps the old stderr in *saved. */
static int capture(int *saved)
{
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	*saved = dup(STDERR_FILENO);
	cr_assert_geq(dup2(ends[1], STDERR_FILENO), 0);
	close(ends[1]);
	return ends[0];
}

/* Puts stderr back and returns what was written meanwhile. */
static struct buf captured(int from, int saved)
{
	struct buf out = BUF_EMPTY;

	dup2(saved, STDERR_FILENO);
	close(saved);
	cr_assert_eq(fd_read_all(from, 1 << 20, &out), 0);
	close(from);
	return out;
}

static bool contains(const struct buf *b, struct str what)
{
	return b->len && memmem(b->mem, b->len, what.p, what.n) != NULL;
}

/* A line says when, how bad, who and what. */
Test(common_log, line)
{
	int saved;
	int from = capture(&saved);

	log_init("stacygated", LOG_LEVEL_INFO);
	log_info("c%d uid=%u: accepted", 17, 1000u);
	struct buf out = captured(from, saved);
	struct str line = buf_str(&out);
	cr_expect(str_ends(line, STR(" info stacygated: c17 uid=1000: accepted\n")), "%.*s", STR_ARG(line));
	cr_expect_eq(line.p[4], '-');
	cr_expect_eq(line.p[10], 'T');
	cr_expect_not_null(memchr(line.p, 'Z', 25));
	buf_fini(&out);
}

/* X13: what a client sends stays one line of printable ASCII. */
Test(common_log, injection)
{
	int saved;
	int from = capture(&saved);

	log_warn("path %s", "/x\n2026-01-01 error forged\r\x1b[31m\x7f\xc3\xa4\t");
	struct buf out = captured(from, saved);
	cr_assert_gt(out.len, 0);
	for (size_t i = 0; i + 1 < out.len; i++)
		cr_assert(out.mem[i] >= 0x20 && out.mem[i] < 0x7f, "byte %zu is 0x%02x", i, (unsigned char)out.mem[i]);
	cr_expect_eq(out.mem[out.len - 1], '\n');
	cr_expect(contains(&out, STR("/x\\x0a2026-01-01 error forged\\x0d\\x1b[31m\\x7f\\xc3\\xa4\\x09")));
	buf_fini(&out);
}

/* What is longer than a line may be is cut, not split and not dropped. */
Test(common_log, bounded)
{
	char text[10000];
	int saved;
	int from = capture(&saved);

	memset(text, '\n', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_error("%s", text);
	struct buf out = captured(from, saved);
	cr_expect_gt(out.len, 4 * 1900);
	cr_expect_lt(out.len, 4 * 2000 + 160);
	cr_expect_eq(memchr(out.mem, '\n', out.len), out.mem + out.len - 1, "one line only");
	buf_fini(&out);
}

/* Levels below the chosen one are silent; the names are those of the configuration. */
Test(common_log, levels)
{
	int saved;
	int from = capture(&saved);

	log_set_level(LOG_LEVEL_WARN);
	log_info("quiet");
	log_debug("quieter");
	log_warn("heard");
	log_set_level(LOG_LEVEL_DEBUG);
	log_debug("also heard");
	struct buf out = captured(from, saved);
	cr_expect_not(contains(&out, STR("quiet")));
	cr_expect(contains(&out, STR("warning")));
	cr_expect(contains(&out, STR("debug")));
	cr_expect(contains(&out, STR("also heard")));
	cr_expect_eq(log_get_level(), LOG_LEVEL_DEBUG);
	cr_expect(log_enabled(LOG_LEVEL_ERROR));
	cr_expect_str_eq(log_level_name(LOG_LEVEL_ERROR), "error");
	cr_expect_str_eq(log_level_name(LOG_LEVEL_INFO), "info");
	for (unsigned i = LOG_LEVEL_ERROR; i <= LOG_LEVEL_DEBUG; i++) {
		enum log_level level;
		cr_expect(log_level_parse(str_from(log_level_word((enum log_level)i)), &level) && level == i);
		cr_expect_not(log_level_parse(STR("warning"), &level));
		cr_expect_not(log_level_parse(STR(""), &level));
	}
	buf_fini(&out);
}

/* L10: a reader that is gone, or too slow, costs lines and nothing else. */
Test(common_log, lost_lines_are_counted)
{
	int saved;
	int from = capture(&saved);

	signal(SIGPIPE, SIG_IGN);
	close(from);
	unsigned long before = log_dropped();
	log_error("nobody reads this");
	unsigned long gone = log_dropped();
	dup2(saved, STDERR_FILENO);
	close(saved);
	cr_expect_eq(gone, before + 1);

	from = capture(&saved);
	cr_assert_eq(fd_set_nonblock(STDERR_FILENO), 0);
	for (unsigned i = 0; i < 2000; i++)
		log_error("a pipe holds 64 KiB, so that not all of these lines fit into it");
	unsigned long full = log_dropped();
	struct buf out = captured(from, saved);
	cr_expect_gt(full, gone);
	cr_expect_lt(full, gone + 2000);
	buf_fini(&out);
}

/* L10: a blocking pipe that nobody reads does not hold the log up either. */
Test(common_log, blocking_pipe, .timeout = 20)
{
	int saved;
	int from = capture(&saved);
	unsigned long before = log_dropped();

	for (unsigned i = 0; i < 2000; i++)
		log_error("a pipe holds 64 KiB, so that not all of these lines fit into it");
	unsigned long lost = log_dropped() - before;
	struct buf out = captured(from, saved);
	cr_expect_gt(lost, 0);
	cr_expect_lt(lost, 2000);
	cr_expect_gt(out.len, 60000);
	buf_fini(&out);
}

/* X13: as JSON a line is one object, whatever is in it. */
Test(common_log, json)
{
	int saved;
	int from = capture(&saved);

	log_init("stacygated", LOG_LEVEL_INFO);
	log_set_format(LOG_FORMAT_JSON);
	log_warn("%s", "a \"quote\"\n\xff\xc3\xa9");
	struct buf out = captured(from, saved);
	for (size_t i = 0; i + 1 < out.len; i++)
		cr_assert(buf_data(&out)[i] >= 0x20 && buf_data(&out)[i] < 0x7f);
	json_t *json = json_loadb(buf_data(&out), out.len, JSON_REJECT_DUPLICATES, NULL);
	cr_assert_not_null(json, "%.*s", STR_ARG(buf_str(&out)));
	cr_expect_str_eq(json_string_value(json_object_get(json, "level")), "warning");
	cr_expect_str_eq(json_string_value(json_object_get(json, "program")), "stacygated");
	cr_expect_str_eq(json_string_value(json_object_get(json, "message")), "a \"quote\"\n\xef\xbf\xbd\xc3\xa9");
	cr_expect_eq(strlen(json_string_value(json_object_get(json, "time"))), 24);
	json_decref(json);
	buf_fini(&out);
}

/* The level stands before a line if, and only if, stderr is what $JOURNAL_STREAM names. */
Test(common_log, journal_prefix)
{
	for (int named = 0; named < 2; named++) {
		char stream[64];
		struct stat st;
		int saved;
		int from = capture(&saved);

		cr_assert_eq(fstat(STDERR_FILENO, &st), 0);
		snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
			 (unsigned long long)st.st_ino + !named);
		setenv("JOURNAL_STREAM", stream, 1);
		log_init("stacygated", LOG_LEVEL_INFO);
		log_error("x");
		log_info("y");
		struct buf out = captured(from, saved);
		cr_expect_eq(str_starts(buf_str(&out), STR("<3>2")), named);
		cr_expect_eq(contains(&out, STR("\n<6>2")), named);
		cr_expect_eq(contains(&out, STR("<")), named);
		buf_fini(&out);
	}
}
