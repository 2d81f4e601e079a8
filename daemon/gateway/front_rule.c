/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rule is the caller's is asked once per connection and again after a reload; so is the owner that the rule makes of
 * him, for which names may have to be looked up.
 */
#include "gateway/front_rule.h"

#include "common/log.h"
#include "gateway/config.h"
#include "gateway/front_state.h"
#include "gateway/front_text.h"
#include "gateway/guard.h"
#include "gateway/limiter.h"
#include "gateway/peer.h"
#include "gateway/policy.h"
#include "gateway/route.h"
#include "gateway/snapshot.h"

/* Lets go of what is counted for the owner that this connection had. */
static void leave_limits(struct front *f)
{
	if (!f->limits)
		return;
	if (f->connection_counted)
		limiter_connection_give(f->limits, front_now_ns(f));
	f->connection_counted = false;
	limiter_owner_unref(f->limits, front_now_ns(f));
	f->limits = NULL;
}

static void stop_asking(struct front *f)
{
	if (f->name_asker)
		names_cancel(&f->name_asker->wait);
	free(f->name_asker);
	f->name_asker = NULL;
}

void front_leave_owner(struct front *f)
{
	stop_asking(f);
	leave_limits(f);
	front_text_unref(f->user_id);
	f->user_id = NULL;
}

static void on_name_known(struct names_wait *w);

/* NAMES_KNOWN and *name, also when the rule does not need it; otherwise the front waits, or nothing can be known. */
static enum names_result look_up(struct front *f, bool needed, enum names_kind kind, uint32_t id, const char **name)
{
	enum names_result rc;

	*name = NULL;
	if (!needed)
		return NAMES_KNOWN;
	if (!f->name_asker)
		f->name_asker = calloc(1, sizeof(*f->name_asker));
	if (!f->name_asker)
		return NAMES_FAILED;
	f->name_asker->front = f;
	list_init(&f->name_asker->wait.link);
	f->name_asker->wait.on_known = on_name_known;
	rc = names_look_up(f->shared->names, kind, id, &f->name_asker->wait, name);
	if (rc != NAMES_WAIT)
		stop_asking(f);
	return rc;
}

/* The user id that the rule makes of the peer, or begins to wait for the names in it. */
static enum user_id_state expand_user_id(struct front *f, const struct config *c, const struct config_rule *rule,
					 char out[POLICY_USER_ID_MAX_BYTES + 1])
{
	struct policy_names names;
	enum names_result rc;

	rc = look_up(f, policy_needs_user(rule), NAMES_USER, f->peer.uid, &names.user);
	if (rc == NAMES_KNOWN)
		rc = look_up(f, policy_needs_group(rule, &f->peer), NAMES_GROUP, f->peer.gid, &names.group);
	if (rc != NAMES_KNOWN)
		return rc == NAMES_WAIT ? USER_ID_WAITING : USER_ID_UNKNOWN;
	return policy_user_id(c, rule, &f->peer, &names, out) ? USER_ID_BAD : USER_ID_GOOD;
}

/* There is none yet. */
static void make_user_id(struct front *f)
{
	char user_id[POLICY_USER_ID_MAX_BYTES + 1];
	struct limiter_refusal why;

	f->user_id_state = expand_user_id(f, snapshot_config(f->snapshot), f->rule, user_id);
	if (f->user_id_state != USER_ID_GOOD)
		return;
	f->user_id = front_text_ref(f->shared, user_id);
	if (f->user_id)
		f->limits = limiter_owner_ref(f->shared->limiter, f->user_id, front_now_ns(f));
	/* Without a place its requests are refused until there is one. */
	if (f->limits)
		f->connection_counted = limiter_connection_take(f->limits, &f->rule->limits, &why);
}

static void on_name_known(struct names_wait *w)
{
	struct front *f = CONTAINER_OF(w, struct name_asker, wait)->front;

	stop_asking(f);
	if (f->user_id_state != USER_ID_WAITING) {
		front_end_if_revoked(f);
		return;
	}
	make_user_id(f);
	if (f->user_id_state != USER_ID_WAITING)
		client_release(f->client);
}

static void read_traits(struct front *f, const struct config *c)
{
	if (config_asks_traits(c) && peer_read_traits(client_fd(f->client), &f->peer))
		log_warn("c%llu: out of memory: its executable and unit are not known", client_id(f->client));
}

/* Only between two requests: what an exchange borrows from the snapshot and the user id stays until its end. */
void front_choose_rule(struct front *f)
{
	const struct config *c;

	if (f->snapshot == f->shared->snapshot)
		return;
	front_leave_owner(f);
	snapshot_unref(f->snapshot);
	f->snapshot = snapshot_ref(f->shared->snapshot);
	c = snapshot_config(f->snapshot);
	if (f->next_listener) {
		front_text_unref(f->listener);
		f->listener = f->next_listener;
		f->next_listener = NULL;
	}
	read_traits(f, c);
	f->rule = policy_match(c, &f->peer, f->listener);
	f->user_id_state = USER_ID_GOOD;
	if (f->rule)
		make_user_id(f);
}

/* A request begins when it is known whose it is. */
bool front_may_begin(void *arg)
{
	struct front *f = arg;

	if (f->cors) {
		client_set_head_lines(f->client, GUARD_LINES);
		free(f->cors);
		f->cors = NULL;
	}
	front_choose_rule(f);
	if (f->user_id_state == USER_ID_UNKNOWN)
		make_user_id(f);
	return f->user_id_state != USER_ID_WAITING;
}

/*
 * Whether what this connection asked for without an end would be granted under the snapshot in force as well. Yes also while
 * a name is waited for that tells; then it is asked again.
 */
static bool is_still_admitted(struct front *f)
{
	const struct config *before = snapshot_config(f->snapshot);
	const struct config *c = snapshot_config(f->shared->snapshot);
	char user_id[POLICY_USER_ID_MAX_BYTES + 1];
	struct policy_refusal refusal;
	struct str path = str_from(f->now->open_ended);
	struct route route = f->now->preview ? route_of_preview(path) : route_of(METHOD_GET, path);
	const struct config_rule *rule;
	enum user_id_state state;

	read_traits(f, c);
	rule = policy_match(c, &f->peer, front_listener_now(f));
	if (!rule || rule->isolation != f->rule->isolation ||
	    strcmp(c->upstreams[rule->upstream].url, before->upstreams[f->rule->upstream].url) != 0 ||
	    !policy_allows(rule, f->user_id, METHOD_GET, &route, path, &refusal))
		return false;
	/* Made of the same: whether the name service answers just now does not matter. */
	if (strcmp(rule->user_id, f->rule->user_id) == 0 && strcmp(rule->name, f->rule->name) == 0 &&
	    strcmp(c->host, before->host) == 0)
		return true;
	state = expand_user_id(f, c, rule, user_id);
	return state == USER_ID_WAITING || (state == USER_ID_GOOD && strcmp(user_id, f->user_id) == 0);
}

/* Other requests end by themselves, and the next on their connection is judged anew. */
void front_end_if_revoked(struct front *f)
{
	if (!f->now || !f->now->open_ended)
		return;
	stop_asking(f);
	if (is_still_admitted(f))
		return;
	f->cut_as = EXCHANGE_END_REVOKED;
	client_cut(f->client, CLIENT_END_REVOKED);
}
