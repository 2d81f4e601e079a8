/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/policy: the first rule that matches, and the user id that it makes of a peer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/config.h"
#include "gateway/identity.h"
#include "gateway/policy.h"

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
