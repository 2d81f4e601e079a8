/* SPDX-License-Identifier: Apache-2.0 */
#include "local/options.h"

#include <getopt.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>

#include "common/str.h"
#include "common/units.h"
#include "common/unix_socket.h"

enum {
	OPT_LISTEN = 256,
	OPT_API_KEY,
	OPT_ADMIN_KEY,
	OPT_KEYS,
	OPT_GROUP,
	OPT_STATE,
	OPT_LIFE,
	OPT_KEEP
};

enum {
	KEEP_MS = 30000,
	KEEP_MAX_MS = 600000
};

static const struct option long_options[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"api-key-file", required_argument, NULL, OPT_API_KEY},
	{"admin-api-key-file", required_argument, NULL, OPT_ADMIN_KEY},
	{"keys", required_argument, NULL, OPT_KEYS},
	{"group", required_argument, NULL, OPT_GROUP},
	{"state", required_argument, NULL, OPT_STATE},
	{"life-fd", required_argument, NULL, OPT_LIFE},
	{"keep", optional_argument, NULL, OPT_KEEP},
	{"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},
	{"verbose", no_argument, NULL, 'v'},
	{NULL, 0, NULL, 0},
};

const char *options_usage(void)
{
	return "usage: stacygate-local --listen unix:PATH|127.0.0.1:PORT [--listen ...] --state DIR\n"
	       "                       [--api-key-file FILE] [--admin-api-key-file FILE] [--keys DIR] [--group GROUP]\n"
	       "                       [--life-fd N] [--keep[=DURATION]] [-v] [-V] [-h]\n"
	       "\n"
	       "A StacyVM-compatible server whose sandboxes are bubblewrap's.\n"
	       "\n"
	       "  --listen unix:PATH           a Unix socket, mode 0600\n"
	       "  --listen 127.0.0.1:PORT      a loopback port ([::1]:PORT too); 0 takes a free one and prints it\n"
	       "  --state DIR                  where sandboxes and templates live; one server at a time\n"
	       "  --api-key-file FILE          demand this key of every request; FILE may be /dev/fd/N\n"
	       "  --admin-api-key-file FILE    the same for the administrator's key\n"
	       "  --keys DIR                   instead of both: make api.key and admin.key there once, demand them, "
	       "and put\n"
	       "                               copies beside each Unix socket, for a gateway that is told of the "
	       "socket\n"
	       "  --group GROUP                the group may use Unix sockets (mode 0660) and read those keys (0640)\n"
	       "  --life-fd N                  stop at once when descriptor N reads end of file\n"
	       "  --keep[=DURATION]            sandboxes outlive the server and wait so long for the next one (30s; at "
	       "most 10m)\n"
	       "  -v, --verbose                log more\n"
	       "  -V, --version                print the version\n"
	       "  -h, --help                   print this\n";
}

static bool complain(const char *what, const char *value)
{
	fprintf(stderr, "stacygate-local: %s: %s\n", what, value);
	return false;
}

static bool read_port(struct str text, uint16_t *port)
{
	uint64_t n;

	if (str_parse_u64(text, &n) || n > UINT16_MAX)
		return false;
	*port = (uint16_t)n;
	return true;
}

static bool read_unix(const char *path, struct listen_spec *spec)
{
	if (path[0] != '/')
		return complain("--listen unix: needs an absolute path", path);
	if (strlen(path) > UNIX_SOCKET_PATH_MAX)
		return complain("--listen unix: the path is longer than 107 bytes", path);
	spec->unix_path = path;
	return true;
}

static bool read_listen(const char *arg, struct options *out)
{
	struct listen_spec *spec = &out->listen[out->nlisten];
	struct str text = str_from(arg);
	static const struct str prefixes[] = {{"127.0.0.1:", 10}, {"[::1]:", 6}};

	if (out->nlisten == OPTIONS_LISTEN_MAX)
		return complain("--listen is given too often", arg);
	*spec = (struct listen_spec){0};
	out->nlisten++;
	if (str_starts(text, STR("unix:")))
		return read_unix(arg + STR("unix:").n, spec);
	for (size_t i = 0; i < 2; i++) {
		if (!str_starts(text, prefixes[i]))
			continue;
		spec->ipv6 = i == 1;
		if (read_port(str_of(text.p + prefixes[i].n, text.n - prefixes[i].n), &spec->port))
			return true;
	}
	return complain("--listen takes unix:PATH, 127.0.0.1:PORT or [::1]:PORT", arg);
}

static bool read_life(const char *arg, struct options *out)
{
	uint64_t n;

	if (str_parse_u64(str_from(arg), &n) || n > INT_MAX || n < 3)
		return complain("--life-fd takes a descriptor above 2", arg);
	out->life_fd = (int)n;
	return true;
}

static bool read_keep(const char *arg, struct options *out)
{
	int64_t ns = KEEP_MS * INT64_C(1000000);

	if (arg && (duration_parse(str_from(arg), &ns) || ns < 1000000 || ns > KEEP_MAX_MS * INT64_C(1000000)))
		return complain("--keep takes a duration from 1ms to 10m, as 30s", arg);
	out->keep_ms = (uint32_t)(ns / 1000000);
	return true;
}

static bool read_group(const char *name, struct options *out)
{
	const struct group *group = getgrnam(name);

	if (!group)
		return complain("--group: there is no such group", name);
	out->group = group->gr_gid;
	return true;
}

static bool read_one(int option, const char *arg, struct options *out)
{
	switch (option) {
	case OPT_LISTEN:
		return read_listen(arg, out);
	case OPT_API_KEY:
		out->api_key_file = arg;
		return true;
	case OPT_ADMIN_KEY:
		out->admin_api_key_file = arg;
		return true;
	case OPT_KEYS:
		out->keys_dir = arg;
		return true;
	case OPT_GROUP:
		return read_group(arg, out);
	case OPT_STATE:
		out->state_dir = arg;
		return true;
	case OPT_LIFE:
		return read_life(arg, out);
	case OPT_KEEP:
		return read_keep(arg, out);
	case 'v':
		out->verbose = true;
		return true;
	default:
		return false; /* getopt has complained */
	}
}

static bool is_complete(const struct options *o)
{
	if (o->nlisten == 0)
		return complain("missing option", "--listen");
	if (!o->state_dir)
		return complain("missing option", "--state");
	if (o->state_dir[0] != '/')
		return complain("--state needs an absolute path", o->state_dir);
	if (o->keep_ms && o->life_fd >= 0)
		return complain("--keep does not go with", "--life-fd");
	if (o->keys_dir && o->keys_dir[0] != '/')
		return complain("--keys needs an absolute path", o->keys_dir);
	if (o->keys_dir && (o->api_key_file || o->admin_api_key_file))
		return complain("--keys makes both keys, so no key file goes with it", o->keys_dir);
	return true;
}

enum options_result options_read(int argc, char **argv, struct options *out)
{
	int option;

	*out = (struct options){.life_fd = -1, .group = (gid_t)-1};
	optind = 0;
	while ((option = getopt_long(argc, argv, "hVv", long_options, NULL)) != -1) {
		if (option == 'h')
			return OPTIONS_HELP;
		if (option == 'V')
			return OPTIONS_VERSION;
		if (!read_one(option, optarg, out))
			return OPTIONS_BAD;
	}
	if (optind < argc) {
		complain("unexpected argument", argv[optind]);
		return OPTIONS_BAD;
	}
	return is_complete(out) ? OPTIONS_OK : OPTIONS_BAD;
}
