/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server without the HTTP: starts one sandbox through sandbox.h, runs a command in it, destroys it and stops, so that a
 * test can kill it at any step.
 *
 *     sandbox-driver STATE_DIR ID [stay|keep]
 *
 * Prints a line after each step; with `stay` it waits for ever once the command runs. With `keep` the sandbox would outlive it by
 * half a second, and those that an earlier run left are taken up and destroyed first. Exit: 0, or 77 where user namespaces
 * are refused.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/loop.h"
#include "local/init_image.h"
#include "local/keeper.h"
#include "local/sandbox.h"

struct driver {
	struct loop *loop;
	struct sandbox_host *host;
	struct sandbox *sb;
	const char *id;
	bool stay;
	unsigned taken_up; /* that still go */
	int error;
};

enum {
	KEEP_MS = 500
};

static void say(const char *what)
{
	printf("%s\n", what);
	fflush(stdout);
}

static void on_stopped(void *arg)
{
	loop_stop(((struct driver *)arg)->loop);
}

static void on_gone(void *arg)
{
	struct driver *d = arg;

	say("gone");
	sandbox_host_stop(d->host, on_stopped, d);
}

static void on_data(void *arg, unsigned stream, const char *p, size_t n)
{
	(void)arg;
	(void)stream;
	(void)p;
	(void)n;
	say("output");
}

static void on_end(void *arg, const struct job_result *result)
{
	struct driver *d = arg;

	say(result->outcome == JOB_OK ? "executed" : "failed");
	if (d->stay)
		return;
	sandbox_destroy(d->sb);
}

static void on_started(void *arg, int error, const char *why)
{
	static const struct job_events events = {.on_data = on_data, .on_end = on_end};
	const struct str argv[] = {STR("sh"), STR("-c"), STR("setsid sleep 3600 & touch f; echo x")};
	struct driver *d = arg;

	if (error) {
		fprintf(stderr, "%s\n", why);
		d->error = error;
		return;
	}
	say("started");
	sandbox_keep(d->sb, STR("note"));
	if (!sandbox_exec(d->sb, &(struct exec_spec){.argv = argv, .nargv = 3}, &events, d))
		abort();
}

static void start(struct driver *d)
{
	static const struct sandbox_events events = {on_started, on_gone};

	d->sb = sandbox_start(d->host, &(struct sandbox_spec){.id = d->id}, &events, d);
	if (!d->sb)
		abort();
}

static void on_taken_up_gone(void *arg)
{
	struct driver *d = arg;

	if (--d->taken_up == 0)
		start(d);
}

static void on_true(void *arg, const struct job_result *result)
{
	(void)result;
	sandbox_destroy(arg);
}

/* Each runs a command, if it still can, and is destroyed. */
static void take_up(struct driver *d)
{
	static const struct sandbox_events events = {.on_gone = on_taken_up_gone};
	static const struct job_events ended = {.on_end = on_true};
	static const struct str argv[] = {STR("true")};
	struct kept *kept;

	while ((kept = sandbox_host_next_kept(d->host))) {
		struct sandbox *sb = sandbox_resume(d->host, &kept, &events, d);
		if (!sb || !sandbox_exec(sb, &(struct exec_spec){.argv = argv, .nargv = 1}, &ended, sb))
			abort();
		d->taken_up++;
		say("taken up");
	}
}

int main(int argc, char **argv)
{
	struct driver d = {.stay = argc > 3 && strcmp(argv[3], "stay") == 0};
	bool keep = argc > 3 && strcmp(argv[3], "keep") == 0;
	char why[600];

	if (argc < 3)
		return 2;
	log_init("sandbox-driver", LOG_LEVEL_WARN);
	d.id = argv[2];
	d.loop = loop_new();
	const struct sandbox_host_config config = {.state_dir = argv[1],
						   .init_image = init_image_bytes(),
						   .uid_count = 4,
						   .keep_ms = keep ? KEEP_MS : 0,
						   .keeper = keep ? keeper_start() : -1};
	int rc = d.loop ? sandbox_host_new(d.loop, &config, &d.host, why, sizeof(why)) : -ENOMEM;
	if (rc) {
		fprintf(stderr, "%s\n", why);
		return rc == -EPERM ? 77 : 1;
	}
	say("ready");
	take_up(&d);
	if (d.taken_up == 0)
		start(&d);
	loop_run(d.loop);
	sandbox_host_free(d.host);
	loop_free(d.loop);
	return d.error ? 1 : 0;
}
