/* SPDX-License-Identifier: Apache-2.0 */
/* stacygate-local: a StacyVM-compatible server with real sandboxes, for one machine. */
#include <event2/event.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/process.h"
#include "common/reserve.h"
#include "config.h"
#include "local/api_keys.h"
#include "local/keeper.h"
#include "local/key_files.h"
#include "local/options.h"
#include "local/server.h"

enum {
	EXIT_OK = 0,
	EXIT_CONFIG = 1,
	EXIT_USAGE = 2,
	EXIT_NOT_STARTED = 3
};

static int read_key(const char *path, struct secret **out)
{
	char why[300] = "";

	if (!path || api_keys_read(path, out, why, sizeof(why)) == 0)
		return 0;
	log_error("key file %s", why);
	return -1;
}

static int read_keys(const struct options *options, struct api_keys *keys)
{
	char why[300] = "";

	if (!options->keys_dir)
		return read_key(options->api_key_file, &keys->ordinary) ||
				       read_key(options->admin_api_key_file, &keys->admin)
			       ? -1
			       : 0;
	if (key_files_keep(options->keys_dir, options->group, keys, why, sizeof(why)) == 0)
		return 0;
	log_error("key file %s", why);
	return -1;
}

static void print_version(void)
{
	printf("stacygate-local %s (libevent %s, jansson %s)\n", PACKAGE_VERSION, event_get_version(),
	       jansson_version_str());
}

static int run(const struct options *options)
{
	struct api_keys keys = {0};
	int status = EXIT_CONFIG;
	int keeper = -1;

	/* Before the keys are read: it outlives us, and has no use for them. */
	if (options->keep_ms && (keeper = keeper_start()) < 0) {
		log_error("cannot start the keeper of the sandboxes: %s", strerror(-keeper));
		return EXIT_NOT_STARTED;
	}
	/* It does not bear to be without memory. */
	json_set_alloc_funcs(reserve_malloc, reserve_free);
	if (read_keys(options, &keys) == 0) {
		process_clean_environment();
		status = server_run(options, &keys, keeper);
	}
	api_keys_fini(&keys);
	return status;
}

int main(int argc, char **argv)
{
	struct options options;
	int status = EXIT_USAGE;

	log_init("stacygate-local", LOG_LEVEL_INFO);
	if (process_harden(NULL, 0)) {
		log_error("cannot harden the process");
		return EXIT_NOT_STARTED;
	}
	process_own_stderr();
	switch (options_read(argc, argv, &options)) {
	case OPTIONS_OK:
		if (options.verbose)
			log_set_level(LOG_LEVEL_DEBUG);
		status = run(&options);
		break;
	case OPTIONS_HELP:
		fputs(options_usage(), stdout);
		status = EXIT_OK;
		break;
	case OPTIONS_VERSION:
		print_version();
		status = EXIT_OK;
		break;
	case OPTIONS_BAD:
		fputs(options_usage(), stderr);
		break;
	}
	process_before_exit();
	return status;
}
