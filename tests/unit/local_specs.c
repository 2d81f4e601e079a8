/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>

#include "local/exec_spec.h"
#include "local/file_mode.h"
#include "local/go_json.h"
#include "local/spawn_spec.h"
#include "local/utf8_tail.h"

/* --- exec ------------------------------------------------------------------------------------------------------- */

/* Arguments are quoted so that sh gives them back unchanged. */
Test(exec_spec, quote)
{
	static const struct {
		const char *arg;
		const char *quoted;
	} cases[] = {
		{"", " ''"}, {"a b", " 'a b'"}, {"it's", " 'it'\"'\"'s'"}, {"$HOME", " '$HOME'"}, {"'", " ''\"'\"''"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_EMPTY;
		exec_quote(&out, str_from(cases[i].arg));
		cr_expect(str_eq(buf_str(&out), str_from(cases[i].quoted)), "%.*s", STR_ARG(buf_str(&out)));
		buf_fini(&out);
	}
}

/* White space around the mode does not count; case does. */
Test(exec_spec, modes)
{
	cr_expect_eq(exec_mode_of(STR("")), EXEC_SHELL);
	cr_expect_eq(exec_mode_of(STR(" \t\n")), EXEC_SHELL);
	cr_expect_eq(exec_mode_of(STR(" shell ")), EXEC_SHELL);
	cr_expect_eq(exec_mode_of(STR("argv\n")), EXEC_ARGV);
	cr_expect_eq(exec_mode_of(STR("ARGV")), EXEC_UNKNOWN);
	cr_expect_eq(exec_mode_of(STR("raw")), EXEC_UNKNOWN);
	cr_expect(exec_is_blank(STR(" \t")));
	cr_expect_not(exec_is_blank(str_of("\0", 1)));
}

static int command_of(const char *json, enum exec_mode mode, struct exec_command *cmd, json_t **doc)
{
	struct exec_fields f = {0};
	size_t n;
	const struct go_field *table = exec_fields_table(&n);

	cr_assert_eq(go_json_parse(str_from(json), doc), 0);
	cr_assert_eq(go_json_bind(*doc, table, n, &f), 0);
	return exec_command_init(cmd, &f, mode);
}

/* Shell mode is sh -c with the arguments behind the command; the environment becomes NAME=value. */
/* The exit code is asked for by a parameter of the NDJSON type, anywhere in the header's list. */
Test(exec_spec, exit_wanted)
{
	static const char *const yes[] = {
		"application/x-ndjson; exit=1",
		"application/x-ndjson;exit=1",
		"Application/X-NDJSON ; q=0.5 ; EXIT = \"1\"",
		"*/*, application/x-ndjson;exit=1",
		"application/x-ndjson, application/x-ndjson; exit=1",
	};
	static const char *const no[] = {
		"",
		"*/*",
		"application/x-ndjson",
		"application/x-ndjson; exit",
		"application/x-ndjson; exit=0",
		"application/x-ndjson; exit=11",
		"application/x-ndjson; exits=1",
		"application/x-ndjson, exit=1",
		"application/json; exit=1",
		"application/x-ndjson; exit=1; exit=0",
		";;;,,,=;",
	};

	for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++)
		cr_expect(exec_wants_exit(str_from(yes[i])), "%s", yes[i]);
	for (size_t i = 0; i < sizeof(no) / sizeof(no[0]); i++)
		cr_expect_not(exec_wants_exit(str_from(no[i])), "%s", no[i]);
	cr_expect_not(exec_wants_exit(str_of(NULL, 0)));
}

Test(exec_spec, shell_command)
{
	struct exec_command cmd;
	json_t *doc;

	cr_assert_eq(command_of("{\"command\":\"printf\",\"args\":[\"a b\",null],\"env\":{\"A\":\"1\",\"B\":null},"
				"\"workdir\":\"/tmp\"}",
				EXEC_SHELL, &cmd, &doc),
		     0);
	cr_assert_eq(cmd.spec.nargv, 3);
	cr_expect(str_eq(cmd.spec.argv[0], STR("sh")));
	cr_expect(str_eq(cmd.spec.argv[1], STR("-c")));
	cr_expect(str_eq(cmd.spec.argv[2], STR("printf 'a b' ''")));
	cr_assert_eq(cmd.spec.nenv, 2);
	cr_expect(str_eq(cmd.spec.env[0], STR("A=1")));
	cr_expect(str_eq(cmd.spec.env[1], STR("B=")));
	cr_expect(str_eq(cmd.spec.workdir, STR("/tmp")));
	exec_command_fini(&cmd);
	json_decref(doc);
}

/* argv mode passes program and arguments on as they are. */
Test(exec_spec, argv_command)
{
	struct exec_command cmd;
	json_t *doc;

	cr_assert_eq(command_of("{\"command\":\"printf\",\"args\":[\"%s\",\"$HOME && x\"]}", EXEC_ARGV, &cmd, &doc), 0);
	cr_assert_eq(cmd.spec.nargv, 3);
	cr_expect(str_eq(cmd.spec.argv[0], STR("printf")));
	cr_expect(str_eq(cmd.spec.argv[2], STR("$HOME && x")));
	cr_expect_eq(cmd.spec.nenv, 0);
	exec_command_fini(&cmd);
	json_decref(doc);
}

/* What no program can be given is refused: NUL bytes, environment names with '='. */
Test(exec_spec, impossible)
{
	static const char *const bad[] = {
		"{\"command\":\"a\\u0000b\"}",
		"{\"command\":\"x\",\"args\":[\"\\u0000\"]}",
		"{\"command\":\"x\",\"workdir\":\"/\\u0000\"}",
		"{\"command\":\"x\",\"env\":{\"A=B\":\"1\"}}",
		"{\"command\":\"x\",\"env\":{\"\":\"1\"}}",
		"{\"command\":\"x\",\"env\":{\"A\":\"\\u0000\"}}",
	};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (int mode = EXEC_SHELL; mode <= EXEC_ARGV; mode++) {
			struct exec_command cmd;
			json_t *doc;
			cr_expect_eq(command_of(bad[i], (enum exec_mode)mode, &cmd, &doc), -EINVAL, "%s", bad[i]);
			exec_command_fini(&cmd);
			json_decref(doc);
		}
	}
}

/* --- modes ------------------------------------------------------------------------------------------------------ */

/* "755" and "0755" are one mode; what is no octal number is told from what is too great. */
Test(file_mode, parse)
{
	unsigned mode = 0;

	cr_expect(file_mode_parse(STR("755"), &mode) == 0 && mode == 0755);
	cr_expect(file_mode_parse(STR("0755"), &mode) == 0 && mode == 0755);
	cr_expect(file_mode_parse(STR("4777"), &mode) == 0 && mode == 0777);
	cr_expect_eq(file_mode_parse(STR("u+x"), &mode), -EINVAL);
	cr_expect_eq(file_mode_parse(STR("8"), &mode), -EINVAL);
	cr_expect_eq(file_mode_parse(STR(""), &mode), -EINVAL);
	cr_expect_eq(file_mode_parse(STR("77777777777777777777777777"), &mode), -ERANGE);
	cr_expect_eq(file_mode_parse(STR("7777777777777777777777777x"), &mode), -EINVAL);
	cr_expect_eq(file_mode_for_write(STR("executable")), 0755);
	cr_expect_eq(file_mode_for_write(STR("")), 0644);
	cr_expect_eq(file_mode_for_write(STR("rwx")), 0644);
	cr_expect_eq(file_mode_for_write(STR("600")), 0600);
}

/* --- spawn ------------------------------------------------------------------------------------------------------ */

/* Owner ids are judged for length, then separators, then white space. */
Test(spawn_spec, owners)
{
	char longest[129];

	memset(longest, 'x', sizeof(longest));
	cr_expect_str_eq(spawn_owner_fault(STR("")), "");
	cr_expect_str_eq(spawn_owner_fault(STR("alice@host")), "");
	cr_expect_str_eq(spawn_owner_fault(str_of(longest, 128)), "");
	cr_expect_str_eq(spawn_owner_fault(str_of(longest, 129)), "owner_id must be 128 characters or fewer");
	cr_expect_str_eq(spawn_owner_fault(STR("a/b")), "owner_id cannot contain path separators");
	cr_expect_str_eq(spawn_owner_fault(STR("a \\b")), "owner_id cannot contain path separators");
	cr_expect_str_eq(spawn_owner_fault(STR("a b")), "owner_id cannot contain whitespace or control characters");
	cr_expect_str_eq(spawn_owner_fault(STR("a\x7f")), "owner_id cannot contain whitespace or control characters");
}

/* Without a word the defaults apply; only our own provider is known. */
Test(spawn_spec, defaults)
{
	struct spawn_fields f = {0};
	int64_t ns = 0;

	spawn_fields_complete(&f, NULL);
	cr_expect(str_eq(f.image, STR("alpine:latest")));
	cr_expect_eq(f.memory_mb, 1024);
	cr_expect_eq(f.vcpus, 1);
	cr_expect_eq(spawn_ttl(&f, NULL, &ns), DURATION_OK);
	cr_expect_eq(ns, INT64_C(1800000000000));
	f.ttl = STR("-5m");
	cr_expect_eq(spawn_ttl(&f, NULL, &ns), DURATION_OK);
	cr_expect_eq(ns, INT64_C(-300000000000));
	f.ttl = STR("30");
	cr_expect_eq(spawn_ttl(&f, NULL, &ns), DURATION_MISSING_UNIT);
	cr_expect(spawn_provider_known(STR("")));
	cr_expect(spawn_provider_known(STR("local")));
	cr_expect_not(spawn_provider_known(STR("docker")));
}

/* --- UTF-8 ------------------------------------------------------------------------------------------------------ */

/* However a text is cut into pieces, every piece passed on holds whole characters only. */
Test(utf8_tail, every_cut)
{
	struct str text = STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z");

	for (size_t cut = 0; cut <= text.n; cut++) {
		for (size_t cut2 = cut; cut2 <= text.n; cut2++) {
			const struct str pieces[] = {str_of(text.p, cut), str_of(text.p + cut, cut2 - cut),
						     str_of(text.p + cut2, text.n - cut2)};
			struct utf8_tail t = {.n = 0};
			struct buf all = BUF_EMPTY;
			for (size_t i = 0; i < 3; i++) {
				struct buf out = BUF_EMPTY;
				utf8_tail_pass(&t, pieces[i], &out);
				for (size_t at = 0; at < out.len;) {
					int n = str_utf8_len(str_of(buf_data(&out) + at, out.len - at));
					cr_assert_gt(n, 0, "cut %zu %zu", cut, cut2);
					at += (size_t)n;
				}
				buf_add_str(&all, buf_str(&out));
				buf_fini(&out);
			}
			cr_expect_eq(t.n, 0);
			cr_expect(str_eq(buf_str(&all), text));
			buf_fini(&all);
		}
	}
}

/* What can never become a character is not held back; what was cut for ever comes at the end. */
Test(utf8_tail, invalid)
{
	struct utf8_tail t = {.n = 0};
	struct buf out = BUF_EMPTY;

	utf8_tail_pass(&t, STR("a\xff"), &out);
	cr_expect(str_eq(buf_str(&out), STR("a\xff")));
	utf8_tail_pass(&t, STR("\x80\x80\x80\x80"), &out);
	cr_expect_eq(out.len, 6);
	utf8_tail_pass(&t, STR("\xe2\x28"), &out);
	cr_expect_eq(out.len, 8);
	utf8_tail_pass(&t, STR("b\xe2\x82"), &out);
	cr_expect_eq(out.len, 9);
	utf8_tail_flush(&t, &out);
	cr_expect_eq(out.len, 11);
	buf_fini(&out);
}
