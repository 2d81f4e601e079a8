/* SPDX-License-Identifier: Apache-2.0 */
/* The client `stacygate`: reads the command line, runs one command, turns its end into an exit status. */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/api.h"
#include "cli/check_config.h"
#include "cli/commands.h"
#include "cli/fault.h"
#include "cli/help.h"
#include "cli/init.h"
#include "cli/interrupt.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/socket_path.h"
#include "common/fd.h"
#include "config.h"

static int print(const char *text)
{
	return fputs(text, stdout) < 0 || fflush(stdout) != 0 ? 1 : 0;
}

static int print_version(void)
{
	printf("stacygate %s (libcurl %s)\n", PACKAGE_VERSION, curl_version_info(CURLVERSION_NOW)->version);
	return fflush(stdout) != 0;
}

/* A closed standard descriptor would be handed out for a socket and then written to. */
static int open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	return fd < 0 ? -1 : close(fd);
}

/* What was not done as it was asked; who reads JSON finds the values in it. */
static void print_notes(const struct api *a, const struct options *o)
{
	struct str notes = api_notes(a);

	if (o->json || notes.n == 0)
		return;
	if (fd_write_all(2, notes.p, notes.n) < 0) {
		/* A stderr that cannot be written has nobody to tell. */
	}
}

static int run_with_api(enum verb verb, const struct options *o, struct fault *f)
{
	char path[SOCKET_PATH_SIZE];
	struct progress progress;
	struct command c = {.options = o, .fault = f};
	int status = -1;

	if (socket_path_find(path, f) < 0)
		return -1;
	progress_init(&progress, o->json);
	c.api = api_new(path, &progress);
	if (c.api) {
		status = commands_run(&c, verb);
		print_notes(c.api, o);
	} else {
		fault_memory(f);
	}
	api_free(c.api);
	return status;
}

/* What a command has to do; some need no gateway. */
static int do_verb(enum verb verb, const struct options *o, struct fault *f)
{
	if (o->help)
		return print(help_verb(verb));
	if (verb == VERB_CHECK)
		return check_config(o, f);
	return verb == VERB_INIT ? init_write(o, f) : run_with_api(verb, o, f);
}

static int run_verb(enum verb verb, int argc, char **argv)
{
	struct options o;
	struct fault f = {0};
	int status = options_parse(verb, argc, argv, &o, &f);
	bool json = o.json;

	if (status == 0)
		status = do_verb(verb, &o, &f);
	options_fini(&o);
	fault_print(&f, json);
	if (f.kind == FAULT_INTERRUPTED || f.kind == FAULT_PIPE)
		interrupt_die();
	return status < 0 ? fault_exit_status(&f) : status;
}

static int usage(const char *what, const char *word)
{
	struct fault f;

	fault_set(&f, FAULT_USAGE, "USAGE", "%s%s%s (see stacygate --help)", what, word ? ": " : "", word ? word : "");
	fault_print(&f, false);
	return fault_exit_status(&f);
}

int main(int argc, char **argv)
{
	enum verb verb;
	int words;

	if (open_standard_fds() < 0 || interrupt_init() < 0)
		return 1;
	if (argc < 2)
		return usage("a command is missing", NULL);
	if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)
		return print(help_program());
	if (strcmp(argv[1], "-V") == 0 || strcmp(argv[1], "--version") == 0)
		return print_version();
	words = verb_find(argv + 1, argc - 1, &verb);
	if (words == 0)
		return usage(argv[1][0] == '-' ? "unknown option" : "unknown command", argv[1]);
	return run_verb(verb, argc - 1 - words, argv + 1 + words);
}
