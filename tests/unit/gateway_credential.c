/* SPDX-License-Identifier: Apache-2.0 */
/* H6, H7, X7: which key files, variables and outputs are taken, and that no fault's text holds a byte of a key. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/secret.h"
#include "gateway/config.h"
#include "gateway/credential.h"
#include "lib/scratch.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define KEY          "SEKRET-0123456789"
#define VARIABLE     "GATEWAY_CREDENTIAL_TEST"

extern char **environ;

static struct scratch dir;

static void begin(void)
{
	scratch_init(&dir);
	unsetenv("CREDENTIALS_DIRECTORY");
}

static void end(void)
{
	scratch_fini(&dir);
}

TestSuite(gateway_credential, .init = begin, .fini = end);

static struct config_key of_file(const char *path)
{
	return (struct config_key){.source = CONFIG_SOURCE_FILE, .from = (char *)(uintptr_t)path};
}

static struct config_key of_variable(void)
{
	return (struct config_key){.source = CONFIG_SOURCE_ENV, .from = (char *)(uintptr_t)VARIABLE};
}

/* Both functions must agree; the fault names where it comes from and never what it is. */
static int load(struct config_key k, const char *want, const char *name)
{
	struct secret *out = NULL;
	char why[300] = "";
	char checked[300] = "";
	int check = credential_check(&k, checked, sizeof(checked));
	int rc = credential_load(&k, &out, why, sizeof(why));

	cr_expect_eq(check, rc, "%s: -t says %d, the start %d", name, check, rc);
	cr_expect_str_eq(checked, why, "%s", name);
	cr_expect_null(strstr(why, "SEKRET"), "%s: %s", name, why);
	if (rc) {
		cr_expect_lt(rc, 0);
		cr_expect_null(out);
		cr_expect_not_null(strstr(why, k.from), "%s: %s", name, why);
	} else if (want) {
		cr_expect(secret_equal(out, str_from(want)), "%s", name);
		secret_unref(out);
	}
	return rc;
}

/* The permission bits alone, each of the 512. */
Test(gateway_credential, every_mode)
{
	const char *path = scratch_text(&dir, "key", 0600, KEY "\n");

	for (mode_t mode = 0; mode < 01000; mode++) {
		char name[8];
		bool good = (mode & 0027) == 0;
		cr_assert_eq(chmod(path, mode), 0);
		snprintf(name, sizeof(name), "%03o", (unsigned)mode);
		if (geteuid() != 0 && ((mode & 0040) || !(mode & 0400)))
			good = false; /* group-readable is for root's files only; and nobody reads what he may not */
		cr_expect_eq(load(of_file(path), good ? KEY : NULL, name) == 0, good, "mode %s", name);
	}
}

/* The owner is root or the daemon; a group may read only root's file, and only one of the daemon's own groups. */
Test(gateway_credential, owners)
{
	const char *path = scratch_text(&dir, "key", 0600, KEY);

	if (geteuid() != 0)
		cr_skip_test("NOT TESTED: giving files away needs root");
	cr_assert_eq(chown(path, 4321, (gid_t)-1), 0);
	cr_expect_eq(load(of_file(path), NULL, "another's"), -EPERM);
	cr_assert_eq(chown(path, 0, 4321), 0);
	cr_assert_eq(chmod(path, 0640), 0);
	cr_expect_eq(load(of_file(path), NULL, "a foreign group's"), -EPERM);
	cr_assert_eq(chown(path, 0, getegid()), 0);
	cr_expect_eq(load(of_file(path), KEY, "our group's"), 0);
}

/* No link, directory, fifo or device, and none of them holds the start up. */
Test(gateway_credential, kinds)
{
	const char *path = scratch_path(&dir, "it");

	cr_assert_eq(symlink(scratch_text(&dir, "key", 0600, KEY), path), 0);
	cr_expect_eq(load(of_file(path), NULL, "link"), -ELOOP);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_expect_eq(load(of_file(path), NULL, "fifo"), -EPERM);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkdir(path, 0700), 0);
	cr_expect_eq(load(of_file(path), NULL, "directory"), -EPERM);
	cr_expect_eq(load(of_file("/dev/zero"), NULL, "device"), -EPERM);
	cr_expect_eq(load(of_file(scratch_path(&dir, "none")), NULL, "missing"), -ENOENT);
}

/* What a key may be: up to 4096 visible ASCII bytes, and one newline behind them. */
Test(gateway_credential, values)
{
	static char big[SECRET_MAX_BYTES + 3];
	static const struct {
		const char *bytes;
		size_t n;
		const char *key;
	} rows[] = {
#define ROW(bytes, key) {bytes, sizeof(bytes) - 1, key}
		ROW(KEY, KEY),           ROW(KEY "\n", KEY),       ROW("x", "x"),
		ROW("x\n", "x"),         ROW("!~", "!~"),          ROW("", NULL),
		ROW("\n", NULL),         ROW(KEY "\n\n", NULL),    ROW("\n" KEY, NULL),
		ROW(KEY "\r\n", NULL),   ROW(KEY "\r", NULL),      ROW(KEY " ", NULL),
		ROW(" " KEY, NULL),      ROW(KEY " x", NULL),      ROW(KEY "\t", NULL),
		ROW(KEY "\0", NULL),     ROW(KEY "\0\n", NULL),    ROW(KEY "\x7f", NULL),
		ROW(KEY "\x80", NULL),   ROW(KEY "\x1b[0m", NULL), ROW(KEY "\xc3\xa9", NULL),
		ROW(KEY "\n" KEY, NULL),
#undef ROW
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char name[16];
		snprintf(name, sizeof(name), "row %zu", i);
		cr_expect_eq(load(of_file(scratch_file(&dir, "key", 0600, rows[i].bytes, rows[i].n)), rows[i].key,
				  name) == 0,
			     rows[i].key != NULL, "%s", name);
	}
	memset(big, 'k', sizeof(big));
	for (size_t n = SECRET_MAX_BYTES - 1; n <= sizeof(big); n++) {
		cr_expect_eq(load(of_file(scratch_file(&dir, "key", 0600, big, n)), NULL, "long") == 0,
			     n <= SECRET_MAX_BYTES);
		if (n <= SECRET_MAX_BYTES) {
			struct secret *s = NULL;
			struct config_key k = of_file(scratch_path(&dir, "key"));
			char why[300];
			big[n] = '\n';
			scratch_file(&dir, "key", 0600, big, n + 1);
			cr_assert_eq(credential_load(&k, &s, why, sizeof(why)), 0);
			cr_expect_eq(secret_bytes(s).n, n);
			secret_unref(s);
			big[n] = 'k';
		}
	}
	scratch_text(&dir, "key", 0600, KEY);
	cr_assert_eq(truncate(scratch_path(&dir, "key"), 1 << 30), 0);
	cr_expect_eq(load(of_file(scratch_path(&dir, "key")), NULL, "1 GiB"), -EINVAL);
}

/* What systemd put below $CREDENTIALS_DIRECTORY it guards itself; a look-alike path is judged as any other. */
Test(gateway_credential, credentials_directory)
{
	char credentials[96];
	char roundabout[200];

	snprintf(credentials, sizeof(credentials), "%s", scratch_path(&dir, "creds"));
	cr_assert_eq(mkdir(credentials, 0700), 0);
	scratch_text(&dir, "creds/key", 0440, KEY "\n");
	cr_assert_eq(chmod(scratch_path(&dir, "creds/key"), 0444), 0);
	scratch_text(&dir, "outside", 0644, KEY);
	cr_assert_eq(chmod(scratch_path(&dir, "outside"), 0644), 0);
	cr_expect_eq(load(of_file(scratch_path(&dir, "creds/key")), NULL, "without the variable"), -EPERM);
	setenv("CREDENTIALS_DIRECTORY", credentials, 1);
	cr_expect_eq(load(of_file(scratch_path(&dir, "creds/key")), KEY, "below it"), 0);
	cr_expect_eq(load(of_file(scratch_path(&dir, "outside")), NULL, "outside"), -EPERM);
	snprintf(roundabout, sizeof(roundabout), "%s/../outside", credentials);
	cr_expect_eq(load(of_file(roundabout), NULL, "roundabout"), -EPERM);
	scratch_text(&dir, "creds-not", 0644, KEY);
	cr_assert_eq(chmod(scratch_path(&dir, "creds-not"), 0644), 0);
	cr_expect_eq(load(of_file(scratch_path(&dir, "creds-not")), NULL, "a longer name"), -EPERM);
	/* Guarded or not, it is a regular file. */
	cr_assert_eq(symlink("key", scratch_path(&dir, "creds/link")), 0);
	cr_expect_eq(load(of_file(scratch_path(&dir, "creds/link")), NULL, "a link in it"), -ELOOP);
	setenv("CREDENTIALS_DIRECTORY", "", 1);
	cr_expect_eq(load(of_file(scratch_path(&dir, "outside")), NULL, "empty"), -EPERM);
}

/* X7: a credential of systemd is named, and read from the directory that systemd says, whatever its mode shows. */
Test(gateway_credential, systemd)
{
	struct config_key k = {.source = CONFIG_SOURCE_SYSTEMD, .from = (char *)(uintptr_t) "team"};

	cr_expect_eq(load(k, NULL, "no directory"), -ENOENT);
	cr_assert_eq(mkdir(scratch_path(&dir, "creds"), 0700), 0);
	setenv("CREDENTIALS_DIRECTORY", scratch_path(&dir, "creds"), 1);
	cr_expect_eq(load(k, NULL, "no such credential"), -ENOENT);
	scratch_text(&dir, "creds/team", 0440, KEY "\n");
	cr_assert_eq(chmod(scratch_path(&dir, "creds/team"), 0444), 0);
	cr_expect_eq(load(k, KEY, "of systemd"), 0);
	setenv("CREDENTIALS_DIRECTORY", "relative", 1);
	cr_expect_eq(load(k, NULL, "a relative directory"), -ENOENT);
}

/* Outside its unit, and in a process of the unit that may not look, nothing can be said of a credential of systemd. */
Test(gateway_credential, out_of_reach)
{
	const struct config_key k = {.source = CONFIG_SOURCE_SYSTEMD, .from = (char *)(uintptr_t) "team"};
	const struct config_key file = of_file("/none");

	cr_expect(credential_is_out_of_reach(&k));
	cr_expect_not(credential_is_out_of_reach(&file));
	setenv("CREDENTIALS_DIRECTORY", "", 1);
	cr_expect(credential_is_out_of_reach(&k));
	setenv("CREDENTIALS_DIRECTORY", "relative", 1);
	cr_expect_not(credential_is_out_of_reach(&k));
	cr_assert_eq(mkdir(scratch_path(&dir, "creds"), 0700), 0);
	setenv("CREDENTIALS_DIRECTORY", scratch_path(&dir, "creds"), 1);
	cr_expect_not(credential_is_out_of_reach(&k));
	cr_assert_eq(chmod(scratch_path(&dir, "creds"), 0), 0);
	cr_expect_eq(credential_is_out_of_reach(&k), geteuid() != 0, "root may look everywhere");
	cr_assert_eq(chmod(scratch_path(&dir, "creds"), 0700), 0);
}

/* What a command printed is judged as a file is, and wiped whatever comes of it. */
Test(gateway_credential, output)
{
	struct config_key k = {.source = CONFIG_SOURCE_COMMAND, .from = (char *)(uintptr_t) "/bin/helper"};
	static const char *const outputs[] = {KEY "\n", "", KEY "\n\n", KEY " x"};
	char zeros[40] = "";

	for (size_t i = 0; i < COUNT(outputs); i++) {
		char bytes[40] = "";
		char why[300] = "";
		struct secret *out = NULL;
		size_t n = strlen(outputs[i]);
		memcpy(bytes, outputs[i], n);
		cr_expect_eq(credential_take(&k, bytes, n, &out, why, sizeof(why)), i ? -EINVAL : 0);
		cr_expect_arr_eq(bytes, zeros, sizeof(bytes), "row %zu is left", i);
		cr_expect(i == 0 || strstr(why, "command /bin/helper: "), "%s", why);
		cr_expect_null(strstr(why, "SEKRET"));
		cr_expect(i != 0 || secret_equal(out, STR(KEY)));
		secret_unref(out);
	}
}

static bool in_environment(const char *name)
{
	for (char **e = environ; *e; e++)
		if (strncmp(*e, name, strlen(name)) == 0 && (*e)[strlen(name)] == '=')
			return true;
	return false;
}

/* A variable is overwritten where it stood and taken away, so it can be read once. */
Test(gateway_credential, variable)
{
	static char entry[] = VARIABLE "=" KEY; /* as the kernel put it there: putenv copies nothing */
	struct config_key k = of_variable();
	struct secret *first = NULL;
	struct secret *again = NULL;
	char why[300];

	cr_assert_eq(putenv(entry), 0);
	cr_assert_eq(credential_check(&k, why, sizeof(why)), 0);
	cr_expect(in_environment(VARIABLE), "-t takes nothing away");
	cr_assert_eq(credential_load(&k, &first, why, sizeof(why)), 0);
	cr_expect(secret_equal(first, STR(KEY)));
	cr_expect_not(in_environment(VARIABLE));
	for (size_t i = strlen(VARIABLE "="); i < sizeof(entry); i++)
		cr_expect_eq(entry[i], 0, "a byte of the key is left");
	cr_expect_eq(credential_load(&k, &again, why, sizeof(why)), -ENOENT);
	cr_expect_not_null(strstr(why, VARIABLE));
	secret_unref(first);
}

/* What no key can be is refused from a variable as from a file, and left for -t to show again. */
Test(gateway_credential, bad_variables)
{
	static const char *const bad[] = {"", KEY " ", KEY "\r\n", KEY "\x80", "\n"};
	char big[SECRET_MAX_BYTES + 2];

	cr_expect_eq(load(of_variable(), NULL, "unset"), -ENOENT);
	for (size_t i = 0; i < COUNT(bad); i++) {
		setenv(VARIABLE, bad[i], 1);
		cr_expect_eq(load(of_variable(), NULL, "variable"), -EINVAL, "'%s'", bad[i]);
	}
	memset(big, 'k', sizeof(big));
	big[SECRET_MAX_BYTES + 1] = '\0';
	setenv(VARIABLE, big, 1);
	cr_expect_eq(load(of_variable(), NULL, "long"), -EINVAL);
	big[SECRET_MAX_BYTES] = '\0';
	setenv(VARIABLE, big, 1);
	cr_expect_eq(load(of_variable(), big, "just long enough"), 0);
}
