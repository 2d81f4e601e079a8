/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a rule allows and denies is checked as far as it can be without knowing the requests: an entry that is there
 * twice, that nothing can match, that something else in the rule forbids anyway, or that denies what is not allowed is a
 * fault.
 */
#include "gateway/config_routes.h"

#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "gateway/config.h"
#include "gateway/reader.h"
#include "gateway/route.h"
#include "gateway/target.h"

enum {
	PATTERN_MAX_BYTES = 1024,
	GET = 1 << METHOD_GET | 1 << METHOD_HEAD,
	ANY = 0xff,
};

/* The list that is being read. */
struct reading {
	struct reader *r;
	struct config_rule *rule;
	struct config_route_set *set; /* the rule's allow or deny */
	const char *key;              /* "allow" or "deny" */
	bool denies;
};

/* --- patterns ------------------------------------------------------------------------------------------------------- */

static uint32_t methods_of(struct str word)
{
	static const struct {
		struct str word;
		uint32_t methods;
	} rows[] = {
		{{"GET", 3}, GET},
		{{"POST", 4}, 1 << METHOD_POST},
		{{"PUT", 3}, 1 << METHOD_PUT},
		{{"DELETE", 6}, 1 << METHOD_DELETE},
		{{"PATCH", 5}, 1 << METHOD_PATCH},
		{{"*", 1}, ANY},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (str_eq(word, rows[i].word))
			return rows[i].methods;
	return 0;
}

static bool is_below(struct str path, struct str top)
{
	return str_starts(path, top) && (path.n == top.n || path.p[top.n] == '/');
}

/* Why no request can have a path of this pattern, or NULL. */
static const char *bad_path(struct str path)
{
	struct target target;
	struct str rest;
	const char *why;

	if (!is_below(path, STR("/api/v1")) && !is_below(path, STR("/gateway/v1")))
		return "expected a path below /api/v1 or /gateway/v1";
	for (size_t i = 0; i < path.n; i++)
		if (path.p[i] <= 0x20 || path.p[i] == 0x7f || path.p[i] == '?' || path.p[i] == '#')
			return "a path holds neither white space nor other than ASCII characters, and a pattern no "
			       "query";
	if (target_parse(path, STR("x"), &target, &why))
		return why;
	if (path.p[path.n - 1] == '/')
		return "leave the slash at the end out: one is dropped before matching";
	for (rest = str_of(path.p + 1, path.n - 1); rest.p;) {
		struct str segment = str_cut(&rest, '/');
		bool star = segment.n && memchr(segment.p, '*', segment.n);
		if (star && !str_eq(segment, STR("*")) && !(str_eq(segment, STR("**")) && !rest.p))
			return "* stands for one whole segment, ** for any number of them at the end";
	}
	return NULL;
}

/* Whether a path can fit both: a pattern with stars and a row of the table with parameters. */
static bool paths_meet(const char *pattern, const char *row)
{
	while (*pattern) {
		size_t n = strcspn(++pattern, "/");
		size_t m;
		if (n == 2 && strncmp(pattern, "**", 2) == 0)
			return true;
		if (*row == '\0')
			return false;
		m = strcspn(++row, "/");
		if (*row != '{' && !(n == 1 && *pattern == '*') && (n != m || strncmp(pattern, row, n) != 0))
			return false;
		pattern += n;
		row += m;
	}
	return *row == '\0';
}

enum reach {
	REACH_NOTHING, /* no route of a table */
	REACH_ADMIN,   /* only routes that need admin: true, which the rule has not */
	REACH_ROUTES,
};

/* Which routes of the tables a pattern can match that it can matter for. */
static enum reach reach_of(const struct reading *l, const struct config_pattern *p)
{
	enum reach reach = REACH_NOTHING;

	for (unsigned place = ROUTE_API; place <= ROUTE_GATEWAY; place++) {
		size_t n;
		const struct route_row *rows = route_rows((enum route_place)place, &n);
		for (size_t i = 0; i < n; i++) {
			const uint32_t bit = ROUTE_CLASS_BIT(rows[i].class);
			if (!(rows[i].methods & p->methods) || !paths_meet(p->path, rows[i].path))
				continue;
			if ((bit & ROUTE_CLASS_ADMINS) && !l->rule->admin)
				reach = reach == REACH_NOTHING ? REACH_ADMIN : reach;
			else if (l->denies || !(bit & ROUTE_CLASS_UNASKED))
				reach = REACH_ROUTES;
		}
	}
	return reach;
}

static void check_reach(const struct reading *l, yaml_node_t *node, const struct config_pattern *p)
{
	struct str path = str_from(p->path);

	if (is_below(path, STR("/api/v1/worker"))) {
		reader_fault(l->r, node, "%s: /api/v1/worker is always denied", l->key);
		return;
	}
	switch (reach_of(l, p)) {
	case REACH_ROUTES:
		return;
	case REACH_ADMIN:
		reader_fault(l->r, node, "%s: what \"%s\" matches needs admin: true in the rule", l->key, p->text);
		return;
	case REACH_NOTHING:
		break;
	}
	if (is_below(path, STR("/gateway/v1")))
		reader_fault(l->r, node, "%s: \"%s\" matches no route of the gateway that a rule can %s", l->key,
			     p->text, l->key);
	else if (l->rule->isolation == CONFIG_ISOLATION_OWNER)
		reader_fault(l->r, node,
			     "%s: \"%s\" matches no route that the gateway knows, and under isolation: owner all "
			     "others are denied",
			     l->key, p->text);
}

static bool has_pattern(const struct config_route_set *set, const char *text)
{
	for (size_t i = 0; i < set->npatterns; i++)
		if (strcmp(set->patterns[i].text, text) == 0)
			return true;
	return false;
}

static void keep_pattern(const struct reading *l, yaml_node_t *node, uint32_t methods, size_t path_at)
{
	struct config_route_set *set = l->set;
	struct config_pattern *grown = reallocarray(set->patterns, set->npatterns + 1, sizeof(*grown));
	struct config_pattern *p;

	if (!grown) {
		l->r->no_memory = true;
		return;
	}
	set->patterns = grown;
	p = &grown[set->npatterns];
	p->methods = methods;
	p->text = reader_copy(l->r, reader_scalar(node));
	if (!p->text)
		return;
	p->path = p->text + path_at;
	set->npatterns++;
	check_reach(l, node, p);
}

static void read_pattern(const struct reading *l, yaml_node_t *node)
{
	struct str path = reader_scalar(node);
	const char *text = path.p;
	struct str word = str_cut(&path, ' ');
	uint32_t methods = methods_of(word);
	const char *why = NULL;

	if (methods == 0)
		why = str_eq(word, STR("HEAD")) ? "HEAD goes with GET: write GET"
						: "expected METHOD /path with GET, POST, PUT, DELETE, PATCH or *";
	else if (path.n == 0 || path.n > PATTERN_MAX_BYTES)
		why = "expected METHOD /path of at most 1024 bytes";
	else
		why = bad_path(path);
	if (!why && has_pattern(l->set, text))
		why = "it is written twice";
	if (!why && l->denies && has_pattern(&l->rule->allow, text))
		why = "it is in allow as well";
	if (why)
		reader_fault(l->r, node, "%s: \"%s\": %s", l->key, text, why);
	else
		keep_pattern(l, node, methods, word.n + 1);
}

/* --- classes --------------------------------------------------------------------------------------------------------- */

/* Why the class must not stand in this list, or NULL. */
static const char *bad_class(const struct reading *l, enum route_class class)
{
	const uint32_t bit = ROUTE_CLASS_BIT(class);
	const struct config_route_set *allow = &l->rule->allow;

	if (l->set->classes & bit)
		return "it is written twice";
	if (class == ROUTE_ADMIN && !l->rule->admin)
		return "it needs admin: true in the rule";
	if (!l->denies)
		return NULL;
	if (!(allow->classes & bit) && allow->npatterns == 0)
		return "it has no effect, since the rule does not allow it";
	if ((allow->classes & bit) && allow->written && !(allow->classes & ROUTE_CLASS_BIT(ROUTE_UNKNOWN)))
		return "it is in allow as well";
	return NULL;
}

static void read_word(const struct reading *l, yaml_node_t *node, size_t entries)
{
	struct str word = reader_scalar(node);
	enum route_class class;
	const char *why;

	if (str_eq(word, STR("all"))) {
		if (entries > 1) {
			reader_fault(l->r, node, "%s: all covers every other entry: write it alone", l->key);
			return;
		}
		l->set->classes |= ROUTE_CLASS_ALL;
		if (l->rule->admin)
			l->set->classes |= ROUTE_CLASS_BIT(ROUTE_ADMIN);
		return;
	}
	if (!route_class_parse(word, &class)) {
		reader_fault(l->r, node,
			     "%s holds \"%s\", expected all, \"METHOD /path\", or one of: sandboxes, templates:read, "
			     "templates:write, system, events, preview, run, prune, metrics, quotas, workers, config, "
			     "environments, admin",
			     l->key, node->data.scalar.value);
		return;
	}
	why = bad_class(l, class);
	if (why)
		reader_fault(l->r, node, "%s: %s: %s", l->key, word.p, why);
	else
		l->set->classes |= ROUTE_CLASS_BIT(class);
}

static void read_list(const struct reading *l, yaml_node_t *node)
{
	size_t entries;

	if (!reader_expect_sequence(l->r, node, l->key))
		return;
	l->set->written = true;
	entries = reader_sequence_size(node);
	for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
		yaml_node_t *value = reader_node(l->r, *i);
		if (!reader_expect_text(l->r, value, l->key))
			continue;
		if (strpbrk((const char *)value->data.scalar.value, " /"))
			read_pattern(l, value);
		else
			read_word(l, value, entries);
	}
}

void config_routes_read(struct reader *r, struct config_rule *rule, yaml_node_t *allow, yaml_node_t *deny)
{
	const struct reading allowing = {r, rule, &rule->allow, "allow", false};
	const struct reading denying = {r, rule, &rule->deny, "deny", true};

	if (allow)
		read_list(&allowing, allow);
	config_rule_complete_allow(rule);
	if (deny)
		read_list(&denying, deny);
}
