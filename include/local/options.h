/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of stacygate-local. */
#ifndef LOCAL_OPTIONS_H
#define LOCAL_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	OPTIONS_LISTEN_MAX = 8
};

struct listen_spec {
	const char *unix_path; /* borrowed from argv; NULL: TCP */
	bool ipv6;             /* TCP: ::1, else 127.0.0.1 */
	uint16_t port;         /* TCP; 0: any that is free */
};

struct options {
	struct listen_spec listen[OPTIONS_LISTEN_MAX];
	size_t nlisten;
	const char *api_key_file;       /* borrowed; NULL without one */
	const char *admin_api_key_file; /* borrowed; NULL without one */
	const char *keys_dir;           /* borrowed; absolute; where keys are made and kept; NULL without */
	gid_t group;                    /* may use Unix sockets and kept keys as well; (gid_t)-1: the own uid only */
	const char *state_dir;          /* borrowed; absolute */
	int life_fd;                    /* -1 without one */
	uint32_t keep_ms; /* how long sandboxes wait for a restarted server; 0: they end with the server */
	bool verbose;
};

enum options_result {
	OPTIONS_OK,
	OPTIONS_HELP,
	OPTIONS_VERSION,
	OPTIONS_BAD, /* said on stderr */
};

/* Reads the command line. */
enum options_result options_read(int argc, char **argv, struct options *out);

/* The usage text. */
const char *options_usage(void);

#endif
