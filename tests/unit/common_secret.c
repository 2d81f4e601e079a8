/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/secret.h"

static struct secret *secret_from(const char *text)
{
	char copy[SECRET_MAX_BYTES + 1];
	struct secret *s = NULL;

	snprintf(copy, sizeof(copy), "%s", text);
	cr_assert_eq(secret_take(copy, strlen(copy), &s), 0);
	return s;
}

/* Taking wipes the source and keeps the bytes. */
Test(common_secret, take)
{
	char key[] = "SEKRET-1";
	struct secret *s;

	cr_assert_eq(secret_take(key, 8, &s), 0);
	for (size_t i = 0; i < 8; i++)
		cr_expect_eq(key[i], 0);
	cr_expect(str_eq(secret_bytes(s), STR("SEKRET-1")));
	secret_unref(s);
}

/* None and too many bytes are refused; the limit itself is not. */
Test(common_secret, bounds)
{
	static char bytes[SECRET_MAX_BYTES + 1];
	struct secret *s = NULL;

	cr_expect_eq(secret_take(bytes, 0, &s), -EINVAL);
	cr_expect_eq(secret_take(bytes, SECRET_MAX_BYTES + 1, &s), -EINVAL);
	cr_expect_null(s);
	memset(bytes, 'x', sizeof(bytes));
	cr_assert_eq(secret_take(bytes, SECRET_MAX_BYTES, &s), 0);
	cr_expect_eq(secret_bytes(s).n, SECRET_MAX_BYTES);
	secret_unref(s);
}

/* Only the same bytes in the same number are equal. */
Test(common_secret, equal)
{
	struct secret *s = secret_from("abc");

	cr_expect(secret_equal(s, STR("abc")));
	cr_expect_not(secret_equal(s, STR("abd")));
	cr_expect_not(secret_equal(s, STR("ab")));
	cr_expect_not(secret_equal(s, STR("abca")));
	cr_expect_not(secret_equal(s, STR("abcabc")));
	cr_expect_not(secret_equal(s, STR("aaaa")));
	cr_expect_not(secret_equal(s, STR("")));
	cr_expect_not(secret_equal(s, str_of(NULL, 0)));
	secret_unref(s);
}

/* Random ones differ and are hex. */
Test(common_secret, random)
{
	struct secret *a;
	struct secret *b;

	cr_assert_eq(secret_random(&a), 0);
	cr_assert_eq(secret_random(&b), 0);
	cr_expect_eq(secret_bytes(a).n, 64);
	for (size_t i = 0; i < 64; i++)
		cr_expect_not_null(memchr("0123456789abcdef", secret_bytes(a).p[i], 16));
	cr_expect_not(secret_equal(a, secret_bytes(b)));
	secret_unref(a);
	secret_unref(b);
}

/* It lives until its last holder lets go. */
Test(common_secret, references)
{
	struct secret *s = secret_from("shared");
	struct secret *other = secret_ref(s);

	cr_expect_eq(other, s);
	secret_unref(s);
	cr_expect(str_eq(secret_bytes(other), STR("shared")));
	secret_unref(other);
	secret_unref(NULL);
}

/* A child process does not inherit the bytes. */
Test(common_secret, gone_after_fork)
{
	struct secret *s = secret_from("SEKRET");
	const char *bytes = secret_bytes(s).p;
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(memcmp(bytes, "\0\0\0\0\0\0", 6) == 0 ? 0 : 1);
	cr_assert_gt(pid, 0);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child could read it");
	cr_expect(secret_equal(s, STR("SEKRET")));
	secret_unref(s);
}

/* Whether the mapping that holds p has a flag in /proc/self/smaps. */
static bool mapping_has_flag(const char *p, const char *flag)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	char line[512];
	bool here = false;
	bool found = false;

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f)) {
		char *end;
		unsigned long long from = strtoull(line, &end, 16);
		if (end > line + 4 && *end == '-') {
			unsigned long long to = strtoull(end + 1, NULL, 16);
			here = (unsigned long long)(size_t)p >= from && (unsigned long long)(size_t)p < to;
		} else if (here && strncmp(line, "VmFlags:", 8) == 0) {
			found = strstr(line, flag) != NULL;
		}
	}
	fclose(f);
	return found;
}

/* The memory is left out of core dumps and of forks. */
Test(common_secret, memory_flags)
{
	struct secret *s = secret_from("SEKRET");

	cr_expect(mapping_has_flag(secret_bytes(s).p, " dd"), "not left out of core dumps");
	cr_expect(mapping_has_flag(secret_bytes(s).p, " wf"), "not wiped on fork");
	secret_unref(s);
}
