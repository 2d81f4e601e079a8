/* SPDX-License-Identifier: Apache-2.0 */
/* The line of progress on a terminal: when it is there, what it says, that it goes away. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/progress.h"
#include "common/clock.h"

static uint64_t now_ns;

static uint64_t fake_clock(void)
{
	return now_ns;
}

static void pass_ms(uint64_t ms)
{
	now_ns += ms * 1000000;
}

/* A pseudo terminal as stderr; our end of it, and what stderr was. */
struct terminal {
	int master;
	int saved;
};

static struct terminal begin(void)
{
	struct terminal t = {.master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), .saved = dup(2)};
	int side;

	cr_assert(t.master >= 0 && grantpt(t.master) == 0 && unlockpt(t.master) == 0);
	side = open(ptsname(t.master), O_RDWR | O_NOCTTY);
	cr_assert(side >= 0 && dup2(side, 2) == 2);
	close(side);
	now_ns = 5000000000000;
	clock_set_source(fake_clock);
	return t;
}

static void end(struct terminal *t)
{
	clock_set_source(NULL);
	dup2(t->saved, 2);
	close(t->saved);
	close(t->master);
}

/* What was written since the last time. */
static void assert_shown(const struct terminal *t, const char *expected)
{
	char text[512];
	ssize_t n = read(t->master, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	cr_assert_str_eq(text, expected);
}

/* What takes less than a second is not told; then the seconds are, and in the end nothing is left. */
Test(cli_progress, seconds)
{
	struct terminal t = begin();
	struct progress p;

	progress_init(&p, false);
	progress_begin(&p, "spawning", 0);
	cr_expect(progress_is_on(&p));
	pass_ms(999);
	progress_tick(&p);
	assert_shown(&t, "");
	pass_ms(1);
	progress_tick(&p);
	assert_shown(&t, "\rspawning ... 1 s");
	pass_ms(100);
	progress_tick(&p);
	assert_shown(&t, "");
	pass_ms(9000);
	progress_tick(&p);
	assert_shown(&t, "\rspawning ... 10 s");
	progress_end(&p);
	assert_shown(&t, "\r                 \r");
	cr_expect_not(progress_is_on(&p));
	progress_tick(&p);
	assert_shown(&t, "");
	end(&t);
}

/* Bytes are told in the unit that fits, and a shorter line leaves nothing of a longer one. */
Test(cli_progress, bytes)
{
	struct terminal t = begin();
	struct progress p;

	progress_init(&p, false);
	progress_begin(&p, "copying", 3000000);
	progress_bytes(&p, 5);
	assert_shown(&t, "");
	pass_ms(300);
	progress_bytes(&p, 1023);
	assert_shown(&t, "\rcopying ... 1023 B of 2.9 MiB, 0 %");
	pass_ms(200);
	progress_bytes(&p, 2048);
	assert_shown(&t, "\rcopying ... 2.0 KiB of 2.9 MiB, 0 %");
	pass_ms(200);
	progress_bytes(&p, 9);
	assert_shown(&t, "\rcopying ... 9 B of 2.9 MiB, 0 %    ");
	pass_ms(200);
	progress_bytes(&p, 4000000);
	assert_shown(&t, "\rcopying ... 3.8 MiB of 2.9 MiB, 100 %");
	progress_end(&p);
	assert_shown(&t, "\r                                     \r");
	end(&t);
}

/* With --json, and where stderr is no terminal, there is never a line. */
Test(cli_progress, never)
{
	struct terminal t = begin();
	struct progress p;
	int fds[2];

	progress_init(&p, true);
	progress_begin(&p, "spawning", 0);
	pass_ms(5000);
	progress_tick(&p);
	progress_end(&p);
	assert_shown(&t, "");
	cr_assert(pipe2(fds, O_NONBLOCK) == 0 && dup2(fds[1], 2) == 2);
	progress_init(&p, false);
	progress_begin(&p, "spawning", 0);
	pass_ms(5000);
	progress_tick(&p);
	progress_end(&p);
	cr_assert_lt(read(fds[0], &(char){0}, 1), 0);
	close(fds[0]);
	close(fds[1]);
	end(&t);
}
