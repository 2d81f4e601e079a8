/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/config_clients.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "gateway/config.h"
#include "gateway/config_limits.h"
#include "gateway/config_routes.h"
#include "gateway/reader.h"

enum {
	USER_ID_MAX_BYTES = 128
};

/* --- client rules --------------------------------------------------------------------------------------------------- */

struct match {
	yaml_node_t *user;
	yaml_node_t *uid;
	yaml_node_t *group;
	yaml_node_t *gid;
	yaml_node_t *exe;
	yaml_node_t *unit;
	yaml_node_t *listener;
};

/* Calls `each` for a single value or for every element of a list. */
static void for_each_value(struct reader *r, yaml_node_t *node, struct config_rule *rule, const char *key,
			   void (*each)(struct reader *r, yaml_node_t *value, struct config_rule *rule))
{
	if (node->type != YAML_SEQUENCE_NODE) {
		if (reader_expect_text(r, node, key))
			each(r, node, rule);
		return;
	}
	if (!reader_expect_sequence(r, node, key))
		return;
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
		if (reader_expect_text(r, reader_node(r, *i), key))
			each(r, reader_node(r, *i), rule);
}

static void add_id(struct reader *r, struct config_ids *set, uint32_t id)
{
	uint32_t *ids;

	for (size_t i = 0; i < set->n; i++)
		if (set->ids[i] == id)
			return;
	ids = reallocarray(set->ids, set->n + 1, sizeof(*ids));
	if (!ids) {
		r->no_memory = true;
		return;
	}
	ids[set->n++] = id;
	set->ids = ids;
}

static void add_number(struct reader *r, yaml_node_t *node, struct config_ids *set, const char *key)
{
	uint64_t id;

	if (str_parse_u64(reader_scalar(node), &id) || id >= UINT32_MAX)
		reader_fault(r, node, "%s is \"%s\", expected a number", key, node->data.scalar.value);
	else if (id == READER_OVERFLOW_ID)
		reader_fault(r, node,
			     "%s 65534 is what the kernel shows for ids that it cannot tell: it matches nothing", key);
	else
		add_id(r, set, (uint32_t)id);
}

static void add_uid(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	add_number(r, node, &rule->uids, "uid");
}

static void add_gid(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	add_number(r, node, &rule->gids, "gid");
}

static void add_user(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	const struct passwd *pw = getpwnam((const char *)node->data.scalar.value);

	if (!pw)
		reader_fault(r, node, "there is no user \"%s\"", node->data.scalar.value);
	else if (pw->pw_uid == READER_OVERFLOW_ID)
		reader_fault(r, node,
			     "user \"%s\" has uid 65534, which the kernel shows for ids that it cannot tell: it "
			     "matches nothing",
			     node->data.scalar.value);
	else
		add_id(r, &rule->uids, pw->pw_uid);
}

static void add_group(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	const struct group *gr = getgrnam((const char *)node->data.scalar.value);

	if (!gr)
		reader_fault(r, node, "there is no group \"%s\"", node->data.scalar.value);
	else if (gr->gr_gid == READER_OVERFLOW_ID)
		reader_fault(r, node,
			     "group \"%s\" has gid 65534, which the kernel shows for ids that it cannot tell: it "
			     "matches nothing",
			     node->data.scalar.value);
	else
		add_id(r, &rule->gids, gr->gr_gid);
}

static void add_listener(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	char **names = reallocarray(rule->listeners, rule->nlisteners + 1, sizeof(char *));

	if (!names) {
		r->no_memory = true;
		return;
	}
	rule->listeners = names;
	names[rule->nlisteners] = reader_copy(r, reader_scalar(node));
	if (names[rule->nlisteners])
		rule->nlisteners++;
}

static void add_name(struct reader *r, yaml_node_t *node, struct config_names *to)
{
	if (config_names_add(to, reader_scalar(node)))
		r->no_memory = true;
}

static void add_exe(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	if (node->data.scalar.value[0] != '/')
		reader_fault(r, node, "exe is \"%s\", expected the absolute path of a program",
			     node->data.scalar.value);
	else
		add_name(r, node, &rule->exes);
}

/* "x.service" of the system, or "user@UID:x.service" of a user's manager. */
static bool is_unit(struct str s)
{
	uint64_t uid;

	if (str_starts(s, STR("user@")) && memchr(s.p, ':', s.n)) {
		struct str user = str_cut(&s, ':');
		if (str_parse_u64(str_of(user.p + 5, user.n - 5), &uid) || uid >= UINT32_MAX)
			return false;
	}
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] <= 0x20 || s.p[i] == '/')
			return false;
	return (str_ends(s, STR(".service")) && s.n > 8) || (str_ends(s, STR(".scope")) && s.n > 6);
}

static void add_unit(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	if (is_unit(reader_scalar(node)))
		add_name(r, node, &rule->units);
	else
		reader_fault(
			r, node,
			"unit is \"%s\", expected NAME.service or NAME.scope of the system, or user@UID:NAME.service "
			"of a user",
			node->data.scalar.value);
}

static void read_match(struct reader *r, yaml_node_t *node, void *to, const struct reader_field *f)
{
	static const struct reader_field fields[] = {
		{"user", reader_keep_node, offsetof(struct match, user), 0, 0},
		{"uid", reader_keep_node, offsetof(struct match, uid), 0, 0},
		{"group", reader_keep_node, offsetof(struct match, group), 0, 0},
		{"gid", reader_keep_node, offsetof(struct match, gid), 0, 0},
		{"exe", reader_keep_node, offsetof(struct match, exe), 0, 0},
		{"unit", reader_keep_node, offsetof(struct match, unit), 0, 0},
		{"listener", reader_keep_node, offsetof(struct match, listener), 0, 0},
	};
	struct config_rule *rule = to;
	struct match m = {0};

	reader_mapping(r, node, fields, READER_FIELDS(fields), &m, f->key);
	if (m.user && m.uid)
		reader_fault(r, m.uid, "user and uid in one rule: expected one of them, a list means any of");
	if (m.group && m.gid)
		reader_fault(r, m.gid, "group and gid in one rule: expected one of them, a list means any of");
	rule->match_uids = m.user || m.uid;
	rule->match_gids = m.group || m.gid;
	rule->match_exes = m.exe;
	rule->match_units = m.unit;
	rule->match_listeners = m.listener;
	if (m.user)
		for_each_value(r, m.user, rule, "user", add_user);
	if (m.uid)
		for_each_value(r, m.uid, rule, "uid", add_uid);
	if (m.group)
		for_each_value(r, m.group, rule, "group", add_group);
	if (m.gid)
		for_each_value(r, m.gid, rule, "gid", add_gid);
	if (m.exe)
		for_each_value(r, m.exe, rule, "exe", add_exe);
	if (m.unit)
		for_each_value(r, m.unit, rule, "unit", add_unit);
	if (m.listener)
		for_each_value(r, m.listener, rule, "listener", add_listener);
}

/* What one rule names by name; resolved when the whole file has been read. */
struct rule_names {
	yaml_node_t *upstream;
	yaml_node_t *credential;
	yaml_node_t *user_id;
	yaml_node_t *name;
	yaml_node_t *match;
	yaml_node_t *allow;
	yaml_node_t *deny;
	yaml_node_t *admin;
	yaml_node_t *isolation;
	yaml_node_t *limits;
	yaml_node_t *spawn_defaults;
	yaml_node_t *heartbeat;
	yaml_node_t *keep_alive;
};

static void find_upstream(struct reader *r, yaml_node_t *rule, yaml_node_t *node, size_t *out)
{
	if (!node) {
		if (r->c->nupstreams > 1)
			reader_fault(r, rule, "the rule names no upstream, and there are several");
		return;
	}
	if (!reader_expect_text(r, node, "upstream"))
		return;
	if (r->c->nupstreams == 0 && str_eq(reader_scalar(node), STR("local")))
		return; /* the one that is there when none is written */
	for (size_t i = 0; i < r->c->nupstreams; i++) {
		if (str_eq(reader_scalar(node), str_from(r->c->upstreams[i].name))) {
			*out = i;
			return;
		}
	}
	reader_fault(r, node, "there is no upstream \"%s\"", node->data.scalar.value);
}

static void find_credential(struct reader *r, yaml_node_t *rule_node, yaml_node_t *node, struct config_rule *rule)
{
	bool local = r->c->nupstreams == 0 || r->c->upstreams[rule->upstream].scheme == CONFIG_LOCAL;

	if (!node) {
		if (!local)
			reader_fault(r, rule_node, "the rule names no credential for its upstream");
		return;
	}
	if (!reader_expect_text(r, node, "credential"))
		return;
	if (local) {
		reader_fault(r, node, "credential has no effect with upstream local: the daemon makes the key for it");
		return;
	}
	for (size_t i = 0; i < r->c->ncredentials; i++) {
		if (str_eq(reader_scalar(node), str_from(r->c->credentials[i].name))) {
			rule->credential = i;
			rule->has_credential = true;
			return;
		}
	}
	reader_fault(r, node, "there is no credential \"%s\"", node->data.scalar.value);
}

/* One {word} of a user_id. */
static bool is_placeholder(struct str word)
{
	static const struct str known[] = {{"{user}", 6}, {"{uid}", 5}, {"{group}", 7}, {"{host}", 6},
					   {"{unit}", 6}, {"{exe}", 5}, {"{client}", 8}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (str_eq(word, known[i]))
			return true;
	return false;
}

/*
 * Anybody may name a program like another's, and as he likes: {exe} only tells apart what is one user's already, and it
 * must be clear in what comes out where it begins and ends.
 */
static void check_exe(struct reader *r, yaml_node_t *node, const struct config_rule *rule)
{
	const char *exe = strstr(rule->user_id, "{exe}");
	bool one = rule->match_uids && rule->uids.n == 1;

	if (!exe)
		return;
	if (!one && !strstr(rule->user_id, "{user}") && !strstr(rule->user_id, "{uid}"))
		reader_fault(r, node,
			     "{exe} needs {user} or {uid} beside it, or a rule for one uid: anybody may name a program "
			     "like another's");
	else if (!one && ((exe > rule->user_id && exe[-1] == '}') || exe[5] == '{' || strstr(exe + 1, "{exe}")))
		reader_fault(r, node, "{exe} may stand once, with a character between it and another field");
}

static void check_user_id(struct reader *r, yaml_node_t *node, const struct config_rule *rule)
{
	struct str s = str_from(rule->user_id);

	if (s.n == 0 || s.n > USER_ID_MAX_BYTES) {
		reader_fault(r, node, "user_id must have 1 to %d bytes", USER_ID_MAX_BYTES);
		return;
	}
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '/' || c == '\\' || c == '}') {
			reader_fault(r, node,
				     "user_id may hold neither white space, control characters, path separators, "
				     "non-ASCII characters nor a single brace");
			return;
		}
		if (c != '{')
			continue;
		const char *end = memchr(s.p + i, '}', s.n - i);
		struct str word = end ? str_of(s.p + i, (size_t)(end - s.p) - i + 1) : str_of(s.p + i, s.n - i);
		if (!is_placeholder(word)) {
			reader_fault(r, node,
				     "user_id holds %.*s, expected {user}, {uid}, {group}, {host}, {unit}, {exe} or "
				     "{client}",
				     STR_ARG(word));
			return;
		}
		i += word.n - 1;
	}
	check_exe(r, node, rule);
}

static void read_user_id(struct reader *r, yaml_node_t *rule_node, yaml_node_t *node, struct config_rule *rule)
{
	if (node && !reader_expect_text(r, node, "user_id"))
		return;
	rule->user_id = reader_copy(r, node ? reader_scalar(node) : STR("{user}@{host}"));
	if (rule->user_id)
		check_user_id(r, node ? node : rule_node, rule);
}

static void read_isolation(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	if (!reader_expect_text(r, node, "isolation"))
		return;
	if (str_eq(reader_scalar(node), STR("owner")))
		rule->isolation = CONFIG_ISOLATION_OWNER;
	else if (str_eq(reader_scalar(node), STR("none")))
		rule->isolation = CONFIG_ISOLATION_NONE;
	else
		reader_fault(r, node, "isolation is \"%s\", expected owner or none", node->data.scalar.value);
}

/* What the rule lets its clients do. */
static void read_grants(struct reader *r, const struct rule_names *names, struct config_rule *rule)
{
	static const struct reader_field admin_field = {"admin", reader_bool, 0, 0, 0};

	if (names->admin)
		reader_bool(r, names->admin, &rule->admin, &admin_field);
	rule->isolation = rule->admin ? CONFIG_ISOLATION_NONE : CONFIG_ISOLATION_OWNER;
	if (names->isolation)
		read_isolation(r, names->isolation, rule);
	config_routes_read(r, rule, names->allow, names->deny);
	config_limits_read(r, rule, names->limits, names->spawn_defaults);
}

/* The limits are known. */
static void read_keep_alive(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	static const struct reader_field field = {"keep_alive", reader_duration, 0, 1000, READER_DAY_MS};

	reader_duration(r, node, &rule->keep_alive_ms, &field);
	if (rule->limits.max_ttl_ms && rule->keep_alive_ms > rule->limits.max_ttl_ms)
		reader_fault(r, node,
			     "keep_alive is longer than limits.max_ttl, which no sandbox of this rule may have");
}

static void read_rule(struct reader *r, yaml_node_t *node, struct config_rule *rule)
{
	static const struct reader_field fields[] = {
		{"name", reader_keep_node, offsetof(struct rule_names, name), 0, 0},
		{"match", reader_keep_node, offsetof(struct rule_names, match), 0, 0},
		{"upstream", reader_keep_node, offsetof(struct rule_names, upstream), 0, 0},
		{"credential", reader_keep_node, offsetof(struct rule_names, credential), 0, 0},
		{"user_id", reader_keep_node, offsetof(struct rule_names, user_id), 0, 0},
		{"allow", reader_keep_node, offsetof(struct rule_names, allow), 0, 0},
		{"deny", reader_keep_node, offsetof(struct rule_names, deny), 0, 0},
		{"admin", reader_keep_node, offsetof(struct rule_names, admin), 0, 0},
		{"isolation", reader_keep_node, offsetof(struct rule_names, isolation), 0, 0},
		{"limits", reader_keep_node, offsetof(struct rule_names, limits), 0, 0},
		{"spawn_defaults", reader_keep_node, offsetof(struct rule_names, spawn_defaults), 0, 0},
		{"heartbeat", reader_keep_node, offsetof(struct rule_names, heartbeat), 0, 0},
		{"keep_alive", reader_keep_node, offsetof(struct rule_names, keep_alive), 0, 0},
	};
	static const struct reader_field match_field = {"match", read_match, 0, 0, 0};
	static const struct reader_field heartbeat_field = {"heartbeat", reader_duration, 0, 100, READER_DAY_MS};
	struct rule_names names = {0};

	rule->at = reader_mark(node);
	reader_mapping(r, node, fields, READER_FIELDS(fields), &names, "a client rule");
	if (node->type != YAML_MAPPING_NODE)
		return;
	if (!names.name)
		reader_fault(r, node, "the rule has no name");
	else if (reader_expect_name(r, names.name, "name"))
		rule->name = reader_copy(r, reader_scalar(names.name));
	if (!names.match)
		reader_fault(r, node, "the rule has no match: write match: {} for everyone who can open the socket");
	else
		read_match(r, names.match, rule, &match_field);
	find_upstream(r, node, names.upstream, &rule->upstream);
	find_credential(r, node, names.credential, rule);
	read_user_id(r, node, names.user_id, rule);
	if (names.heartbeat)
		reader_duration(r, names.heartbeat, &rule->heartbeat_ms, &heartbeat_field);
	read_grants(r, &names, rule);
	if (names.keep_alive)
		read_keep_alive(r, names.keep_alive, rule);
}

void config_clients_read(struct reader *r, yaml_node_t *node)
{
	struct config *c = r->c;

	if (!reader_expect_sequence(r, node, "clients"))
		return;
	c->rules = calloc(reader_sequence_size(node), sizeof(*c->rules));
	if (!c->rules) {
		r->no_memory = true;
		return;
	}
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++)
		read_rule(r, reader_node(r, *i), &c->rules[c->nrules++]);
}

/* --- checks between the parts ---------------------------------------------------------------------------------------- */

static bool ids_within(const struct config_ids *inner, const struct config_ids *outer)
{
	for (size_t i = 0; i < inner->n; i++) {
		bool found = false;
		for (size_t k = 0; k < outer->n && !found; k++)
			found = inner->ids[i] == outer->ids[k];
		if (!found)
			return false;
	}
	return true;
}

static bool names_within(char *const *inner, size_t ninner, char *const *outer, size_t nouter)
{
	for (size_t i = 0; i < ninner; i++) {
		bool found = false;
		for (size_t k = 0; k < nouter && !found; k++)
			found = strcmp(inner[i], outer[k]) == 0;
		if (!found)
			return false;
	}
	return true;
}

static bool listener_is_tcp(const struct config *c, const char *name)
{
	for (size_t i = 0; i < c->nlisteners; i++)
		if (c->listeners[i].name && strcmp(c->listeners[i].name, name) == 0)
			return c->listeners[i].port != 0;
	return false;
}

/* How many of the rule's listeners are TCP. */
static size_t count_tcp(const struct config *c, const struct config_rule *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nlisteners; i++)
		n += listener_is_tcp(c, r->listeners[i]);
	return n;
}

static bool names_root(const struct config_rule *r)
{
	for (size_t i = 0; i < r->uids.n; i++)
		if (r->uids.ids[i] == 0)
			return true;
	return false;
}

/*
 * Whether `later` is there for those whom `earlier` leaves out because it does not name them: over TCP root and whoever a
 * rule makes an administrator, and uids of /etc/subuid.
 */
static bool names_left_out(const struct config *c, const struct config_rule *earlier, const struct config_rule *later)
{
	if (earlier->match_listeners)
		return false;
	if (count_tcp(c, later) && (earlier->admin || !later->match_uids || names_root(later)))
		return true;
	if (earlier->match_uids || c->subuids.n == 0)
		return false;
	for (size_t i = 0; i < later->uids.n; i++)
		if (config_ranges_hold(&c->subuids, later->uids.ids[i]))
			return true;
	return later->match_listeners;
}

/* Whether every peer that `later` matches is matched by `earlier`. */
static bool covers(const struct config *c, const struct config_rule *earlier, const struct config_rule *later)
{
	const struct config_rule *e = earlier, *l = later;

	if (e->match_uids && !(l->match_uids && ids_within(&l->uids, &e->uids)))
		return false;
	if (e->match_gids && !(l->match_gids && ids_within(&l->gids, &e->gids)))
		return false;
	if (e->match_exes && !(l->match_exes && names_within(l->exes.names, l->exes.n, e->exes.names, e->exes.n)))
		return false;
	if (e->match_units && !(l->match_units && names_within(l->units.names, l->units.n, e->units.names, e->units.n)))
		return false;
	if (e->match_listeners &&
	    !(l->match_listeners && names_within(l->listeners, l->nlisteners, e->listeners, e->nlisteners)))
		return false;
	return !names_left_out(c, e, l);
}

/* Over TCP the uid is all that is known, and root and administrators must name the listener. */
static void check_tcp(struct reader *r, const struct config_rule *rule)
{
	size_t tcp = 0;

	for (size_t i = 0; i < r->c->nlisteners; i++)
		tcp += r->c->listeners[i].port != 0;
	if (rule->match_listeners ? count_tcp(r->c, rule) < rule->nlisteners : tcp == 0 || tcp < r->c->nlisteners)
		return;
	if (rule->match_gids || rule->match_units || rule->match_exes)
		reader_fault_at(
			r, rule->at,
			"the rule can never match: group, exe and unit are not known over TCP, and it is for no "
			"other listener");
	else if (rule->user_id && (strstr(rule->user_id, "{group}") || strstr(rule->user_id, "{exe}")))
		reader_fault_at(
			r, rule->at,
			"user_id can never be made: {group} and {exe} are not known over TCP, and the rule is for no "
			"other listener");
	else if (!rule->match_listeners && (rule->admin || (names_root(rule) && rule->uids.n == 1)))
		reader_fault_at(
			r, rule->at,
			"the rule can never match: over TCP uid 0 and administrators need match: { listener: ... }");
}

void config_clients_check(struct reader *r)
{
	struct config *c = r->c;
	char place[READER_PLACE_SIZE];

	for (size_t i = 0; i < c->nrules; i++) {
		struct config_rule *rule = &c->rules[i];
		for (size_t k = 0; k < i; k++) {
			const struct config_rule *earlier = &c->rules[k];
			if (rule->name && earlier->name && strcmp(rule->name, earlier->name) == 0)
				reader_fault_at(r, rule->at, "rule name \"%s\" is used twice, first %s", rule->name,
						reader_place(r, earlier->at, rule->at, place));
			if (covers(c, earlier, rule)) {
				reader_fault_at(r, rule->at, "the rule can never match: the one %s covers it",
						reader_place(r, earlier->at, rule->at, place));
				break;
			}
		}
		check_tcp(r, rule);
		for (size_t n = 0; n < rule->nlisteners; n++) {
			bool found = false;
			for (size_t k = 0; k < c->nlisteners && !found; k++)
				found = c->listeners[k].name && strcmp(c->listeners[k].name, rule->listeners[n]) == 0;
			if (!found)
				reader_fault_at(r, rule->at, "there is no listener \"%s\"", rule->listeners[n]);
		}
	}
}
