/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "gateway/journal.h"
#include "lib/scratch.h"

static struct scratch dir;
static const char *path;
static struct buf seen; /* "KEY=VALUE;" of each record that an open showed */

static void setup(void)
{
	scratch_init(&dir);
	path = scratch_path(&dir, "journal");
}

static void teardown(void)
{
	buf_fini(&seen);
	scratch_fini(&dir);
}

TestSuite(gateway_journal, .init = setup, .fini = teardown);

static void on_record(void *arg, struct str key, struct str value)
{
	(void)arg;
	buf_add_str(&seen, key);
	buf_add_char(&seen, '=');
	buf_add_str(&seen, value);
	buf_add_char(&seen, ';');
}

static struct journal *open_journal(void)
{
	struct journal *j = NULL;

	buf_reset(&seen);
	cr_assert_eq(journal_open(path, on_record, NULL, &j), 0);
	return j;
}

static void expect_records(const char *want)
{
	journal_free(open_journal());
	cr_expect(str_eq(buf_str(&seen), str_from(want)), "%.*s", STR_ARG(buf_str(&seen)));
}

static void put(struct journal *j, const char *key, const char *value)
{
	cr_assert_eq(journal_put(j, str_from(key), str_from(value)), 0);
}

static off_t file_size(void)
{
	struct stat st;

	cr_assert_eq(stat(path, &st), 0);
	return st.st_size;
}

static void append(const char *text)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	cr_assert_geq(fd, 0);
	cr_assert_eq(fd_write_all(fd, text, strlen(text)), 0);
	close(fd);
}

/* What was put is there after the next open, the last value of each key, in the order of the changes; what was dropped is not. */
Test(gateway_journal, put_and_drop)
{
	struct journal *j = open_journal();

	put(j, "a", "1");
	put(j, "b", "2");
	put(j, "c", "3");
	put(j, "a", "4");
	cr_expect_eq(journal_drop(j, STR("b")), 0);
	cr_expect_eq(journal_drop(j, STR("nobody")), 0);
	cr_expect_eq(journal_count(j), 2);
	expect_records("c=3;a=4;");
	put(j, "b", "5");
	journal_free(j);
	expect_records("c=3;a=4;b=5;");
}

/* The file is readable by nobody else, even one that was. */
Test(gateway_journal, mode)
{
	struct stat st;

	scratch_text(&dir, "journal", 0644, "");
	umask(0);
	journal_free(open_journal());
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
}

/* Whatever bytes a key or a value has, it comes back as it was, and a value may be empty. */
Test(gateway_journal, any_bytes)
{
	struct journal *j = open_journal();
	const struct str odd = STR("a b%20\n\r\t\0\x7f\xff%");

	cr_assert_eq(journal_put(j, odd, odd), 0);
	cr_assert_eq(journal_put(j, STR("empty"), STR("")), 0);
	journal_free(j);
	journal_free(open_journal());
	cr_expect(str_eq(buf_str(&seen), STR("a b%20\n\r\t\0\x7f\xff%=a b%20\n\r\t\0\x7f\xff%;empty=;")));
}

/* Records have a size that they may not exceed, and a key; the longest of escaped bytes is read again. */
Test(gateway_journal, bounds)
{
	struct journal *j = open_journal();
	char big[JOURNAL_RECORD_MAX_BYTES];

	memset(big, '\n', sizeof(big));
	cr_expect_eq(journal_put(j, STR(""), STR("x")), -EINVAL);
	cr_expect_eq(journal_put(j, STR("k"), str_of(big, sizeof(big))), -EMSGSIZE);
	cr_expect_eq(journal_put(j, str_of(big, sizeof(big)), STR("v")), -EMSGSIZE);
	cr_expect_eq(journal_count(j), 0);
	cr_expect_eq(journal_put(j, STR("k"), str_of(big, sizeof(big) - 1)), 0);
	journal_free(j);
	j = open_journal();
	cr_expect_eq(seen.len, sizeof(big) + 2);
	cr_expect_eq(journal_damaged(j), 0);
	journal_free(j);
}

/* A last line that was cut short at any byte is as if it had never been begun, and what follows it is whole. */
Test(gateway_journal, torn_line)
{
	struct journal *j = open_journal();
	off_t one;
	off_t two;

	put(j, "a", "1");
	one = file_size();
	put(j, "b", "2");
	two = file_size();
	journal_free(j);
	for (off_t n = two - 1; n >= one; n--) {
		cr_assert_eq(truncate(path, n), 0);
		j = open_journal();
		cr_expect(str_eq(buf_str(&seen), STR("a=1;")), "%.*s", STR_ARG(buf_str(&seen)));
		cr_expect_eq(journal_damaged(j), 0);
		put(j, "b", "2");
		journal_free(j);
		expect_records("a=1;b=2;");
	}
}

/* Lines that are damaged in any way are passed over and counted; the others count. */
Test(gateway_journal, damaged_lines)
{
	static const char *const bad[] = {
		"\n", "garbage\n", "00000000 put a 9\n", "zzzzzzzz put a 9\n", "0000000 put a 9\n", " put a 9\n",
	};
	struct journal *j = open_journal();
	struct buf long_line = BUF_EMPTY;
	struct buf text;

	put(j, "a", "1");
	journal_free(j);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		append(bad[i]);
	for (size_t i = 0; i < 200000; i++)
		buf_add_char(&long_line, 'x');
	buf_add_cstr(&long_line, "\n");
	buf_add_char(&long_line, '\0');
	append(buf_data(&long_line));
	j = open_journal();
	cr_expect_eq(journal_damaged(j), 7, "%llu", (unsigned long long)journal_damaged(j));
	cr_expect(str_eq(buf_str(&seen), STR("a=1;")));
	put(j, "b", "2");
	journal_free(j);
	expect_records("a=1;b=2;");

	/* One flipped bit of a good line makes it a bad one. */
	text = scratch_read(path);
	for (size_t i = 0; i < 8; i++) {
		buf_data(&text)[strlen("00000000 put ")] ^= (char)(1 << i);
		scratch_file(&dir, "journal", 0600, buf_data(&text), text.len);
		buf_data(&text)[strlen("00000000 put ")] ^= (char)(1 << i);
		expect_records("b=2;");
	}
	buf_fini(&text);
	buf_fini(&long_line);
}

/* An endless last line without a newline is cut off as any other. */
Test(gateway_journal, endless_line)
{
	struct journal *j;

	for (size_t i = 0; i < 20000; i++)
		append("0123456789abcdef");
	j = open_journal();
	cr_expect_eq(file_size(), 0);
	put(j, "a", "1");
	journal_free(j);
	expect_records("a=1;");
}

/* What can be no journal is refused, and not followed or waited for. */
Test(gateway_journal, no_regular_file)
{
	struct journal *j = NULL;

	scratch_text(&dir, "else", 0600, "text");
	cr_assert_eq(symlink(scratch_path(&dir, "else"), path), 0);
	cr_expect_eq(journal_open(path, on_record, NULL, &j), -EINVAL);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_expect_eq(journal_open(path, on_record, NULL, &j), -EINVAL);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_expect_eq(journal_open(path, on_record, NULL, &j), -EINVAL);
	cr_expect_eq(journal_open("/nowhere/at/all", on_record, NULL, &j), -ENOENT);
	cr_expect_null(j);
}

/* However often records change, the file stays in proportion to those that live, and loses none of them. */
Test(gateway_journal, compaction)
{
	struct journal *j = open_journal();
	char value[24];
	struct stat after;

	put(j, "kept", "k");
	for (int i = 0; i < 20000; i++) {
		snprintf(value, sizeof(value), "%d", i);
		put(j, i % 2 ? "a" : "b", value);
		if (i % 3 == 0)
			cr_assert_eq(journal_drop(j, STR("a")), 0);
	}
	cr_assert_eq(stat(path, &after), 0);
	cr_expect_lt(after.st_size, 300 * 32, "of 26667 lines");
	cr_expect_eq(after.st_mode & 07777, 0600);
	cr_expect_neq(access(scratch_path(&dir, "journal.new"), F_OK), 0);
	expect_records("kept=k;b=19998;a=19999;");
	journal_free(j);
}

/* A file that cannot be written anew goes on being written, and is when it can be. */
Test(gateway_journal, compaction_fails)
{
	struct journal *j = open_journal();
	const char *obstacle = scratch_path(&dir, "journal.new");

	cr_assert_eq(mkdir(obstacle, 0700), 0);
	for (int i = 0; i < 2000; i++)
		put(j, "a", "x");
	put(j, "a", "y");
	cr_expect_gt(file_size(), 2000 * 16);
	expect_records("a=y;");
	cr_assert_eq(rmdir(obstacle), 0);
	for (int i = 0; i < 3000; i++)
		put(j, "a", "z");
	cr_expect_lt(file_size(), 1000 * 18);
	journal_free(j);
	expect_records("a=z;");
}

static void limit_file_size(rlim_t n)
{
	struct rlimit limit;

	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = n;
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/*
 * With a full disk changes are told to have failed and stay in memory, no half line stays in the file, and all of them,
 * drops included, are written in order as soon as there is room.
 */
Test(gateway_journal, disk_full)
{
	struct journal *j = open_journal();
	off_t full;

	signal(SIGXFSZ, SIG_IGN);
	put(j, "a", "1");
	put(j, "b", "2");
	full = file_size();
	limit_file_size((rlim_t)full + 10);
	cr_expect_eq(journal_put(j, STR("c"), STR("3")), -ENOSPC);
	cr_expect_eq(file_size(), full, "no half line");
	cr_expect_neq(journal_drop(j, STR("a")), 0);
	cr_expect_neq(journal_put(j, STR("short"), STR("lived")), 0);
	cr_expect_neq(journal_drop(j, STR("short")), 0);
	cr_expect_neq(journal_put(j, STR("b"), STR("4")), 0);
	cr_expect_neq(journal_retry(j), 0);
	cr_expect(journal_owes(j));
	cr_expect_eq(journal_count(j), 2);
	expect_records("a=1;b=2;");
	limit_file_size(RLIM_INFINITY);
	cr_expect_eq(journal_put(j, STR("d"), STR("5")), 0);
	expect_records("c=3;b=4;d=5;");
	cr_expect_eq(journal_retry(j), 0);
	cr_expect_not(journal_owes(j));
	journal_free(j);
}

/* What is owed at the end is written then. */
Test(gateway_journal, owed_at_the_end)
{
	struct journal *j = open_journal();

	signal(SIGXFSZ, SIG_IGN);
	put(j, "a", "1");
	limit_file_size((rlim_t)file_size());
	cr_expect_neq(journal_put(j, STR("a"), STR("2")), 0);
	cr_expect_neq(journal_put(j, STR("b"), STR("3")), 0);
	limit_file_size(RLIM_INFINITY);
	journal_free(j);
	expect_records("a=2;b=3;");
}

/* Writes records until it is killed, telling after each that it was taken. */
static void write_forever(int tell)
{
	struct journal *j = open_journal();
	char value[24];

	for (unsigned i = 1;; i++) {
		snprintf(value, sizeof(value), "%u", i);
		put(j, "count", value);
		if (write(tell, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

/* Killed at any moment, in the middle of compaction included, it lacks nothing that was taken. */
Test(gateway_journal, killed)
{
	for (unsigned round = 0; round < 20; round++) {
		int pipes[2];
		unsigned told = 0;
		unsigned kept;
		pid_t pid;
		cr_assert_eq(pipe(pipes), 0);
		pid = fork();
		if (pid == 0) {
			close(pipes[0]);
			write_forever(pipes[1]);
		}
		close(pipes[1]);
		for (unsigned n = 0; n < 200 + 37 * round; n++)
			cr_assert_eq(read(pipes[0], &told, sizeof(told)), (ssize_t)sizeof(told));
		kill(pid, SIGKILL);
		while (read(pipes[0], &told, sizeof(told)) == (ssize_t)sizeof(told))
			;
		close(pipes[0]);
		waitpid(pid, NULL, 0);
		journal_free(open_journal());
		buf_add_char(&seen, '\0');
		cr_assert(str_starts(buf_str(&seen), STR("count=")));
		kept = (unsigned)strtoul(buf_data(&seen) + strlen("count="), NULL, 10);
		cr_expect(kept == told || kept == told + 1, "%u of %u", kept, told);
	}
}
