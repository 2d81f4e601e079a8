/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration: an immutable snapshot, shared by reference by everything that began under it. */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/log.h"
#include "common/str.h"

/* Where something stands in the file or its fragments; line 0: nowhere, it is a default. */
struct config_mark {
	unsigned line;   /* from 1 */
	unsigned column; /* from 1 */
	unsigned file;   /* 0: the file itself; else a fragment, counted from 1 */
};

struct config_names {
	size_t n;
	char **names; /* owned, and each of them */
};

struct config_listener {
	struct config_mark at;
	char *path;                  /* owned; absolute path of a Unix socket; NULL: loopback TCP */
	uint16_t port;               /* of both loopback addresses; 0: a Unix socket */
	char *name;                  /* owned; the path, or the address, when not written */
	mode_t mode;                 /* Unix: permission bits of the socket */
	char *group;                 /* owned; Unix; NULL: the daemon's own */
	gid_t gid;                   /* of `group`; (gid_t)-1 without one */
	struct config_names hosts;   /* TCP: names that Host may have, without port */
	struct config_names origins; /* TCP: browser origins that may use it */
};

enum config_scheme {
	CONFIG_LOCAL, /* stacygate-local, started by the daemon */
	CONFIG_UNIX,
	CONFIG_HTTP,
	CONFIG_HTTPS,
};

struct config_pool {
	uint64_t max_connections;  /* idle, leased and being dialled, together */
	uint64_t max_per_identity; /* of them, leased to one identity */
	uint64_t min_idle;         /* dialled before anybody asks */
	uint64_t max_idle;
	uint64_t idle_timeout_ms;
	uint64_t lifetime_ms; /* a connection older than this is not used again; 0: no limit */
	uint64_t max_waiting; /* requests that wait for a connection */
	uint64_t wait_timeout_ms;
};

/* 0 in a timeout means none; config.c says which may be 0. */
struct config_timeouts {
	uint64_t connect_ms;
	uint64_t response_ms;    /* end of request to response head, other routes */
	uint64_t spawn_ms;       /* the same for spawns */
	uint64_t exec_ms;        /* the same for exec */
	uint64_t body_idle_ms;   /* between two bytes of a response body */
	uint64_t stream_idle_ms; /* the same for NDJSON and SSE */
};

/* For https upstreams; all NULL or empty: the system's authorities, no client certificate, the name in the url. */
struct config_tls {
	char *ca_file;     /* owned */
	struct buf ca;     /* owned; what was in ca_file when the configuration was read */
	char *cert_file;   /* owned; PEM */
	char *key_file;    /* owned; PEM; NULL: in cert_file */
	uint64_t files;    /* changes when one of cert_file and key_file does */
	char *server_name; /* owned; what the certificate must show and Host does not say */
};

struct config_upstream {
	struct config_mark at;
	char *name; /* owned */
	char *url;  /* owned; as written */
	enum config_scheme scheme;
	char *path;            /* owned; CONFIG_UNIX: the socket's path */
	char *host;            /* owned; CONFIG_HTTP, CONFIG_HTTPS: name or address, IPv6 in brackets */
	uint16_t port;         /* CONFIG_HTTP, CONFIG_HTTPS */
	struct config_tls tls; /* CONFIG_HTTPS */
	char *proxy;           /* owned; NULL: dialled directly */
	bool is_loopback;      /* it is on this machine, as far as its url says */
	bool allow_plaintext;
	bool shared_vm; /* rules under isolation owner may use it although its pool mode puts users into one VM */
	struct config_pool pool;
	struct config_timeouts timeouts;
};

enum config_source {
	CONFIG_SOURCE_NONE, /* not written */
	CONFIG_SOURCE_FILE,
	CONFIG_SOURCE_ENV,
	CONFIG_SOURCE_SYSTEMD, /* a file below $CREDENTIALS_DIRECTORY */
	CONFIG_SOURCE_COMMAND, /* what a program prints */
};

/* Where one key comes from. */
struct config_key {
	enum config_source source;
	char *from;          /* owned; path, variable, name of a systemd credential, or path of the program */
	char **argv;         /* owned; CONFIG_SOURCE_COMMAND: from `from` on, NULL behind the last; else NULL */
	uint64_t ttl_ms;     /* CONFIG_SOURCE_COMMAND: it is run again after this */
	uint64_t timeout_ms; /* CONFIG_SOURCE_COMMAND: it is killed after this */
};

struct config_credential {
	struct config_mark at;
	char *name; /* owned */
	struct config_key api_key;
	struct config_key admin_api_key; /* may be CONFIG_SOURCE_NONE */
};

struct config_ids {
	size_t n;
	uint32_t *ids; /* owned; uids or gids */
};

/* Ids that their holder hands out to himself (subuid(5)). */
struct config_ranges {
	size_t n;
	struct config_range {
		uint32_t first;
		uint32_t last; /* included */
	} * ranges;            /* owned */
};

/* Limits of a rule, counted per owner; 0 or NULL: not written, so there is none. */
struct config_limits {
	uint64_t requests_per_second;
	uint64_t concurrent_requests;
	uint64_t connections;
	uint64_t sandboxes;
	uint64_t max_ttl_ms;
	uint64_t max_memory_mb;
	uint64_t max_vcpus;
	size_t nimages;
	char **images; /* owned; patterns in which '*' matches any run without '/' */
	size_t nproviders;
	char **providers; /* owned; names */
};

enum config_isolation {
	CONFIG_ISOLATION_OWNER, /* sees and touches only its own sandboxes */
	CONFIG_ISOLATION_NONE,
};

/* "METHOD /path" of an allow or deny list: '*' stands for one segment, '**' at the end for any number of them. */
struct config_pattern {
	char *text;       /* owned; as written */
	uint32_t methods; /* 1 << enum http_method; HEAD goes with GET */
	const char *path; /* borrowed from text; canonical, without a slash at its end */
};

struct config_route_set {
	bool written;     /* in the file */
	uint32_t classes; /* ROUTE_CLASS_BIT; with ROUTE_UNKNOWN it is `all` */
	size_t npatterns;
	struct config_pattern *patterns; /* owned */
};

struct config_rule {
	struct config_mark at;
	char *name;      /* owned */
	bool match_uids; /* `user` or `uid` was written: the peer's uid must be one of uids */
	struct config_ids uids;
	bool match_gids; /* `group` or `gid` was written: the peer must be in one of gids */
	struct config_ids gids;
	bool match_listeners;
	size_t nlisteners;
	char **listeners; /* owned; names of listeners */
	bool match_exes;
	struct config_names exes; /* absolute paths */
	bool match_units;
	struct config_names units; /* "x.service", or "user@UID:x.service" */
	size_t upstream;           /* index into upstreams */
	bool has_credential;
	size_t credential;      /* index into credentials, with has_credential */
	char *user_id;          /* owned; the template, checked */
	uint64_t heartbeat_ms;  /* on idle streams; 0: none */
	uint64_t keep_alive_ms; /* a sandbox in use is kept at least so long; 0: off */
	bool admin;             /* may use admin routes, with the admin key */
	enum config_isolation isolation;
	struct config_route_set allow; /* holds what needs no leave as well, so that one look at a bit decides */
	struct config_route_set deny;  /* beats allow */
	struct config_limits limits;
	char *spawn_defaults; /* owned; a JSON object of spawn fields for what a client leaves out; NULL: none */
};

enum config_output_kind {
	CONFIG_OUTPUT_OFF,
	CONFIG_OUTPUT_STDERR,
	CONFIG_OUTPUT_JOURNAL,
	CONFIG_OUTPUT_FILE,
};

/* Where lines of a log go. */
struct config_output {
	struct config_mark at;
	enum config_output_kind kind;
	char *path; /* owned; absolute path of a file; NULL unless CONFIG_OUTPUT_FILE */
};

enum {
	CONFIG_LEASES_TTL_MS = 120000,
	CONFIG_LEASES_EXTEND_MS = 40000,
	CONFIG_LEASES_GRACE_MS = 120000
};

/* How sandboxes are kept that hang on a life. */
struct config_leases {
	uint64_t ttl_ms;    /* of the sandbox, at its server; at least three times the next */
	uint64_t extend_ms; /* it is given that ttl again so often */
	uint64_t grace_ms;  /* for its owner to renew it when we ended its life, or cannot tell */
};

/* What bounds memory and descriptors; always on. */
struct config_bounds {
	uint64_t connections; /* client connections in all */
	uint64_t connections_per_uid;
	uint64_t body_bytes;          /* of one request */
	uint64_t client_head_ms;      /* for a whole request head, from its first byte */
	uint64_t client_body_idle_ms; /* between two bytes of a request body */
	uint64_t idle_client_ms;      /* between two requests of a connection */
};

/* How long what was read of templates is good; 0 in ttl: nothing is remembered. */
struct config_cache_templates {
	uint64_t ttl_ms;
	uint64_t stale_while_revalidate_ms; /* beyond that, while it is fetched anew */
	uint64_t stale_if_error_ms;         /* beyond the ttl, when the server cannot be had */
};

struct config_cache {
	struct config_cache_templates templates;
	uint64_t preview_ttl_ms; /* of preview domains; 0: the server is asked each time */
	uint64_t max_entries;
	uint64_t max_bytes;
	bool keep; /* templates are kept in the state directory over a restart */
};

/* Where preview hosts are reached, whatever they are called; CONFIG_LOCAL: it was not written. */
struct config_preview {
	char *url; /* owned; as written */
	enum config_scheme scheme;
	char *host; /* owned */
	uint16_t port;
};

/* Where spans of requests go; `to.url` NULL: nowhere, no traces are made. */
struct config_tracing {
	struct config_upstream to; /* url is the endpoint as written */
	char *path;                /* owned; that the collector is asked for */
	uint64_t sample_ppb;       /* parts of a billion: of the traces that begin here, those that are sampled */
	char *service_name;        /* owned; NULL: it was not written (config_complete) */
};

struct config {
	unsigned refs;
	char *file;                    /* owned; NULL: no file, all defaults */
	struct config_names fragments; /* paths of the files that it includes */
	char *user;        /* owned; whom the daemon becomes when it is started as root; NULL: the uid is kept */
	uid_t user_uid;    /* of `user` */
	gid_t user_gid;    /* the same */
	char *host;        /* owned; what {host} expands to */
	bool host_written; /* the file says so; else it is the one of the first start, or the machine's name */
	uint64_t drain_timeout_ms;
	size_t nlisteners;
	struct config_listener *listeners;
	size_t nupstreams;
	struct config_upstream *upstreams;
	struct config_preview preview;
	size_t ncredentials;
	struct config_credential *credentials;
	size_t nrules;
	struct config_rule *rules;
	struct config_ranges subuids; /* of /etc/subuid when the file was read */
	enum log_level log_level;
	enum log_format log_format;
	struct config_output access;
	struct config_output audit;
	struct config_bounds bounds;
	struct config_leases leases;
	struct config_cache cache;
	struct config_tracing tracing;
};

/* A listening socket that a service manager passed. */
struct config_passed {
	const char *name; /* borrowed */
	const char *path; /* borrowed; NULL: loopback TCP */
	uint16_t port;    /* 0: a Unix socket */
};

/*
 * What the environment decides, gathered once at start: interface.md "Names". Paths are owned; those that could not
 * be determined are NULL and `missing` names the variable.
 */
struct config_places {
	char *socket;      /* default socket */
	char *runtime_dir; /* where the private socket of the local server goes */
	char *state_dir;
	char *local_socket;  /* of an embedded server that is a service of its own; NULL: the daemon starts one */
	const char *missing; /* literal; NULL when nothing is missing */
	size_t npassed;
	struct config_passed *passed; /* owned; what a configuration without listeners listens on instead of `socket` */
};

MUST_CHECK int config_places_init(struct config_places *places);

/* The file in the state directory that keeps the host name of the first start; owned by the caller, NULL without. */
char *config_host_file(const struct config_places *places);
void config_places_fini(struct config_places *places);

/* The path of the default configuration file, owned by the caller; NULL when there is no home to look in. */
char *config_default_file(void);

/* An empty configuration with every default that needs no list; NULL without memory. Filled by config_yaml. */
struct config *config_new(void);
void config_upstream_defaults(struct config_upstream *u);
/* The defaults that depend on what was written: three quarters of the pool for one identity. */
void config_upstream_complete(struct config_upstream *u);
struct config *config_ref(struct config *c);
void config_unref(struct config *c);

/*
 * Fills what the file left out: the default listener or those that were passed, the upstream `local`, a rule for the own uid, the host name. 0
 * or -ENOMEM, or -EINVAL with `why` when the default socket has no place.
 */
MUST_CHECK int config_complete(struct config *c, const struct config_places *places, char *why, size_t why_size);

/* Whether the rule needs to know the executable, or the unit, of its peers: to match them, or for its user_id. */
bool config_rule_asks_exe(const struct config_rule *r);
bool config_rule_asks_unit(const struct config_rule *r);
/* Whether any rule does. */
bool config_asks_traits(const struct config *c);

/* Names and hosts that were not written. 0 or -ENOMEM. */
MUST_CHECK int config_listener_complete(struct config_listener *l);

/* The path of the file that a mark is in, borrowed. */
const char *config_file_of(const struct config *c, struct config_mark at);
/* Writes "FILE:LINE:COLUMN: text", the first part only where the mark is somewhere, cut to `size`. */
void config_say(const struct config *c, struct config_mark at, char *out, size_t size, const char *fmt, ...)
	PRINTF_LIKE(5, 6);

/* The listener of that name, borrowed; NULL when there is none. */
const struct config_listener *config_find_listener(const struct config *c, const char *name);

/* Adds a copy. 0 or -ENOMEM. */
MUST_CHECK int config_names_add(struct config_names *names, struct str name);
void config_names_fini(struct config_names *names);

bool config_ranges_hold(const struct config_ranges *ranges, uint32_t id);

/* Reads a file such as /etc/subuid; one that does not exist has no ranges. 0 or a negative errno. */
MUST_CHECK int config_read_ranges(const char *path, struct config_ranges *out);

/*
 * Gives the rule what it allows without a word, and what it allows when `allow` was not written; `admin` and
 * `isolation` are known.
 */
void config_rule_complete_allow(struct config_rule *r);

/* Calls `each` for every entry of the list as the file would have it: `all`, words, patterns. */
void config_route_set_each(const struct config_route_set *set, void (*each)(void *arg, const char *entry), void *arg);

/* Whether the limits admit an image: it fits one of `images`, or there are none. */
bool config_limits_image(const struct config_limits *l, struct str image);

/* Writes the effective configuration as YAML; secrets are not in it, so none can be shown. */
void config_dump(const struct config *c, struct buf *out);

/* Writes a line per thing that is allowed but probably not meant: a host name that many machines have, and such. */
void config_warnings(const struct config *c, struct buf *out);

/* Copies into *to, which config_key_fini releases in any case; 0 or -ENOMEM. */
MUST_CHECK int config_key_copy(struct config_key *to, const struct config_key *from);
void config_key_fini(struct config_key *k);
/* Whether both read the same thing in the same way. */
bool config_key_same(const struct config_key *a, const struct config_key *b);
bool config_same_argv(char *const *a, char *const *b);

/* Whether two upstream entries mean the same connections, so that a reload may keep the pool. */
bool config_upstream_same(const struct config_upstream *a, const struct config_upstream *b);

#endif
