/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/audit.h"

#include <string.h>

#include "common/clock.h"
#include "common/json_write.h"
#include "gateway/route.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- what is worth a line ----------------------------------------------------------------------------------------------- */

enum audit_kind audit_kind_of(const struct audit_record *r)
{
	/* A WebSocket is opened by GET and then runs what it is told. */
	bool harmless = route_is_safe(r->method) && r->upstream_status != 101;

	if (r->reached && !harmless)
		return AUDIT_CHANGE;
	return r->code ? AUDIT_REFUSAL : AUDIT_NOTHING;
}

bool audit_is_trouble(const struct audit_record *r)
{
	return r->status >= 500 || r->is_error || (r->code && r->status != 404);
}

void audit_trouble_text(struct buf *out, const struct audit_record *r)
{
	buf_addf(out, "%s (rule %s): %s %s", r->user_id ? r->user_id : "somebody", r->rule ? r->rule : "none",
		 r->method_text ? r->method_text : "?", r->template ? r->template : "?");
	if (r->status)
		buf_addf(out, " was answered %u", r->status);
	else
		buf_addf(out, " was not answered");
	if (r->code)
		buf_addf(out, " %s", r->code);
	if (r->end && r->is_error)
		buf_addf(out, ": %s", r->end);
	if (r->upstream && r->reached)
		buf_addf(out, " (upstream %s)", r->upstream);
}

/* --- lines ------------------------------------------------------------------------------------------------------------------ */

static void add_text(struct json_writer *w, const char *key, const char *value)
{
	if (value && value[0])
		json_cstr(w, key, value);
}

static void add_time(struct json_writer *w)
{
	char when[25];

	clock_format_ms(clock_wall_ns(), when);
	json_cstr(w, "time", when);
}

static void add_caller(struct json_writer *w, const struct audit_record *r)
{
	if (r->connection)
		json_uint(w, "connection", r->connection);
	if (r->has_peer)
		json_uint(w, "uid", r->uid);
	/* Over TCP the kernel tells the uid only. */
	if (r->has_peer && r->gid != (gid_t)-1) {
		json_uint(w, "gid", r->gid);
		json_int(w, "pid", r->pid);
	}
	add_text(w, "user_id", r->user_id);
	add_text(w, "rule", r->rule);
	add_text(w, "listener", r->listener);
}

static void add_outcome(struct json_writer *w, const struct audit_record *r)
{
	json_uint(w, "status", r->status);
	add_text(w, "upstream", r->upstream);
	if (r->upstream_status)
		json_uint(w, "upstream_status", r->upstream_status);
	json_uint(w, "latency_ms", r->latency_ms);
	json_uint(w, "bytes_up", r->bytes_up);
	json_uint(w, "bytes_down", r->bytes_down);
	if (r->repeated)
		json_bool(w, "repeated", true);
	add_text(w, "request_id", r->request_id);
}

/* Why it ended as it did: the exchange knows best; then the code says only what the client was told. */
static void add_reason(struct json_writer *w, const struct audit_record *r)
{
	add_text(w, "reason", r->end ? r->end : r->code);
	if (r->end)
		add_text(w, "code", r->code);
}

static void end_line(struct json_writer *w)
{
	json_object_end(w);
	buf_add_char(w->out, '\n');
}

const char *audit_kind_text(enum audit_kind kind)
{
	return kind == AUDIT_CHANGE ? "change" : "refusal";
}

void audit_line(struct buf *out, enum audit_kind kind, const struct audit_record *r)
{
	struct json_writer w = json_writer_ascii(out);

	json_object_begin(&w, NULL);
	add_time(&w);
	json_cstr(&w, "kind", audit_kind_text(kind));
	add_caller(&w, r);
	if (r->method_text) {
		json_cstr(&w, "method", r->method_text);
		add_text(&w, "route", r->template);
		add_text(&w, "sandbox", r->sandbox);
		add_outcome(&w, r);
	}
	add_reason(&w, r);
	end_line(&w);
}

void audit_lost_line(struct buf *out, uint64_t lines)
{
	struct json_writer w = json_writer_ascii(out);

	json_object_begin(&w, NULL);
	add_time(&w);
	json_cstr(&w, "kind", "lost");
	json_uint(&w, "lines", lines);
	end_line(&w);
}

/* A value with a line end in it would be a field of its own to the journal; none of ours should hold one. */
static void add_field(struct buf *out, const char *key, const char *value)
{
	if (!value || !value[0])
		return;
	buf_add_cstr(out, key);
	for (const char *p = value; *p; p++)
		buf_add_char(out, *p >= 0x20 && *p < 0x7f ? *p : '?');
	buf_add_char(out, '\n');
}

static void add_number_field(struct buf *out, const char *key, uint64_t value)
{
	buf_add_cstr(out, key);
	buf_add_u64(out, value);
	buf_add_char(out, '\n');
}

void audit_journal_fields(struct buf *out, const char *kind, const struct audit_record *r)
{
	add_field(out, "STACYGATE_KIND=", kind);
	if (r->connection)
		add_number_field(out, "STACYGATE_CONNECTION=", r->connection);
	if (r->has_peer)
		add_number_field(out, "STACYGATE_UID=", r->uid);
	if (r->has_peer && r->gid != (gid_t)-1)
		add_number_field(out, "STACYGATE_PID=", (uint64_t)r->pid);
	add_field(out, "STACYGATE_USER_ID=", r->user_id);
	add_field(out, "STACYGATE_RULE=", r->rule);
	add_field(out, "STACYGATE_LISTENER=", r->listener);
	add_field(out, "STACYGATE_METHOD=", r->method_text);
	add_field(out, "STACYGATE_ROUTE=", r->template);
	add_field(out, "STACYGATE_SANDBOX=", r->sandbox);
	add_field(out, "STACYGATE_UPSTREAM=", r->upstream);
	if (r->method_text) {
		add_number_field(out, "STACYGATE_STATUS=", r->status);
		add_number_field(out, "STACYGATE_LATENCY_MS=", r->latency_ms);
	}
	add_field(out, "STACYGATE_REQUEST_ID=", r->request_id);
	add_field(out, "STACYGATE_REASON=", r->end ? r->end : r->code);
}

/* --- access ------------------------------------------------------------------------------------------------------------------- */

void audit_access_text(struct buf *out, const struct audit_record *r)
{
	buf_addf(out, "c%llu uid=%u pid=%d \"%s %s\" status=%u upstream_status=%u up=%llu down=%llu ms=%llu",
		 r->connection, (unsigned)r->uid, (int)r->pid, r->method_text, r->path ? r->path : "?", r->status,
		 r->upstream_status, (unsigned long long)r->bytes_up, (unsigned long long)r->bytes_down,
		 (unsigned long long)r->latency_ms);
	buf_addf(out, " end=%s%s", r->end ? r->end : "done", r->repeated ? " repeated" : "");
	if (r->code)
		buf_addf(out, " code=%s", r->code);
	buf_addf(out, " id=%s", r->request_id);
}

void audit_access_json(struct buf *out, const struct audit_record *r)
{
	struct json_writer w = json_writer_ascii(out);

	json_object_begin(&w, NULL);
	add_time(&w);
	json_cstr(&w, "level", r->is_error ? "warning" : "info");
	json_cstr(&w, "message", "request");
	add_caller(&w, r);
	add_text(&w, "method", r->method_text);
	add_text(&w, "path", r->path);
	add_outcome(&w, r);
	add_reason(&w, r);
	end_line(&w);
}

void audit_connection_text(struct buf *out, const struct audit_record *r, const char *event, const char *more)
{
	buf_addf(out, "c%llu uid=%u pid=%d %s", r->connection, (unsigned)r->uid, (int)r->pid, event);
	if (more)
		buf_addf(out, ": %s", more);
}

void audit_connection_json(struct buf *out, const struct audit_record *r, const char *event, const char *more)
{
	struct json_writer w = json_writer_ascii(out);

	json_object_begin(&w, NULL);
	add_time(&w);
	json_cstr(&w, "level", r->is_error ? "warning" : "info");
	json_cstr(&w, "message", event);
	add_caller(&w, r);
	add_text(&w, "reason", more);
	end_line(&w);
}
