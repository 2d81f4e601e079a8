/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without Idempotency-Key: a sandbox is made and given to the client, or, when he has left, destroyed. With one the key is claimed
 * first; who comes second waits, takes over what the first has left, or is given what was made before.
 */
#include "gateway/spawn_call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/body.h"
#include "gateway/config.h"
#include "gateway/lease.h"
#include "gateway/lease_call.h"
#include "gateway/maker.h"
#include "gateway/rewrite.h"
#include "gateway/route.h"
#include "gateway/spawn.h"
#include "gateway/spawn_keys.h"
#include "gateway/upstream.h"

enum {
	RECORD_MAX_BYTES = 262144
};

struct spawn_call {
	struct call call;
	struct spawn_services services;
	struct maker maker;
	char *template;   /* owned; name of the template as it stands in the path; NULL: none */
	struct buf lines; /* the client's header lines that pass */
	const char *bad;  /* literal; why a header is refused; NULL: none is */
	bool leased;      /* Stacygate-Lease: */
	struct lease_spec spec;
	char *lease_text;         /* owned; as it was written; NULL: none */
	struct lease *lease;      /* owned until it is bound to the sandbox; NULL then */
	char *key;                /* owned; Idempotency-Key; NULL: none */
	struct spawn_key *record; /* borrowed; while this request runs the key */
	struct spawn_key_wait wait;
	struct spawn *joined; /* owned; what another request with the key had left; NULL: none */
	struct fetch *look;   /* owned; at the sandbox that the key has made */
	struct buf kept_head; /* the answer as it was given; empty: the sandbox's record stands for it */
	struct buf kept_body;
	bool given;  /* a client is answered with the sandbox: it is his when that has reached him */
	bool shared; /* and others were answered with it before */
};

static struct spawn_call *self_of(struct call *c)
{
	return CONTAINER_OF(c, struct spawn_call, call);
}

/* What was answered is the client's; what was answered to nobody is left like anything that nobody waits for. */
static void hand_over(struct spawn_call *s)
{
	struct spawn *joined = s->joined;

	if (!s->given || (s->call.unheard && !s->shared))
		return;
	s->joined = NULL;
	if (joined)
		spawn_taken(joined);
	maker_taken(&s->maker);
}

static void on_free(struct call *c)
{
	struct spawn_call *s = self_of(c);
	struct spawn_key *record = s->record;
	struct spawn *joined;

	hand_over(s);
	joined = s->joined;
	s->record = NULL;
	s->joined = NULL;
	call_fini(c);
	spawn_key_wait_cancel(&s->wait);
	fetch_cancel(s->look);
	maker_cancel(&s->maker);
	if (joined)
		spawn_leave(joined);
	if (record)
		spawn_key_left(record);
	lease_free(s->lease);
	buf_fini(&s->lines);
	buf_fini(&s->kept_head);
	buf_fini(&s->kept_body);
	free(s->lease_text);
	free(s->template);
	free(s->key);
	free(s);
}

/* --- answering ------------------------------------------------------------------------------------------------------------- */

static void answer(struct spawn_call *s, unsigned status, struct str head, struct str body)
{
	struct buf extra = BUF_EMPTY;

	body_add_clamped(s->maker.clamped, &extra);
	call_relay_kept(&s->call, status, head, &extra, body);
	buf_fini(&extra);
}

/* The key is told what came of it, whoever else waits for it is answered the same, then this client is. */
static void give(struct spawn_call *s, const struct spawn_result *r)
{
	struct spawn_key *record = s->record;

	s->record = NULL;
	if (s->lease)
		lease_bind(&s->lease, str_from(r->doc.id), s->maker.ttl_ms);
	if (record)
		s->shared = spawn_key_made(record, r);
	s->given = true;
	answer(s, r->status, r->head, r->body);
}

static void refuse(struct spawn_call *s, unsigned status, const char *why)
{
	const struct spawn_result r = {.fail_status = status, .why = why};
	struct spawn_key *record = s->record;

	s->record = NULL;
	if (record)
		spawn_key_refused(record, &r);
	call_refuse(&s->call, status, "%s", why);
}

/* --- making it ----------------------------------------------------------------------------------------------------------------- */

static void on_made(struct maker *m, const struct spawn_result *r)
{
	give(CONTAINER_OF(m, struct spawn_call, maker), r);
}

static void on_refused(struct maker *m, unsigned status, const char *why)
{
	refuse(CONTAINER_OF(m, struct spawn_call, maker), status, why);
}

static void on_answered(struct maker *m, const struct spawn_result *r)
{
	struct spawn_call *s = CONTAINER_OF(m, struct spawn_call, maker);
	struct spawn_key *record = s->record;

	s->record = NULL;
	if (record)
		spawn_key_refused(record, r);
	answer(s, r->status, r->head, r->body);
}

static void make(struct spawn_call *s)
{
	const struct maker_ask ask = {
		.lines = buf_str(&s->lines),
		.body = s->call.body,
		.template = s->template ? str_from(s->template) : STR(""),
		.lease_ttl_ms = s->leased ? lease_ttl_ms(s->services.leases) : 0,
		.keep = s->record != NULL,
	};

	s->call.acted = true;
	if (s->record)
		spawn_key_sending(s->record, s->maker.token);
	maker_start(&s->maker, &ask);
}

/* --- with a key ----------------------------------------------------------------------------------------------------------------- */

static void claim(struct spawn_call *s);

static void on_over(struct spawn_key_wait *w)
{
	claim(CONTAINER_OF(w, struct spawn_call, wait));
}

static void on_other_answer(struct spawn_key_wait *w, const struct spawn_result *r)
{
	struct spawn_call *s = CONTAINER_OF(w, struct spawn_call, wait);

	if (r->status)
		answer(s, r->status, r->head, r->body);
	else
		call_refuse(&s->call, r->fail_status, "%s", r->why);
}

/* What another request had left has come to its end. */
static void on_joined(void *arg, const struct spawn_result *r)
{
	struct spawn_call *s = arg;
	char why[320];

	if (r->status == 201) {
		give(s, r);
		return;
	}
	s->joined = NULL;
	if (r->status) {
		on_answered(&s->maker, r);
		return;
	}
	snprintf(why, sizeof(why), "upstream %s: %s", upstream_name(s->call.c.caller.upstream), r->why);
	refuse(s, r->fail_status, r->fail_status == 409 ? r->why : why);
}

static void on_looked(void *arg, const struct fetch_answer *a)
{
	struct spawn_call *s = arg;

	s->look = NULL;
	if (a->end == FETCH_DONE && a->status == 404)
		call_refuse(&s->call, 409, "the sandbox that this Idempotency-Key made is gone");
	else if (s->kept_head.len)
		answer(s, 201, buf_str(&s->kept_head), buf_str(&s->kept_body));
	else if (a->end != FETCH_DONE)
		call_refuse_upstream(&s->call, fetch_end_status(a->end), a->why);
	else if (a->status == 200)
		answer(s, 201, STR(SPAWN_CREATED_HEAD), a->body);
	else
		call_relay(&s->call, a, NULL);
}

/* The key has made its sandbox before: the same answer, unless it is gone. */
static void answer_again(struct spawn_call *s, const struct spawn_key *record)
{
	struct str head;
	struct str body;
	char target[SANDBOX_DOC_TARGET_MAX_BYTES + 1];

	if (spawn_key_answer(record, &head, &body)) {
		buf_add_str(&s->kept_head, head);
		buf_add_str(&s->kept_body, body);
		if (s->kept_head.failed || s->kept_body.failed)
			buf_fini(&s->kept_head);
	}
	const struct fetch_request request = {
		.caller = s->call.c.caller,
		.method = "GET",
		.target = sandbox_doc_target(target, spawn_key_sandbox(record), ""),
		.max_bytes = RECORD_MAX_BYTES,
		.keep_head = true,
		.on_done = on_looked,
		.arg = s,
	};
	if (fetch_start(s->call.c.loop, &request, &s->look))
		call_refuse(&s->call, 503, "out of memory");
}

static void rejoin(struct spawn_call *s)
{
	const char *token = spawn_key_token(s->record);

	s->call.acted = true;
	switch (spawn_rejoin(s->services.spawns, token, on_joined, s, &s->joined)) {
	case 0:
		return;
	case -ENOENT:
		make(s);
		return;
	default:
		refuse(s, 503, "out of memory");
		return;
	}
}

static void claim(struct spawn_call *s)
{
	const struct call_case *c = &s->call.c;
	uint64_t hash = spawn_keys_hash(s->template ? str_from(s->template) : STR(""), s->call.body,
					s->lease_text ? str_from(s->lease_text) : STR(""));
	struct spawn_key *record = NULL;
	enum spawn_key_claim what = spawn_keys_claim(s->services.keys, &c->caller, c->credential, str_from(s->key),
						     hash, &s->wait, &record);

	switch (what) {
	case SPAWN_KEY_NEW:
		s->record = record;
		make(s);
		return;
	case SPAWN_KEY_REJOIN:
		s->record = record;
		rejoin(s);
		return;
	case SPAWN_KEY_DONE:
		answer_again(s, record);
		return;
	case SPAWN_KEY_WAIT:
		return;
	case SPAWN_KEY_CONFLICT:
		call_refuse(&s->call, 409, "this Idempotency-Key was used with another body");
		return;
	case SPAWN_KEY_FULL:
		call_refuse(&s->call, 429,
			    "%d Idempotency-Keys are remembered for you; the oldest are forgotten a day "
			    "after they were used",
			    SPAWN_KEYS_PER_OWNER_MAX);
		return;
	case SPAWN_KEY_NO_MEMORY:
		call_refuse(&s->call, 503, "out of memory");
		return;
	}
}

/* --- the beginning --------------------------------------------------------------------------------------------------------------- */

/* Holds on to the life that the sandbox is tied to, before there is one. */
static bool take_lease(struct spawn_call *s)
{
	struct lease_refusal refusal;

	if (lease_call_take(s->services.leases, &s->call.c, &s->spec, &s->lease, &refusal) == 0)
		return true;
	call_refuse(&s->call, refusal.status, "%s", refusal.why);
	return false;
}

static void on_request(struct call *c, struct str body)
{
	struct spawn_call *s = self_of(c);

	(void)body;
	if (s->bad)
		call_refuse(c, 400, "%s", s->bad);
	else if (s->leased && !take_lease(s))
		return;
	else if (s->key)
		claim(s);
	else
		make(s);
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

static int read_headers(struct spawn_call *s, const struct call_case *what)
{
	const struct http_header *key = http_head_find(what->head, STR("idempotency-key"));
	const struct http_header *lease = http_head_find(what->head, STR("stacygate-lease"));

	if (lease) {
		s->leased = true;
		s->lease_text = str_dup(lease->value);
		if (!s->lease_text)
			return -ENOMEM;
		if (!lease_spec_parse(lease->value, &s->spec, &s->bad))
			return 0;
	}
	if (rewrite_request_lines(what->head, what->caller.trace_lines != NULL, &s->lines))
		s->bad = "the Connection header names more than anybody means";
	if (s->lines.failed)
		return -ENOMEM;
	if (!key || s->bad)
		return 0;
	if (!spawn_key_is_good(key->value)) {
		s->bad = "Idempotency-Key must be 1 to 255 characters of visible ASCII";
		return 0;
	}
	s->key = str_dup(key->value);
	return s->key ? 0 : -ENOMEM;
}

int spawn_call_new(const struct spawn_services *services, const struct call_case *what, struct call **out)
{
	struct spawn_call *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return -ENOMEM;
	s->services = *services;
	list_init(&s->wait.link);
	s->wait.on_over = on_over;
	s->wait.on_answer = on_other_answer;
	rc = call_init(&s->call, &ops, what, STR(""));
	maker_init(&s->maker, services->spawns, &s->call.c);
	s->maker.on_made = on_made;
	s->maker.on_refused = on_refused;
	s->maker.on_answered = on_answered;
	if (what->route->id == ROUTE_TEMPLATE_SPAWN) {
		s->template = str_dup(what->route->name);
		rc = s->template ? rc : -ENOMEM;
	}
	if (rc == 0)
		rc = read_headers(s, what);
	if (rc) {
		on_free(&s->call);
		return rc;
	}
	*out = &s->call;
	return 0;
}
