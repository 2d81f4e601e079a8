/* SPDX-License-Identifier: Apache-2.0 */
/* Quoting, terminal escaping, tables, base64, checksums, times: what the client does to bytes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/copy.h"
#include "cli/encode.h"
#include "cli/sh_quote.h"
#include "cli/show.h"
#include "cli/stream_exec.h"
#include "cli/term.h"
#include "common/fd.h"

/* Runs the script and collects its stdout; returns the shell's wait status. */
static int run_sh(const struct buf *script, struct buf *out)
{
	char *text = str_dup(buf_str(script));
	int fds[2];
	int status = -1;
	pid_t pid;

	cr_assert(text && pipe(fds) == 0);
	pid = fork();
	if (pid == 0) {
		dup2(fds[1], 1);
		close(fds[0]);
		close(fds[1]);
		/* As in a sandbox: a directory of somebody else on the PATH would make of "not found" "not permitted". */
		setenv("PATH", "/usr/bin:/bin", 1);
		execl("/bin/sh", "sh", "-c", text, (char *)NULL);
		_exit(99);
	}
	close(fds[1]);
	cr_assert_eq(fd_read_all(fds[0], 1 << 20, out), 0);
	close(fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	free(text);
	return status;
}

static struct str as_str(const char *p, size_t n)
{
	return str_of(p, n);
}

static void assert_text(const struct buf *b, const char *expected)
{
	cr_assert(str_eq(buf_str(b), str_from(expected)), "%.*s", STR_ARG(buf_str(b)));
}

/* A real shell reads every quoted word back byte for byte. */
Test(cli_text, quoted_words_survive_a_shell)
{
	static const char *const words[] = {"",          "plain",     "two words",    "it's",         "'",
					    "''",        "\"$HOME\"", "`id`",         "$(id)",        "a\nb\n",
					    "*",         "-n",        "\\",           "\\n\\0",       "tab\there",
					    "~",         "#c",        "h\xc3\xa9llo", "\xff\xfe",     "a\xc3",
					    "\xe2\x82'", "!!",        "\x01\x7f",     "x=1;y && z|w", "%s%d"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct buf script = BUF_EMPTY;
		struct buf out = BUF_EMPTY;

		buf_add_cstr(&script, "printf '%s|' ");
		sh_quote(&script, str_from(words[i]));
		cr_assert_eq(run_sh(&script, &out), 0);
		cr_assert_eq(out.len, strlen(words[i]) + 1, "word %zu: %.*s", i, STR_ARG(buf_str(&script)));
		cr_assert_arr_eq(buf_data(&out), words[i], out.len - 1);
		buf_fini(&script);
		buf_fini(&out);
	}
}

/* Every byte but NUL, each alone, is quoted to text that JSON can carry. */
Test(cli_text, quoted_words_are_utf8)
{
	for (int c = 1; c < 256; c++) {
		char word[1] = {(char)c};
		struct buf out = BUF_EMPTY;

		sh_quote(&out, as_str(word, 1));
		cr_assert(encode_is_text(buf_str(&out)), "byte %d", c);
		buf_fini(&out);
	}
}

/* The script of an exec leaves the program's status in the file whatever the program does to its own process.
 */
Test(cli_text, exec_script_leaves_the_status)
{
	static const struct {
		const char *const words[4];
		const char *status;
	} cases[] = {
		{{"sh", "-c", "exit 0"}, "0\n"},          {{"sh", "-c", "exit 7"}, "7\n"},
		{{"sh", "-c", "kill -9 $$"}, "137\n"},    {{"sh", "-c", "kill -TERM $$"}, "143\n"},
		{{"/nonexistent/program"}, "127\n"},      {{"/dev/null"}, "126\n"},
		{{"sh", "-c", "exec true"}, "0\n"},       {{"exit", "3"}, "127\n"},
		{{"sh", "-c", "umask 0; exit 4"}, "4\n"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char path[] = "/tmp/cli-status-XXXXXX";
		int fd = mkstemp(path);
		struct buf script = BUF_EMPTY;
		struct buf out = BUF_EMPTY;
		struct buf status = BUF_EMPTY;

		cr_assert(fd >= 0);
		buf_add_cstr(&script, "exec 2>/dev/null; ");
		stream_exec_script(&script, (char **)cases[i].words, path);
		run_sh(&script, &out);
		cr_assert_eq(fd_read_all(fd, 100, &status), 0);
		assert_text(&status, cases[i].status);
		close(fd);
		unlink(path);
		buf_fini(&script);
		buf_fini(&out);
		buf_fini(&status);
	}
}

/* X14: no control byte reaches a terminal; in a program's output line ends and tabs do. */
Test(cli_text, terminal_escaping)
{
	static const struct {
		const char *in;
		size_t n;
		const char *line;
		const char *stream;
	} cases[] = {
		{"plain", 5, "plain", "plain"},
		{"a\x1b[31mb", 7, "a\\x1b[31mb", "a\\x1b[31mb"},
		{"a\nb\tc\rd", 7, "a\\x0ab\\x09c\\x0dd", "a\nb\tc\rd"},
		{"\x00\x07\x08\x7f", 4, "\\x00\\x07\\x08\\x7f", "\\x00\\x07\\x08\\x7f"},
		{"\xc2\x9b"
		 "31m",
		 5, "\\xc2\\x9b31m", "\\xc2\\x9b31m"},
		{"\xc2\xa0\xc3\xa9", 4, "\xc2\xa0\xc3\xa9", "\xc2\xa0\xc3\xa9"},
		{"\x9b\xff", 2, "\\x9b\\xff", "\\x9b\\xff"},
		{"\xe2\x82", 2, "\\xe2\\x82", "\\xe2\\x82"},
		{"\\", 1, "\\", "\\"},
		{"", 0, "", ""},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf out = BUF_EMPTY;

		term_escape(&out, as_str(cases[i].in, cases[i].n), TERM_LINE);
		assert_text(&out, cases[i].line);
		buf_reset(&out);
		term_escape(&out, as_str(cases[i].in, cases[i].n), TERM_STREAM);
		assert_text(&out, cases[i].stream);
		buf_fini(&out);
	}
}

/* Columns are as wide as their widest cell, counted in characters, and lines end without spaces. */
Test(cli_text, table)
{
	struct term_table t;
	struct buf out = BUF_EMPTY;

	term_table_init(&t, 3);
	term_table_cell(&t, STR("A"));
	term_table_cell(&t, STR("LONG HEAD"));
	term_table_cell(&t, STR("C"));
	term_table_cell(&t, STR("h\xc3\xa9llo"));
	term_table_cell(&t, STR("x\ny"));
	term_table_cell(&t, STR("end"));
	term_table_render(&t, &out);
	assert_text(&out, "A      LONG HEAD  C\nh\xc3\xa9llo  x\\x0ay     end\n");
	term_table_fini(&t);
	buf_fini(&out);
}

/* RFC 4648 section 10. */
Test(cli_text, base64)
{
	static const char *const pairs[][2] = {{"", ""},
					       {"f", "Zg=="},
					       {"fo", "Zm8="},
					       {"foo", "Zm9v"},
					       {"foob", "Zm9vYg=="},
					       {"fooba", "Zm9vYmE="},
					       {"foobar", "Zm9vYmFy"},
					       {"\xff\xef\xbe", "/+++"}};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct buf out = BUF_EMPTY;

		encode_base64(&out, str_from(pairs[i][0]));
		assert_text(&out, pairs[i][1]);
		buf_fini(&out);
	}
}

/* What goes as text is UTF-8 without NUL and not too large. */
Test(cli_text, text_or_bytes)
{
	static char large[ENCODE_TEXT_MAX + 1];

	memset(large, 'a', sizeof(large));
	cr_assert(encode_is_text(STR("")));
	cr_assert(encode_is_text(STR("h\xc3\xa9llo\r\n\x01\x7f")));
	cr_assert(encode_is_text(STR("\xef\xbb\xbf"
				     "bom")));
	cr_assert(encode_is_text(STR("\xf4\x8f\xbf\xbf")));
	cr_assert_not(encode_is_text(as_str("a\0b", 3)));
	cr_assert_not(encode_is_text(STR("\xff")));
	cr_assert_not(encode_is_text(STR("cut \xe2\x82")));
	cr_assert_not(encode_is_text(STR("\xed\xa0\x80")));
	cr_assert_not(encode_is_text(STR("\xc0\x80")));
	cr_assert(encode_is_text(as_str(large, ENCODE_TEXT_MAX)));
	cr_assert_not(encode_is_text(as_str(large, ENCODE_TEXT_MAX + 1)));
}

/* The checksum is the one of cksum(1), however the bytes are cut. */
Test(cli_text, cksum_is_posix)
{
	struct buf script = BUF_EMPTY;
	struct buf out = BUF_EMPTY;
	struct encode_cksum sum = ENCODE_CKSUM_EMPTY;
	char bytes[3000];
	char expected[64];

	cr_assert_eq(encode_cksum_value(&sum), 4294967295u);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (char)('a' + i % 23);
	buf_add_cstr(&script, "printf %s '");
	buf_add(&script, bytes, sizeof(bytes));
	buf_add_cstr(&script, "' | cksum");
	cr_assert_eq(run_sh(&script, &out), 0);
	encode_cksum_add(&sum, as_str(bytes, 1));
	encode_cksum_add(&sum, as_str(bytes + 1, sizeof(bytes) - 1));
	snprintf(expected, sizeof(expected), "%u %zu\n", (unsigned)encode_cksum_value(&sum), sizeof(bytes));
	assert_text(&out, expected);
	buf_fini(&script);
	buf_fini(&out);
}

/* What a sandbox answers about a file is read strictly. */
Test(cli_text, cksum_answers)
{
	static const struct {
		const char *text;
		int rc;
		bool has_crc;
		uint32_t crc;
		uint64_t bytes;
	} cases[] = {
		{"4294967295 0\n", 0, true, 4294967295u, 0},
		{"1 2", 0, true, 1, 2},
		{"- 17\n", 0, false, 0, 17},
		{"-    17\n", 0, false, 0, 17},
		{"", -1, false, 0, 0},
		{"12\n", -1, false, 0, 0},
		{"4294967296 1\n", -1, false, 0, 0},
		{"x 1\n", -1, false, 0, 0},
		{"1 2 3\n", -1, false, 0, 0},
		{"1 -2\n", -1, false, 0, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool has_crc = false;
		uint32_t crc = 0;
		uint64_t bytes = 0;
		int rc = encode_cksum_parse(str_from(cases[i].text), &has_crc, &crc, &bytes);

		cr_assert_eq(rc < 0, cases[i].rc < 0, "%s", cases[i].text);
		if (rc < 0)
			continue;
		cr_assert_eq(has_crc, cases[i].has_crc);
		cr_assert(crc == cases[i].crc && bytes == cases[i].bytes, "%s", cases[i].text);
	}
}

/* Temporary names lie beside the target, are hidden, differ, and never grow too long for a file system. */
Test(cli_text, temporary_names)
{
	struct buf a = BUF_EMPTY;
	struct buf b = BUF_EMPTY;
	char longest[300];

	cr_assert_eq(copy_temp_name(&a, STR("/dir/name.txt"), ".part"), 0);
	cr_assert_eq(copy_temp_name(&b, STR("/dir/name.txt"), ".part"), 0);
	cr_assert(str_starts(buf_str(&a), STR("/dir/.name.txt.stacygate-")));
	cr_assert(str_ends(buf_str(&a), STR(".part")));
	cr_assert_not(str_eq(buf_str(&a), buf_str(&b)));
	buf_reset(&a);
	memset(longest, 'x', sizeof(longest));
	/* A character of three bytes lies across the cut. */
	memcpy(longest + 198, "\xe2\x82\xac", 3);
	cr_assert_eq(copy_temp_name(&a, as_str(longest, 255), ".part"), 0);
	cr_assert_leq(a.len, 255);
	cr_assert(encode_is_text(buf_str(&a)));
	buf_fini(&a);
	buf_fini(&b);
}

/* Base names, and remote paths without a slash in front. */
Test(cli_text, paths)
{
	struct buf b = BUF_EMPTY;

	cr_assert(str_eq(copy_base_name(STR("/a/b.txt")), STR("b.txt")));
	cr_assert(str_eq(copy_base_name(STR("b.txt")), STR("b.txt")));
	cr_assert(str_eq(copy_base_name(STR("/a/b//")), STR("b")));
	cr_assert_eq(copy_base_name(STR("/")).n, 0);
	copy_remote_path(&b, STR("/etc/x"));
	assert_text(&b, "/etc/x");
	buf_reset(&b);
	copy_remote_path(&b, STR("a/b"));
	assert_text(&b, "/workspace/a/b");
	buf_fini(&b);
}

/* Times come with fractions and with the server's own offset. */
Test(cli_text, times)
{
	static const struct {
		const char *text;
		int64_t seconds; /* -1: refused */
	} cases[] = {
		{"1970-01-01T00:00:10Z", 10},
		{"2026-01-02T03:04:05.123456789Z", 1767323045},
		{"2026-01-02T08:34:05+05:30", 1767323045},
		{"2026-01-01T22:04:05.5-05:00", 1767323045},
		{"2026-01-02 03:04:05Z", -1},
		{"2026-01-02T03:04:05", -1},
		{"2026-01-02T03:04:05+0530", -1},
		{"2026-01-02T03:04:05+xx:30", -1},
		{"nonsense", -1},
		{"", -1},
	};
	char age[24];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int64_t seconds = -2;
		int rc = show_parse_time(cases[i].text, &seconds);

		cr_assert_eq(rc < 0, cases[i].seconds < 0, "%s", cases[i].text);
		if (rc == 0)
			cr_assert_eq(seconds, cases[i].seconds, "%s: %lld", cases[i].text, (long long)seconds);
	}
	show_age(59, age);
	cr_assert_str_eq(age, "59s");
	show_age(3599, age);
	cr_assert_str_eq(age, "59m");
	show_age(7200, age);
	cr_assert_str_eq(age, "2h");
	show_age(200000, age);
	cr_assert_str_eq(age, "2d");
}

static void assert_pairs(const char *json, const char *expected)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};

	cr_assert_eq(show_pairs(&out, str_from(json), &f), 0);
	assert_text(&out, expected);
	buf_fini(&out);
}

/* An answer becomes one line per value, whatever is in it. */
Test(cli_text, pairs)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};

	assert_pairs("{}", "");
	assert_pairs("{\"uid\":1000,\"groups\":[1,2],\"exe\":null,\"x\":1.5,\"admin\":true}",
		     "uid: 1000\ngroups: 1, 2\nexe: null\nx: 1.5\nadmin: true\n");
	assert_pairs("{\"a\":{\"b\":{\"c\":\"d\"}},\"l\":[],\"u\":[{\"name\":\"m\",\"ok\":false},{\"name\":"
		     "\"n\"}]}",
		     "a.b.c: d\nl: \nu[0].name: m\nu[0].ok: false\nu[1].name: n\n");
	assert_pairs("{\"k\\u001b\":\"\\u001b[2J\\n\"}", "k\\x1b: \\x1b[2J\\x0a\n");
	cr_assert_eq(show_pairs(&out, STR("[]"), &f), -1);
	cr_assert_eq(show_pairs(&out, STR("{"), &f), -1);
	cr_assert_str_eq(f.code, "BAD_ANSWER");
	buf_fini(&out);
}

/* X14: the list of sandboxes, with what may be missing missing and hostile text escaped. */
Test(cli_text, sandboxes)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};

	cr_assert_eq(show_sandboxes(&out,
				    STR("[{\"id\":\"sb-1\",\"state\":\"running\",\"image\":\"a\\u001b]0;x\\u0007\","
					"\"vcpus\":2,\"memory_mb\":512,\"created_at\":\"1970-01-01T00:00:40Z\","
					"\"expires_at\":\"1970-01-01T00:31:40Z\"},{\"id\":\"sb-2\",\"vcpus\":\"x\"}]"),
				    100, &f),
		     0);
	assert_text(&out, "ID    STATE    IMAGE          VCPUS  MEMORY  OWNER  CREATED  EXPIRES\n"
			  "sb-1  running  a\\x1b]0;x\\x07  2      512 MB  -      1m ago   in 30m\n"
			  "sb-2  -        -              -      -       -      -        -\n");
	cr_assert_eq(show_sandboxes(&out, STR("{}"), 0, &f), -1);
	buf_fini(&out);
}

/* X14: templates and leases in the same way, in whichever of its two spellings a template comes. */
Test(cli_text, templates_and_leases)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};

	cr_assert_eq(show_templates(&out,
				    STR("[{\"name\":\"a\\u001b[1m\",\"image\":\"i\",\"cpu_cores\":2,\"memory_mb\":64,"
					"\"ttl_seconds\":90},"
					"{\"name\":\"b\",\"vcpus\":3,\"cpu_cores\":1,\"ttl\":\"1h\",\"ttl_seconds\":-1,"
					"\"provider\":\"p\"},"
					"{\"ttl_seconds\":9223372036854775807},7]"),
				    100, &f),
		     0);
	assert_text(&out, "NAME      IMAGE  VCPUS  MEMORY  TTL    PROVIDER  UPDATED\n"
			  "a\\x1b[1m  i      2      64 MB   1m30s  -         -\n"
			  "b         -      3      -       1h     p         -\n"
			  "-         -      -      -       -      -         -\n"
			  "-         -      -      -       -      -         -\n");
	buf_reset(&out);
	cr_assert_eq(
		show_leases(&out,
			    STR("[{\"sandbox\":\"sb-1\",\"kind\":\"clock\",\"expires_at\":\"1970-01-01T00:03:10Z\","
				"\"owner\":\"u\\u009b\",\"state\":\"held\"},{\"sandbox\":\"sb-2\",\"kind\":\"process\","
				"\"pid\":7}]"),
			    100, &f),
		0);
	assert_text(&out, "SANDBOX  KIND     PID  STATE  OWNER      EXPIRES\n"
			  "sb-1     clock    -    held   u\\xc2\\x9b  in 1m\n"
			  "sb-2     process  7    -      -          -\n");
	cr_assert_eq(show_templates(&out, STR("{}"), 0, &f), -1);
	cr_assert_eq(show_leases(&out, STR("["), 0, &f), -1);
	cr_assert_str_eq(f.code, "BAD_ANSWER");
	buf_fini(&out);
}

/* X14: lines of a log are as they are in a pipe, and harmless on a terminal. */
Test(cli_text, log_lines)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};
	struct str answer = STR("[\"a\\u001b[2J\\tb\",\"\",3]");

	cr_assert_eq(show_lines(&out, answer, false, &f), 0);
	assert_text(&out, "a\x1b[2J\tb\n\n\n");
	buf_reset(&out);
	cr_assert_eq(show_lines(&out, answer, true, &f), 0);
	assert_text(&out, "a\\x1b[2J\tb\n\n\n");
	cr_assert_eq(show_lines(&out, STR("{}"), true, &f), -1);
	buf_fini(&out);
}

/* What extend says. */
Test(cli_text, expiry)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};

	cr_assert_eq(show_expiry(&out, STR("{\"id\":\"sb-1\",\"expires_at\":\"1970-01-01T00:31:40Z\"}"), 100, &f), 0);
	assert_text(&out, "sb-1 expires in 30m\n");
	cr_assert_eq(show_expiry(&out, STR("[]"), 100, &f), -1);
	buf_fini(&out);
}

/* JSON for a terminal holds no byte that a terminal would act on. */
Test(cli_text, json_for_terminals)
{
	struct buf out = BUF_EMPTY;
	struct fault f = {0};

	cr_assert_eq(show_json(&out, STR("{ \"a\" : \"\xc2\x9b\xc3\xa9\" }"), true, &f), 0);
	assert_text(&out, "{\"a\":\"\\u009B\\u00E9\"}\n");
	buf_reset(&out);
	cr_assert_eq(show_json(&out, STR("[\"\xc3\xa9\"]"), false, &f), 0);
	assert_text(&out, "[\"\xc3\xa9\"]\n");
	cr_assert_eq(show_json(&out, STR("[1"), false, &f), -1);
	buf_fini(&out);
}
