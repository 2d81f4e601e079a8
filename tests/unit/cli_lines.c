/* SPDX-License-Identifier: Apache-2.0 */
/* The splitter of NDJSON and the reader of command lines. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/fault.h"
#include "cli/help.h"
#include "cli/ndjson.h"
#include "cli/options.h"
#include "cli/preview.h"
#include "cli/remote.h"
#include "cli/run.h"
#include "cli/socket_path.h"

/* ---- NDJSON ------------------------------------------------------------ */

struct lines {
	struct buf text; /* each line in brackets */
	int stop_after;  /* the callback fails at this line; 0: never */
	int count;
};

static int on_line(void *user, struct str line)
{
	struct lines *l = user;

	buf_addf(&l->text, "[%.*s]", STR_ARG(line));
	return ++l->count == l->stop_after ? -1 : 0;
}

static void assert_lines(const struct lines *l, const char *expected)
{
	cr_assert(str_eq(buf_str(&l->text), str_from(expected)), "%.*s", STR_ARG(buf_str(&l->text)));
}

static const char stream[] = "{\"a\":1}\n\n  \r\n{\"b\":2}\r\n{\"c\":\"x y\"}\n{\"last\":1}";
static const char stream_lines[] = "[{\"a\":1}][{\"b\":2}][{\"c\":\"x y\"}][{\"last\":1}]";

/* Wherever the bytes are cut, the lines are the same; blank ones are left out, the last needs no end. */
Test(cli_lines, ndjson_at_every_split)
{
	size_t n = sizeof(stream) - 1;

	for (size_t at = 0; at <= n; at++) {
		struct ndjson split = NDJSON_EMPTY;
		struct lines l = {0};

		cr_assert_eq(ndjson_feed(&split, str_of(stream, at), on_line, &l), 0);
		cr_assert_eq(ndjson_feed(&split, str_of(stream + at, n - at), on_line, &l), 0);
		cr_assert_eq(ndjson_finish(&split, on_line, &l), 0);
		assert_lines(&l, stream_lines);
		ndjson_fini(&split);
		buf_fini(&l.text);
	}
}

/* Byte by byte. */
Test(cli_lines, ndjson_in_single_bytes)
{
	struct ndjson split = NDJSON_EMPTY;
	struct lines l = {0};

	for (size_t i = 0; i < sizeof(stream) - 1; i++)
		cr_assert_eq(ndjson_feed(&split, str_of(stream + i, 1), on_line, &l), 0);
	cr_assert_eq(ndjson_finish(&split, on_line, &l), 0);
	assert_lines(&l, stream_lines);
	ndjson_fini(&split);
	buf_fini(&l.text);
}

/* A callback that fails ends the feeding at once. */
Test(cli_lines, ndjson_callback_stops)
{
	struct ndjson split = NDJSON_EMPTY;
	struct lines l = {.stop_after = 2};

	cr_assert_eq(ndjson_feed(&split, STR("1\n2\n3\n"), on_line, &l), -1);
	assert_lines(&l, "[1][2]");
	ndjson_fini(&split);
	buf_fini(&l.text);
}

/* A line without end is not collected for ever. */
Test(cli_lines, ndjson_bounds_a_line)
{
	static char piece[1 << 20];
	struct ndjson split = NDJSON_EMPTY;
	struct lines l = {0};
	int rc = 0;
	int fed = 0;

	memset(piece, 'x', sizeof(piece));
	for (; rc == 0 && fed < 100; fed++)
		rc = ndjson_feed(&split, str_of(piece, sizeof(piece)), on_line, &l);
	cr_assert_eq(rc, -EMSGSIZE);
	cr_assert_eq(fed, NDJSON_LINE_MAX / (int)sizeof(piece) + 1);
	cr_assert_eq(l.count, 0);
	ndjson_fini(&split);
}

/* ---- command lines ----------------------------------------------------- */

struct parsed {
	struct options o;
	struct fault f;
	int rc;
};

/*
 * Words separated by '|' (so that they may be empty or hold spaces), the first the command. What was parsed
 * points into the array of words: it is good until the next call.
 */
static struct parsed parse(char *line)
{
	static char *words[32];
	struct parsed p = {0};
	int n = 0;
	int taken;
	enum verb verb;

	for (char *at = line; at; n++) {
		words[n] = at;
		at = strchr(at, '|');
		if (at)
			*at++ = 0;
	}
	words[n] = NULL;
	taken = verb_find(words, n, &verb);
	cr_assert_gt(taken, 0);
	p.rc = options_parse(verb, n - taken, words + taken, &p.o, &p.f);
	return p;
}

#define PARSE(text) parse((char[]){text})

/* The words of a command are not ours, options among them too. */
Test(cli_lines, run_command_words)
{
	struct parsed p = PARSE("run|--image|python:3.12|--env|A=b=c|--env=X=|--|sh|-c|--json|--");

	cr_assert_eq(p.rc, 0, "%s", p.f.message);
	cr_assert_str_eq(p.o.image, "python:3.12");
	cr_assert_eq(p.o.env.n, 2);
	cr_assert(str_eq(options_pair_key(p.o.env.at[0]), STR("A")));
	cr_assert(str_eq(options_pair_value(p.o.env.at[0]), STR("b=c")));
	cr_assert(str_eq(options_pair_value(p.o.env.at[1]), STR("")));
	cr_assert_eq(p.o.command_words, 4);
	cr_assert_str_eq(p.o.command[0], "sh");
	cr_assert_str_eq(p.o.command[3], "--");
	cr_assert_null(p.o.command[4]);
	cr_assert_not(p.o.json);
	options_fini(&p.o);
}

/* Without "--" the command begins at the first word that is no option. */
Test(cli_lines, run_without_dashes)
{
	struct parsed p = PARSE("run|--memory=256|--vcpus|2|--ttl|90s|echo|--json");

	cr_assert_eq(p.rc, 0, "%s", p.f.message);
	cr_assert(p.o.memory_mb == 256 && p.o.vcpus == 2);
	cr_assert_str_eq(p.o.ttl, "90s");
	cr_assert_eq(p.o.command_words, 2);
	options_fini(&p.o);
}

/* exec takes options on both sides of the id. */
Test(cli_lines, exec_options_around_the_id)
{
	struct parsed p = PARSE("exec|--json|sb-1|--workdir|/tmp|--timeout|1m|--|ls|-l");

	cr_assert_eq(p.rc, 0, "%s", p.f.message);
	cr_assert(p.o.json);
	cr_assert_str_eq(p.o.operands.at[0], "sb-1");
	cr_assert_str_eq(p.o.workdir, "/tmp");
	cr_assert_str_eq(p.o.timeout, "1m");
	cr_assert_eq(p.o.command_words, 2);
	options_fini(&p.o);
}

/* -h wins over everything that is missing, in every command, and every command has a text. */
Test(cli_lines, help)
{
	for (int v = 0; v < VERB_COUNT; v++) {
		char *words[] = {"-h", NULL};
		struct options o;
		struct fault f = {0};

		cr_assert_eq(options_parse((enum verb)v, 1, words, &o, &f), 0);
		cr_assert(o.help);
		cr_assert(strncmp(help_verb((enum verb)v), "usage: stacygate ", 17) == 0);
		cr_assert_not_null(strstr(help_program(), verb_name((enum verb)v)));
		options_fini(&o);
	}
}

/* Every wrong command line is a usage error that names the fault. */
Test(cli_lines, faults)
{
	static const char *const cases[][2] = {
		{"run", "missing: a command"},
		{"run|--", "missing: a command"},
		{"run|--imge|x|true", "unknown option: --imge"},
		{"run|--image", "needs a value: --image"},
		{"run|--image||true", "not empty"},
		{"run|--json=1|true", "takes no value"},
		{"run|--memory|0|true", "not a number"},
		{"run|--memory|-1|true", "not a number"},
		{"run|--memory|1x|true", "not a number"},
		{"run|--vcpus|99999999999|true", "not a number"},
		{"run|--ttl|30|true", "not a duration"},
		{"run|--ttl|-5m|true", "not a duration"},
		{"run|--timeout|0s|true", "not a duration"},
		{"run|--env|NOVALUE|true", "KEY=VALUE"},
		{"run|--env|=v|true", "KEY=VALUE"},
		{"run|--env|A=\xff|true", "not valid UTF-8"},
		{"run|--file|nocolon|true", "LOCAL:REMOTE"},
		{"run|--file|:/x|true", "LOCAL:REMOTE"},
		{"run|--file|x:|true", "LOCAL:REMOTE"},
		{"run|-x|true", "unknown option: -x"},
		{"exec", "missing"},
		{"exec|sb-1", "missing"},
		{"exec|sb/1|true", "not a sandbox's id"},
		{"exec|..|true", "not a sandbox's id"},
		{"exec|--image|x|sb-1|true", "unknown option"},
		{"kill", "missing: a sandbox's id"},
		{"kill|sb-1|sb 2", "not a sandbox's id"},
		{"ls|x", "one word too many: x"},
		{"whoami|x", "one word too many"},
		{"spawn|--file|a:b", "unknown option"},
		{"cp|a", "missing"},
		{"cp|a|b", "neither is ID:PATH"},
		{"cp|sb-1:/a|sb-2:/b", "both are in a sandbox"},
		{"cp|a|sb-1:/b|c", "one word too many"},
		{"cp|a|sb-1:\xff", "not valid UTF-8"},
		{"get", "missing: a sandbox's id"},
		{"get|a/b", "not a sandbox's id"},
		{"get|a|b", "one word too many"},
		{"logs|sb-1|--lines|0", "not a number"},
		{"extend|sb-1|5", "not a duration"},
		{"extend|sb-1|0s", "not a duration"},
		{"extend|sb-1|5m|6m", "one word too many"},
		{"prune|sb-1", "one word too many"},
		{"template", "missing: ls, get, save, rm or spawn"},
		{"template|list", "unknown command: list"},
		{"template|--json|ls", "unknown option"},
		{"template|get|a/b", "not a template's name"},
		{"template|get|..", "not a template's name"},
		{"template|get|", "not a template's name"},
		{"template|get|a\nb", "not a template's name"},
		{"template|get|\xff", "not a template's name"},
		{"template|save|t", "missing: --image IMAGE"},
		{"template|spawn|t|--image|x", "unknown option: --image"},
		{"template|save|t|--lease|5m", "unknown option: --lease"},
		{"leases|sb-1", "one word too many"},
		{"leases|renew", "missing: a sandbox's id"},
		{"leases|renew|sb-1|forever", "not a lease"},
		{"leases|release|sb-1|5m", "one word too many"},
		{"spawn|--lease|process=", "not a lease"},
		{"spawn|--lease|process=0", "not a lease"},
		{"spawn|--lease|process=1\r\nX: y", "not a lease"},
		{"spawn|--lease|-5s", "not a lease"},
		{"spawn|--lease|", "not a lease"},
		{"run|--lease|5m|true", "unknown option: --lease"},
		{"preview|sb-1", "missing: a sandbox's id and a port"},
		{"preview|sb-1|0", "not a port: 0"},
		{"preview|sb-1|65536", "not a port: 65536"},
		{"preview|sb-1|80|--open-port|65536", "not a port, or 0"},
		{"preview|sb-1|80|--open-port|x", "not a port, or 0"},
		{"get|--open-port|1|sb-1", "unknown option"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *line = strdup(cases[i][0]);
		struct parsed p = parse(line);

		cr_assert_eq(p.rc, -1, "%zu: taken", i);
		cr_assert_eq(p.f.kind, FAULT_USAGE);
		cr_assert_eq(fault_exit_status(&p.f), 2);
		cr_assert_not_null(strstr(p.f.message, cases[i][1]), "%s", p.f.message);
		options_fini(&p.o);
		free(line);
	}
}

/* A command of two words is told from one of its first word alone. */
Test(cli_lines, two_words)
{
	struct parsed p = PARSE("template|save|a b|--image|i|--memory|64");
	enum verb verb;

	cr_assert_eq(p.rc, 0, "%s", p.f.message);
	cr_assert_str_eq(p.o.operands.at[0], "a b");
	options_fini(&p.o);
	p = PARSE("leases|renew|sb-1|process=17");
	cr_assert_eq(p.rc, 0, "%s", p.f.message);
	cr_assert_eq(p.o.operands.n, 2);
	options_fini(&p.o);
	cr_assert_eq(verb_find((char *[]){"leases", "--json"}, 2, &verb), 1);
	cr_assert_eq(verb, VERB_LEASES);
	cr_assert_eq(verb_find((char *[]){"leases", "release"}, 2, &verb), 2);
	cr_assert_eq(verb, VERB_LEASES_RELEASE);
	cr_assert_eq(verb_find((char *[]){"template"}, 1, &verb), 1);
	cr_assert_eq(verb, VERB_TEMPLATE);
	cr_assert_eq(verb_find((char *[]){"template ls"}, 1, &verb), 0);
	cr_assert_eq(verb_find((char *[]){"temp"}, 1, &verb), 0);
}

/* A template's name is escaped as the server's own router would: one escape more and it would find nothing. */
Test(cli_lines, template_paths)
{
	struct buf path = BUF_EMPTY;

	remote_template_path(&path, STR("a b:c@d+\xc3\xa9!(%)?"), "/spawn");
	cr_assert(str_eq(buf_str(&path), STR("/api/v1/templates/a%20b:c@d+%C3%A9%21%28%25%29%3F/spawn")), "%.*s",
		  STR_ARG(buf_str(&path)));
	buf_fini(&path);
}

/* Only the URL of that port of that sandbox is taken, and only a host that fits into a Host line. */
Test(cli_lines, preview_hosts)
{
	static const struct {
		const char *url;
		const char *host; /* NULL: refused */
	} cases[] = {
		{"http://80-sb-1.localhost", "80-sb-1.localhost"},
		{"https://80-sb-1.x.example.com/", "80-sb-1.x.example.com"},
		{"http://80-sb-1.localhost:8080/p?q", "80-sb-1.localhost"},
		{"http://81-sb-1.localhost", NULL},
		{"http://80-sb-2.localhost", NULL},
		{"http://80-sb-1.", NULL},
		{"http://80-sb-1", NULL},
		{"http://80-sb-1.a@b", NULL},
		{"http://80-sb-1.a\r\nX: y", NULL},
		{"ftp://80-sb-1.localhost", NULL},
		{"", NULL},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct str host;
		int rc = preview_host(str_from(cases[i].url), STR("sb-1"), STR("80"), &host);

		cr_assert_eq(rc, cases[i].host ? 0 : -EINVAL, "%s", cases[i].url);
		if (cases[i].host)
			cr_assert(str_eq(host, str_from(cases[i].host)), "%s", cases[i].url);
	}
	/* The gateway would take these for names of its own and the requests for calls of its API. */
	for (size_t i = 0; i < 3; i++) {
		static const char *const ids[] = {"pool-1", "sb-", "sb-1g"};
		char url[64];
		struct str host;

		snprintf(url, sizeof(url), "http://80-%s.localhost", ids[i]);
		cr_assert_eq(preview_host(str_from(url), str_from(ids[i]), STR("80"), &host), -EINVAL, "%s", url);
	}
}

/* ID:PATH is told from a local file by what stands before the first colon. */
Test(cli_lines, remote_paths)
{
	size_t n = 0;

	cr_assert(options_is_remote("sb-a1b2c3d4:/x", &n));
	cr_assert_eq(n, 11);
	cr_assert(options_is_remote("sb-1:x:y", &n));
	cr_assert_eq(n, 4);
	cr_assert_not(options_is_remote("./a:b", &n));
	cr_assert_not(options_is_remote("/a:b", &n));
	cr_assert_not(options_is_remote("plain", &n));
	cr_assert_not(options_is_remote("sb-1:", &n));
	cr_assert_not(options_is_remote(":/x", &n));
	cr_assert_not(options_is_remote("-", &n));
}

/* --file is cut at its first colon. */
Test(cli_lines, file_pairs)
{
	struct str local;
	struct str remote;

	run_split_file("./a.py:/app/b:c", &local, &remote);
	cr_assert(str_eq(local, STR("./a.py")));
	cr_assert(str_eq(remote, STR("/app/b:c")));
}

/* The socket named by the environment is taken as it is; without one both places are named. */
Test(cli_lines, socket_path)
{
	char path[SOCKET_PATH_SIZE];
	char longest[200];
	struct fault f = {0};

	setenv("STACYGATE_SOCKET", "/somewhere/x.sock", 1);
	cr_assert_eq(socket_path_find(path, &f), 0);
	cr_assert_str_eq(path, "/somewhere/x.sock");
	memset(longest, 'a', sizeof(longest) - 1);
	longest[0] = '/';
	longest[sizeof(longest) - 1] = 0;
	setenv("STACYGATE_SOCKET", longest, 1);
	cr_assert_eq(socket_path_find(path, &f), -1);
	cr_assert_not_null(strstr(f.message, "107"));
}

/* An empty STACYGATE_SOCKET counts as none. */
Test(cli_lines, socket_path_not_found)
{
	char path[SOCKET_PATH_SIZE];
	struct fault f = {0};

	if (access("/run/stacygate/stacygate.sock", F_OK) == 0)
		cr_skip_test("a gateway of the system is running");
	setenv("STACYGATE_SOCKET", "", 1);
	setenv("XDG_RUNTIME_DIR", "/nonexistent-dir", 1);
	cr_assert_eq(socket_path_find(path, &f), -1);
	cr_assert_not_null(strstr(f.message, "/nonexistent-dir/stacygate.sock"));
	cr_assert_not_null(strstr(f.message, "/run/stacygate/stacygate.sock"));
	cr_assert_eq(fault_exit_status(&f), 1);
}
