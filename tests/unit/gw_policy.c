/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/policy: the first rule that matches, and the user id that it makes of a peer. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "gateway/config.h"
#include "gateway/identity.h"
#include "gateway/policy.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint32_t uids[] = {1234, 5678};
static uint32_t gids[] = {2000};
static char *listeners[] = {"host", "other"};
static char *names[] = {"alice", "bob%2Fx"};

static struct config_rule rules[] = {
	{.name = "uids", .match_uids = true, .uids = {2, uids}, .user_id = "{user}@{host}", .user_names = names},
	{.name = "group", .match_gids = true, .gids = {1, gids}, .user_id = "g-{uid}"},
	{.name = "both",
	 .match_uids = true,
	 .uids = {0, NULL},
	 .match_gids = true,
	 .gids = {1, gids},
	 .user_id = "never"},
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

	return policy_user_id(&config, rule, &id, out);
}

/* Each field of user_id, and text around it. */
Test(gw_policy, user_id)
{
	char out[POLICY_USER_ID_MAX_BYTES + 1];
	struct config_rule mixed = {.name = "rule", .user_id = "a-{uid}.{client}@{host}-z"};

	cr_assert_eq(expand(&rules[0], 1234, out), 0);
	cr_expect_str_eq(out, "alice@box");
	cr_assert_eq(expand(&rules[0], 5678, out), 0);
	cr_expect_str_eq(out, "bob%2Fx@box");
	cr_assert_eq(expand(&rules[1], 77, out), 0);
	cr_expect_str_eq(out, "g-77");
	cr_assert_eq(expand(&mixed, 4294967294u, out), 0);
	cr_expect_str_eq(out, "a-4294967294.rule@box-z");
}

/* What comes out empty, too long or with a byte that must not be there is no user id. */
Test(gw_policy, bad_user_id)
{
	char out[POLICY_USER_ID_MAX_BYTES + 1], text[200];
	struct config_rule r = {.name = "a b", .user_id = text};
	static const char *const bad[] = {"", "{user}", "{client}", "a b", "a/b", "a\\b", "a\nb", "a\x7f"};

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
