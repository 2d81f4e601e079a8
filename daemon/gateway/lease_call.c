/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Renewing:  take hold of the new life -> extend at the server -> put the new lease in the place of the old
 * Releasing: stop extending -> give the sandbox at the server what was asked for -> forget the lease
 *
 * Nothing changes here unless the server has said yes: a sandbox that is not there gets no lease, and one that could not be given its
 * ttl keeps its lease.
 */
#include "gateway/lease_call.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_write.h"
#include "gateway/client.h"
#include "gateway/config.h"
#include "gateway/extend.h"
#include "gateway/lease.h"
#include "gateway/ownership.h"
#include "gateway/route.h"
#include "gateway/sandbox_doc.h"

enum {
	RECORD_MAX_BYTES = 262144
};

struct lease_call {
	struct call call;
	struct lease_shared *leases; /* borrowed */
	enum route_id route;
	bool has_spec; /* the header said what it is to hang on */
	struct lease_spec spec;
	const char *bad;     /* literal; why a header is refused; NULL: none is */
	struct lease *fresh; /* owned; not bound yet; NULL: the lease stays as it is */
	struct fetch *fetch; /* owned; the extend */
	bool paused;         /* the lease is not extended while it is being released */
};

static struct lease_call *self_of(struct call *c)
{
	return CONTAINER_OF(c, struct lease_call, call);
}

static struct str sandbox_of(const struct lease_call *s)
{
	return str_from(s->call.admit.sandbox);
}

/* The sandbox's lease if the caller may deal with it; NULL: there is none for him. */
static struct lease *find(const struct lease_call *s)
{
	struct lease *l = lease_find(s->leases, s->call.c.caller.upstream, sandbox_of(s));

	if (!l || s->call.c.rule->admin || strcmp(lease_owner(l), s->call.c.caller.user_id) == 0)
		return l;
	return NULL;
}

static void on_free(struct call *c)
{
	struct lease_call *s = self_of(c);
	struct lease *l = s->paused ? find(s) : NULL;

	if (l)
		lease_pause(l, false);
	call_fini(c);
	fetch_cancel(s->fetch);
	lease_free(s->fresh);
	free(s);
}

/* --- answering --------------------------------------------------------------------------------------------------------- */

static void refuse_not_found(struct lease_call *s)
{
	call_refuse(&s->call, 404, ADMIT_NOT_FOUND_TEXT, STR_ARG(sandbox_of(s)));
}

static void answer_lease(struct lease_call *s, const struct lease *l)
{
	struct buf json = BUF_EMPTY;
	struct json_writer w = json_writer(&json);

	lease_write(l, &w, NULL);
	call_json(&s->call, 200, NULL, &json);
}

static void answer_list(struct lease_call *s)
{
	const struct call_case *c = &s->call.c;
	struct buf json = BUF_EMPTY;
	struct json_writer w = json_writer(&json);

	lease_write_list(s->leases, c->caller.upstream, c->rule->admin ? NULL : c->caller.user_id, &w, NULL);
	call_json(&s->call, 200, NULL, &json);
}

/* --- the extend ---------------------------------------------------------------------------------------------------------- */

static void use_extended(struct lease_call *s)
{
	struct lease *l;

	if (s->fresh)
		lease_bind(&s->fresh, sandbox_of(s), 0);
	l = find(s);
	if (!l || (lease_state(l) == LEASE_ENDING && s->route == ROUTE_LEASE_RELEASE)) {
		call_refuse(&s->call, 409, "the sandbox is being destroyed: its lease has ended");
		return;
	}
	if (s->route == ROUTE_LEASE_RENEW) {
		answer_lease(s, l);
		return;
	}
	struct buf json = BUF_EMPTY;
	s->paused = false;
	lease_released(l);
	buf_add_str(&json, STR("{\"status\":\"released\"}"));
	call_json(&s->call, 200, NULL, &json);
}

static void on_extended(void *arg, const struct fetch_answer *a)
{
	struct lease_call *s = arg;

	s->fetch = NULL;
	if (a->end != FETCH_DONE) {
		call_refuse_upstream(&s->call, fetch_end_status(a->end), a->why);
	} else if (a->status == 200) {
		use_extended(s);
	} else if (ownership_is_not_found(a)) {
		s->paused = false;
		lease_sandbox_gone(s->leases, s->call.c.caller.upstream, sandbox_of(s));
		refuse_not_found(s);
	} else {
		call_relay(&s->call, a, NULL);
	}
}

static void extend(struct lease_call *s, uint64_t ttl_ms)
{
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	char body[48];
	const struct fetch_request request = {
		.caller = s->call.c.caller,
		.method = "POST",
		.target = sandbox_doc_target(target, s->call.admit.sandbox, "/extend"),
		.body = extend_body(body, ttl_ms),
		.max_bytes = RECORD_MAX_BYTES,
		.keep_head = true,
		.on_done = on_extended,
		.arg = s,
	};

	s->call.acted = true;
	if (fetch_start(s->call.c.loop, &request, &s->fetch))
		call_refuse(&s->call, 503, "out of memory");
}

/* --- renewing --------------------------------------------------------------------------------------------------------------- */

/* {"lease":"90s"}, or nothing. False when it has been refused. */
static bool read_body(struct lease_call *s, struct str body)
{
	json_t *doc = body.n ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const json_t *lease = json_object_get(doc, "lease");
	const char *why = "the body must be {\"lease\":\"...\"}, or empty";
	struct lease_spec spec;
	bool good = body.n == 0 || (json_is_object(doc) && json_object_size(doc) == (lease ? 1 : 0));

	if (good && lease) {
		struct str value = str_of(json_string_value(lease), json_string_length(lease));
		good = json_is_string(lease) && lease_spec_parse(value, &spec, &why);
		if (good && s->has_spec && memcmp(&spec, &s->spec, sizeof(spec)) != 0) {
			why = "the body and Stacygate-Lease say different things";
			good = false;
		}
		if (good) {
			s->spec = spec;
			s->has_spec = true;
		}
	}
	json_decref(doc);
	if (!good)
		call_refuse(&s->call, 400, "%s", why);
	return good;
}

/* What the lease is to hang on from now on; false: on what it does already. */
static bool needs_fresh(struct lease_call *s, const struct lease *l)
{
	if (s->has_spec)
		return true;
	s->spec = lease_spec(l);
	return lease_kind(l) == LEASE_CLOCK || lease_state(l) == LEASE_GRACE;
}

int lease_call_take(struct lease_shared *leases, const struct call_case *c, const struct lease_spec *spec,
		    struct lease **out, struct lease_refusal *refusal)
{
	const struct lease_asker asker = {
		.caller = c->caller,
		.credential = c->credential,
		.peer = c->peer,
		.fd = client_fd(c->client),
		.connection = client_id(c->client),
		.max_ttl_ms = c->rule->limits.max_ttl_ms,
	};

	return lease_new(leases, spec, &asker, out, refusal);
}

static bool take_fresh(struct lease_call *s)
{
	struct lease_refusal refusal;

	if (lease_call_take(s->leases, &s->call.c, &s->spec, &s->fresh, &refusal) == 0)
		return true;
	call_refuse(&s->call, refusal.status, "%s", refusal.why);
	return false;
}

static void renew(struct lease_call *s, struct str body)
{
	const struct lease *taken = lease_find(s->leases, s->call.c.caller.upstream, sandbox_of(s));
	const struct lease *l = find(s);

	if (taken && !l)
		refuse_not_found(s);
	else if (!read_body(s, body))
		return;
	else if (l && lease_kind(l) == LEASE_RUN)
		call_refuse(&s->call, 409, "the sandbox belongs to a run");
	else if (l && lease_state(l) == LEASE_ENDING)
		call_refuse(&s->call, 409, "the sandbox is being destroyed: its lease has ended");
	else if (!l && !s->has_spec)
		call_refuse(&s->call, 400,
			    "the sandbox has no lease: say what it is to hang on, by Stacygate-Lease or "
			    "{\"lease\":\"...\"}");
	else if (!(l ? needs_fresh(s, l) : true) || take_fresh(s))
		extend(s, lease_ttl_ms(s->leases));
}

/* --- releasing -------------------------------------------------------------------------------------------------------------- */

static void release(struct lease_call *s)
{
	struct lease *l = find(s);

	if (!l) {
		refuse_not_found(s);
	} else if (lease_kind(l) == LEASE_RUN || lease_state(l) == LEASE_ENDING) {
		call_refuse(&s->call, 409,
			    lease_kind(l) == LEASE_RUN ? "the sandbox belongs to a run"
						       : "the sandbox is being destroyed: its lease has ended");
	} else {
		lease_pause(l, true);
		s->paused = true;
		extend(s, lease_asked_ttl_ms(l));
	}
}

/* --- the beginning ------------------------------------------------------------------------------------------------------------ */

static void on_request(struct call *c, struct str body)
{
	struct lease_call *s = self_of(c);

	if (s->bad)
		call_refuse(c, 400, "%s", s->bad);
	else if (s->route == ROUTE_LEASES)
		answer_list(s);
	else if (s->route == ROUTE_LEASE_RENEW)
		renew(s, body);
	else
		release(s);
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

int lease_call_new(struct lease_shared *leases, const struct call_case *what, struct call **out)
{
	const struct http_header *lease = http_head_find(what->head, STR("stacygate-lease"));
	struct lease_call *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->leases = leases;
	s->route = what->route->id;
	if (call_init(&s->call, &ops, what, what->route->sandbox)) {
		on_free(&s->call);
		return -ENOMEM;
	}
	if (lease && s->route == ROUTE_LEASE_RENEW)
		s->has_spec = lease_spec_parse(lease->value, &s->spec, &s->bad);
	*out = &s->call;
	return 0;
}
