/* SPDX-License-Identifier: Apache-2.0 */
/* stacygated: arguments, the configuration's check, and the start. */
#include <errno.h>
#include <event2/event.h>
#include <jansson.h>
#include <llhttp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "config.h"

#include "common/buf.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/process.h"
#include "gateway/activation.h"
#include "gateway/config.h"
#include "gateway/config_yaml.h"
#include "gateway/credential.h"
#include "gateway/dial.h"
#include "gateway/gateway.h"
#include "gateway/logs.h"
#include "gateway/notify.h"
#include "gateway/own_user.h"

static void print_help(void)
{
	puts("Usage: stacygated [-c FILE] [-t] [-T] [-v] [-V] [-h]\n"
	     "Lets local programs use a StacyVM server through a socket, without its key.\n"
	     "\n"
	     "  -c FILE  configuration (default: /etc/stacygate/stacygate.yaml for root, otherwise\n"
	     "           $XDG_CONFIG_HOME/stacygate/stacygate.yaml; without one the built-in defaults)\n"
	     "  -t       check the configuration, print every fault, exit 0 or 1\n"
	     "  -T       print the configuration with every default filled in\n"
	     "  -v       debug log\n"
	     "  -V       print the version and those of the libraries\n"
	     "  -h       print this\n"
	     "\n"
	     "Signals: SIGHUP reloads, SIGTERM and SIGINT drain and stop, a second one stops at once,\n"
	     "SIGUSR1 opens log files anew.\n"
	     "Exit status: 0 clean stop, 1 configuration, 2 usage, 3 could not start.");
}

static void print_version(void)
{
	printf("stacygated %s\nlibevent %s\n%s\njansson %s\nlibyaml %s\nllhttp %d.%d.%d\n", PACKAGE_VERSION,
	       event_get_version(), dial_library(), JANSSON_VERSION, yaml_get_version_string(), LLHTTP_VERSION_MAJOR,
	       LLHTTP_VERSION_MINOR, LLHTTP_VERSION_PATCH);
}

struct arguments {
	const char *file;
	bool check;
	bool dump;
	bool verbose;
};

/* An exit status, or -1 to go on. */
static int read_arguments(int argc, char **argv, struct arguments *a)
{
	int c;

	while ((c = getopt(argc, argv, "c:tTvVh")) != -1) {
		switch (c) {
		case 'c':
			a->file = optarg;
			break;
		case 't':
			a->check = true;
			break;
		case 'T':
			a->dump = true;
			break;
		case 'v':
			a->verbose = true;
			break;
		case 'V':
			print_version();
			return GATEWAY_EXIT_OK;
		case 'h':
			print_help();
			return GATEWAY_EXIT_OK;
		default:
			fprintf(stderr, "Try 'stacygated -h'.\n");
			return GATEWAY_EXIT_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "stacygated: unexpected argument \"%s\"\nTry 'stacygated -h'.\n", argv[optind]);
		return GATEWAY_EXIT_USAGE;
	}
	return -1;
}

static void print_all(FILE *to, const struct buf *text)
{
	if (text->len)
		fwrite(buf_data(text), 1, text->len, to);
}

static void check_key(const struct config *c, const struct config_credential *k, const struct config_key *key,
		      struct buf *faults)
{
	char why[256];

	/* Where a key comes from is missing in a file that has other faults. */
	if (key->source == CONFIG_SOURCE_NONE || !key->from || credential_is_out_of_reach(key))
		return;
	if (credential_check(key, why, sizeof(why)))
		buf_addf(faults, "%s:%u:%u: credential \"%s\": %s\n", config_file_of(c, k->at), k->at.line,
			 k->at.column, k->name, why);
}

/* The checks of -t that need more than the file: keys that can be read. */
static void check_credentials(const struct config *c, struct buf *faults)
{
	for (size_t i = 0; i < c->ncredentials; i++) {
		check_key(c, &c->credentials[i], &c->credentials[i].api_key, faults);
		check_key(c, &c->credentials[i], &c->credentials[i].admin_api_key, faults);
	}
}

static void warn_of_key(const struct config_credential *k, const struct config_key *key, struct buf *out)
{
	if (credential_is_out_of_reach(key))
		buf_addf(out, "credential \"%s\": systemd credential %s cannot be checked outside its unit\n", k->name,
			 key->from);
}

static void warn_of_credentials(const struct config *c, struct buf *out)
{
	for (size_t i = 0; i < c->ncredentials; i++) {
		warn_of_key(&c->credentials[i], &c->credentials[i].api_key, out);
		warn_of_key(&c->credentials[i], &c->credentials[i].admin_api_key, out);
	}
}

/* Started as root the daemon reads it before it becomes the user; a reload, and a unit with User=, read it as the user. */
static void warn_of_file(const struct config *c, struct buf *out)
{
	if (c->user && c->file && access(c->file, R_OK) < 0 && errno == EACCES)
		buf_addf(out, "user \"%s\" may not read this file: a reload and a start as that user will fail\n",
			 c->user);
}

/* As root -t looks at files as the user will. */
static void become_user(const struct config *c, struct buf *faults)
{
	char why[256];

	if (geteuid() == 0 && own_user_become(c, why, sizeof(why)))
		buf_addf(faults, "%s: %s\n", c->file, why);
}

/* Without memory nothing is known to be good. */
static int status_of(const struct buf *faults)
{
	if (faults->failed)
		fputs("stacygated: out of memory\n", stderr);
	return faults->failed ? GATEWAY_EXIT_START : faults->len ? GATEWAY_EXIT_CONFIG : GATEWAY_EXIT_OK;
}

/* What -t finds beyond the file, in what could be read of it. */
static void look_around(const struct config *c, struct buf *faults)
{
	become_user(c, faults);
	check_credentials(c, faults);
	logs_check(c, faults);
}

static void print_warnings(const struct config *c)
{
	struct buf out = BUF_EMPTY;

	config_warnings(c, &out);
	logs_warnings(c, &out);
	warn_of_credentials(c, &out);
	warn_of_file(c, &out);
	for (struct str rest = buf_str(&out); rest.n;) {
		struct str line = str_cut(&rest, '\n');
		fprintf(stderr, "%s: warning: %.*s\n", c->file ? c->file : "defaults", STR_ARG(line));
	}
	buf_fini(&out);
}

/* A file that was read without a fault. */
static int check_or_dump(const struct arguments *a, const struct config *c, const struct buf *faults)
{
	struct buf out = BUF_EMPTY;
	int status = GATEWAY_EXIT_OK;

	if (a->check) {
		status = status_of(faults);
		print_all(stderr, faults);
		print_warnings(c);
	}
	if (a->dump) {
		config_dump(c, &out);
		if (out.failed)
			status = status_of(&out);
		else
			print_all(stdout, &out);
	}
	buf_fini(&out);
	return status;
}

static int serve(struct config *c, const struct gateway_options *options, struct buf *warnings)
{
	if (options->places->missing && !options->places->state_dir) {
		fprintf(stderr, "stacygated: %s is not set, so there is no place for the state directory\n",
			options->places->missing);
		config_unref(c);
		return GATEWAY_EXIT_START;
	}
	log_set_level(options->verbose ? LOG_LEVEL_DEBUG : c->log_level);
	log_set_format(c->log_format);
	config_warnings(c, warnings);
	logs_warnings(c, warnings);
	for (struct str rest = buf_str(warnings); rest.n;) {
		struct str line = str_cut(&rest, '\n');
		log_warn("%.*s", STR_ARG(line));
	}
	return gateway_run(c, options);
}

static int start(const struct arguments *a, const struct config_places *places, struct activation *passed,
		 struct notify *notify)
{
	struct buf faults = BUF_EMPTY;
	struct config *config = NULL;
	char *found = a->file ? NULL : config_default_file();
	const char *file = a->file ? a->file : found && access(found, F_OK) == 0 ? found : NULL;
	const struct gateway_options options = {
		.file = file, .places = places, .passed = passed, .notify = notify, .verbose = a->verbose};
	int rc = config_read(file, places, &config, &faults);
	int status;

	if (a->check && config && rc != -ENOMEM)
		look_around(config, &faults);
	if (rc) {
		print_all(stderr, &faults);
		notify_failed(notify, "the configuration has faults, see the log");
		/* Without a place for the socket and without a file there is nothing wrong with a configuration. */
		status = file || rc == -ENAMETOOLONG ? GATEWAY_EXIT_CONFIG : GATEWAY_EXIT_START;
		config_unref(config);
	} else if (a->check || a->dump) {
		status = check_or_dump(a, config, &faults);
		config_unref(config);
	} else {
		status = serve(config, &options, &faults);
	}
	buf_fini(&faults);
	free(found);
	return status;
}

static int run(const struct arguments *a, struct activation *passed)
{
	struct config_places places;
	struct notify *notify = notify_new();
	int status = GATEWAY_EXIT_START;
	int rc = notify ? config_places_init(&places) : -ENOMEM;

	if (!notify)
		return status;
	if (rc == 0)
		rc = activation_offer(passed, &places);
	if (rc == 0)
		status = start(a, &places, passed, notify);
	config_places_fini(&places);
	notify_free(notify);
	return status;
}

int main(int argc, char **argv)
{
	struct arguments a = {0};
	struct activation passed = ACTIVATION_NONE;
	int status;
	int rc = process_harden(NULL, 0);

	if (rc == 0)
		rc = activation_take(&passed, NOTIFY_STORED_NAME);
	process_own_stderr();
	log_init("stacygated", LOG_LEVEL_INFO);
	if (rc) {
		log_error("cannot start: %s", strerror(-rc));
		return GATEWAY_EXIT_START;
	}
	process_clean_environment();
	status = read_arguments(argc, argv, &a);
	if (status < 0)
		status = run(&a, &passed);
	activation_fini(&passed);
	process_before_exit();
	return status;
}
