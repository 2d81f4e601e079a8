/* SPDX-License-Identifier: Apache-2.0 */
/* Sandboxes that outlive their host: taken up by the next one, or gone in time, whatever their init does. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "lib/wait.h"
#include "local/init_image.h"
#include "local/keep.h"
#include "local/keeper.h"
#include "sandbox/box.h"

enum {
	LONG_MS = 60000,
	SHORT_MS = 300,
	DEATH_MS = 2000 /* B6 */
};

/* `bench.other` is the host that keeps, in the directory "other". */
static struct bench bench;
static uint32_t uid_count;

static void begin_host(struct str image, uint32_t keep_ms)
{
	char why[600];
	const struct sandbox_host_config config = {.state_dir = scratch_path(&bench.scratch, "other"),
						   .init_image = image,
						   .uid_count = uid_count,
						   .keep_ms = keep_ms,
						   .keeper = keep_ms ? keeper_start() : -1};
	int rc = sandbox_host_new(bench.loop, &config, &bench.other, why, sizeof(why));

	cr_assert_eq(rc, 0, "%d: %s", rc, why);
}

static void setup(void)
{
	uid_count = 64;
	bench_init(&bench);
	begin_host(init_image_bytes(), LONG_MS);
}

static void teardown(void)
{
	bench_fini(&bench);
}

TestSuite(local_keep, .init = setup, .fini = teardown);

static void start_kept(struct box *box, const char *id, const char *note)
{
	box_begin(&bench, box, id, true);
	bench_wait(&bench, &box->told);
	cr_assert_eq(box->error, 0, "%d: %s", box->error, box->why);
	sandbox_keep(box->sb, str_from(note));
	cr_assert(sandbox_is_kept(box->sb));
}

/* As the end of a process: the sandboxes are let go, the host is gone. */
static void end_host(void)
{
	sandbox_host_free(bench.other);
	bench.other = NULL;
}

static void leave(struct box *box)
{
	sandbox_leave(box->sb);
	box->sb = NULL;
}

static void on_gone(void *arg)
{
	struct box *box = arg;

	cr_assert(!box->gone);
	box->gone = true;
	box->sb = NULL;
	loop_stop(box->bench->loop);
}

/* The next that was left, which must have this id. */
static struct kept *next_kept(const char *id)
{
	struct kept *kept = sandbox_host_next_kept(bench.other);

	cr_assert_not_null(kept, "%s was not kept", id);
	cr_assert_str_eq(kept->id, id);
	return kept;
}

static void resume(struct box *box, struct kept *kept)
{
	static const struct sandbox_events events = {.on_gone = on_gone};

	*box = (struct box){.bench = &bench, .told = true};
	box->sb = sandbox_resume(bench.other, &kept, &events, box);
	cr_assert_not_null(box->sb);
	cr_assert_null(kept);
}

static bool no_process(void *arg)
{
	return count_processes(arg) == 0;
}

static void expect_gone_within(const char *text, unsigned ms)
{
	cr_assert(wait_until(no_process, (void *)(uintptr_t)text, ms), "%s is left after %u ms", text, ms);
}

static unsigned box_directories(void)
{
	struct stat st;

	cr_assert_eq(stat(scratch_path(&bench.scratch, "other/sandboxes"), &st), 0);
	return (unsigned)st.st_nlink - 2;
}

/* Files, processes and the note are there again; a command whose reader went runs on, and what it printed last is in the log. */
Test(local_keep, goes_on)
{
	struct box box;
	struct answer flood;
	struct kept *kept;

	start_kept(&box, "sb-goes", "first");
	must_work(ask_write(&box, "f", 0644, STR("content")));
	must_run(&box, "setsid sleep 407717701 </dev/null >/dev/null 2>&1 & :", "");
	/* Far more than every window and pipe, to a reader that takes none. */
	exec_begin(&flood, &box, "head -c 3000000 /dev/zero; echo; echo last words; touch done; exec sleep 407717702");
	sandbox_job_pause(flood.job, true);
	sandbox_keep(box.sb, STR("second"));
	must_run(&box, "true", "");
	leave(&box);
	answer_fini(&flood);
	end_host();
	cr_assert_geq(count_processes("40771770"), 2);
	for (int i = 0; i < 2; i++) {
		begin_host(init_image_bytes(), LONG_MS);
		kept = next_kept("sb-goes");
		cr_expect(buf_is(&kept->note, "second"));
		cr_assert_null(sandbox_host_next_kept(bench.other));
		resume(&box, kept);
		must_run(&box, "cat f; until [ -e done ]; do sleep 0.01; done", "content");
		cr_expect_geq(count_processes("40771770"), 2);
		if (i == 0) {
			leave(&box);
			end_host();
		}
	}
	must_run(&box, "yes | head -c 1000000 >big; printf x >>f; cat f", "contentx");
	box_end(&box);
	cr_expect_eq(count_processes("40771770"), 0, "process %ld", find_process("40771770"));
	cr_expect_eq(count_processes("sb-goes"), 0, "process %ld", find_process("sb-goes"));
	cr_expect_eq(box_directories(), 0);
}

/* What a command without a reader writes goes to the log of the next host. */
Test(local_keep, late_output)
{
	struct box box;
	struct answer a;

	start_kept(&box, "sb-late", "n");
	exec_begin(&a, &box, "until [ -e go ]; do sleep 0.01; done; echo late; touch said; sleep 77111");
	/* It runs by then. */
	must_run(&box, "true", "");
	leave(&box);
	answer_fini(&a);
	end_host();
	begin_host(init_image_bytes(), LONG_MS);
	resume(&box, next_kept("sb-late"));
	must_run(&box, "touch go; until [ -e said ]; do sleep 0.01; done", "");
	for (int i = 0; i < 500 && sandbox_log(box.sb).n == 0; i++)
		must_run(&box, "true", "");
	cr_expect(str_eq(sandbox_log(box.sb), STR("late\n")), "%.*s", STR_ARG(sandbox_log(box.sb)));
	box_end(&box);
}

/* A write under way leaves the file as it was, and nothing beside it. */
Test(local_keep, half_a_write)
{
	static char content[32 << 20];
	struct box box;
	struct answer a;

	start_kept(&box, "sb-half", "n");
	must_work(ask_write(&box, "d/f", 0644, STR("old")));
	answer_begin(&a, &box);
	a.job = sandbox_write(box.sb, STR("d/f"), 0644, str_of(content, sizeof(content)), &answer_events, &a);
	must_run(&box, "true", "");
	cr_assert(!a.ended, "it was written already");
	leave(&box);
	answer_fini(&a);
	end_host();
	begin_host(init_image_bytes(), LONG_MS);
	resume(&box, next_kept("sb-half"));
	must_run(&box, "ls -A d; cat d/f", "f\nold");
	box_end(&box);
}

/* Nobody comes: everything ends in its time, an init that ignores all as well, and the next start finds only directories. */
Test(local_keep, B6_nobody_comes)
{
	struct box box;

	start_kept(&box, "sb-alone", "n");
	must_run(&box, "setsid sleep 77121 </dev/null >/dev/null 2>&1 & :", "");
	leave(&box);
	end_host();
	begin_host(init_image_bytes(), SHORT_MS);
	resume(&box, next_kept("sb-alone"));
	must_run(&box, "true", "");
	leave(&box);
	end_host();
	cr_expect_gt(count_processes("77121"), 0, "it did not wait at all");
	expect_gone_within("77121", SHORT_MS + DEATH_MS);
	expect_gone_within("sb-alone", DEATH_MS);
	cr_expect_eq(box_directories(), 1);
	begin_host(init_image_bytes(), LONG_MS);
	cr_assert_null(sandbox_host_next_kept(bench.other));
	cr_expect_eq(box_directories(), 0);
}

/* Hosts that come and fail before they serve, as in a loop of crashes, buy no time. */
Test(local_keep, B6_nobody_serves)
{
	struct box box;
	uint64_t began;

	end_host();
	begin_host(init_image_bytes(), SHORT_MS);
	start_kept(&box, "sb-nobody", "n");
	leave(&box);
	end_host();
	began = wait_now_ms();
	for (int comes = 0; count_processes("sb-nobody"); comes++) {
		cr_assert_lt(wait_now_ms() - began, SHORT_MS + DEATH_MS, "it lives on after %d hosts", comes);
		begin_host(init_image_bytes(), LONG_MS);
		end_host();
	}
	begin_host(init_image_bytes(), LONG_MS);
	cr_assert_null(sandbox_host_next_kept(bench.other));
}

/* What was destroyed, and what was never kept, is not there for the next host. */
Test(local_keep, only_what_is_kept)
{
	struct box kept, destroyed, unkept;

	start_kept(&kept, "sb-kept", "n");
	start_kept(&destroyed, "sb-destroyed", "n");
	box_begin(&bench, &unkept, "sb-unkept", true);
	bench_wait(&bench, &unkept.told);
	cr_assert(!sandbox_is_kept(unkept.sb));
	sandbox_destroy(destroyed.sb);
	cr_assert(!sandbox_is_kept(destroyed.sb), "not even while it goes");
	leave(&destroyed);
	box_end(&unkept);
	leave(&kept);
	end_host();
	begin_host(init_image_bytes(), LONG_MS);
	resume(&kept, next_kept("sb-kept"));
	cr_assert_null(sandbox_host_next_kept(bench.other));
	box_end(&kept);
}

/* A sandbox whose init died while no host was there is not taken up. */
Test(local_keep, died_meanwhile)
{
	struct box box, other;

	start_kept(&other, "sb-lives", "n");
	start_kept(&box, "sb-dies", "n");
	leave(&box);
	leave(&other);
	end_host();
	cr_assert_eq(kill((pid_t)find_last_process("sb-dies"), SIGKILL), 0);
	expect_gone_within("sb-dies", DEATH_MS);
	begin_host(init_image_bytes(), LONG_MS);
	resume(&other, next_kept("sb-lives"));
	cr_assert_null(sandbox_host_next_kept(bench.other));
	cr_expect_eq(box_directories(), 1);
	box_end(&other);
}

/* A host that does not keep destroys what it finds. */
Test(local_keep, next_host_keeps_none)
{
	struct box box;

	start_kept(&box, "sb-found", "n");
	leave(&box);
	end_host();
	begin_host(init_image_bytes(), 0);
	cr_assert_null(sandbox_host_next_kept(bench.other));
	cr_assert(!sandbox_host_keeps(bench.other));
	/* bench_fini() requires that its directory goes too. */
	box_begin(&bench, &box, "sb-new", true);
	bench_wait(&bench, &box.told);
	box_end(&box);
	expect_gone_within("sb-found", DEATH_MS);
}

/* The uid of a sandbox that is taken up is not given away again. */
Test(local_keep, uids)
{
	struct box box, second, third;

	if (geteuid() != 0)
		cr_skip_test("not root");
	sandbox_host_free(bench.other);
	uid_count = 2;
	begin_host(init_image_bytes(), LONG_MS);
	start_kept(&box, "sb-uid", "n");
	leave(&box);
	end_host();
	begin_host(init_image_bytes(), LONG_MS);
	resume(&box, next_kept("sb-uid"));
	start_kept(&second, "sb-second", "n");
	box_begin(&bench, &third, "sb-third", true);
	bench_wait(&bench, &third.gone);
	cr_assert_eq(third.error, -EAGAIN);
	box_end(&box);
	start_kept(&third, "sb-third", "n");
	box_end(&third);
	/* With all in use a host starts all the same. */
	start_kept(&third, "sb-third", "n");
	leave(&second);
	leave(&third);
	end_host();
	begin_host(init_image_bytes(), LONG_MS);
	resume(&second, next_kept("sb-second"));
	resume(&third, next_kept("sb-third"));
	box_end(&second);
	box_end(&third);
}

/* --- B2: inits that lie when the next host comes ------------------------------------------------------------------ */

/* Each lie ends that sandbox; an honest one in the same host is taken up and goes on. */
Test(local_keep, B2_hostile_init, .timeout = 110)
{
	static const char *const modes[] = {"sb-doorgarbage", "sb-doorshut", "sb-doorcloses",  "sb-doordata",
					    "sb-doortwice",   "sb-doorfds",  "sb-doorrequest", "sb-doorexits"};
	struct buf image = box_hostile_image();
	struct box honest, hostile;
	struct kept *kept;

	start_kept(&honest, "sb-honest", "n");
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		leave(&honest);
		end_host();
		begin_host(buf_str(&image), LONG_MS);
		resume(&honest, next_kept("sb-honest"));
		start_kept(&hostile, modes[i], "n");
		leave(&hostile);
		leave(&honest);
		end_host();
		begin_host(buf_str(&image), LONG_MS);
		resume(&honest, next_kept("sb-honest"));
		/* The one that exits at once may be gone already. */
		kept = sandbox_host_next_kept(bench.other);
		if (kept) {
			cr_assert_str_eq(kept->id, modes[i]);
			resume(&hostile, kept);
			bench_wait(&bench, &hostile.gone);
		}
		cr_expect_eq(count_processes(modes[i]), 0, "%s: a process is left", modes[i]);
		must_run(&honest, "echo fine", "fine\n");
		cr_expect_eq(box_directories(), 1);
	}
	box_end(&honest);
	buf_fini(&image);
}

/* One that says nothing is destroyed as any other, or when its time to answer is over. */
Test(local_keep, B2_deaf_init)
{
	struct buf image = box_hostile_image();
	struct box box;

	end_host();
	begin_host(buf_str(&image), LONG_MS);
	start_kept(&box, "sb-doordeaf", "n");
	leave(&box);
	end_host();
	begin_host(buf_str(&image), LONG_MS);
	resume(&box, next_kept("sb-doordeaf"));
	box_end(&box);
	cr_expect_eq(count_processes("sb-doordeaf"), 0);
	buf_fini(&image);
}

/* One that lets go of its leash and hears nothing does not outstay its time either. */
Test(local_keep, B2_B6_outstays)
{
	struct buf image = box_hostile_image();
	struct box box;

	end_host();
	begin_host(buf_str(&image), SHORT_MS);
	start_kept(&box, "sb-doorstays", "n");
	leave(&box);
	end_host();
	expect_gone_within("sb-doorstays", SHORT_MS + DEATH_MS);
	begin_host(init_image_bytes(), LONG_MS);
	buf_fini(&image);
}

/* --- what is left by somebody else ------------------------------------------------------------------------------ */

/* An init with other messages than ours is not talked to, and destroyed. */
Test(local_keep, other_version)
{
	struct keep_message m = {.type = KEEP_HOLD};
	struct list all;
	char why[300];
	struct box box;
	int sock;

	start_kept(&box, "sb-version", "n");
	leave(&box);
	end_host();
	list_init(&all);
	int dir = open(scratch_path(&bench.scratch, "other"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(keep_open(dir, -1, &all, &sock, why, sizeof(why)), 0, "%s", why);
	struct kept *kept = LIST_FIRST(&all, struct kept, link);
	cr_assert_not_null(kept);
	m.uid = kept->uid;
	m.wire = kept->wire + 1;
	snprintf(m.id, sizeof(m.id), "%s", kept->id);
	cr_assert_eq(keep_tell(sock, &m, kept->fds), 0);
	kept_free(kept);
	fd_close(&sock);
	close(dir);
	begin_host(init_image_bytes(), LONG_MS);
	resume(&box, next_kept("sb-version"));
	bench_wait(&bench, &box.gone);
	cr_expect_eq(count_processes("sb-version"), 0);
}

/* A keeper that does not answer is no reason to begin without what it has: the start fails and says why. */
Test(local_keep, no_answer)
{
	struct list all;
	char why[300] = "";
	int sock;
	int fresh = keeper_start();

	cr_assert_geq(fresh, 0);
	cr_assert_eq(mkdir(scratch_path(&bench.scratch, "plain"), 0700), 0);
	int dir = open(scratch_path(&bench.scratch, "plain"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	list_init(&all);
	/* None, and nobody to become it. */
	cr_assert_eq(keep_open(dir, -1, &all, &sock, why, sizeof(why)), 0);
	cr_assert_eq(sock, -1);
	/* One whose other end is closed. */
	int pair[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	close(pair[1]);
	cr_assert_lt(keep_open(dir, pair[0], &all, &sock, why, sizeof(why)), 0);
	cr_assert_not_null(strstr(why, "keeper"), "%s", why);
	cr_assert_eq(sock, -1);
	/* A stale socket is no keeper. */
	cr_assert_eq(keep_open(dir, fresh, &all, &sock, why, sizeof(why)), 0, "%s", why);
	cr_assert_geq(sock, 0);
	fd_close(&sock);
	close(dir);
}
