/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/policy: the first rule that matches, and the user id that it makes of a peer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config.h"
#include "gateway/identity.h"
#include "gateway/policy.h"
#include "gateway/route.h"
#include "lib/api_routes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint32_t uids[] = {1234, 5678};
static uint32_t gids[] = {2000};
static char *listeners[] = {"host", "other"};
static char *exes[] = {"/usr/bin/ci", "/opt/tool"};
static char *units[] = {"x.service", "user@7:y.service"};
static struct config_range ranges[] = {{100000, 165535}};
static const struct policy_names nobody = {0};

static struct config_rule rules[] = {
	{.name = "uids", .match_uids = true, .uids = {2, uids}, .user_id = "{user}@{host}"},
	{.name = "group", .match_gids = true, .gids = {1, gids}, .user_id = "g-{uid}"},
	{.name = "both",
	 .match_uids = true,
	 .uids = {0, NULL},
	 .match_gids = true,
	 .gids = {1, gids},
	 .user_id = "never"},
	{.name = "exe", .match_exes = true, .exes = {2, exes}, .user_id = "{uid}-{exe}"},
	{.name = "unit", .match_units = true, .units = {2, units}, .user_id = "{unit}"},
	{.name = "door", .match_listeners = true, .nlisteners = 2, .listeners = listeners, .user_id = "{client}"},
};
static struct config config = {.host = "box", .nrules = COUNT(rules), .rules = rules};

static struct identity peer(uid_t uid, gid_t gid)
{
	return (struct identity){.uid = uid, .gid = gid, .pid = 1};
}

static const char *rule_of(struct identity id, const char *listener)
{
	const struct config_rule *r = policy_match(&config, &id, listener);

	return r ? r->name : "none";
}

/* uid, primary or supplementary group, listener; the order of the rules decides. */
Test(gw_policy, match)
{
	gid_t extra[] = {7, 2000};
	struct identity member = peer(99, 99);

	member.ngroups = 2;
	member.groups = extra;
	cr_expect_str_eq(rule_of(peer(1234, 1), "x"), "uids");
	cr_expect_str_eq(rule_of(peer(5678, 2000), "x"), "uids");
	cr_expect_str_eq(rule_of(peer(99, 2000), "x"), "group");
	cr_expect_str_eq(rule_of(member, "x"), "group");
	cr_expect_str_eq(rule_of(peer(99, 99), "other"), "door");
	cr_expect_str_eq(rule_of(peer(99, 99), "x"), "none");
}

/* An executable or a unit matches only where it is known, and as a whole. */
Test(gw_policy, traits)
{
	struct identity id = peer(99, 99);

	id.exe = exes[1];
	cr_expect_str_eq(rule_of(id, "x"), "exe");
	id.exe = listeners[0];
	cr_expect_str_eq(rule_of(id, "x"), "none");
	id.unit = units[1];
	cr_expect_str_eq(rule_of(id, "x"), "unit");
	id.unit = units[0];
	cr_expect_str_eq(rule_of(id, "x"), "unit");
}

/* ID21: a uid that its holder handed out to himself matches only a rule that names it, by uid or by listener. */
Test(gw_policy, ID21_subuid)
{
	struct config_rule named[] = {
		{.name = "group", .match_gids = true, .gids = {1, gids}, .user_id = "x"},
		{.name = "uid", .match_uids = true, .uids = {1, (uint32_t[]){100001}}, .user_id = "x"},
		{.name = "door", .match_listeners = true, .nlisteners = 1, .listeners = listeners, .user_id = "x"},
		{.name = "all", .user_id = "x"},
	};
	const struct config c = {.host = "box", .nrules = COUNT(named), .rules = named, .subuids = {1, ranges}};
	static const struct {
		uid_t uid;
		const char *listener, *rule;
	} rows[] = {
		{99999, "x", "group"},    {100000, "x", NULL}, {100001, "x", "uid"},
		{100002, "host", "door"}, {165535, "x", NULL}, {165536, "x", "group"},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct identity id = peer(rows[i].uid, 2000);
		const struct config_rule *r = policy_match(&c, &id, rows[i].listener);

		cr_expect_str_eq(r ? r->name : "none", rows[i].rule ? rows[i].rule : "none", "uid %u", rows[i].uid);
	}
}

/* ID18: over TCP uid 0, and rules for administrators, match only where the rule names the listener. */
Test(gw_policy, ID18_root_over_tcp)
{
	struct config_rule named[] = {
		{.name = "root", .match_uids = true, .uids = {1, (uint32_t[]){0}}, .user_id = "x"},
		{.name = "admin", .match_uids = true, .uids = {1, (uint32_t[]){5}}, .user_id = "x", .admin = true},
		{.name = "door", .match_listeners = true, .nlisteners = 1, .listeners = listeners, .user_id = "x"},
	};
	const struct config c = {.host = "box", .nrules = COUNT(named), .rules = named};

	for (uid_t uid = 0; uid <= 5; uid += 5) {
		struct identity id = {.uid = uid, .gid = (gid_t)-1, .over_tcp = true};

		cr_expect_null(policy_match(&c, &id, "x"), "uid %u", uid);
		cr_assert_not_null(policy_match(&c, &id, "host"));
		cr_expect_str_eq(policy_match(&c, &id, "host")->name, "door");
		id = peer(uid, uid);
		cr_expect_str_eq(policy_match(&c, &id, "x")->name, uid ? "admin" : "root");
	}
}

/* ID3: a peer that the kernel could not tell is nobody, whatever the rules say. */
Test(gw_policy, unknown_peer)
{
	struct identity no_pid = peer(1234, 1);

	no_pid.pid = 0;
	cr_expect_str_eq(rule_of(no_pid, "host"), "none");
	cr_expect_str_eq(rule_of(peer(IDENTITY_OVERFLOW_ID, 2000), "host"), "none");
	cr_expect_str_eq(rule_of(peer((uid_t)-1, 2000), "host"), "none");
}

static int expand(struct config_rule *rule, uid_t uid, char out[POLICY_USER_ID_MAX_BYTES + 1])
{
	struct identity id = peer(uid, 1);

	return policy_user_id(&config, rule, &id, &nobody, out);
}

/* Each field of user_id, and text around it. */
Test(gw_policy, user_id)
{
	char out[POLICY_USER_ID_MAX_BYTES + 1];
	struct config_rule mixed = {.name = "rule", .user_id = "a-{uid}.{client}@{host}-z"};

	cr_assert_eq(expand(&rules[0], 1234, out), 0);
	cr_expect_str_eq(out, "uid-1234@box");
	cr_assert_eq(expand(&rules[1], 77, out), 0);
	cr_expect_str_eq(out, "g-77");
	cr_assert_eq(expand(&mixed, 4294967294u, out), 0);
	cr_expect_str_eq(out, "a-4294967294.rule@box-z");
}

/* What names, executable and unit become in a user id; a field that is not known makes none. */
Test(gw_policy, fields)
{
	static const struct {
		const char *template, *user, *group, *exe, *unit, *want; /* want NULL: none can be made */
		bool over_tcp;
	} rows[] = {
		{"{user}@{host}", "alice", NULL, NULL, NULL, "alice@box", false},
		{"{user}", "a b/c\\d\te", NULL, NULL, NULL, "a%20b%2Fc%5Cd%09e", false},
		{"{user}", NULL, NULL, NULL, NULL, "uid-7", true},
		{"{group}.{uid}", NULL, "staff", NULL, NULL, "staff.7", false},
		{"{group}", NULL, NULL, NULL, NULL, "gid-8", false},
		{"x{group}", NULL, "staff", NULL, NULL, NULL, true},
		{"{unit}", NULL, NULL, NULL, "x.service", "x.service", false},
		{"{unit}", NULL, NULL, NULL, "user@7:y\\x2dz.service", "user@7:y%5Cx2dz.service", false},
		{"{unit}", NULL, NULL, NULL, NULL, NULL, false},
		{"a{unit}", NULL, NULL, NULL, NULL, "a", false},
		{"{uid}-{exe}", NULL, NULL, "/usr/bin/python3.11", NULL, "7-python3.11", false},
		{"{uid}-{exe}", NULL, NULL, NULL, NULL, NULL, false},
		{"{uid}-{exe}", NULL, NULL, "/usr/bin/", NULL, NULL, false},
		/* What parts it from its neighbours does not pass in it: a's "b-c" is not a-b's "c". */
		{"{user}-{exe}", "a", NULL, "/x/b-c", NULL, "a-b%2Dc", false},
		{"{user}-{exe}", "a-b", NULL, "/x/c", NULL, "a-b-c", false},
		{"{exe}.{user}", "a", NULL, "/x/b.c%2E-d", NULL, "b%2Ec%252E-d.a", false},
		{"{user}-{exe}@{host}", "a", NULL, "/x/b@d e", NULL, "a-b%40d%20e@box", false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char out[POLICY_USER_ID_MAX_BYTES + 1], template[64], exe[64], unit[64];
		struct config_rule r = {.name = "r", .user_id = template};
		struct identity id = peer(7, 8);
		const struct policy_names names = {rows[i].user, rows[i].group};
		int rc;

		snprintf(template, sizeof(template), "%s", rows[i].template);
		snprintf(exe, sizeof(exe), "%s", rows[i].exe ? rows[i].exe : "");
		snprintf(unit, sizeof(unit), "%s", rows[i].unit ? rows[i].unit : "");
		id.exe = rows[i].exe ? exe : NULL;
		id.unit = rows[i].unit ? unit : NULL;
		if (rows[i].over_tcp)
			id.gid = (gid_t)-1;
		rc = policy_user_id(&config, &r, &id, &names, out);
		cr_expect_eq(rc, rows[i].want ? 0 : -EINVAL, "row %zu: %d", i, rc);
		if (rc == 0 && rows[i].want)
			cr_expect_str_eq(out, rows[i].want, "row %zu: %s", i, out);
	}
}

/* What comes out empty, too long or with a byte that must not be there is no user id. */
Test(gw_policy, bad_user_id)
{
	char out[POLICY_USER_ID_MAX_BYTES + 1], text[200];
	struct config_rule r = {.name = "a b", .user_id = text};
	static const char *const bad[] = {"", "{unit}", "{client}", "{nobody}", "a b", "a/b", "a\\b", "a\nb", "a\x7f"};

	for (size_t i = 0; i < COUNT(bad); i++) {
		memcpy(text, bad[i], strlen(bad[i]) + 1);
		cr_expect_eq(expand(&r, 1, out), -EINVAL, "'%s' is a user id", bad[i]);
	}
	memset(text, 'a', sizeof(text));
	text[128] = '\0';
	cr_assert_eq(expand(&r, 1, out), 0);
	cr_expect_eq(strlen(out), 128);
	memcpy(text + 126, "{uid}", 6);
	cr_expect_eq(expand(&r, 1, out), 0);
	cr_expect_eq(expand(&r, 100, out), -EINVAL);
}

/* --- routes ---------------------------------------------------------------------------------------------------------- */

#define BIT(class) ROUTE_CLASS_BIT(ROUTE_##class)

enum {
	GETS = 1 << METHOD_GET | 1 << METHOD_HEAD,
	ANY_METHOD = 0xff
};

/* A rule that allows these classes and patterns, and what needs no leave. */
static struct config_rule ruling(bool admin, enum config_isolation isolation, uint32_t classes)
{
	struct config_rule r = {.name = "ci", .admin = admin, .isolation = isolation};

	r.allow.written = classes != 0;
	r.allow.classes = classes;
	config_rule_complete_allow(&r);
	return r;
}

static bool allows(const struct config_rule *r, enum http_method method, const char *path, char *why)
{
	const struct route route = route_of(method, str_from(path));
	struct policy_refusal refusal = {""};
	const bool yes = policy_allows(r, "alice@box", method, &route, str_from(path), &refusal);

	cr_expect_eq(yes, refusal.text[0] == '\0', "%s: %s", path, refusal.text);
	if (why)
		memcpy(why, refusal.text, sizeof(refusal.text));
	return yes;
}

/* Every route of the API is allowed by its class and by no other one; the routes of admins only with admin: true. */
Test(gw_policy, each_class_by_itself)
{
	size_t n;
	const struct api_route *rows = api_routes(&n);

	for (unsigned class = 0; class <= ROUTE_UNKNOWN; class ++) {
		for (unsigned admin = 0; admin < 2; admin++) {
			const struct config_rule r = ruling(admin, CONFIG_ISOLATION_NONE,
							    ROUTE_CLASS_BIT(class) & ~(admin ? 0 : BIT(ADMIN)));

			for (size_t i = 0; i < n && r.allow.written; i++) {
				const bool worker = rows[i].class == ROUTE_UNKNOWN;
				const bool want = !worker && rows[i].class == class;
				/* The owner in the table is not the caller. */
				cr_expect_eq(allows(&r, rows[i].method, rows[i].path, NULL), want, "%s: %s %s",
					     route_class_text((enum route_class) class), rows[i].method_text,
					     rows[i].path);
			}
		}
	}
}

/* U12: what a rule has without allow reaches nothing that changes or shows the server as a whole. */
Test(gw_policy, U12_default)
{
	const struct config_rule owner = ruling(false, CONFIG_ISOLATION_OWNER, 0);
	const struct config_rule none = ruling(false, CONFIG_ISOLATION_NONE, 0);
	const uint32_t common =
		BIT(SANDBOXES) | BIT(TEMPLATES_READ) | BIT(SYSTEM) | BIT(EVENTS) | BIT(PREVIEW) | BIT(RUN);
	size_t n;
	const struct api_route *rows = api_routes(&n);

	for (size_t i = 0; i < n; i++) {
		const uint32_t bit = rows[i].class == ROUTE_UNKNOWN ? 0 : ROUTE_CLASS_BIT(rows[i].class);

		cr_expect_eq(allows(&owner, rows[i].method, rows[i].path, NULL), (bit & (common | BIT(PRUNE))) != 0,
			     "%s %s", rows[i].method_text, rows[i].path);
		cr_expect_eq(allows(&none, rows[i].method, rows[i].path, NULL), (bit & common) != 0, "%s %s",
			     rows[i].method_text, rows[i].path);
	}
}

/* `all` covers unknown paths, but not under isolation: owner, and never the server's workers. */
Test(gw_policy, all)
{
	const struct config_rule none = ruling(false, CONFIG_ISOLATION_NONE, ROUTE_CLASS_ALL);
	const struct config_rule owner = ruling(false, CONFIG_ISOLATION_OWNER, ROUTE_CLASS_ALL);
	const struct config_rule admin = ruling(true, CONFIG_ISOLATION_NONE, 0);

	cr_expect(allows(&none, METHOD_GET, "/api/v1/new/thing", NULL));
	cr_expect(allows(&none, METHOD_PUT, "/api/v1/sandboxes", NULL));
	cr_expect(allows(&admin, METHOD_GET, "/api/v1/new/thing", NULL));
	cr_expect_not(allows(&owner, METHOD_GET, "/api/v1/new/thing", NULL));
	cr_expect_not(allows(&owner, METHOD_PUT, "/api/v1/sandboxes", NULL));
	cr_expect(allows(&owner, METHOD_PUT, "/api/v1/quotas/bob", NULL));
	cr_expect_not(allows(&none, METHOD_GET, "/api/v1/admin/new", NULL));
	cr_expect(allows(&admin, METHOD_GET, "/api/v1/admin/new", NULL));
	cr_expect_not(allows(&admin, METHOD_POST, "/api/v1/worker/w/heartbeat", NULL));
	cr_expect_not(allows(&admin, METHOD_GET, "/swagger/index.html", NULL));
	cr_expect_not(allows(&admin, METHOD_GET, "/api/v1x", NULL));
}

/* The gateway's own routes: some are everybody's, some an admin rule's, some have a class. */
Test(gw_policy, own_routes)
{
	static const struct {
		enum http_method method;
		const char *path;
		bool anybody;
		bool operator;
		uint32_t class;
	} rows[] = {
		{METHOD_GET, "/gateway/v1/health", true, true, 0},
		{METHOD_HEAD, "/gateway/v1/health", true, true, 0},
		{METHOD_GET, "/gateway/v1/ready", true, true, 0},
		{METHOD_GET, "/gateway/v1/whoami", true, true, 0},
		{METHOD_GET, "/gateway/v1/status", true, true, 0},
		{METHOD_GET, "/gateway/v1/openapi.json", true, true, 0},
		{METHOD_GET, "/gateway/v1/leases", true, true, 0},
		{METHOD_DELETE, "/gateway/v1/leases/sb-1", true, true, 0},
		{METHOD_GET, "/gateway/v1/nothing", true, true, 0},
		{METHOD_DELETE, "/gateway/v1/cache", false, true, 0},
		{METHOD_POST, "/gateway/v1/reload", false, true, 0},
		{METHOD_PUT, "/gateway/v1/log", false, true, 0},
		{METHOD_GET, "/gateway/v1/", false, true, 0},
		{METHOD_GET, "/gateway/v1/metrics", false, false, BIT(METRICS)},
		{METHOD_POST, "/gateway/v1/run", false, false, BIT(RUN)},
		{METHOD_GET, "/gateway/v1/sandboxes/sb-1/preview/80", false, false, BIT(PREVIEW)},
	};
	const uint32_t other = BIT(CONFIG);

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct config_rule plain = ruling(false, CONFIG_ISOLATION_OWNER, other);
		const struct config_rule admin = ruling(true, CONFIG_ISOLATION_OWNER, other);
		const struct config_rule with = ruling(false, CONFIG_ISOLATION_OWNER, other | rows[i].class);

		cr_expect_eq(allows(&plain, rows[i].method, rows[i].path, NULL), rows[i].anybody, "%s", rows[i].path);
		cr_expect_eq(allows(&admin, rows[i].method, rows[i].path, NULL), rows[i].operator, "%s", rows[i].path);
		if (rows[i].class)
			cr_expect(allows(&with, rows[i].method, rows[i].path, NULL), "%s", rows[i].path);
	}
}

/* Patterns: segments, stars, methods, one trailing slash; what they allow and what they deny. */
Test(gw_policy, patterns)
{
	static const struct {
		uint32_t methods;
		const char *pattern;
		enum http_method method;
		const char *path;
		bool allowed;
		bool denied;
	} rows[] = {
		{GETS, "/api/v1/metrics", METHOD_GET, "/api/v1/metrics", true, true},
		{GETS, "/api/v1/metrics", METHOD_HEAD, "/api/v1/metrics", true, true},
		{GETS, "/api/v1/metrics", METHOD_GET, "/api/v1/metrics/", true, true},
		{GETS, "/api/v1/metrics", METHOD_GET, "/api/v1/metrics/prometheus", false, false},
		{GETS, "/api/v1/metrics", METHOD_GET, "/api/v1/metricsx", false, false},
		{GETS, "/api/v1/metrics", METHOD_GET, "/api/v1/metric", false, false},
		{GETS, "/api/v1/metrics", METHOD_POST, "/api/v1/metrics", false, false},
		{GETS, "/api/v1/Metrics", METHOD_GET, "/api/v1/metrics", false, false},
		{ANY_METHOD, "/api/v1/metrics", METHOD_PATCH, "/api/v1/metrics", true, true},
		{GETS, "/api/v1/workers/*", METHOD_GET, "/api/v1/workers/w-1", true, true},
		{GETS, "/api/v1/workers/*", METHOD_GET, "/api/v1/workers/w-1/", true, true},
		{GETS, "/api/v1/workers/*", METHOD_GET, "/api/v1/workers", false, false},
		{GETS, "/api/v1/workers/*", METHOD_GET, "/api/v1/workers/", false, false},
		{GETS, "/api/v1/workers/*", METHOD_GET, "/api/v1/workers/w-1/x", false, false},
		{GETS, "/api/v1/*/specs", METHOD_GET, "/api/v1/environments/specs", true, true},
		{GETS, "/api/v1/environments/**", METHOD_GET, "/api/v1/environments", true, true},
		{GETS, "/api/v1/environments/**", METHOD_GET, "/api/v1/environments/specs", true, true},
		{GETS, "/api/v1/environments/**", METHOD_GET, "/api/v1/environments/specs/e/suggestions", true, true},
		{GETS, "/api/v1/environments/**", METHOD_GET, "/api/v1/environmentsx", false, false},
		{GETS, "/api/v1/**", METHOD_GET, "/api/v1", true, true},
		{GETS, "/api/v1/**", METHOD_GET, "/api/v1/", true, true},
		/* What the server may read as something else is not allowed, but denied. */
		{GETS, "/api/v1/quotas/a!b", METHOD_GET, "/api/v1/quotas/a!b", true, true},
		{GETS, "/api/v1/quotas/a!b", METHOD_GET, "/api/v1/quotas/a%21b", false, true},
		{GETS, "/api/v1/quotas/a%20b", METHOD_GET, "/api/v1/quotas/a%20b", true, true},
		{GETS, "/api/v1/quotas/a%C3%BC", METHOD_GET, "/api/v1/quotas/a%c3%bc", false, true},
		{GETS, "/api/v1/quotas/a@b", METHOD_GET, "/api/v1/quotas/a%40c", false, false},
		{GETS, "/api/v1/quotas/a@b", METHOD_GET, "/api/v1/quotas/a%40", false, false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config_pattern p = {NULL, rows[i].methods, rows[i].pattern};
		struct config_rule allowing = ruling(false, CONFIG_ISOLATION_NONE, BIT(RUN));
		struct config_rule denying = ruling(false, CONFIG_ISOLATION_NONE, ROUTE_CLASS_ALL);

		allowing.allow.npatterns = 1;
		allowing.allow.patterns = &p;
		denying.deny.npatterns = 1;
		denying.deny.patterns = &p;
		cr_expect_eq(allows(&allowing, rows[i].method, rows[i].path, NULL), rows[i].allowed, "allow %s: %s",
			     rows[i].pattern, rows[i].path);
		cr_expect_eq(!allows(&denying, rows[i].method, rows[i].path, NULL), rows[i].denied, "deny %s: %s",
			     rows[i].pattern, rows[i].path);
	}
}

/* No pattern opens what admin: true, isolation: owner and the server's workers close; deny beats allow. */
Test(gw_policy, what_patterns_cannot)
{
	struct config_pattern everything = {NULL, ANY_METHOD, "/api/v1/**"};
	struct config_pattern own = {NULL, ANY_METHOD, "/gateway/v1/**"};
	struct config_rule none = ruling(false, CONFIG_ISOLATION_NONE, BIT(RUN));
	struct config_rule owner = ruling(false, CONFIG_ISOLATION_OWNER, BIT(RUN));

	none.allow.npatterns = owner.allow.npatterns = 1;
	none.allow.patterns = owner.allow.patterns = &everything;
	cr_expect(allows(&none, METHOD_GET, "/api/v1/new", NULL));
	cr_expect_not(allows(&owner, METHOD_GET, "/api/v1/new", NULL));
	cr_expect(allows(&owner, METHOD_PATCH, "/api/v1/config", NULL));
	cr_expect_not(allows(&none, METHOD_GET, "/api/v1/admin/audit", NULL));
	cr_expect_not(allows(&none, METHOD_POST, "/api/v1/worker/w/heartbeat", NULL));
	none.allow.patterns = &own;
	cr_expect_not(allows(&none, METHOD_PUT, "/gateway/v1/log", NULL));
	none.deny.npatterns = 1;
	none.deny.patterns = &own;
	cr_expect_not(allows(&none, METHOD_GET, "/gateway/v1/health", NULL));
	none = ruling(false, CONFIG_ISOLATION_NONE, ROUTE_CLASS_ALL);
	none.deny.classes = BIT(SANDBOXES);
	cr_expect_not(allows(&none, METHOD_POST, "/api/v1/sandboxes", NULL));
	cr_expect(allows(&none, METHOD_GET, "/api/v1/templates", NULL));
}

/* One's own quota is `system`, in the spellings that the server reads as that name, and in no other one. */
Test(gw_policy, own_quota)
{
	static const struct {
		const char *user_id;
		const char *path;
		bool own;
	} rows[] = {
		{"alice@box", "/api/v1/quotas/alice@box", true},
		{"alice@box", "/api/v1/quotas/alice@box/", true},
		{"alice@box", "/api/v1/quotas/alice@box/usage", true},
		{"alice@box", "/api/v1/quotas/alice", false},
		{"alice@box", "/api/v1/quotas/alice@boxes", false},
		{"alice@box", "/api/v1/quotas/Alice@box", false},
		{"alice@box", "/api/v1/quotas/bob@box/usage", false},
		{"alice@box", "/api/v1/quotas", false},
		{"summary", "/api/v1/quotas/summary/", true},
		{"alice", "/api/v1/quotas/summary/", false},
		/* The server leaves this one as it is: it is somebody else's. */
		{"alice@box", "/api/v1/quotas/alice%40box", false},
		{"J\xc3\xbcrgen", "/api/v1/quotas/J%C3%BCrgen", true},
		{"J\xc3\xbcrgen", "/api/v1/quotas/J%c3%bcrgen", false},
		{"J\xc3\xbcrgen", "/api/v1/quotas/J%C3%BC", false},
		{"a!b", "/api/v1/quotas/a%21b", true},
		{"a!b", "/api/v1/quotas/a!b", true},
	};
	const struct config_rule system = ruling(false, CONFIG_ISOLATION_OWNER, BIT(SYSTEM));
	const struct config_rule quotas = ruling(false, CONFIG_ISOLATION_OWNER, BIT(QUOTAS));

	for (size_t i = 0; i < COUNT(rows); i++) {
		const struct str path = str_from(rows[i].path);
		const struct route route = route_of(METHOD_GET, path);
		const struct route put = route_of(METHOD_PUT, path);
		struct policy_refusal why;

		cr_expect_eq(policy_allows(&system, rows[i].user_id, METHOD_GET, &route, path, &why), rows[i].own,
			     "%s as %s", rows[i].path, rows[i].user_id);
		cr_expect_eq(policy_allows(&quotas, rows[i].user_id, METHOD_GET, &route, path, &why), !rows[i].own,
			     "%s as %s", rows[i].path, rows[i].user_id);
		cr_expect_not(policy_allows(&system, rows[i].user_id, METHOD_PUT, &put, path, &why));
	}
}

/* ID15: a refusal names the caller's own rule, the route and its class, and what to change. */
Test(gw_policy, ID15_refusals)
{
	struct config_pattern p = {NULL, GETS, "/api/v1/templates/**"};
	struct config_rule r = ruling(false, CONFIG_ISOLATION_OWNER, BIT(SANDBOXES) | BIT(TEMPLATES_READ));
	char why[384];

	cr_expect_not(allows(&r, METHOD_POST, "/api/v1/templates", why));
	cr_expect_str_eq(why,
			 "rule \"ci\" does not allow POST /api/v1/templates (class templates:write): add it to the "
			 "rule's allow");
	cr_expect_not(allows(&r, METHOD_DELETE, "/api/v1/quotas/bob", why));
	cr_expect_str_eq(why, "rule \"ci\" does not allow DELETE /api/v1/quotas/{owner} (class quotas): add it to the "
			      "rule's allow");
	cr_expect_not(allows(&r, METHOD_GET, "/api/v1/admin/audit", why));
	cr_expect_str_eq(why,
			 "rule \"ci\" does not allow GET /api/v1/admin/audit (class admin): write admin: true in the "
			 "rule");
	cr_expect_not(allows(&r, METHOD_GET, "/api/v1/new", why));
	cr_expect_str_eq(why,
			 "rule \"ci\" does not allow GET /api/v1/* (class unknown): the gateway does not know this "
			 "route, and isolation: owner denies all such");
	cr_expect_not(allows(&r, METHOD_POST, "/api/v1/worker/w/heartbeat", why));
	cr_expect_str_eq(why,
			 "rule \"ci\" does not allow POST /api/v1/worker/* (class unknown): /api/v1/worker is for the "
			 "server's own workers and no rule can allow it");
	r.deny.npatterns = 1;
	r.deny.patterns = &p;
	cr_expect_not(allows(&r, METHOD_GET, "/api/v1/templates/t", why));
	cr_expect_str_eq(why,
			 "rule \"ci\" does not allow GET /api/v1/templates/{name} (class templates:read): the rule's "
			 "deny names it");
	r = ruling(false, CONFIG_ISOLATION_NONE, BIT(SANDBOXES));
	cr_expect_not(allows(&r, METHOD_GET, "/api/v1/new", why));
	cr_expect_str_eq(why, "rule \"ci\" does not allow GET /api/v1/* (class unknown): add it, or all, to the rule's "
			      "allow");
}
