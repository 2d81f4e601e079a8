/* SPDX-License-Identifier: Apache-2.0 */
/* What stacygate-local reads before it serves: its command line and its keys. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "lib/scratch.h"
#include "local/api_keys.h"
#include "local/key_files.h"
#include "local/options.h"

/* --- options ---------------------------------------------------------------------------------------------------- */

static enum options_result read_line(char *line, struct options *out)
{
	char *argv[32] = {(char *)"stacygate-local"};
	int argc = 1;

	for (char *word = line; word && *word && argc < 31;) {
		char *space = strchr(word, ' ');
		if (space)
			*space++ = '\0';
		argv[argc++] = word;
		word = space;
	}
	return options_read(argc, argv, out);
}

/* A full command line is read as written. */
Test(options, all)
{
	char line[] = "--listen unix:/run/s --listen 127.0.0.1:0 --listen [::1]:65535 --state /var/x --api-key-file /k "
		      "--admin-api-key-file /dev/fd/7 --life-fd 9 -v";
	struct options o;

	cr_assert_eq(read_line(line, &o), OPTIONS_OK);
	cr_expect_eq(o.nlisten, 3);
	cr_expect_str_eq(o.listen[0].unix_path, "/run/s");
	cr_expect(!o.listen[1].unix_path && !o.listen[1].ipv6 && o.listen[1].port == 0);
	cr_expect(o.listen[2].ipv6 && o.listen[2].port == 65535);
	cr_expect_str_eq(o.state_dir, "/var/x");
	cr_expect_str_eq(o.api_key_file, "/k");
	cr_expect_str_eq(o.admin_api_key_file, "/dev/fd/7");
	cr_expect_eq(o.life_fd, 9);
	cr_expect(o.verbose);
}

/* Keeping has a time, and contradicts a life descriptor. */
Test(options, keep)
{
	static const struct {
		const char *line;
		bool good;
		uint32_t ms;
	} lines[] = {
		{"", true, 0},
		{"--keep", true, 30000},
		{"--keep=1m30s", true, 90000},
		{"--keep=1ms", true, 1},
		{"--keep=10m", true, 600000},
		{"--keep=", false, 0},
		{"--keep=0s", false, 0},
		{"--keep=-1s", false, 0},
		{"--keep=30", false, 0},
		{"--keep=601s", false, 0},
		{"--keep 5s", false, 0},
		{"--keep --life-fd 9", false, 0},
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char line[200];
		struct options o;
		snprintf(line, sizeof(line), "--listen unix:/run/s --state /var/x %s", lines[i].line);
		cr_expect_eq(read_line(line, &o) == OPTIONS_OK, lines[i].good, "%s", lines[i].line);
		if (lines[i].good)
			cr_expect_eq(o.keep_ms, lines[i].ms, "%s: %u", lines[i].line, o.keep_ms);
	}
}

/* What its unit says. */
Test(options, unit)
{
	char line[] = "--listen unix:/run/s --state /var/x --keys /var/k --group root";
	char plain[] = "--listen unix:/run/s --state /var/x";
	struct options o;

	cr_assert_eq(read_line(line, &o), OPTIONS_OK);
	cr_expect_str_eq(o.keys_dir, "/var/k");
	cr_expect_eq(o.group, 0);
	cr_assert_eq(read_line(plain, &o), OPTIONS_OK);
	cr_expect(!o.keys_dir && o.group == (gid_t)-1);
}

/* Everything else is a usage error: addresses that are not loopback, missing or relative paths, stray words. */
Test(options, bad)
{
	static const char *const lines[] = {
		"",
		"--state /x",
		"--listen unix:/s",
		"--listen unix:s --state /x",
		"--listen unix:/s --state x",
		"--listen 0.0.0.0:80 --state /x",
		"--listen 127.0.0.1 --state /x",
		"--listen 127.0.0.1:65536 --state /x",
		"--listen 127.0.0.1:8o --state /x",
		"--listen unix:/s --state /x --life-fd 2",
		"--listen unix:/s --state /x --life-fd x",
		"--listen unix:/s --state /x stray",
		"--listen unix:/s --state /x --unknown",
		"--listen unix:/s --state /x --keys keys",
		"--listen unix:/s --state /x --keys /k --api-key-file /a",
		"--listen unix:/s --state /x --keys /k --admin-api-key-file /a",
		"--listen unix:/s --state /x --group no-such-group",
		"--listen "
		"unix:/"
		"0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
		"01234567 --state /x",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		char *line = strdup(lines[i]);
		struct options o;
		cr_expect_eq(read_line(line, &o), OPTIONS_BAD, "%s", lines[i]);
		free(line);
	}
}

/* Help and version win over what is missing. */
Test(options, help)
{
	char help[] = "-h";
	char version[] = "--version";
	struct options o;

	cr_expect_eq(read_line(help, &o), OPTIONS_HELP);
	cr_expect_eq(read_line(version, &o), OPTIONS_VERSION);
}

/* --- keys ------------------------------------------------------------------------------------------------------- */

static struct scratch scratch;

static void make_scratch(void)
{
	scratch_init(&scratch);
}

static void drop_scratch(void)
{
	scratch_fini(&scratch);
}

TestSuite(api_keys, .init = make_scratch, .fini = drop_scratch);

/* One newline at the end belongs to the file, not to the key; anything else that is not printable is refused. */
Test(api_keys, content)
{
	static const struct {
		struct str text;
		const char *key; /* NULL: refused */
	} cases[] = {
		{{"abc\n", 4}, "abc"},
		{{"abc", 3}, "abc"},
		{{"", 0}, NULL},
		{{"\n", 1}, NULL},
		{{"abc\r\n", 5}, NULL},
		{{"abc\n\n", 5}, NULL},
		{{"a b\n", 4}, NULL},
		{{"a\0b\n", 4}, NULL},
		{{"a\tb", 3}, NULL},
		{{"a\x7f", 2}, NULL},
		{{"\xc3\xa9\n", 3}, "\xc3\xa9"},
	};
	char why[200];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *path = scratch_file(&scratch, "key", 0600, cases[i].text.p, cases[i].text.n);
		struct secret *s = NULL;
		int rc = api_keys_read(path, &s, why, sizeof(why));
		if (cases[i].key)
			cr_expect(rc == 0 && secret_equal(s, str_from(cases[i].key)), "case %zu", i);
		else
			cr_expect(rc == -EINVAL && strstr(why, path), "case %zu", i);
		secret_unref(s);
	}
}

/* A key may come through a pipe by its descriptor, which is then closed; a missing file says its name. */
Test(api_keys, sources)
{
	struct secret *s = NULL;
	char why[200] = "";
	char path[32];
	int fds[2];

	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], "k1\n", 3), 3);
	close(fds[1]);
	snprintf(path, sizeof(path), "/dev/fd/%d", fds[0]);
	cr_expect_eq(api_keys_read(path, &s, why, sizeof(why)), 0);
	cr_expect(secret_equal(s, STR("k1")));
	cr_expect_eq(fcntl(fds[0], F_GETFD), -1);
	secret_unref(s);
	cr_expect_eq(api_keys_read("/dev/fd/999999", &s, why, sizeof(why)), -EBADF);
	cr_expect_eq(api_keys_read(scratch_path(&scratch, "none"), &s, why, sizeof(why)), -ENOENT);
	cr_expect(strstr(why, "none"));
}

/* Either header may carry either key; a wrong one does not spoil a right one; without keys everybody may. */
Test(api_keys, admit)
{
	struct api_keys keys = {0};
	struct str absent = str_of(NULL, 0);
	char k[] = "k";
	char a[] = "a";

	cr_expect(api_keys_admit(&keys, absent, absent));
	cr_assert_eq(secret_take(k, 1, &keys.ordinary), 0);
	cr_assert_eq(secret_take(a, 1, &keys.admin), 0);
	cr_expect_not(api_keys_admit(&keys, absent, absent));
	cr_expect_not(api_keys_admit(&keys, STR(""), STR("")));
	cr_expect_not(api_keys_admit(&keys, STR("x"), STR("kk")));
	cr_expect(api_keys_admit(&keys, absent, STR("k")));
	cr_expect(api_keys_admit(&keys, absent, STR("a")));
	cr_expect(api_keys_admit(&keys, STR("k"), absent));
	cr_expect(api_keys_admit(&keys, STR("bad"), STR("a")));
	api_keys_fini(&keys);
}

/* --- kept keys -------------------------------------------------------------------------------------------------- */

TestSuite(key_files, .init = make_scratch, .fini = drop_scratch);

static mode_t mode_of(const char *name)
{
	struct stat st;

	cr_assert_eq(lstat(scratch_path(&scratch, "%s", name), &st), 0, "%s", name);
	return st.st_mode & 07777;
}

/* Missing keys are made, those that are there are kept, and both are laid beside the socket: nobody else may read them. */
Test(key_files, kept)
{
	struct api_keys first = {0}, second = {0}, beside = {0};
	char why[300] = "";
	char dir[300], socket[300];

	snprintf(dir, sizeof(dir), "%s", scratch_path(&scratch, "keys"));
	snprintf(socket, sizeof(socket), "%s", scratch_path(&scratch, "run/api.sock"));
	cr_assert_eq(mkdir(dir, 0700), 0);
	cr_assert_eq(mkdir(scratch_path(&scratch, "run"), 0700), 0);
	cr_assert_eq(key_files_keep(dir, (gid_t)-1, &first, why, sizeof(why)), 0, "%s", why);
	cr_expect(!secret_same(first.ordinary, first.admin));
	cr_expect_eq(mode_of("keys/api.key"), 0600);
	cr_assert_eq(unlink(scratch_path(&scratch, "keys/admin.key")), 0);
	cr_assert_eq(key_files_keep(dir, getegid(), &second, why, sizeof(why)), 0, "%s", why);
	cr_expect(secret_same(first.ordinary, second.ordinary));
	cr_expect(!secret_same(first.admin, second.admin));
	cr_expect_eq(mode_of("keys/admin.key"), 0640);
	cr_assert_eq(key_files_lay_beside(socket, getegid(), &second, why, sizeof(why)), 0, "%s", why);
	cr_expect_eq(mode_of("run/api.key"), 0640);
	cr_assert_eq(api_keys_read(scratch_path(&scratch, "run/api.key"), &beside.ordinary, why, sizeof(why)), 0);
	cr_assert_eq(api_keys_read(scratch_path(&scratch, "run/admin.key"), &beside.admin, why, sizeof(why)), 0);
	cr_expect(secret_same(beside.ordinary, second.ordinary) && secret_same(beside.admin, second.admin));
	cr_expect_eq(access(scratch_path(&scratch, "run/.api.key.new"), F_OK), -1);
	api_keys_fini(&first);
	api_keys_fini(&second);
	api_keys_fini(&beside);
}

/* A directory that is not there, and a file that holds no key, are said. */
Test(key_files, faulty)
{
	struct api_keys keys = {0};
	char why[300] = "";
	char path[300];

	snprintf(path, sizeof(path), "%s", scratch_path(&scratch, "nowhere"));
	cr_expect_eq(key_files_keep(path, (gid_t)-1, &keys, why, sizeof(why)), -ENOENT);
	cr_expect(strstr(why, "nowhere"), "%s", why);
	api_keys_fini(&keys);
	scratch_text(&scratch, "api.key", 0600, "");
	snprintf(path, sizeof(path), "%s", scratch_path(&scratch, "."));
	cr_expect_eq(key_files_keep(path, (gid_t)-1, &keys, why, sizeof(why)), -EINVAL);
	cr_expect(strstr(why, "is empty"), "%s", why);
	api_keys_fini(&keys);
}
