/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/loop.h"
#include "common/sink.h"
#include "lib/scratch.h"

static struct scratch dir;
static struct loop *loop;
static struct sink_count count;

static void setup(void)
{
	scratch_init(&dir);
	loop = loop_new();
	cr_assert_not_null(loop);
	count = (struct sink_count){0};
}

static void teardown(void)
{
	loop_free(loop);
	scratch_fini(&dir);
}

TestSuite(common_sink, .init = setup, .fini = teardown);

static void put(struct sink *s, const char *text)
{
	const struct sink_line line = {str_from(text), 6, str_of(NULL, 0), "tester"};

	sink_write(s, &line, &count);
}

static struct sink *open_sink(enum sink_kind kind, const char *path)
{
	struct sink *s = NULL;

	cr_assert_eq(sink_open(loop, kind, path, &s), 0, "%s", path);
	return s;
}

static void expect_file(const char *path, const char *want)
{
	struct buf text = scratch_read(path);

	cr_expect(str_eq(buf_str(&text), str_from(want)), "%.*s", STR_ARG(buf_str(&text)));
	buf_fini(&text);
}

/* A file is made with mode 0640 whatever the mask, appended to, and made again when it was renamed and SIGUSR1 came. */
Test(common_sink, file)
{
	const char *path = scratch_path(&dir, "a.log");
	const char *old = scratch_path(&dir, "a.log.1");
	struct sink *s;
	struct stat st;

	umask(077);
	s = open_sink(SINK_FILE, path);
	cr_assert_eq(stat(path, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0640);
	put(s, "one\n");
	cr_assert_eq(rename(path, old), 0);
	put(s, "two\n");
	cr_assert_eq(sink_reopen(s), 0);
	put(s, "three\n");
	sink_unref(s);
	expect_file(old, "one\ntwo\n");
	expect_file(path, "three\n");
	s = open_sink(SINK_FILE, path);
	put(s, "four\n");
	sink_unref(s);
	expect_file(path, "three\nfour\n");
	cr_expect_eq(count.written, 4);
	cr_expect_eq(count.dropped, 0);
}

/* What is no regular file, or has no directory, is refused by the check as by the opening, and nothing is made. */
Test(common_sink, refused_paths)
{
	const char *fifo = scratch_path(&dir, "fifo");
	const char *link = scratch_path(&dir, "link");
	const struct {
		const char *path;
		int rc;
	} rows[] = {{fifo, -EINVAL},
		    {link, -ELOOP},
		    {"/dev/null", -EINVAL},
		    {dir.path, -EISDIR},
		    {scratch_path(&dir, "none/a.log"), -ENOENT},
		    {scratch_path(&dir, "link/a.log"), -ENOTDIR}};
	const char *fresh = scratch_path(&dir, "fresh.log");

	cr_assert_eq(mkfifo(fifo, 0600), 0);
	cr_assert_eq(symlink(scratch_text(&dir, "target", 0600, ""), link), 0);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct sink *s = NULL;
		cr_expect_eq(sink_open(loop, SINK_FILE, rows[i].path, &s), rows[i].rc, "%s", rows[i].path);
		cr_expect_eq(sink_check_file(rows[i].path), rows[i].rc, "%s", rows[i].path);
	}
	cr_expect_eq(sink_check_file(fresh), 0);
	cr_expect_lt(access(fresh, F_OK), 0, "a check made a file");
}

/* A reopening that fails leaves the old file in use. */
Test(common_sink, reopen_fails)
{
	const char *path = scratch_path(&dir, "a.log");
	const char *old = scratch_path(&dir, "a.log.1");
	struct sink *s = open_sink(SINK_FILE, path);

	cr_assert_eq(rename(path, old), 0);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_expect_eq(sink_reopen(s), -EISDIR);
	put(s, "still\n");
	sink_unref(s);
	expect_file(old, "still\n");
	cr_expect_eq(count.written, 1);
}

/* L10: where the disk takes half a line it is lost, and the next one begins on a line of its own. */
Test(common_sink, full_disk)
{
	const char *path = scratch_path(&dir, "a.log");
	struct sink *s = open_sink(SINK_FILE, path);
	struct rlimit limit;

	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	put(s, "one\n");
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){7, limit.rlim_max}), 0);
	put(s, "twotwo\n");
	put(s, "never\n");
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	put(s, "three\n");
	sink_unref(s);
	expect_file(path, "one\ntwo\nthree\n");
	cr_expect_eq(count.written, 2);
	cr_expect_eq(count.dropped, 2);
}

/* --- stderr --------------------------------------------------------------------------------------------------------- */

static int saved;

/* Puts `fd` in the place of stderr. */
static void replace_stderr(int fd)
{
	saved = dup(STDERR_FILENO);
	cr_assert_geq(dup2(fd, STDERR_FILENO), 0);
	close(fd);
}

static void restore_stderr(void)
{
	dup2(saved, STDERR_FILENO);
	close(saved);
}

/* Writes lines of 600 bytes while nobody reads, then reads everything and counts the whole ones. */
static unsigned fill_and_read(struct sink *s, int from, unsigned lines)
{
	char line[601];
	struct buf got = BUF_EMPTY;
	unsigned whole = 0;

	memset(line, 'x', sizeof(line));
	line[599] = '\n';
	line[600] = '\0';
	for (unsigned i = 0; i < lines; i++)
		put(s, line);
	cr_assert_eq(fd_set_nonblock(from), 0);
	for (unsigned i = 0; i < 10000 && count.written + count.dropped < lines; i++) {
		(void)!fd_read_all(from, 1 << 24, &got);
		event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	}
	(void)!fd_read_all(from, 1 << 24, &got);
	for (struct str rest = buf_str(&got); rest.n;) {
		struct str one = str_cut(&rest, '\n');
		cr_assert_eq(one.n, 599, "a torn line of %zu bytes", one.n);
		whole++;
	}
	buf_fini(&got);
	return whole;
}

/*
 * L10: a pipe or socket that nobody reads, though the descriptor is a blocking one, never holds the writer up; what does not
 * fit is counted, and what was held back comes whole and in order when somebody reads.
 */
Test(common_sink, nobody_reads, .timeout = 60)
{
	for (unsigned kind = 0; kind < 2; kind++) {
		int ends[2];
		struct sink *s;
		unsigned whole;

		count = (struct sink_count){0};
		if (kind == 0)
			cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
		else
			cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
		replace_stderr(ends[1]);
		s = open_sink(SINK_STDERR, NULL);
		whole = fill_and_read(s, ends[0], 2000);
		cr_expect(sink_flows(s));
		sink_unref(s);
		restore_stderr();
		close(ends[0]);
		cr_expect_eq(count.written + count.dropped, 2000);
		cr_expect_eq(count.written, whole);
		cr_expect_gt(count.dropped, 0);
		cr_expect_gt(count.written, SINK_QUEUE_MAX_BYTES / 600);
	}
}

/* L10: a reader that leaves takes with it what was held back for it: all of that is counted. */
Test(common_sink, reader_leaves)
{
	char line[4001];
	int ends[2];
	struct sink *s;

	signal(SIGPIPE, SIG_IGN);
	memset(line, 'x', sizeof(line));
	line[4000] = '\0';
	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	replace_stderr(ends[1]);
	s = open_sink(SINK_STDERR, NULL);
	for (unsigned i = 0; i < 30; i++)
		put(s, line);
	cr_expect_not(sink_flows(s));
	close(ends[0]);
	put(s, line);
	cr_expect(sink_flows(s));
	sink_unref(s);
	restore_stderr();
	cr_expect_eq(count.written + count.dropped, 31);
	cr_expect_geq(count.dropped, 14);
}

/* --- the journal ------------------------------------------------------------------------------------------------------ */

static int listen_journal(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	cr_assert_eq(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* One datagram of fields per line; a journal that is not there, or full, costs lines, and one that comes back is found. */
Test(common_sink, journal)
{
	const char *path = scratch_path(&dir, "journal");
	const struct sink_line line = {STR("hello"), 4, STR("STACYGATE_UID=7\n"), "tester"};
	struct sink *s = open_sink(SINK_JOURNAL, path);
	char got[500];
	ssize_t n;
	int fd;

	sink_write(s, &line, &count);
	cr_expect_eq(count.dropped, 1);
	fd = listen_journal(path);
	sink_write(s, &line, &count);
	cr_expect_eq(count.written, 1);
	n = recv(fd, got, sizeof(got), 0);
	cr_assert_gt(n, 0);
	cr_expect(str_eq(str_of(got, (size_t)n),
			 STR("MESSAGE=hello\nPRIORITY=4\nSYSLOG_IDENTIFIER=tester\nSTACYGATE_UID=7\n")),
		  "%.*s", (int)n, got);
	for (unsigned i = 0; i < 100000 && count.dropped < 3; i++)
		sink_write(s, &line, &count);
	cr_expect_eq(count.dropped, 3, "a full journal held the writer up, or has no end");
	close(fd);
	unlink(path);
	fd = listen_journal(path);
	sink_write(s, &line, &count);
	cr_expect_eq(count.dropped, 3);
	close(fd);
	sink_unref(s);
}
