/* SPDX-License-Identifier: Apache-2.0 */
/* How real sandboxes begin and end: many at once, in the middle of things, and when their init is an enemy (B2). */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/wait.h"
#include "local/init_image.h"
#include "sandbox/box.h"

static struct bench bench;

static void setup(void)
{
	bench_init(&bench);
}

static void teardown(void)
{
	bench_fini(&bench);
}

TestSuite(local_life, .init = setup, .fini = teardown);

static bool no_process(void *arg)
{
	return count_processes(arg) == 0;
}

/* No wait: on_gone promised that already. */
static void expect_nothing_left(const char *id)
{
	cr_assert_eq(count_processes(id), 0, "a process of %s is left", id);
	cr_assert_neq(access(scratch_path(&bench.scratch, "state/sandboxes/%s", id), F_OK), 0, "its directory is left");
}

/* Destroy takes everything, background processes that left their session too. */
Test(local_life, destroy_kills_all)
{
	struct box box;
	struct answer a;

	box_start(&bench, &box, "sb-all");
	must_run(&box, "setsid sleep 77001 </dev/null >/dev/null 2>&1 & (trap '' TERM HUP; sleep 77002) & :", "");
	cr_assert_geq(count_processes("7700"), 2);
	exec_begin(&a, &box, "sleep 77003");
	box_end(&box);
	cr_assert(a.ended && a.outcome == JOB_GONE);
	cr_assert_eq(count_processes("7700"), 0);
	expect_nothing_left("sb-all");
	answer_fini(&a);
}

/* Twenty at once start, work and end. */
Test(local_life, twenty_at_once)
{
	enum {
		N = 20
	};
	static struct box boxes[N];
	char id[16], expected[24];
	uint64_t began = wait_now_ms();

	for (int i = 0; i < N; i++) {
		snprintf(id, sizeof(id), "sb-n%d", i);
		box_begin(&bench, &boxes[i], id, false);
	}
	for (int i = 0; i < N; i++) {
		bench_wait(&bench, &boxes[i].told);
		cr_assert_eq(boxes[i].error, 0, "%s", boxes[i].why);
	}
	fprintf(stderr, "20 spawns at once: %llu ms\n", (unsigned long long)(wait_now_ms() - began));
	for (int i = 0; i < N; i++) {
		snprintf(expected, sizeof(expected), "sb-n%d\n", i);
		must_run(&boxes[i], "hostname", expected);
	}
	for (int i = 0; i < N; i++)
		box_end(&boxes[i]);
}

/* B6, this side of it: destroyed at each moment of its start. */
Test(local_life, B6_destroy_while_it_starts)
{
	struct box box;
	char id[16];

	for (int turns = 0; turns < 12; turns++) {
		snprintf(id, sizeof(id), "sb-early%d", turns);
		box_begin(&bench, &box, id, false);
		for (int i = 0; i < turns * 2 && !box.told; i++)
			usleep(700);
		sandbox_destroy(box.sb);
		sandbox_destroy(box.sb);
		bench_wait(&bench, &box.gone);
		cr_assert(box.told);
		expect_nothing_left(id);
	}
}

/* Jobs may be asked for before the sandbox runs; they wait for it. */
Test(local_life, jobs_before_it_runs)
{
	struct box box;
	struct answer a;

	box_begin(&bench, &box, "sb-eager", false);
	exec_begin(&a, &box, "echo early");
	answer_wait(&a);
	cr_assert(box.told && buf_is(&a.out, "early\n"));
	answer_fini(&a);
	box_end(&box);
}

static void destroy_within(void *arg, const struct job_result *result)
{
	struct box *box = arg;

	(void)result;
	sandbox_destroy(box->sb);
}

/* Callbacks may destroy the sandbox whose callback it is. */
Test(local_life, destroy_in_a_callback)
{
	const struct job_events events = {.on_end = destroy_within};
	struct box box;

	box_start(&bench, &box, "sb-within");
	cr_assert_not_null(sandbox_stat(box.sb, STR("/tmp"), &events, &box));
	cr_assert_not_null(sandbox_stat(box.sb, STR("/tmp"), &events, &box));
	bench_wait(&bench, &box.gone);
	expect_nothing_left("sb-within");
}

/* An init or a bubblewrap that somebody kills ends that sandbox and no other. */
Test(local_life, killed_from_outside)
{
	struct box one, two, other;

	box_start(&bench, &other, "sb-other");
	box_start(&bench, &one, "sb-init");
	box_start(&bench, &two, "sb-bwrap");
	for (int i = 0; i < 2; i++) {
		struct box *box = i ? &two : &one;
		/* Both command lines have the name: the lower pid is bubblewrap, the higher its init. */
		long pid = i ? find_process("sb-bwrap") : find_last_process("sb-init");
		cr_assert_gt(pid, 0);
		cr_assert_eq(kill((pid_t)pid, SIGKILL), 0);
		bench_wait(&bench, &box->gone);
	}
	expect_nothing_left("sb-init");
	expect_nothing_left("sb-bwrap");
	must_run(&other, "echo fine", "fine\n");
	box_end(&other);
}

/* A tree that its owner may not even enter goes all the same. */
Test(local_life, awkward_directory)
{
	struct box box;

	box_start(&bench, &box, "sb-tree");
	must_run(&box,
		 "mkdir -p a/b/c; touch a/b/c/f; chmod 0 a/b/c a/b; cd /tmp; "
		 "perl -e 'for (1..2000) { mkdir \"n\"; chdir \"n\" }'; chmod 0 /tmp",
		 "");
	box_end(&box);
	expect_nothing_left("sb-tree");
}

/* Two servers do not share a state directory; what a dead one left goes at the next start. */
Test(local_life, state_directory)
{
	char why[600];
	struct sandbox_host *second;
	struct scratch scratch;
	struct sandbox_host_config config = {
		.state_dir = scratch_path(&bench.scratch, "state"), .init_image = init_image_bytes(), .uid_count = 64};

	cr_assert_eq(sandbox_host_new(bench.loop, &config, &second, why, sizeof(why)), -EWOULDBLOCK);
	cr_assert_not_null(strstr(why, "held by another"));
	scratch_init(&scratch);
	config.state_dir = scratch_path(&scratch, "s");
	cr_assert_eq(mkdir(config.state_dir, 0700), 0);
	cr_assert_eq(mkdir(scratch_path(&scratch, "s/sandboxes"), 0755), 0);
	cr_assert_eq(mkdir(scratch_path(&scratch, "s/sandboxes/sb-old"), 0700), 0);
	(void)scratch_text(&scratch, "s/sandboxes/sb-old/f", 0600, "x");
	(void)scratch_text(&scratch, "s/mine", 0600, "x");
	cr_assert_eq(symlink(scratch.path, scratch_path(&scratch, "s/sandboxes/link")), 0);
	cr_assert_eq(sandbox_host_new(bench.loop, &config, &second, why, sizeof(why)), 0, "%s", why);
	sandbox_host_free(second);
	cr_assert_eq(rmdir(scratch_path(&scratch, "s/sandboxes")), 0, "not empty");
	cr_assert_eq(access(scratch_path(&scratch, "s/mine"), F_OK), 0, "what is not a sandbox's stays");
	scratch_fini(&scratch);
}

/* As root: everything works below a directory that only root may enter. */
Test(local_life, below_a_closed_directory)
{
	struct sandbox_host *own = bench.host;
	struct sandbox_host_config config = {.state_dir = scratch_path(&bench.scratch, "closed/deep/state"),
					     .init_image = init_image_bytes(),
					     .uid_count = 64};
	char why[600];
	struct box box;

	cr_assert_eq(mkdir(scratch_path(&bench.scratch, "closed"), 0700), 0);
	cr_assert_eq(sandbox_host_new(bench.loop, &config, &bench.other, why, sizeof(why)), 0, "%s", why);
	bench.host = bench.other;
	box_start(&bench, &box, "sb-closed");
	must_work(ask_write(&box, "f", 0644, STR("x")));
	must_run(&box, "cat f", "x");
	box_end(&box);
	bench.host = own;
	rename(scratch_path(&bench.scratch, "closed/deep/state"), scratch_path(&bench.scratch, "other"));
}

/* --- what bubblewrap may say ------------------------------------------------------------------------------------- */

static int host_with_bwrap(const char *script, char *why, size_t why_size)
{
	struct sandbox_host *host;
	char stub[500];

	snprintf(stub, sizeof(stub), "%s", scratch_text(&bench.scratch, "bwrap", 0755, script));
	const struct sandbox_host_config config = {.state_dir = scratch_path(&bench.scratch, "refused"),
						   .bwrap_path = stub,
						   .init_image = init_image_bytes(),
						   .uid_count = 64};
	return sandbox_host_new(bench.loop, &config, &host, why, why_size);
}

/* Where user namespaces are refused the start says so and names the settings; nothing of the trial is left. */
Test(local_life, refused_user_namespaces)
{
	char why[600];

	cr_assert_eq(host_with_bwrap("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n",
				     why, sizeof(why)),
		     -EPERM);
	cr_assert(strstr(why, "user namespaces are refused") && strstr(why, "user"), "%s", why);
	cr_assert_eq(rmdir(scratch_path(&bench.scratch, "refused/sandboxes")), 0);
	cr_assert_eq(host_with_bwrap("#!/bin/sh\necho 'bwrap: Unknown option --disable-userns' >&2\nexit 1\n", why,
				     sizeof(why)),
		     -EIO);
	cr_assert_not_null(strstr(why, "Unknown option"), "%s", why);
}

/* --- B2: hostile inits ------------------------------------------------------------------------------------------- */

/* Each fault of the init ends that sandbox, with its jobs, and harms neither the server nor the others. */
Test(local_life, B2_hostile_init, .timeout = 110)
{
	/* The init does what its name says: see hostile_init.c. `starts`: it greets properly first. */
	static const struct {
		const char *id;
		bool starts;
	} modes[] = {
		{"sb-garbage", false},   {"sb-oversized", false}, {"sb-truncated", false}, {"sb-badtype", false},
		{"sb-earlydata", false}, {"sb-exits", false},     {"sb-fds", true},        {"sb-twice", true},
		{"sb-unknownjob", true}, {"sb-stream0", true},    {"sb-window", true},     {"sb-nosize", true},
		{"sb-relative", true},   {"sb-nul", true},        {"sb-control", true},    {"sb-entries", true},
		{"sb-logflood", true},   {"sb-padding", true},    {"sb-requests", true},   {"sb-portexec", true},
	};
	struct buf image = box_hostile_image();
	struct box honest, hostile;
	struct answer a;

	bench_add_other(&bench, buf_str(&image));
	box_start(&bench, &honest, "sb-honest");
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		box_begin(&bench, &hostile, modes[i].id, true);
		exec_begin(&a, &hostile, "anything");
		/* Nothing is granted, so that what is sent beyond the window is a fault. */
		sandbox_job_pause(a.job, true);
		bench_wait(&bench, &hostile.gone);
		cr_expect_eq(hostile.error == 0, modes[i].starts, "%s: %d %s", modes[i].id, hostile.error, hostile.why);
		cr_expect(a.ended && a.outcome == JOB_GONE, "%s: its job ended otherwise", modes[i].id);
		cr_expect_eq(count_processes(modes[i].id), 0, "%s: a process is left", modes[i].id);
		answer_fini(&a);
		must_run(&honest, "echo fine", "fine\n");
	}
	box_end(&honest);
	buf_fini(&image);
}

/* An init that never answers, and ignores everything, ends with its destroy. */
Test(local_life, B2_deaf_init)
{
	struct buf image = box_hostile_image();
	struct box box;

	bench_add_other(&bench, buf_str(&image));
	box_begin(&bench, &box, "sb-deaf", true);
	for (uint64_t until = wait_now_ms() + WAIT_MS; count_processes("sb-deaf") < 2 && wait_now_ms() < until;)
		usleep(2000);
	box_end(&box);
	cr_assert_neq(box.error, 0);
	cr_assert(wait_until(no_process, (void *)(uintptr_t) "sb-deaf", 0));
	buf_fini(&image);
}
