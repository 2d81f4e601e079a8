/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/launcher: commands are run as they are allowed, end as they are said to, and not otherwise. */
#include <criterion/criterion.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/loop.h"
#include "gateway/launcher.h"
#include "gateway/launcher_process.h"
#include "lib/wait.h"

static struct loop *loop;
static struct launcher *launcher;

/* Everything but /bin/true. */
static bool may_run(void *arg, char *const *argv)
{
	(void)arg;
	return strcmp(argv[0], "/bin/true") != 0;
}

static void begin(void)
{
	static const struct launcher_program program = {
		.program = "/bin/false", .socket = "/nowhere", .state_dir = "/nowhere", .may_run = may_run};

	cr_assert_eq(launcher_fork(&program, &launcher), 0);
	loop = loop_new();
	cr_assert_not_null(loop);
	cr_assert_eq(launcher_attach(launcher, loop), 0);
}

static void end(void)
{
	launcher_free(launcher);
	loop_free(loop);
}

TestSuite(gateway_launcher, .init = begin, .fini = end);

struct outcome {
	struct launcher_command command;
	bool ended;
	int status;
};

static void on_end(struct launcher_command *c, int status)
{
	struct outcome *o = CONTAINER_OF(c, struct outcome, command);

	cr_expect_not(o->ended, "ended twice");
	o->ended = true;
	o->status = status;
}

static bool has_ended(void *arg)
{
	event_base_loop(loop_base(loop), EVLOOP_NONBLOCK);
	return ((struct outcome *)arg)->ended;
}

/* Runs it to its end; how it ended, and what it printed added to `printed` unless NULL. */
static int run(char *const *argv, struct buf *printed)
{
	struct outcome o = {.command = {.on_end = on_end}};
	int ends[2];

	cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
	list_init(&o.command.link);
	cr_assert_eq(launcher_run(launcher, argv, ends[1], &o.command), 0);
	close(ends[1]);
	cr_assert(wait_until(has_ended, &o, WAIT_MS));
	if (printed)
		cr_assert_eq(fd_read_all(ends[0], 65536, printed), 0);
	close(ends[0]);
	return o.status;
}

/* What it prints comes out of the pipe, its arguments as they were; its status is told. */
Test(gateway_launcher, commands)
{
	char *const echo[] = {"/bin/echo", "a  b", "", "$HOME *", NULL};
	char *const fails[] = {"/bin/sh", "-c", "exit 3", NULL};
	char *const dies[] = {"/bin/sh", "-c", "kill -9 $$", NULL};
	struct buf printed = BUF_EMPTY;

	cr_expect_eq(run(echo, &printed), 0);
	cr_expect(str_eq(buf_str(&printed), STR("a  b  $HOME *\n")), "'%.*s'", STR_ARG(buf_str(&printed)));
	buf_fini(&printed);
	cr_expect_eq(WEXITSTATUS(run(fails, NULL)), 3);
	cr_expect_eq(WTERMSIG(run(dies, NULL)), SIGKILL);
}

/* What the configuration does not hold is not run, whoever asks; nor what is not there, or is too long to be sent. */
Test(gateway_launcher, refused)
{
	static char big[LAUNCH_ARGV_MAX_BYTES + 1];
	char *const forbidden[] = {"/bin/true", NULL};
	char *const missing[] = {"/no/such/program", NULL};
	char *const long_one[] = {"/bin/echo", big, NULL};
	struct outcome o = {.command = {.on_end = on_end}};

	cr_expect_eq(run(forbidden, NULL), -EPERM);
	cr_expect_eq(run(missing, NULL), -ENOENT);
	memset(big, 'x', sizeof(big) - 1);
	cr_expect_eq(launcher_run(launcher, long_one, 1, &o.command), -E2BIG);
}

/* At most so many at once; one that is stopped has a place again for another, and one that is forgotten is not told of. */
Test(gateway_launcher, many)
{
	enum {
		MOST = 32
	};
	char *const waits[] = {"/bin/sh", "-c", "sleep 1000 & wait", NULL};
	static struct outcome o[MOST + 1];
	struct outcome again = {.command = {.on_end = on_end}};
	struct outcome forgotten = {.command = {.on_end = on_end}};

	for (unsigned i = 0; i <= MOST; i++) {
		o[i].command.on_end = on_end;
		list_init(&o[i].command.link);
		cr_assert_eq(launcher_run(launcher, waits, 1, &o[i].command), 0);
	}
	cr_assert(wait_until(has_ended, &o[MOST], WAIT_MS));
	cr_expect_eq(o[MOST].status, -EAGAIN);
	launcher_stop_command(launcher, &o[0].command);
	cr_assert(wait_until(has_ended, &o[0], WAIT_MS));
	cr_expect_eq(WTERMSIG(o[0].status), SIGKILL);
	list_init(&forgotten.command.link);
	cr_assert_eq(launcher_run(launcher, waits, 1, &forgotten.command), 0);
	launcher_forget(launcher, &forgotten.command);
	list_init(&again.command.link);
	cr_assert_eq(launcher_run(launcher, waits, 1, &again.command), 0);
	for (unsigned i = 1; i < MOST; i++)
		launcher_stop_command(launcher, &o[i].command);
	for (unsigned i = 1; i < MOST; i++)
		cr_assert(wait_until(has_ended, &o[i], WAIT_MS));
	launcher_forget(launcher, &again.command);
	cr_expect_not(forgotten.ended);
}

static void on_server(void *arg, enum launcher_event event, int status)
{
	(void)status;
	*(enum launcher_event *)arg = event;
}

/* When the launcher is gone its commands have failed, the server's keeper is told, and nothing more can be run. */
Test(gateway_launcher, gone)
{
	char *const kills[] = {"/bin/sh", "-c", "kill -9 $PPID; sleep 1000", NULL};
	enum launcher_event event = LAUNCHER_EXITED;
	struct outcome o = {.command = {.on_end = on_end}};

	launcher_on_server(launcher, on_server, &event);
	cr_expect_eq(run(kills, NULL), -EPIPE);
	cr_expect_eq(event, LAUNCHER_GONE);
	cr_expect_lt(launcher_run(launcher, kills, 1, &o.command), 0);
}
