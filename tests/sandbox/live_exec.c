/* SPDX-License-Identifier: Apache-2.0 */
/* Commands in real sandboxes: how they start, what they see, when they are answered, how they end. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/wait.h"
#include "local/init_wire.h"
#include "sandbox/box.h"

static struct bench bench;
static struct box box;

static void setup(void)
{
	bench_init(&bench);
	box_start(&bench, &box, "sb-exec");
}

static void teardown(void)
{
	box_end(&box);
	bench_fini(&bench);
}

TestSuite(local_exec, .init = setup, .fini = teardown);

static void exec_argv(struct answer *a, const struct exec_spec *spec)
{
	answer_begin(a, &box);
	a->job = sandbox_exec(box.sb, spec, &answer_events, a);
	cr_assert_not_null(a->job);
	answer_wait(a);
}

/* Streams stay apart; the exit code is the command's, -1 for a signal. */
Test(local_exec, output_and_exit)
{
	struct answer a = ask_exec(&box, "echo out; echo err >&2; exit 7");

	cr_assert(a.outcome == JOB_OK && a.exit_code == 7 && buf_is(&a.out, "out\n") && buf_is(&a.err, "err\n"));
	answer_fini(&a);
	a = ask_exec(&box, "kill -9 $$");
	cr_assert(a.outcome == JOB_OK && a.exit_code == -1);
	answer_fini(&a);
}

/* Arguments go as they are; the environment is added to the base and wins over it. */
Test(local_exec, argv_env_workdir)
{
	const struct str argv[] = {STR("sh"), STR("-c"), STR("echo \"$1|$A|$HOME|$USER|$PWD\""), STR("sh"),
				   STR("a 'b' $c\n*")};
	const struct str env[] = {STR("A=x=y z"), STR("HOME=/tmp")};
	struct exec_spec spec = {.argv = argv, .nargv = 5, .env = env, .nenv = 2, .workdir = STR("/tmp")};
	struct answer a;

	exec_argv(&a, &spec);
	cr_assert(buf_is(&a.out, "a 'b' $c\n*|x=y z|/tmp|sandbox|/tmp\n"), "%.*s", STR_ARG(buf_str(&a.out)));
	answer_fini(&a);
	spec.workdir = STR("");
	exec_argv(&a, &spec);
	cr_assert(buf_contains(&a.out, "|/workspace\n"));
	answer_fini(&a);
}

/* What cannot start is a failure that says why. */
Test(local_exec, cannot_start)
{
	const struct str none[] = {STR("no-such-program")}, nul[] = {STR("a\0b")}, plain[] = {STR("./f")};
	const struct str sh[] = {STR("true")};
	struct answer a;

	exec_argv(&a, &(struct exec_spec){.argv = none, .nargv = 1});
	cr_assert_str_eq(a.text, "exec: \"no-such-program\": executable file not found");
	must_fail(a, ENOENT);
	exec_argv(&a, &(struct exec_spec){.argv = sh, .nargv = 1, .workdir = STR("/none")});
	cr_assert_str_eq(a.text, "workdir does not exist");
	must_fail(a, ENOENT);
	exec_argv(&a, &(struct exec_spec){.argv = nul, .nargv = 1});
	must_fail(a, EINVAL);
	exec_argv(&a, &(struct exec_spec){.argv = NULL, .nargv = 0});
	must_fail(a, EINVAL);
	must_work(ask_write(&box, "f", 0644, STR("x")));
	exec_argv(&a, &(struct exec_spec){.argv = plain, .nargv = 1});
	must_fail(a, EACCES);
}

/* A program named by a path starts from the working directory; PATH is the request's. */
Test(local_exec, find_program)
{
	const struct str here[] = {STR("./p")}, name[] = {STR("p")};
	const struct str env[] = {STR("PATH=/nowhere:/app")};
	struct answer a;

	must_work(ask_write(&box, "/app/p", 0755, STR("#!/bin/sh\necho p\n")));
	exec_argv(&a, &(struct exec_spec){.argv = here, .nargv = 1, .workdir = STR("/app")});
	cr_assert(buf_is(&a.out, "p\n"), "%s", a.text);
	answer_fini(&a);
	exec_argv(&a, &(struct exec_spec){.argv = name, .nargv = 1, .env = env, .nenv = 1});
	cr_assert(buf_is(&a.out, "p\n"), "%s", a.text);
	answer_fini(&a);
}

/* A command of more than one message, near the kernel's limit for one argument. */
Test(local_exec, long_command)
{
	static char text[120000];
	const struct str argv[] = {STR("printf"), STR("%s%s"), str_of(text, sizeof(text)), str_of(text, sizeof(text))};
	struct answer a;

	memset(text, 'x', sizeof(text));
	exec_argv(&a, &(struct exec_spec){.argv = argv, .nargv = 4});
	cr_assert(a.outcome == JOB_OK && a.out.len == 2 * sizeof(text), "%s", a.text);
	answer_fini(&a);
}

/* No input, no descriptor of the init's, the usual signals, umask and rights. */
Test(local_exec, clean_start)
{
	must_run(&box,
		 "cat; ls /proc/self/fd | tr '\\n' ' '; umask; grep -E '^SigBlk|CapEff|CapBnd|NoNewPrivs' "
		 "/proc/self/status | tr -d '\\n\\t '",
		 "0 1 2 3 0022\nSigBlk:0000000000000000CapEff:0000000000000000"
		 "CapBnd:0000000000000000NoNewPrivs:1");
	/* But for the two signals that the C library keeps for itself. */
	must_run(&box, "grep -E '^SigIgn:.0000000[01][08]0000000$' /proc/self/status >/dev/null", "");
}

/* A background process that holds the output delays no answer: 100 ms after the shell. What it prints later is log. */
Test(local_exec, answered_after_100_ms)
{
	struct answer a = ask_exec(&box, "(sleep 0.4; echo late; sleep 30) & echo now");

	cr_assert(buf_is(&a.out, "now\n"));
	cr_assert(a.took_ms >= 95 && a.took_ms < 390, "%llu ms", (unsigned long long)a.took_ms);
	answer_fini(&a);
	cr_assert_eq(sandbox_log(box.sb).n, 0);
	for (uint64_t until = wait_now_ms() + WAIT_MS; sandbox_log(box.sb).n == 0 && wait_now_ms() < until;)
		must_run(&box, ":", "");
	cr_assert(str_eq(sandbox_log(box.sb), STR("late\n")));
}

/* A shell without background processes is answered at once, not after 100 ms. */
Test(local_exec, answered_at_once)
{
	unsigned quick = 0;

	for (int i = 0; i < 10; i++) {
		struct answer a = ask_exec(&box, ":");
		quick += a.took_ms < 90;
		answer_fini(&a);
	}
	cr_assert_geq(quick, 5);
}

/* What was written before the exit belongs to the answer, however slowly it is taken. */
Test(local_exec, nothing_is_cut)
{
	struct answer a;

	exec_begin(&a, &box, "sleep 30 & head -c 300000 /dev/zero");
	sandbox_job_pause(a.job, true);
	for (int i = 0; i < 200 && a.out.len < 100000; i++)
		must_run(&box, "sleep 0.01", "");
	must_run(&box, "sleep 0.2", "");
	cr_assert(!a.ended && a.out.len <= WIRE_WINDOW, "%zu bytes while it is paused", a.out.len);
	sandbox_job_pause(a.job, false);
	answer_wait(&a);
	cr_assert_eq(a.out.len, 300000);
	answer_fini(&a);
}

/* While paused a command blocks on its pipe: the window bounds what is sent. */
Test(local_exec, pause)
{
	struct answer a;

	exec_begin(&a, &box, "head -c 5000000 /dev/zero; echo done > /tmp/done");
	sandbox_job_pause(a.job, true);
	must_run(&box, "sleep 0.2; test ! -e /tmp/done", "");
	cr_assert(a.out.len <= WIRE_WINDOW, "%zu bytes", a.out.len);
	sandbox_job_pause(a.job, false);
	answer_wait(&a);
	cr_assert_eq(a.out.len, 5000000);
	answer_fini(&a);
	must_run(&box, "cat /tmp/done", "done\n");
}

/* Only the last 64 KiB of background output are kept, and it does not block the process. */
Test(local_exec, log_keeps_the_end)
{
	struct answer a = ask_exec(&box, "(sleep 0.3; seq 200000; touch /tmp/done) &");
	struct str log;

	answer_fini(&a);
	must_run(&box, "until test -e /tmp/done; do sleep 0.01; done", "");
	for (uint64_t until = wait_now_ms() + WAIT_MS; wait_now_ms() < until;) {
		log = sandbox_log(box.sb);
		if (str_ends(log, STR("199999\n200000\n")))
			break;
		must_run(&box, "sleep 0.02", "");
	}
	log = sandbox_log(box.sb);
	cr_assert(str_ends(log, STR("199999\n200000\n")), "%zu bytes", log.n);
	cr_assert(log.n <= 65536 && log.n > 60000, "%zu bytes", log.n);
}

/* Kill takes the whole process group, and the answer follows; what left by setsid lives on. */
Test(local_exec, kill_group)
{
	struct answer a;

	exec_begin(&a, &box, "setsid sleep 4711 & sleep 4712 & echo up; wait");
	for (uint64_t until = wait_now_ms() + WAIT_MS; a.out.len == 0 && wait_now_ms() < until;)
		must_run(&box, ":", "");
	sandbox_job_kill(a.job);
	answer_wait(&a);
	cr_assert(a.outcome == JOB_OK && a.exit_code == -1 && buf_is(&a.out, "up\n"));
	answer_fini(&a);
	must_run(&box, "pgrep -f 'sleep 4711' >/dev/null && ! pgrep -fx 'sleep 4712'", "");
}

/* Cancel kills the group and calls nothing any more. */
Test(local_exec, cancel)
{
	struct answer a;

	exec_begin(&a, &box, "echo up > /tmp/up; sleep 4713 & sleep 4713");
	must_run(&box, "until test -e /tmp/up; do sleep 0.01; done", "");
	sandbox_job_cancel(a.job);
	must_run(&box, "while pgrep -fx 'sleep 4713'; do sleep 0.01; done >/dev/null", "");
	cr_assert(!a.ended);
	answer_fini(&a);
}

/* Orphans are adopted and reaped by the init. */
Test(local_exec, zombies_are_reaped)
{
	must_run(&box,
		 "for i in 1 2 3 4 5 6 7 8; do (sh -c 'sleep 0.01 & exec true' &); done; sleep 0.2; "
		 "ps -eo stat | grep -c '^Z' || true",
		 "0\n");
}

/* B3: nothing inside can end, stop, trace or read the init. */
Test(local_exec, B3_init_is_safe)
{
	must_run(&box, "kill -9 1; kill -STOP 1; kill -TERM 1; :", NULL);
	must_run(&box, "test $(cut -d' ' -f3 /proc/1/stat) != T && echo alive", "alive\n");
	must_run(&box,
		 "! cat /proc/1/mem 2>/dev/null && ! cat /proc/1/environ 2>/dev/null && ! ls /proc/1/fd 2>/dev/null "
		 "&& ! cat /proc/1/maps 2>/dev/null && ! readlink /proc/1/exe",
		 "");
	if (access("/usr/bin/strace", X_OK) == 0)
		must_run(&box, "! strace -p 1 -o /tmp/t 2>/tmp/e && grep -q 'Operation not permitted' /tmp/e", "");
	must_run(&box, "! dd if=/dev/zero of=/proc/1/mem bs=1 count=1 2>/dev/null", "");
}

/* Nothing of the host: no process, no file of its users, no network, no way to get rights. */
Test(local_exec, B1_host_is_out_of_reach)
{
	char script[400];
	const char *planted = scratch_text(&bench.scratch, "planted", 0600, "HOST-BYTES");

	must_run(&box, "ls -d /proc/[0-9]* | wc -l", NULL);
	must_run(&box, "test $(ls -d /proc/[0-9]* | wc -l) -lt 8", "");
	must_run(&box, "ls -A /home /root /srv /mnt /opt /media /boot /var/lib 2>/dev/null; :", "/home:\nsandbox\n");
	must_run(&box,
		 "ls -A / | tr '\\n' ' ' | grep -vE '^(\\.stacygate-init|app|bin|dev|etc|home|lib|lib32|lib64|libx32|"
		 "proc|run|sbin|tmp|usr|var|workspace| )+$' || true",
		 "");
	must_run(&box, "ls -A /etc | tr '\\n' ' '", NULL);
	must_run(&box, "test ! -e /etc/shadow && test ! -e /etc/ssl && test ! -e /sys", "");
	snprintf(script, sizeof(script), "test ! -e %s && test ! -e %s", planted, bench.scratch.path);
	must_run(&box, script, "");
	must_run(
		&box,
		"test $(ls /sys/class/net 2>/dev/null | wc -l) = 0; tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '",
		"lo\n");
	must_run(&box, "! unshare -Ur true 2>/dev/null", "");
	must_run(&box, "! mount -t tmpfs none /tmp 2>/dev/null && ! mount -o remount,rw / 2>/dev/null", "");
	must_run(&box, "hostname", "sb-exec\n");
}

static unsigned status_uid(long pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%ld", pid);
	cr_assert_eq(stat(path, &st), 0);
	return st.st_uid;
}

/* B1: as root, what runs inside has a kernel uid of its own; otherwise ours, and that is not root. */
Test(local_exec, B1_kernel_uid)
{
	struct answer a, b;
	struct box second;

	box_start(&bench, &second, "sb-second");
	exec_begin(&a, &box, "sleep 48151");
	exec_begin(&b, &second, "sleep 62342");
	long one = -1, two = -1;
	for (uint64_t until = wait_now_ms() + WAIT_MS; (one < 0 || two < 0) && wait_now_ms() < until;) {
		must_run(&box, ":", "");
		must_run(&second, ":", "");
		one = find_process("48151");
		two = find_process("62342");
	}
	cr_assert(one > 0 && two > 0);
	cr_assert_neq(status_uid(one), 0);
	if (geteuid() == 0) {
		cr_assert_neq(status_uid(one), status_uid(two), "two sandboxes have the same uid");
		cr_assert_geq(status_uid(one), 60000);
	} else {
		cr_assert_eq(status_uid(one), geteuid());
	}
	box_end(&second);
	cr_assert(b.ended && b.outcome == JOB_GONE);
	sandbox_job_kill(a.job);
	answer_wait(&a);
	answer_fini(&a);
	answer_fini(&b);
}

/* A thousand commands one after the other leave nothing behind in the init. */
Test(local_exec, thousand)
{
	uint64_t began = wait_now_ms();

	for (int i = 0; i < 1000; i++)
		must_run(&box, ":", "");
	fprintf(stderr, "1000 execs: %llu ms\n", (unsigned long long)(wait_now_ms() - began));
	must_run(&box, "ps -e --no-headers | wc -l", "4\n");
}

/* 64 at once are all answered, each with its own output. */
Test(local_exec, many_at_once)
{
	enum {
		N = 64
	};
	static struct answer a[N];
	char script[64], expected[32];

	for (int i = 0; i < N; i++) {
		snprintf(script, sizeof(script), "echo %d; exit %d", i, i);
		exec_begin(&a[i], &box, script);
	}
	for (int i = 0; i < N; i++) {
		answer_wait(&a[i]);
		snprintf(expected, sizeof(expected), "%d\n", i);
		cr_assert(a[i].exit_code == i && buf_is(&a[i].out, expected));
		answer_fini(&a[i]);
	}
}
