/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/check.h"
#include "common/fd.h"
#include "common/units.h"
#include "gateway/route_class.h"

enum {
	RANGES_MAX_BYTES = 1048576
};

/* --- places -------------------------------------------------------------------------------------------------- */

static char *join(const char *dir, const char *name)
{
	char *path;

	return asprintf(&path, "%s/%s", dir, name) < 0 ? NULL : path;
}

/* A variable that is set, not empty and absolute; the XDG specification says to ignore relative ones. */
static const char *dir_from(const char *variable)
{
	const char *value = getenv(variable);

	return value && value[0] == '/' ? value : NULL;
}

/* systemd gives several directories separated by colons; the first is ours. */
static char *first_of(const char *value)
{
	return strndup(value, strcspn(value, ":"));
}

static char *runtime_dir(const char **missing)
{
	const char *value = dir_from("RUNTIME_DIRECTORY");

	if (value)
		return first_of(value);
	if (geteuid() == 0)
		return strdup("/run/stacygate");
	value = dir_from("XDG_RUNTIME_DIR");
	if (!value)
		*missing = "XDG_RUNTIME_DIR";
	return value ? strdup(value) : NULL;
}

static char *state_dir(const char **missing)
{
	const char *value = dir_from("STATE_DIRECTORY");

	if (value)
		return first_of(value);
	if (geteuid() == 0)
		return strdup("/var/lib/stacygate");
	value = dir_from("XDG_STATE_HOME");
	if (value)
		return join(value, "stacygate");
	value = dir_from("HOME");
	if (!value)
		*missing = "HOME";
	return value ? join(value, ".local/state/stacygate") : NULL;
}

int config_places_init(struct config_places *places)
{
	const char *local = getenv("STACYGATE_LOCAL_SOCKET");

	memset(places, 0, sizeof(*places));
	places->runtime_dir = runtime_dir(&places->missing);
	places->state_dir = state_dir(&places->missing);
	if (places->runtime_dir)
		places->socket = join(places->runtime_dir, "stacygate.sock");
	if (local) {
		places->local_socket = strdup(local);
		if (!places->local_socket)
			return -ENOMEM;
	}
	if (places->missing)
		return 0;
	return places->socket && places->state_dir ? 0 : -ENOMEM;
}

void config_places_fini(struct config_places *places)
{
	free(places->socket);
	free(places->runtime_dir);
	free(places->state_dir);
	free(places->local_socket);
	free(places->passed);
	memset(places, 0, sizeof(*places));
}

char *config_default_file(void)
{
	const char *base;

	if (geteuid() == 0)
		return strdup(SG_SYSCONFDIR "/stacygate/stacygate.yaml");
	base = dir_from("XDG_CONFIG_HOME");
	if (base)
		return join(base, "stacygate/stacygate.yaml");
	base = dir_from("HOME");
	return base ? join(base, ".config/stacygate/stacygate.yaml") : NULL;
}

/* --- life ------------------------------------------------------------------------------------------------------ */

struct config *config_new(void)
{
	struct config *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	c->refs = 1;
	c->drain_timeout_ms = 30000;
	c->log_level = LOG_LEVEL_INFO;
	c->log_format = LOG_FORMAT_TEXT;
	c->access.kind = CONFIG_OUTPUT_OFF;
	c->audit.kind = CONFIG_OUTPUT_OFF;
	c->bounds = (struct config_bounds){
		.connections = 16384,
		.connections_per_uid = 4096,
		.body_bytes = 1073741824,
		.client_head_ms = 10000,
		.client_body_idle_ms = 30000,
		.idle_client_ms = 300000,
	};
	c->cache = (struct config_cache){
		.templates = {.ttl_ms = 30000, .stale_while_revalidate_ms = 30000, .stale_if_error_ms = 600000},
		.preview_ttl_ms = 300000,
		.max_entries = 4096,
		.max_bytes = 67108864,
	};
	c->tracing.sample_ppb = 10000000; /* one in a hundred */
	c->leases = (struct config_leases){
		.ttl_ms = CONFIG_LEASES_TTL_MS,
		.extend_ms = CONFIG_LEASES_EXTEND_MS,
		.grace_ms = CONFIG_LEASES_GRACE_MS,
	};
	return c;
}

static const struct config_timeouts default_timeouts = {
	.connect_ms = 5000,
	.response_ms = 125000,
	.spawn_ms = 300000,
	.exec_ms = 900000,
	.body_idle_ms = 60000,
	.stream_idle_ms = 0,
};

void config_upstream_defaults(struct config_upstream *u)
{
	u->pool = (struct config_pool){
		.max_connections = 64,
		.min_idle = 0,
		.max_idle = 16,
		.idle_timeout_ms = 45000,
		.lifetime_ms = 3600000,
		.max_waiting = 1024,
		.wait_timeout_ms = 30000,
	};
	u->timeouts = default_timeouts;
}

void config_upstream_complete(struct config_upstream *u)
{
	struct config_pool *p = &u->pool;

	if (p->max_per_identity == 0)
		p->max_per_identity = p->max_connections - p->max_connections / 4;
	if (p->max_idle > p->max_connections)
		p->max_idle = p->max_connections;
}

struct config *config_ref(struct config *c)
{
	c->refs++;
	return c;
}

static void upstream_fini(struct config_upstream *u)
{
	free(u->name);
	free(u->url);
	free(u->path);
	free(u->host);
	free(u->proxy);
	free(u->tls.ca_file);
	free(u->tls.cert_file);
	free(u->tls.key_file);
	free(u->tls.server_name);
	buf_fini(&u->tls.ca);
}

static void route_set_fini(struct config_route_set *s)
{
	for (size_t i = 0; i < s->npatterns; i++)
		free(s->patterns[i].text);
	free(s->patterns);
}

static void limits_fini(struct config_limits *l)
{
	for (size_t i = 0; i < l->nimages; i++)
		free(l->images[i]);
	for (size_t i = 0; i < l->nproviders; i++)
		free(l->providers[i]);
	free(l->images);
	free(l->providers);
}

static void rule_fini(struct config_rule *r)
{
	route_set_fini(&r->allow);
	route_set_fini(&r->deny);
	limits_fini(&r->limits);
	free(r->spawn_defaults);
	free(r->name);
	free(r->uids.ids);
	free(r->gids.ids);
	for (size_t i = 0; i < r->nlisteners; i++)
		free(r->listeners[i]);
	free(r->listeners);
	config_names_fini(&r->exes);
	config_names_fini(&r->units);
	free(r->user_id);
}

void config_unref(struct config *c)
{
	if (!c)
		return;
	CHECK(c->refs > 0);
	if (--c->refs)
		return;
	for (size_t i = 0; i < c->nlisteners; i++) {
		free(c->listeners[i].path);
		free(c->listeners[i].name);
		free(c->listeners[i].group);
		config_names_fini(&c->listeners[i].hosts);
		config_names_fini(&c->listeners[i].origins);
	}
	free(c->preview.url);
	free(c->preview.host);
	for (size_t i = 0; i < c->nupstreams; i++)
		upstream_fini(&c->upstreams[i]);
	upstream_fini(&c->tracing.to);
	free(c->tracing.path);
	free(c->tracing.service_name);
	for (size_t i = 0; i < c->ncredentials; i++) {
		free(c->credentials[i].name);
		config_key_fini(&c->credentials[i].api_key);
		config_key_fini(&c->credentials[i].admin_api_key);
	}
	for (size_t i = 0; i < c->nrules; i++)
		rule_fini(&c->rules[i]);
	free(c->listeners);
	free(c->upstreams);
	free(c->credentials);
	free(c->rules);
	free(c->subuids.ranges);
	free(c->access.path);
	free(c->audit.path);
	free(c->file);
	config_names_fini(&c->fragments);
	free(c->user);
	free(c->host);
	free(c);
}

/* --- small questions ------------------------------------------------------------------------------------------- */

bool config_rule_asks_exe(const struct config_rule *r)
{
	return r->match_exes || strstr(r->user_id, "{exe}");
}

bool config_rule_asks_unit(const struct config_rule *r)
{
	return r->match_units || strstr(r->user_id, "{unit}");
}

bool config_asks_traits(const struct config *c)
{
	for (size_t i = 0; i < c->nrules; i++)
		if (config_rule_asks_exe(&c->rules[i]) || config_rule_asks_unit(&c->rules[i]))
			return true;
	return false;
}

const char *config_file_of(const struct config *c, struct config_mark at)
{
	return at.file ? c->fragments.names[at.file - 1] : c->file;
}

void config_say(const struct config *c, struct config_mark at, char *out, size_t size, const char *fmt, ...)
{
	va_list ap;
	size_t n = 0;

	out[0] = '\0';
	if (at.line)
		snprintf(out, size, "%s:%u:%u: ", config_file_of(c, at), at.line, at.column);
	n = strlen(out);
	va_start(ap, fmt);
	vsnprintf(out + n, size - n, fmt, ap);
	va_end(ap);
}

const struct config_listener *config_find_listener(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->nlisteners; i++)
		if (strcmp(c->listeners[i].name, name) == 0)
			return &c->listeners[i];
	return NULL;
}

int config_names_add(struct config_names *names, struct str name)
{
	char **grown = reallocarray(names->names, names->n + 1, sizeof(char *));

	if (!grown)
		return -ENOMEM;
	names->names = grown;
	grown[names->n] = str_dup(name);
	if (!grown[names->n])
		return -ENOMEM;
	names->n++;
	return 0;
}

void config_names_fini(struct config_names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->names[i]);
	free(names->names);
	*names = (struct config_names){0};
}

/* --- ids that users hand out to themselves ------------------------------------------------------------------------ */

/* One line "holder:first:count"; lines that are none are ignored, as those who act on the file do. */
static int add_range(struct config_ranges *out, struct str line)
{
	struct config_range *grown;
	uint64_t first, count;

	str_cut(&line, ':');
	struct str word = str_cut(&line, ':');
	if (str_parse_u64(word, &first) || str_parse_u64(line, &count) || first >= UINT32_MAX || count == 0)
		return 0;
	grown = reallocarray(out->ranges, out->n + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	out->ranges = grown;
	if (count > UINT32_MAX - first)
		count = UINT32_MAX - first;
	grown[out->n++] = (struct config_range){(uint32_t)first, (uint32_t)(first + count - 1)};
	return 0;
}

bool config_ranges_hold(const struct config_ranges *ranges, uint32_t id)
{
	for (size_t i = 0; i < ranges->n; i++)
		if (id >= ranges->ranges[i].first && id <= ranges->ranges[i].last)
			return true;
	return false;
}

int config_read_ranges(const char *path, struct config_ranges *out)
{
	struct buf text = BUF_EMPTY;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int rc;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	rc = fd_read_all(fd, RANGES_MAX_BYTES, &text);
	close(fd);
	for (struct str rest = buf_str(&text); rc == 0 && rest.n;)
		rc = add_range(out, str_cut(&rest, '\n'));
	buf_fini(&text);
	return rc;
}

/* --- what a rule allows ------------------------------------------------------------------------------------------ */

void config_rule_complete_allow(struct config_rule *r)
{
	struct config_route_set *s = &r->allow;

	if (!s->written && r->admin)
		s->classes = ROUTE_CLASS_ALL | ROUTE_CLASS_BIT(ROUTE_ADMIN);
	else if (!s->written)
		s->classes = ROUTE_CLASS_BIT(ROUTE_SANDBOXES) | ROUTE_CLASS_BIT(ROUTE_TEMPLATES_READ) |
			     ROUTE_CLASS_BIT(ROUTE_SYSTEM) | ROUTE_CLASS_BIT(ROUTE_EVENTS) |
			     ROUTE_CLASS_BIT(ROUTE_PREVIEW) | ROUTE_CLASS_BIT(ROUTE_RUN) |
			     (r->isolation == CONFIG_ISOLATION_OWNER ? ROUTE_CLASS_BIT(ROUTE_PRUNE) : 0);
	s->classes |= ROUTE_CLASS_BIT(ROUTE_OWN) | (r->admin ? ROUTE_CLASS_BIT(ROUTE_OPERATE) : 0);
}

void config_route_set_each(const struct config_route_set *set, void (*each)(void *arg, const char *entry), void *arg)
{
	const bool all = set->classes & ROUTE_CLASS_BIT(ROUTE_UNKNOWN);

	if (all)
		each(arg, "all");
	for (unsigned i = 0; i < ROUTE_UNKNOWN && !all; i++)
		if (set->classes & ROUTE_CLASS_BIT(i))
			each(arg, route_class_text((enum route_class)i));
	for (size_t i = 0; i < set->npatterns; i++)
		each(arg, set->patterns[i].text);
}

/* '*' is any run without '/': what lies between two slashes is matched by itself, so the last star is the one to grow. */
static bool image_fits(const char *pattern, struct str image)
{
	const char *star = NULL;
	size_t mark = 0;
	size_t i = 0;

	while (i < image.n) {
		if (*pattern == '*') {
			star = ++pattern;
			mark = i;
		} else if (*pattern == image.p[i]) {
			pattern++;
			i++;
		} else if (star && image.p[mark] != '/') {
			pattern = star;
			i = ++mark;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool config_limits_image(const struct config_limits *l, struct str image)
{
	for (size_t i = 0; i < l->nimages; i++)
		if (image_fits(l->images[i], image))
			return true;
	return l->nimages == 0;
}

/* --- defaults that are lists ------------------------------------------------------------------------------------ */

int config_listener_complete(struct config_listener *l)
{
	static const struct str hosts[] = {{"localhost", 9}, {"127.0.0.1", 9}, {"[::1]", 5}};

	bool needs_hosts = l->port && l->hosts.n == 0;

	for (size_t i = 0; i < 3 && needs_hosts; i++)
		if (config_names_add(&l->hosts, hosts[i]))
			return -ENOMEM;
	if (!l->name && l->path)
		l->name = strdup(l->path);
	else if (!l->name && asprintf(&l->name, "127.0.0.1:%u", (unsigned)l->port) < 0)
		l->name = NULL;
	return l->name ? 0 : -ENOMEM;
}

/* A name that two of the passed sockets have is that of neither. */
static bool is_only_name(const struct config_places *places, size_t i)
{
	for (size_t k = 0; k < places->npassed; k++)
		if (k != i && strcmp(places->passed[k].name, places->passed[i].name) == 0)
			return false;
	return true;
}

static int listen_on_passed(struct config *c, const struct config_places *places)
{
	c->listeners = calloc(places->npassed, sizeof(*c->listeners));
	if (!c->listeners)
		return -ENOMEM;
	for (size_t i = 0; i < places->npassed; i++) {
		const struct config_passed *p = &places->passed[i];
		struct config_listener *l = &c->listeners[c->nlisteners++];
		l->mode = 0600;
		l->gid = (gid_t)-1;
		l->port = p->port;
		l->path = p->path ? strdup(p->path) : NULL;
		l->name = is_only_name(places, i) ? strdup(p->name) : NULL;
		if ((p->path && !l->path) || config_listener_complete(l))
			return -ENOMEM;
	}
	return 0;
}

static int complete_listener(struct config *c, const struct config_places *places, char *why, size_t why_size)
{
	struct config_listener *l;

	if (c->nlisteners)
		return 0;
	if (places->npassed)
		return listen_on_passed(c, places);
	if (!places->socket) {
		snprintf(why, why_size, "%s is not set, so there is no place for the default socket", places->missing);
		return -EINVAL;
	}
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	c->listeners = l;
	c->nlisteners = 1;
	l->mode = 0600;
	l->gid = (gid_t)-1;
	l->path = strdup(places->socket);
	l->name = strdup(places->socket);
	return l->path && l->name ? 0 : -ENOMEM;
}

static int complete_upstream(struct config *c)
{
	struct config_upstream *u;

	if (c->nupstreams)
		return 0;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	c->upstreams = u;
	c->nupstreams = 1;
	config_upstream_defaults(u);
	config_upstream_complete(u);
	u->scheme = CONFIG_LOCAL;
	u->name = strdup("local");
	u->url = strdup("local");
	return u->name && u->url ? 0 : -ENOMEM;
}

/* One connection is enough for all spans; a collector that is slow is given up by who sends them (trace_export). */
static int complete_tracing(struct config_tracing *t)
{
	if (!t->to.url)
		return 0;
	t->to.pool = (struct config_pool){
		.max_connections = 1,
		.max_per_identity = 1,
		.max_idle = 1,
		.idle_timeout_ms = 45000,
		.lifetime_ms = 3600000,
		.max_waiting = 1,
		.wait_timeout_ms = 30000,
	};
	t->to.timeouts = default_timeouts;
	t->to.name = strdup("tracing");
	if (!t->service_name)
		t->service_name = strdup("stacygate");
	return t->to.name && t->service_name ? 0 : -ENOMEM;
}

/* The rule of a daemon without any: its own uid, everything. */
static int complete_rule(struct config *c)
{
	struct config_rule *r;

	if (c->nrules)
		return 0;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	c->rules = r;
	c->nrules = 1;
	r->match_uids = true;
	r->uids.ids = malloc(sizeof(uint32_t));
	r->name = strdup("own-uid");
	r->user_id = strdup("{user}@{host}");
	if (!r->uids.ids || !r->name || !r->user_id)
		return -ENOMEM;
	r->uids.ids[0] = (uint32_t)(c->user ? c->user_uid : geteuid());
	r->uids.n = 1;
	r->admin = true;
	r->isolation = CONFIG_ISOLATION_NONE;
	config_rule_complete_allow(r);
	return 0;
}

char *config_host_file(const struct config_places *places)
{
	return places->state_dir ? join(places->state_dir, "host") : NULL;
}

/* The host name that the first start kept, else the machine's. */
static char *find_host(const struct config_places *places)
{
	char name[HOST_NAME_MAX + 1] = "";
	char *path = config_host_file(places);
	FILE *file = path ? fopen(path, "re") : NULL;

	if (file) {
		if (!fgets(name, sizeof(name), file))
			name[0] = '\0';
		name[strcspn(name, "\n")] = '\0';
		fclose(file);
	}
	free(path);
	if (name[0] == '\0' && gethostname(name, sizeof(name)) < 0)
		name[0] = '\0';
	name[sizeof(name) - 1] = '\0';
	return strdup(name[0] ? name : "localhost");
}

int config_complete(struct config *c, const struct config_places *places, char *why, size_t why_size)
{
	int rc = complete_listener(c, places, why, why_size);

	if (rc == 0)
		rc = complete_upstream(c);
	if (rc == 0)
		rc = complete_rule(c);
	if (rc == 0)
		rc = complete_tracing(&c->tracing);
	if (rc == 0 && !c->host) {
		c->host = find_host(places);
		rc = c->host ? 0 : -ENOMEM;
	}
	if (rc == -ENOMEM)
		snprintf(why, why_size, "out of memory");
	return rc;
}

/* --- the effective configuration in words ----------------------------------------------------------------------- */

/* Writes the character of a UTF-8 sequence of two to four bytes as a number: some are line breaks to YAML. */
static void dump_wide(struct buf *out, const char *p, int n)
{
	unsigned code = (unsigned char)p[0] & (0xffu >> (n + 1));

	for (int i = 1; i < n; i++)
		code = code << 6 | ((unsigned char)p[i] & 0x3fu);
	buf_addf(out, "\\U%08x", code);
}

/* A double-quoted YAML scalar. */
static void dump_text(struct buf *out, const char *text)
{
	int n;

	buf_add_char(out, '"');
	for (const char *p = text; *p; p += n > 1 ? n : 1) {
		n = str_utf8_len(str_from(p));
		if (*p == '"' || *p == '\\')
			buf_add_char(out, '\\');
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			buf_addf(out, "\\x%02x", (unsigned)(unsigned char)*p);
		else if (n > 1)
			dump_wide(out, p, n);
		else
			buf_add_char(out, *p);
	}
	buf_add_char(out, '"');
}

static void dump_duration(struct buf *out, const char *key, uint64_t ms)
{
	char text[40];

	duration_format((int64_t)ms * 1000000, text);
	buf_addf(out, "%s: %s", key, text);
}

static void dump_tls(const struct config_tls *tls, const char *indent, struct buf *out)
{
	const struct {
		const char *key;
		const char *value;
	} rows[] = {{"ca_file", tls->ca_file},
		    {"cert_file", tls->cert_file},
		    {"key_file", tls->key_file},
		    {"server_name", tls->server_name}};
	bool comma = false;

	buf_addf(out, "\n%stls: {", indent);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!rows[i].value)
			continue;
		buf_addf(out, "%s%s: ", comma ? ", " : " ", rows[i].key);
		dump_text(out, rows[i].value);
		comma = true;
	}
	buf_add_cstr(out, " }");
}

static void dump_upstream(const struct config_upstream *u, struct buf *out)
{
	const struct config_pool *p = &u->pool;
	const struct config_timeouts *t = &u->timeouts;

	buf_addf(out, "  ");
	dump_text(out, u->name);
	buf_add_cstr(out, ":\n    url: ");
	dump_text(out, u->url);
	if (u->scheme == CONFIG_HTTP)
		buf_addf(out, "\n    allow_plaintext: %s", u->allow_plaintext ? "true" : "false");
	if (u->scheme == CONFIG_HTTPS)
		dump_tls(&u->tls, "    ", out);
	if (u->proxy) {
		buf_add_cstr(out, "\n    proxy: ");
		dump_text(out, u->proxy);
	}
	if (u->scheme != CONFIG_LOCAL)
		buf_addf(out, "\n    shared_vm: %s", u->shared_vm ? "accept" : "refuse");
	buf_addf(out, "\n    pool: { max_connections: %llu, max_per_identity: %llu, min_idle: %llu, max_idle: %llu, ",
		 (unsigned long long)p->max_connections, (unsigned long long)p->max_per_identity,
		 (unsigned long long)p->min_idle, (unsigned long long)p->max_idle);
	dump_duration(out, "idle_timeout", p->idle_timeout_ms);
	dump_duration(out, ", lifetime", p->lifetime_ms);
	buf_addf(out, ", max_waiting: %llu, ", (unsigned long long)p->max_waiting);
	dump_duration(out, "wait_timeout", p->wait_timeout_ms);
	dump_duration(out, " }\n    timeouts: { connect", t->connect_ms);
	dump_duration(out, ", response", t->response_ms);
	dump_duration(out, ", spawn", t->spawn_ms);
	dump_duration(out, ", exec", t->exec_ms);
	dump_duration(out, ", body_idle", t->body_idle_ms);
	dump_duration(out, ", stream_idle", t->stream_idle_ms);
	buf_add_cstr(out, " }\n");
}

static void dump_ids(struct buf *out, const char *key, const struct config_ids *ids, bool *comma)
{
	buf_addf(out, "%s%s: [", *comma ? ", " : " ", key);
	for (size_t i = 0; i < ids->n; i++)
		buf_addf(out, "%s%u", i ? ", " : "", ids->ids[i]);
	buf_add_char(out, ']');
	*comma = true;
}

/* A flow list of texts. */
static void dump_texts(struct buf *out, char *const *texts, size_t n)
{
	buf_add_char(out, '[');
	for (size_t i = 0; i < n; i++) {
		buf_add_cstr(out, i ? ", " : "");
		dump_text(out, texts[i]);
	}
	buf_add_char(out, ']');
}

static void dump_match_texts(struct buf *out, const char *key, char *const *texts, size_t n, bool *comma)
{
	buf_addf(out, "%s%s: ", *comma ? ", " : " ", key);
	dump_texts(out, texts, n);
	*comma = true;
}

struct list_dump {
	struct buf *out;
	bool comma;
};

static void dump_entry(void *arg, const char *entry)
{
	struct list_dump *d = arg;

	buf_add_cstr(d->out, d->comma ? ", " : "");
	dump_text(d->out, entry);
	d->comma = true;
}

static void dump_routes(const struct config_route_set *set, struct buf *out)
{
	struct list_dump d = {out, false};

	buf_add_char(out, '[');
	config_route_set_each(set, dump_entry, &d);
	buf_add_cstr(out, "]\n");
}

static void dump_limit_texts(struct buf *out, const char *key, char *const *texts, size_t n)
{
	if (n == 0)
		return;
	buf_addf(out, "      %s: ", key);
	dump_texts(out, texts, n);
	buf_add_char(out, '\n');
}

/* A limit that is not written does not exist, so it is not shown. */
static void dump_limits(const struct config_limits *l, struct buf *out)
{
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {{"requests_per_second", l->requests_per_second},
		    {"concurrent_requests", l->concurrent_requests},
		    {"connections", l->connections},
		    {"sandboxes", l->sandboxes},
		    {"max_memory_mb", l->max_memory_mb},
		    {"max_vcpus", l->max_vcpus}};
	bool any = l->max_ttl_ms || l->nimages || l->nproviders;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		any = any || rows[i].value;
	if (!any)
		return;
	buf_add_cstr(out, "    limits:\n");
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].value)
			buf_addf(out, "      %s: %llu\n", rows[i].key, (unsigned long long)rows[i].value);
	if (l->max_ttl_ms) {
		dump_duration(out, "      max_ttl", l->max_ttl_ms);
		buf_add_char(out, '\n');
	}
	dump_limit_texts(out, "images", l->images, l->nimages);
	dump_limit_texts(out, "providers", l->providers, l->nproviders);
}

static void dump_rule(const struct config *c, const struct config_rule *r, struct buf *out)
{
	bool comma = false;

	buf_add_cstr(out, "  - name: ");
	dump_text(out, r->name);
	buf_add_cstr(out, "\n    match: {");
	if (r->match_uids)
		dump_ids(out, "uid", &r->uids, &comma);
	if (r->match_gids)
		dump_ids(out, "gid", &r->gids, &comma);
	if (r->match_exes)
		dump_match_texts(out, "exe", r->exes.names, r->exes.n, &comma);
	if (r->match_units)
		dump_match_texts(out, "unit", r->units.names, r->units.n, &comma);
	if (r->match_listeners)
		dump_match_texts(out, "listener", r->listeners, r->nlisteners, &comma);
	buf_add_cstr(out, " }\n    upstream: ");
	dump_text(out, c->upstreams[r->upstream].name);
	if (r->has_credential) {
		buf_add_cstr(out, "\n    credential: ");
		dump_text(out, c->credentials[r->credential].name);
	}
	buf_add_cstr(out, "\n    user_id: ");
	dump_text(out, r->user_id);
	buf_addf(out, "\n    admin: %s\n    allow: ", r->admin ? "true" : "false");
	dump_routes(&r->allow, out);
	if (r->deny.written) {
		buf_add_cstr(out, "    deny: ");
		dump_routes(&r->deny, out);
	}
	buf_addf(out, "    isolation: %s\n", r->isolation == CONFIG_ISOLATION_OWNER ? "owner" : "none");
	dump_limits(&r->limits, out);
	if (r->spawn_defaults)
		buf_addf(out, "    spawn_defaults: %s\n", r->spawn_defaults);
	if (r->keep_alive_ms) {
		dump_duration(out, "    keep_alive", r->keep_alive_ms);
		buf_add_char(out, '\n');
	}
	if (r->heartbeat_ms) {
		dump_duration(out, "    heartbeat", r->heartbeat_ms);
		buf_add_char(out, '\n');
	}
}

static void dump_bounds(const struct config_bounds *b, struct buf *out)
{
	buf_addf(out, "bounds: { connections: %llu, connections_per_uid: %llu, body: %llu, ",
		 (unsigned long long)b->connections, (unsigned long long)b->connections_per_uid,
		 (unsigned long long)b->body_bytes);
	dump_duration(out, "client_head", b->client_head_ms);
	dump_duration(out, ", client_body_idle", b->client_body_idle_ms);
	dump_duration(out, ", idle_client", b->idle_client_ms);
	buf_add_cstr(out, " }\n");
}

static void dump_cache(const struct config_cache *c, struct buf *out)
{
	dump_duration(out, "cache:\n  templates: { ttl", c->templates.ttl_ms);
	dump_duration(out, ", stale_while_revalidate", c->templates.stale_while_revalidate_ms);
	dump_duration(out, ", stale_if_error", c->templates.stale_if_error_ms);
	dump_duration(out, " }\n  previews: { ttl", c->preview_ttl_ms);
	buf_addf(out, " }\n  max_entries: %llu\n  max_bytes: %llu\n  keep: %s\n", (unsigned long long)c->max_entries,
		 (unsigned long long)c->max_bytes, c->keep ? "true" : "false");
}

static void dump_leases(const struct config_leases *l, struct buf *out)
{
	dump_duration(out, "leases: { ttl", l->ttl_ms);
	dump_duration(out, ", extend", l->extend_ms);
	dump_duration(out, ", grace", l->grace_ms);
	buf_add_cstr(out, " }\n");
}

/* Where a key comes from; what it is cannot be shown, since it is not in here. */
static void dump_key(struct buf *out, const char *name, const struct config_key *k)
{
	static const char *const words[] = {[CONFIG_SOURCE_FILE] = "file",
					    [CONFIG_SOURCE_ENV] = "env",
					    [CONFIG_SOURCE_SYSTEMD] = "systemd",
					    [CONFIG_SOURCE_COMMAND] = "command"};

	if (k->source == CONFIG_SOURCE_NONE)
		return;
	buf_addf(out, "    %s: { %s: ", name, words[k->source]);
	if (k->source == CONFIG_SOURCE_COMMAND) {
		for (size_t i = 0; k->argv[i]; i++) {
			buf_add_cstr(out, i ? ", " : "[");
			dump_text(out, k->argv[i]);
		}
		dump_duration(out, "], ttl", k->ttl_ms);
		dump_duration(out, ", timeout", k->timeout_ms);
	} else {
		dump_text(out, k->from);
	}
	buf_add_cstr(out, " } # <secret>\n");
}

static void dump_output(const struct config_output *o, const char *key, struct buf *out)
{
	static const char *const words[] = {[CONFIG_OUTPUT_OFF] = "off",
					    [CONFIG_OUTPUT_STDERR] = "stderr",
					    [CONFIG_OUTPUT_JOURNAL] = "journal",
					    [CONFIG_OUTPUT_FILE] = NULL};

	buf_addf(out, ", %s: ", key);
	if (words[o->kind])
		buf_add_cstr(out, words[o->kind]);
	else
		dump_text(out, o->path);
}

static void dump_log(const struct config *c, struct buf *out)
{
	buf_addf(out, "log: { level: %s, format: %s",
		 c->log_level == LOG_LEVEL_WARN ? "warn" : log_level_name(c->log_level),
		 c->log_format == LOG_FORMAT_JSON ? "json" : "text");
	dump_output(&c->access, "access", out);
	dump_output(&c->audit, "audit", out);
	buf_add_cstr(out, " }\n");
}

/* A billionth of something as a decimal fraction, without needless zeros. */
static void dump_parts(struct buf *out, uint64_t ppb)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u.%09u", (unsigned)(ppb / 1000000000), (unsigned)(ppb % 1000000000));

	while (text[n - 1] == '0')
		n--;
	if (text[n - 1] == '.')
		n--;
	buf_add(out, text, (size_t)n);
}

static void dump_tracing(const struct config_tracing *t, struct buf *out)
{
	buf_add_cstr(out, "tracing:\n  endpoint: ");
	dump_text(out, t->to.url);
	if (t->to.scheme == CONFIG_HTTP)
		buf_addf(out, "\n  allow_plaintext: %s", t->to.allow_plaintext ? "true" : "false");
	if (t->to.scheme == CONFIG_HTTPS)
		dump_tls(&t->to.tls, "  ", out);
	buf_add_cstr(out, "\n  sample: ");
	dump_parts(out, t->sample_ppb);
	buf_add_cstr(out, "\n  service_name: ");
	dump_text(out, t->service_name);
	buf_add_char(out, '\n');
}

static void dump_listener(const struct config_listener *l, struct buf *out)
{
	if (l->path) {
		buf_add_cstr(out, "  - path: ");
		dump_text(out, l->path);
	} else {
		buf_addf(out, "  - tcp: \"127.0.0.1:%u\"", (unsigned)l->port);
	}
	buf_add_cstr(out, "\n    name: ");
	dump_text(out, l->name);
	if (l->path) {
		buf_addf(out, "\n    mode: \"%04o\"\n", (unsigned)l->mode);
	} else {
		buf_add_cstr(out, "\n    hosts: ");
		dump_texts(out, l->hosts.names, l->hosts.n);
		if (l->origins.n) {
			buf_add_cstr(out, "\n    origins: ");
			dump_texts(out, l->origins.names, l->origins.n);
		}
		buf_add_char(out, '\n');
	}
	if (l->group) {
		buf_add_cstr(out, "    group: ");
		dump_text(out, l->group);
		buf_add_char(out, '\n');
	}
}

void config_dump(const struct config *c, struct buf *out)
{
	if (c->user) {
		buf_add_str(out, STR("user: "));
		dump_text(out, c->user);
		buf_add_str(out, STR("\n"));
	}
	dump_duration(out, "drain_timeout", c->drain_timeout_ms);
	buf_add_cstr(out, "\nhost: ");
	dump_text(out, c->host);
	buf_add_cstr(out, "\nlisten:\n");
	for (size_t i = 0; i < c->nlisteners; i++)
		dump_listener(&c->listeners[i], out);
	buf_add_cstr(out, "upstreams:\n");
	for (size_t i = 0; i < c->nupstreams; i++)
		dump_upstream(&c->upstreams[i], out);
	if (c->ncredentials)
		buf_add_cstr(out, "credentials:\n");
	for (size_t i = 0; i < c->ncredentials; i++) {
		const struct config_credential *k = &c->credentials[i];
		buf_add_cstr(out, "  ");
		dump_text(out, k->name);
		buf_add_cstr(out, ":\n");
		dump_key(out, "api_key", &k->api_key);
		dump_key(out, "admin_api_key", &k->admin_api_key);
	}
	buf_add_cstr(out, "clients:\n");
	for (size_t i = 0; i < c->nrules; i++)
		dump_rule(c, &c->rules[i], out);
	dump_cache(&c->cache, out);
	if (c->preview.url) {
		buf_add_cstr(out, "preview: { url: ");
		dump_text(out, c->preview.url);
		buf_add_cstr(out, " }\n");
	}
	dump_bounds(&c->bounds, out);
	dump_leases(&c->leases, out);
	dump_log(c, out);
	if (c->tracing.to.url)
		dump_tracing(&c->tracing, out);
}

static bool names_uid(const struct config_rule *r, uint32_t uid)
{
	for (size_t i = 0; i < r->uids.n; i++)
		if (r->uids.ids[i] == uid)
			return true;
	return false;
}

/* root in a container is uid 0 as well, and over TCP it is nobody. */
static void warn_of_root(const struct config *c, const struct config_rule *r, struct buf *out)
{
	if (c->nlisteners < 2 || r->match_listeners || !(r->admin || names_uid(r, 0)))
		return;
	buf_addf(out,
		 "rule \"%s\" %s and names no listener: root in a container is uid 0 too, on whatever listener "
		 "is open to it\n",
		 r->name, r->admin ? "has admin: true" : "is for uid 0");
}

void config_warnings(const struct config *c, struct buf *out)
{
	bool uses_host = false;

	for (size_t i = 0; i < c->nrules; i++) {
		const struct config_rule *r = &c->rules[i];
		bool many = !r->match_uids || r->uids.n > 1;
		warn_of_root(c, r, out);
		if (r->admin && r->has_credential && (r->allow.classes & ROUTE_CLASS_BIT(ROUTE_ADMIN)) &&
		    c->credentials[r->credential].admin_api_key.source == CONFIG_SOURCE_NONE)
			buf_addf(out,
				 "rule \"%s\" allows admin routes, and its credential \"%s\" has no admin_api_key: "
				 "they are answered 403\n",
				 r->name, c->credentials[r->credential].name);
		uses_host = uses_host || strstr(r->user_id, "{host}");
		if (many && !strstr(r->user_id, "{user}") && !strstr(r->user_id, "{uid}"))
			buf_addf(out, "rule \"%s\" can match several users, and its user_id makes them one owner\n",
				 r->name);
	}
	if (uses_host && (strcmp(c->host, "localhost") == 0 || strcmp(c->host, "debian") == 0))
		buf_addf(out, "{host} is \"%s\", as on many machines: write host: to tell this one apart\n", c->host);
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

int config_key_copy(struct config_key *to, const struct config_key *from)
{
	size_t n = 0;

	*to = (struct config_key){.source = from->source, .ttl_ms = from->ttl_ms, .timeout_ms = from->timeout_ms};
	to->from = strdup(from->from);
	if (!to->from)
		return -ENOMEM;
	if (!from->argv)
		return 0;
	while (from->argv[n])
		n++;
	to->argv = calloc(n + 1, sizeof(char *));
	for (size_t i = 0; to->argv && i < n; i++) {
		to->argv[i] = strdup(from->argv[i]);
		if (!to->argv[i])
			return -ENOMEM;
	}
	return to->argv ? 0 : -ENOMEM;
}

void config_key_fini(struct config_key *k)
{
	for (size_t i = 0; k->argv && k->argv[i]; i++)
		free(k->argv[i]);
	free(k->argv);
	free(k->from);
	*k = (struct config_key){0};
}

bool config_same_argv(char *const *a, char *const *b)
{
	size_t i = 0;

	if (!a || !b)
		return a == b;
	while (a[i] && b[i] && strcmp(a[i], b[i]) == 0)
		i++;
	return !a[i] && !b[i];
}

bool config_key_same(const struct config_key *a, const struct config_key *b)
{
	return a->source == b->source && same_text(a->from, b->from) && config_same_argv(a->argv, b->argv) &&
	       a->ttl_ms == b->ttl_ms && a->timeout_ms == b->timeout_ms;
}

bool config_upstream_same(const struct config_upstream *a, const struct config_upstream *b)
{
	return same_text(a->name, b->name) && same_text(a->url, b->url) && a->shared_vm == b->shared_vm &&
	       memcmp(&a->pool, &b->pool, sizeof(a->pool)) == 0 &&
	       memcmp(&a->timeouts, &b->timeouts, sizeof(a->timeouts)) == 0 && same_text(a->proxy, b->proxy) &&
	       same_text(a->tls.cert_file, b->tls.cert_file) && same_text(a->tls.key_file, b->tls.key_file) &&
	       same_text(a->tls.server_name, b->tls.server_name) && a->tls.files == b->tls.files &&
	       str_eq(buf_str(&a->tls.ca), buf_str(&b->tls.ca));
}
