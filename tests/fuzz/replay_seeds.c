/* SPDX-License-Identifier: Apache-2.0 */
/* Replays the seeds of a fuzz target, REPLAY_SEEDS, and each of them cut after every byte. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "lib/scratch.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy of exactly that size, so that a sanitizer sees a read beyond it. */
static void run(const char *bytes, size_t n)
{
	uint8_t *copy = malloc(n ? n : 1);

	cr_assert_not_null(copy);
	memcpy(copy, bytes, n);
	cr_expect_eq(LLVMFuzzerTestOneInput(copy, n), 0);
	free(copy);
}

/* Every seed and every prefix of one is read without a fault; there are seeds. */
Test(replay_seeds, seeds)
{
	const char *top = getenv("SG_SRCDIR");
	char path[4096];
	unsigned seen = 0;

	cr_assert_not_null(top, "SG_SRCDIR is not set");
	snprintf(path, sizeof(path), "%s/tests/fuzz/seeds/" REPLAY_SEEDS, top);
	DIR *d = opendir(path);
	cr_assert_not_null(d, "%s", path);
	for (struct dirent *e; (e = readdir(d));) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/tests/fuzz/seeds/" REPLAY_SEEDS "/%s", top, e->d_name);
		struct buf seed = scratch_read(path);
		for (size_t n = 0; n <= seed.len; n++)
			run(buf_data(&seed), n);
		buf_fini(&seed);
		seen++;
	}
	closedir(d);
	cr_assert_geq(seen, 10, "only %u seeds", seen);
}
