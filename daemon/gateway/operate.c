/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A reload stops listeners and cuts connections, one of which may be on the stack when it is asked for: so it is put off to the
 * end of the turn. The level of the log is the process's own and is set at once.
 */
#include "gateway/operate.h"

#include <errno.h>
#include <stdlib.h>

#include "common/http_write.h"
#include "common/json_write.h"
#include "common/log.h"
#include "common/loop.h"
#include "gateway/answer.h"
#include "gateway/client.h"
#include "gateway/identity.h"
#include "gateway/json_read.h"
#include "gateway/route.h"

enum {
	FAULTS_MAX_BYTES = 16384 /* of what is answered; the log has them all */
};

struct operate_call {
	struct call call;
	const struct operate_hooks *hooks; /* borrowed */
	enum route_id route;
	struct deferred reload; /* set until it is done */
};

static struct operate_call *self_of(struct call *c)
{
	return CONTAINER_OF(c, struct operate_call, call);
}

/* --- reload ----------------------------------------------------------------------------------------------------------------- */

static void answer_reloaded(struct call *c, uint64_t generation, const struct buf *warnings)
{
	struct buf json = BUF_EMPTY;
	struct json_writer w = json_writer(&json);

	json_object_begin(&w, NULL);
	json_uint(&w, "generation", generation);
	if (warnings->len) {
		json_array_begin(&w, "warnings");
		for (struct str rest = buf_str(warnings); rest.n;)
			json_str(&w, NULL, str_cut(&rest, '\n'));
		json_array_end(&w);
	}
	json_object_end(&w);
	call_json(c, 200, NULL, &json);
}

/* The whole lines that there is room for, without the last newline. */
static struct str first_lines(struct str lines)
{
	if (lines.n > FAULTS_MAX_BYTES) {
		lines.n = FAULTS_MAX_BYTES;
		while (lines.n && lines.p[lines.n - 1] != '\n')
			lines.n--;
	}
	if (lines.n && lines.p[lines.n - 1] == '\n')
		lines.n--;
	return lines;
}

static void refuse_reload(struct call *c, unsigned status, const struct buf *faults)
{
	struct buf head = BUF_EMPTY;
	struct buf json = BUF_EMPTY;
	struct json_writer w = json_writer(&json);

	http_write_header(&head, STR("Stacygate-Error"), str_from(answer_code(status)));
	if (status == 503)
		http_write_header_u64(&head, STR("Retry-After"), 1);
	json_object_begin(&w, NULL);
	json_cstr(&w, "code", answer_code(status));
	json_str(&w, "message", first_lines(buf_str(faults)));
	json_object_end(&w);
	call_json(c, status, &head, &json);
	buf_fini(&head);
}

static void on_reload(struct deferred *d)
{
	struct operate_call *s = CONTAINER_OF(d, struct operate_call, reload);
	struct buf said = BUF_EMPTY;
	uint64_t generation = 0;
	int rc;

	log_info("c%llu: reload asked for by uid %lu", client_id(s->call.c.client), (unsigned long)s->call.c.peer->uid);
	s->call.acted = true;
	rc = s->hooks->reload(s->hooks->arg, &said, &generation);
	if (rc == 0)
		answer_reloaded(&s->call, generation, &said);
	else
		refuse_reload(&s->call, rc == -ENOMEM || rc == -ESHUTDOWN ? 503 : 400, &said);
	buf_fini(&said);
}

/* --- the level of the log ------------------------------------------------------------------------------------------------- */

/* {"level":"debug"} and nothing else. */
static bool read_level(struct str body, enum log_level *out)
{
	struct json_members members;
	struct json_member level;
	struct json_member more;
	struct str value;
	char word[8];

	if (json_read_document(body, &value) || json_read_kind(value) != JSON_KIND_OBJECT)
		return false;
	members = json_read_members(value);
	return json_read_member(&members, &level) == 1 && json_read_member(&members, &more) == 0 &&
	       json_read_string_is(level.key, STR("level")) && json_read_kind(level.value) == JSON_KIND_STRING &&
	       json_read_copy(level.value, word, sizeof(word)) && log_level_parse(str_from(word), out);
}

static void set_level(struct operate_call *s, struct str body)
{
	struct buf json = BUF_EMPTY;
	struct json_writer w = json_writer(&json);
	enum log_level level;

	if (!read_level(body, &level)) {
		call_refuse(&s->call, 400, "the body must be {\"level\":\"...\"} with error, warn, info or debug");
		return;
	}
	json_object_begin(&w, NULL);
	json_cstr(&w, "level", log_level_word(level));
	json_object_end(&w);
	if (json.failed) {
		buf_fini(&json);
		call_refuse(&s->call, 503, "out of memory");
		return;
	}
	/* Both times, so that the line is there whichever of the levels lets it through. */
	if (level < log_get_level())
		log_info("the level of the log becomes %s, by uid %lu", log_level_word(level),
			 (unsigned long)s->call.c.peer->uid);
	log_set_level(level);
	log_info("the level of the log is %s until the next reload, by uid %lu", log_level_word(level),
		 (unsigned long)s->call.c.peer->uid);
	s->call.acted = true;
	call_json(&s->call, 200, NULL, &json);
}

/* --- the beginning ------------------------------------------------------------------------------------------------------------ */

static void on_request(struct call *c, struct str body)
{
	struct operate_call *s = self_of(c);

	if (s->route == ROUTE_LOG_LEVEL)
		set_level(s, body);
	else
		loop_defer(c->c.loop, &s->reload);
}

static void on_free(struct call *c)
{
	struct operate_call *s = self_of(c);

	deferred_cancel(&s->reload);
	call_fini(c);
	free(s);
}

static const struct call_ops ops = {.on_request = on_request, .on_free = on_free};

int operate_call_new(const struct operate_hooks *hooks, const struct call_case *what, struct call **out)
{
	struct operate_call *s = calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	s->hooks = hooks;
	s->route = what->route->id;
	deferred_init(&s->reload, on_reload);
	if (call_init(&s->call, &ops, what, STR("")) == 0) {
		*out = &s->call;
		return 0;
	}
	on_free(&s->call);
	return -ENOMEM;
}
