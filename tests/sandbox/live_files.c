/* SPDX-License-Identifier: Apache-2.0 */
/* The file routes of real sandboxes: what they do, what they refuse, and that they agree with commands. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "local/init_wire.h"
#include "sandbox/box.h"

static struct bench bench;
static struct box box;

static void setup(void)
{
	bench_init(&bench);
	box_start(&bench, &box, "sb-files");
}

static void teardown(void)
{
	box_end(&box);
	bench_fini(&bench);
}

TestSuite(local_files, .init = setup, .fini = teardown);

/* What is written is what is read and what a command sees, at the same absolute path; parents appear. */
Test(local_files, write_then_read)
{
	const struct str binary = STR("a\0b\377\n");
	struct answer a;

	must_work(ask_write(&box, "/workspace/d/e/a.bin", 0640, binary));
	a = ask_read(&box, "/workspace/d/e/a.bin");
	cr_assert_eq(a.outcome, JOB_OK);
	cr_assert(a.sized && a.size == binary.n && str_eq(buf_str(&a.out), binary));
	answer_fini(&a);
	must_run(&box, "stat -c '%a %s' /workspace/d/e/a.bin; stat -c %a d/e", "640 5\n755\n");
}

/* A relative path starts at /workspace, as commands do; dots go by name and stop at the root. */
Test(local_files, paths)
{
	must_work(ask_write(&box, "rel.txt", 0644, STR("x")));
	must_run(&box, "cat rel.txt /workspace/rel.txt", "xx");
	must_work(ask_write(&box, "/../../tmp/./q//../up.txt", 0644, STR("y")));
	must_run(&box, "cat /tmp/up.txt", "y");
	must_fail(ask_read(&box, ""), EINVAL);
}

/* Each private directory takes files and agrees between file routes and commands. */
Test(local_files, private_directories)
{
	static const char *const dirs[] = {"/tmp", "/app", "/workspace", "/home/sandbox", "/dev/shm"};
	char path[100], script[200];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(path, sizeof(path), "%s/f", dirs[i]);
		must_work(ask_write(&box, path, 0755, STR("#!/bin/sh\necho ran\n")));
		snprintf(script, sizeof(script), "%s", path);
		must_run(&box, script, "ran\n");
	}
	must_run(&box, "cd && pwd", "/home/sandbox\n");
}

/* Everything else is read-only. */
Test(local_files, read_only_system)
{
	must_fail(ask_write(&box, "/x", 0644, STR("x")), EROFS);
	must_fail(ask_write(&box, "/new/x", 0644, STR("x")), EROFS);
	must_fail(ask_write(&box, "/usr/bin/x", 0644, STR("x")), EROFS);
	must_fail(ask_write(&box, "/etc/x", 0644, STR("x")), EROFS);
	must_fail(ask_delete(&box, "/usr/bin/env", false), EROFS);
	must_fail(ask_write(&box, "/dev/x", 0644, STR("x")), EROFS);
	must_run(&box, "! touch /x /usr/x /etc/x /run/x /var/x /dev/x 2>/dev/null && test ! -e /var/x", "");
}

/* The mode of a write applies to an existing file too; the content is replaced as a whole. */
Test(local_files, overwrite)
{
	must_work(ask_write(&box, "a", 0644, STR("a longer first content")));
	must_work(ask_write(&box, "a", 0600, STR("2")));
	must_run(&box, "cat a; stat -c ' %a' a; ls -A", "2 600\na\n");
	must_work(ask_write(&box, "a", 0600, STR("")));
	must_run(&box, "cat a; ls -A", "a\n");
}

/* A link at the path is replaced, not followed. */
Test(local_files, write_replaces_a_link)
{
	must_run(&box, "echo keep > target; ln -s target link", "");
	must_work(ask_write(&box, "link", 0644, STR("new")));
	must_run(&box, "cat target; cat link; test ! -L link", "keep\nnew");
}

/* Content goes to regular files and comes from regular files only; nothing waits for a pipe's other end. */
Test(local_files, only_regular_files)
{
	must_run(&box, "mkfifo p; mkdir d", "");
	must_fail(ask_read(&box, "p"), EINVAL);
	must_fail(ask_write(&box, "p", 0644, STR("x")), EINVAL);
	must_fail(ask_chmod(&box, "p", 0644), EINVAL);
	must_fail(ask_read(&box, "/dev/zero"), EINVAL);
	must_fail(ask_read(&box, "d"), EISDIR);
	must_fail(ask_write(&box, "d", 0644, STR("x")), EISDIR);
	must_fail(ask_read(&box, "none"), ENOENT);
	must_fail(ask_write(&box, "p/x", 0644, STR("x")), ENOTDIR);
}

/* A missing file is told without a path of the host. */
Test(local_files, error_text)
{
	struct answer a = ask_read(&box, "/workspace/none");

	cr_assert_str_eq(a.text, "no such file");
	answer_fini(&a);
}

/* Files of /proc do not know their size; they are read all the same. */
Test(local_files, proc_files)
{
	struct answer a = ask_read(&box, "/proc/self/comm");

	cr_assert(a.outcome == JOB_OK && a.size == a.out.len && a.size > 0, "%s", a.text);
	answer_fini(&a);
}

/* list is sorted by name, gives absolute paths, modes, sizes and kinds, and links as themselves. */
Test(local_files, list)
{
	struct answer a;

	must_run(&box, "mkdir -m 750 d d/sub; printf hello > d/b; chmod 600 d/b; ln -s /usr d/a; touch d/.h", "");
	a = ask_list(&box, "d");
	cr_assert(buf_is(&a.entries, "/workspace/d/.h 644 0 f\n/workspace/d/a 777 0 f\n/workspace/d/b 600 5 f\n"
				     "/workspace/d/sub 750 0 d\n"),
		  "%.*s", STR_ARG(buf_str(&a.entries)));
	answer_fini(&a);
	a = ask_list(&box, "/");
	cr_assert(buf_contains(&a.entries, "/workspace 755 0 d\n"), "%.*s", STR_ARG(buf_str(&a.entries)));
	answer_fini(&a);
	must_fail(ask_list(&box, "none"), ENOENT);
	must_fail(ask_list(&box, "d/b"), ENOTDIR);
}

/* 20,000 entries come whole although they are far more than the window. */
Test(local_files, list_many)
{
	must_run(&box, "mkdir m && cd m && seq -f 'a-rather-long-name-for-a-file-%.0f' 20000 | xargs touch", "");
	struct answer a = ask_list(&box, "m");
	cr_assert(a.outcome == JOB_OK && a.count == 20000, "%u: %s", a.count, a.text);
	answer_fini(&a);
	must_work(ask_delete(&box, "m", true));
	must_fail(ask_stat(&box, "m"), ENOENT);
}

Test(local_files, stat)
{
	struct answer a;

	must_work(ask_write(&box, "s", 0751, STR("12345")));
	a = ask_stat(&box, "s");
	cr_assert(buf_is(&a.entries, "/workspace/s 751 5 f\n"), "%.*s", STR_ARG(buf_str(&a.entries)));
	answer_fini(&a);
	must_run(&box, "ln -s s good; ln -s nowhere bad", "");
	a = ask_stat(&box, "good");
	cr_assert(buf_is(&a.entries, "/workspace/good 751 5 f\n"));
	answer_fini(&a);
	must_work(ask_stat(&box, "bad"));
	must_fail(ask_stat(&box, "none"), ENOENT);
}

static void expect_glob(const char *pattern, const char *entries)
{
	struct answer a = ask_glob(&box, pattern);
	struct buf paths = BUF_EMPTY;

	cr_assert_eq(a.outcome, JOB_OK, "%s: %s", pattern, a.text);
	for (struct str rest = buf_str(&a.entries); rest.n;) {
		struct str line = str_cut(&rest, '\n');
		buf_add_str(&paths, str_cut(&line, ' '));
		buf_add_char(&paths, ' ');
	}
	cr_assert(buf_is(&paths, entries), "%s: '%.*s', not '%s'", pattern, STR_ARG(buf_str(&paths)), entries);
	buf_fini(&paths);
	answer_fini(&a);
}

/* A star stays within a segment; two of them as a whole segment are any number of directories, none too. */
Test(local_files, glob)
{
	must_run(&box, "mkdir -p g/x/y; touch g/a.js g/b.ts g/x/c.js g/x/y/d.js 'g/[.js'; ln -s .. g/x/up", "");
	expect_glob("/workspace/g/*.js", "/workspace/g/[.js /workspace/g/a.js ");
	expect_glob("g/**/*.js", "/workspace/g/[.js /workspace/g/a.js /workspace/g/x/c.js /workspace/g/x/y/d.js ");
	expect_glob("/workspace/g/x/*/d.js", "/workspace/g/x/y/d.js ");
	expect_glob("g/[ab].?s", "/workspace/g/a.js /workspace/g/b.ts ");
	expect_glob("g/\\[.js", "/workspace/g/[.js ");
	expect_glob("g/**", "/workspace/g /workspace/g/[.js /workspace/g/a.js /workspace/g/b.ts /workspace/g/x "
			    "/workspace/g/x/c.js /workspace/g/x/up /workspace/g/x/y /workspace/g/x/y/d.js ");
	expect_glob("g/a.js", "/workspace/g/a.js ");
	expect_glob("g/none*", "");
	must_fail(ask_glob(&box, "["), EINVAL);
	must_fail(ask_glob(&box, "none/[a"), EINVAL);
}

Test(local_files, move)
{
	must_run(&box, "echo 1 > a; mkdir d; echo old > b", "");
	must_work(ask_move(&box, "a", "new/dir/c"));
	must_run(&box, "cat new/dir/c; test ! -e a", "1\n");
	must_work(ask_move(&box, "new/dir/c", "b"));
	must_run(&box, "cat b", "1\n");
	must_work(ask_move(&box, "b", "d"));
	must_run(&box, "cat d/b", "1\n");
	must_fail(ask_move(&box, "none", "x"), ENOENT);
	must_fail(ask_move(&box, "d", "d/inside/x"), EINVAL);
}

/* The private directories are mounts of their own: between them a move copies, then deletes. */
Test(local_files, move_between_mounts)
{
	must_run(&box, "mkdir -p t/u; echo 1 > t/u/f; chmod 640 t/u/f; ln -s u t/l; chmod 700 t/u; echo 2 > one", "");
	must_work(ask_move(&box, "t", "/tmp/moved"));
	must_run(&box, "test ! -e t && cd /tmp/moved && stat -c '%n %a' u u/f && readlink l && cat u/f && ls -A /tmp",
		 "u 700\nu/f 640\nu\n1\nmoved\n");
	must_work(ask_move(&box, "one", "/app"));
	must_run(&box, "cat /app/one; test ! -e one", "2\n");
	/* What cannot be copied stays where it was, and nothing is left at the target. */
	must_run(&box, "mkdir k; echo 3 > k/f; mkfifo k/p", "");
	must_fail(ask_move(&box, "k", "/tmp/k"), EXDEV);
	must_run(&box, "cat k/f; ls -A /tmp", "3\nmoved\n");
}

Test(local_files, chmod)
{
	must_run(&box, "echo 'echo hi' > s; mkdir d", "");
	must_work(ask_chmod(&box, "s", 0755));
	must_work(ask_chmod(&box, "d", 06700));
	must_run(&box, "stat -c %a s d", "755\n700\n");
	must_fail(ask_chmod(&box, "none", 0755), ENOENT);
	must_fail(ask_chmod(&box, "/usr/bin/env", 0755), EROFS);
}

Test(local_files, delete)
{
	must_run(&box, "touch f; mkdir e; mkdir -p t/u/v; touch t/u/v/w; ln -s /workspace/keep t/l; echo k > keep", "");
	must_work(ask_delete(&box, "f", false));
	must_work(ask_delete(&box, "e", false));
	must_fail(ask_delete(&box, "t", false), ENOTEMPTY);
	must_work(ask_delete(&box, "t", true));
	must_fail(ask_delete(&box, "t", false), ENOENT);
	must_work(ask_delete(&box, "t", true));
	must_run(&box, "ls -A; cat keep", "keep\nk\n");
	/* A mount on a read-only root: nothing in it is touched. */
	must_fail(ask_delete(&box, "/workspace", true), EROFS);
	must_run(&box, "cat keep", "k\n");
}

/* Depth costs nothing, permissions do not help, links are not followed. */
Test(local_files, delete_awkward_trees)
{
	must_run(&box,
		 "mkdir o; echo k > o/keep; mkdir t; cd t; "
		 "perl -e 'for (1..3000) { mkdir \"n\"; chdir \"n\" } symlink \"/workspace/o\", \"l\"; "
		 "mkdir \"r\"; mkdir \"r/x\"; chmod 0, \"r\"'; "
		 "cd n/n && mkdir r && touch r/x && chmod 0 r",
		 "");
	must_work(ask_delete(&box, "t", true));
	must_run(&box, "ls -A; cat o/keep", "o\nk\n");
}

/* A large file goes through in pieces, and others are served meanwhile. */
Test(local_files, large_content)
{
	enum {
		SIZE = 40 << 20
	};
	char *content = malloc(SIZE);
	struct answer w, r;

	for (size_t i = 0; i < SIZE; i++)
		content[i] = (char)(i * 31 >> 7);
	answer_begin(&w, &box);
	w.job = sandbox_write(box.sb, STR("big"), 0644, str_of(content, SIZE), &answer_events, &w);
	must_run(&box, "echo meanwhile", "meanwhile\n");
	cr_assert(!w.ended, "40 MiB are not written before a command that was asked for later runs");
	answer_wait(&w);
	must_work(w);
	r = ask_read(&box, "big");
	cr_assert_eq(r.outcome, JOB_OK, "%s", r.text);
	cr_assert(r.size == SIZE && str_eq(buf_str(&r.out), str_of(content, SIZE)));
	answer_fini(&r);
	/* The init held neither whole. */
	must_run(&box, "awk '/VmHWM/ { if ($2 > 16384) print $0 }' /proc/1/status", "");
	free(content);
}

/* A cancelled write leaves nothing, not even its temporary file. */
Test(local_files, cancel_write)
{
	enum {
		SIZE = 8 << 20
	};
	char *content = calloc(1, SIZE);
	struct answer a;

	must_work(ask_write(&box, "f", 0644, STR("old")));
	answer_begin(&a, &box);
	a.job = sandbox_write(box.sb, STR("f"), 0644, str_of(content, SIZE), &answer_events, &a);
	sandbox_job_cancel(a.job);
	must_run(&box, "cat f; ls -A", "oldf\n");
	cr_assert(!a.ended, "no callback after a cancel");
	free(content);
}

/* A paused read stops within the window and goes on where it was. */
Test(local_files, pause_read)
{
	struct answer a;

	must_run(&box, "head -c 3000000 /dev/zero > z", "");
	answer_begin(&a, &box);
	a.job = sandbox_read(box.sb, STR("z"), &answer_events, &a);
	sandbox_job_pause(a.job, true);
	for (int i = 0; i < 20; i++)
		must_run(&box, ":", "");
	cr_assert(!a.ended && a.out.len <= WIRE_WINDOW, "%zu bytes", a.out.len);
	sandbox_job_pause(a.job, false);
	answer_wait(&a);
	cr_assert(a.outcome == JOB_OK && a.out.len == 3000000);
	answer_fini(&a);
}

/* B5: whatever links lead to, it is the sandbox's; the marks planted on the host are never seen. */
Test(local_files, B5_links)
{
	static const char *const routes[] = {"/proc/1/root", "/proc/self/root", "/proc/self/cwd/../../../..",
					     "link-root"};
	const char *planted = scratch_text(&bench.scratch, "planted", 0644, "HOST-BYTES");
	char path[500];

	must_run(&box, "ln -s / link-root; ln -s /proc/1/root l1; ln -s /etc/shadow l2; ln -s /proc/1/fd/3 l3", "");
	for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", routes[i], planted);
		struct answer a = ask_read(&box, path);
		cr_expect_eq(a.outcome, JOB_FAILED, "%s is readable", path);
		answer_fini(&a);
	}
	must_fail(ask_read(&box, "l2"), ENOENT);
	struct answer a = ask_read(&box, "l3");
	cr_expect_eq(a.outcome, JOB_FAILED);
	answer_fini(&a);
}

/* B5: a directory that is swapped for a link all the time, under 10,000 requests of every route. */
Test(local_files, B5_races, .timeout = 110)
{
	char script[600], path[200];
	struct answer swap;
	struct buf planted;

	(void)scratch_text(&bench.scratch, "planted", 0666, "HOST-BYTES");
	snprintf(script, sizeof(script),
		 "mkdir -p real .%s; while :; do ln -sfn / d; rm d; mv real d; mv d real; "
		 "ln -s %s d; rm -f d; done 2>/dev/null",
		 bench.scratch.path, bench.scratch.path);
	exec_begin(&swap, &box, script);
	snprintf(path, sizeof(path), "d%s/planted", bench.scratch.path);
	for (int i = 0; i < 1250; i++) {
		struct answer a[8] = {ask_read(&box, path),
				      ask_stat(&box, path),
				      ask_list(&box, "d/"),
				      ask_write(&box, path, 0644, STR("x")),
				      ask_chmod(&box, path, 0600),
				      ask_delete(&box, path, false),
				      ask_move(&box, path, "/tmp/stolen"),
				      ask_read(&box, "d/planted")};
		for (size_t k = 0; k < 8; k++) {
			cr_assert(!buf_contains(&a[k].out, "HOST"), "bytes of the host");
			answer_fini(&a[k]);
		}
	}
	sandbox_job_kill(swap.job);
	answer_wait(&swap);
	answer_fini(&swap);
	planted = scratch_read(scratch_path(&bench.scratch, "planted"));
	cr_assert(buf_is(&planted, "HOST-BYTES"), "the host's file was changed");
	buf_fini(&planted);
}
