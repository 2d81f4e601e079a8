/* SPDX-License-Identifier: Apache-2.0 */
/* Runs programs through the harness that write what none may write: every test here must fail. */
#include <criterion/criterion.h>

#include "lib/daemon.h"
#include "lib/raw.h"

static struct scratch dir;

static void end(void)
{
	daemon_kill_all();
	scratch_fini(&dir);
}

TestSuite(sample, .fini = end);

static void run_shell(const char *script)
{
	const char *argv[] = {"-c", script, NULL};
	struct daemon_spec spec = {.program = "/bin/sh", .argv = argv};

	scratch_init(&dir);
	(void)daemon_run(&dir, &spec, NULL, NULL);
}

Test(sample, secret)
{
	run_shell("echo x" PLANTED_SECRET "x");
}

Test(sample, report)
{
	run_shell("echo '==1==ERROR: AddressSani''tizer: x' >&2");
}

Test(sample, check)
{
	run_shell("echo 'check'' failed: x at y' >&2");
}
