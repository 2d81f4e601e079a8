/* SPDX-License-Identifier: Apache-2.0 */
/* The whole daemon: builds everything in order, reloads, drains, and takes everything down in the opposite order. */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <stdbool.h>

struct activation;
struct config;
struct config_places;
struct notify;

struct gateway_options {
	const char *file;                   /* borrowed; of the configuration; NULL: none */
	const struct config_places *places; /* borrowed */
	struct activation *passed;          /* borrowed; sockets of a service manager */
	struct notify *notify;              /* borrowed; who is told how the daemon is */
	bool verbose;                       /* -v: debug, whatever the configuration says */
};

/* Exit statuses of the daemon. */
enum {
	GATEWAY_EXIT_OK = 0,
	GATEWAY_EXIT_CONFIG = 1,
	GATEWAY_EXIT_USAGE = 2,
	GATEWAY_EXIT_START = 3,
};

/* Runs until it is told to stop. Takes over the caller's reference to the configuration. Returns an exit status. */
int gateway_run(struct config *config, const struct gateway_options *options);

#endif
