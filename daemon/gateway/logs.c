/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything that goes to stderr goes through one sink, so that a line held back for a slow reader is never cut into by
 * another. Where lines were lost, the next one that gets through is preceded by one that says how many.
 */
#include "gateway/logs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/json_write.h"
#include "common/loop.h"
#include "common/sink.h"
#include "gateway/audit.h"
#include "gateway/config.h"
#include "gateway/recent.h"

/* One of the three, with the lines that were lost on the way to it. */
struct output {
	struct sink *sink; /* owned reference; NULL: off */
	struct sink_count count;
	uint64_t told; /* of count.dropped, what a line has said */
	bool losing;   /* the log has been told that lines get lost */
	/* Adds that line, with newline. */
	void (*add_lost)(struct buf *out, uint64_t lines);
};

struct logs {
	struct loop *loop; /* borrowed */
	enum log_format format;
	struct output log;
	struct output access;
	struct output audit;
	struct recent recent;
	struct buf line;   /* scratch */
	struct buf fields; /* scratch */
	struct buf text;   /* scratch */
};

/* --- lines ------------------------------------------------------------------------------------------------------------ */

static void put(struct output *o, struct str line, enum log_level level, struct str fields)
{
	static const unsigned priorities[] = {
		[LOG_LEVEL_ERROR] = 3, [LOG_LEVEL_WARN] = 4, [LOG_LEVEL_INFO] = 6, [LOG_LEVEL_DEBUG] = 7};
	struct sink_line l = {line, priorities[level], fields, "stacygated"};

	if (sink_kind(o->sink) == SINK_JOURNAL && line.n)
		l.text.n--;
	sink_write(o->sink, &l, &o->count);
}

static bool is_stderr(const struct output *o)
{
	return sink_kind(o->sink) == SINK_STDERR;
}

/* Says what is missing, when there is hope that this is not lost as well. */
static void tell_lost(struct output *o)
{
	uint64_t lines = o->count.dropped - o->told;
	uint64_t before = o->count.dropped;
	struct buf out = BUF_EMPTY;

	if (lines == 0 || !sink_flows(o->sink))
		return;
	if (is_stderr(o))
		buf_add_cstr(&out, log_stderr_prefix(LOG_LEVEL_WARN));
	o->add_lost(&out, lines);
	if (!out.failed)
		put(o, buf_str(&out), LOG_LEVEL_WARN, str_of(NULL, 0));
	/* A notice that is lost itself is no line that is missing. */
	if (o->count.dropped == before && !out.failed)
		o->told += lines;
	else
		o->count.dropped = before;
	buf_fini(&out);
}

/* The log itself hears of an access log or audit that cannot be written, once, and when it can be again. */
static void note_loss(struct output *o, uint64_t dropped_before)
{
	const char *path = sink_kind(o->sink) == SINK_STDERR ? NULL : sink_path(o->sink);
	bool lost = o->count.dropped != dropped_before;

	if (!path || lost == o->losing)
		return;
	o->losing = lost;
	if (lost)
		log_error("%s takes no lines: they are lost, and counted, until it does", path);
	else
		log_warn("%s takes lines again; %llu were lost so far", path, (unsigned long long)o->count.dropped);
}

static void write_line(struct output *o, const struct buf *line, enum log_level level, const struct buf *fields)
{
	uint64_t before = o->count.dropped;

	tell_lost(o);
	if (line->failed || (fields && fields->failed))
		o->count.dropped++;
	else
		put(o, buf_str(line), level, fields ? buf_str(fields) : str_of(NULL, 0));
	note_loss(o, before);
}

static void write_log(void *arg, enum log_level level, struct str text, struct str line)
{
	struct logs *l = arg;

	if (level <= LOG_LEVEL_WARN)
		recent_add(&l->recent, clock_wall_ns(), log_level_name(level), text);
	tell_lost(&l->log);
	put(&l->log, line, level, str_of(NULL, 0));
}

static void add_lost_text(struct buf *out, uint64_t lines)
{
	char text[80];
	char *to = buf_reserve(out, LOG_LINE_MAX_BYTES);

	snprintf(text, sizeof(text), "%llu lines of this log are missing here", (unsigned long long)lines);
	if (to)
		buf_commit(out, log_format_line(to, LOG_LEVEL_WARN, str_from(text)));
}

/* An empty scratch line, begun with what stands before lines on stderr. */
static struct buf *begin_line(struct logs *l, const struct output *o, enum log_level level)
{
	buf_reset(&l->line);
	if (is_stderr(o))
		buf_add_cstr(&l->line, log_stderr_prefix(level));
	return &l->line;
}

/* Adds l->text as a line of the log's own look. */
static void add_log_line(struct logs *l, struct buf *line, enum log_level level)
{
	char *to = l->text.failed ? NULL : buf_reserve(line, LOG_LINE_MAX_BYTES);

	if (to)
		buf_commit(line, log_format_line(to, level, buf_str(&l->text)));
	else
		line->failed = true;
}

/* An end that is an error is worth a look. */
static enum log_level level_of(const struct audit_record *r)
{
	return r->is_error ? LOG_LEVEL_WARN : LOG_LEVEL_INFO;
}

/* NULL but for the journal. */
static const struct buf *journal_fields(struct logs *l, const struct output *o, const char *kind,
					const struct audit_record *r)
{
	if (sink_kind(o->sink) != SINK_JOURNAL)
		return NULL;
	buf_reset(&l->fields);
	audit_journal_fields(&l->fields, kind, r);
	return &l->fields;
}

static void write_access(struct logs *l, const struct audit_record *r)
{
	struct buf *line = begin_line(l, &l->access, level_of(r));

	if (l->format == LOG_FORMAT_JSON) {
		audit_access_json(line, r);
	} else {
		buf_reset(&l->text);
		audit_access_text(&l->text, r);
		add_log_line(l, line, level_of(r));
	}
	write_line(&l->access, line, level_of(r), journal_fields(l, &l->access, "request", r));
}

static void write_audit(struct logs *l, enum audit_kind kind, const struct audit_record *r)
{
	struct buf *line = begin_line(l, &l->audit, LOG_LEVEL_INFO);

	audit_line(line, kind, r);
	write_line(&l->audit, line, LOG_LEVEL_INFO, journal_fields(l, &l->audit, audit_kind_text(kind), r));
}

bool logs_access_on(const struct logs *l)
{
	return l && l->access.sink;
}

static bool audit_on(const struct logs *l)
{
	return l && l->audit.sink;
}

bool logs_want(const struct logs *l, const struct audit_record *r)
{
	return l && (logs_access_on(l) || audit_is_trouble(r) || (audit_on(l) && audit_kind_of(r) != AUDIT_NOTHING));
}

static void note_trouble(struct logs *l, const struct audit_record *r)
{
	buf_reset(&l->text);
	audit_trouble_text(&l->text, r);
	if (!l->text.failed)
		recent_add(&l->recent, clock_wall_ns(), "request", buf_str(&l->text));
}

void logs_request(struct logs *l, const struct audit_record *r)
{
	enum audit_kind kind;

	if (audit_is_trouble(r))
		note_trouble(l, r);
	if (logs_access_on(l))
		write_access(l, r);
	if (!audit_on(l))
		return;
	kind = audit_kind_of(r);
	if (kind != AUDIT_NOTHING)
		write_audit(l, kind, r);
}

void logs_turned_away(struct logs *l, const struct audit_record *r)
{
	if (audit_on(l))
		write_audit(l, AUDIT_REFUSAL, r);
}

void logs_connection(struct logs *l, const struct audit_record *r, const char *event, const char *more)
{
	struct buf *line;

	if (!logs_access_on(l))
		return;
	line = begin_line(l, &l->access, level_of(r));
	if (l->format == LOG_FORMAT_JSON) {
		audit_connection_json(line, r, event, more);
	} else {
		buf_reset(&l->text);
		audit_connection_text(&l->text, r, event, more);
		add_log_line(l, line, level_of(r));
	}
	write_line(&l->access, line, level_of(r), journal_fields(l, &l->access, "connection", r));
}

/* --- outputs ------------------------------------------------------------------------------------------------------------- */

static const enum sink_kind sink_kinds[] = {
	[CONFIG_OUTPUT_STDERR] = SINK_STDERR, [CONFIG_OUTPUT_JOURNAL] = SINK_JOURNAL, [CONFIG_OUTPUT_FILE] = SINK_FILE};

/* What an output is opened by. */
static const char *path_of(const struct config_output *to)
{
	return to->kind == CONFIG_OUTPUT_JOURNAL ? SINK_JOURNAL_SOCKET : to->path;
}

static const char *why_not(int rc)
{
	return rc == -EINVAL ? "it is not a regular file" : strerror(-rc);
}

/* Two outputs on one file, or on stderr, share its sink. */
static bool is_for(const struct sink *s, const struct config_output *to)
{
	return s && sink_kind(s) == sink_kinds[to->kind] &&
	       (to->kind != CONFIG_OUTPUT_FILE || strcmp(sink_path(s), to->path) == 0);
}

static int open_output(struct logs *l, const struct config_output *to, struct sink *beside, struct sink **out)
{
	struct sink *const present[] = {l->log.sink, l->access.sink, l->audit.sink, beside};

	if (to->kind == CONFIG_OUTPUT_OFF)
		return 0;
	for (size_t i = 0; i < sizeof(present) / sizeof(present[0]); i++) {
		if (is_for(present[i], to)) {
			*out = sink_ref(present[i]);
			return 0;
		}
	}
	return sink_open(l->loop, sink_kinds[to->kind], path_of(to), out);
}

int logs_open(struct logs *l, const struct config *c, struct logs_outputs *out, char *why, size_t why_size)
{
	const struct config_output *failed = &c->access;
	int rc;

	*out = (struct logs_outputs){.format = c->log_format};
	rc = open_output(l, &c->access, NULL, &out->access);
	if (rc == 0) {
		failed = &c->audit;
		rc = open_output(l, &c->audit, out->access, &out->audit);
	}
	if (rc == 0)
		return 0;
	config_say(c, failed->at, why, why_size, "log.%s: %s cannot be opened: %s",
		   failed == &c->audit ? "audit" : "access", path_of(failed) ? path_of(failed) : "stderr", why_not(rc));
	logs_outputs_fini(out);
	return rc;
}

static void check_output(const struct config *c, const struct config_output *o, const char *key, struct buf *faults)
{
	int rc = o->kind == CONFIG_OUTPUT_FILE ? sink_check_file(o->path) : 0;

	if (rc)
		buf_addf(faults, "%s:%u:%u: log.%s: %s cannot be opened: %s\n", config_file_of(c, o->at), o->at.line,
			 o->at.column, key, o->path, why_not(rc));
}

void logs_check(const struct config *c, struct buf *faults)
{
	check_output(c, &c->access, "access", faults);
	check_output(c, &c->audit, "audit", faults);
}

static void warn_of_journal(const struct config_output *o, const char *key, struct buf *out)
{
	if (o->kind == CONFIG_OUTPUT_JOURNAL && access(SINK_JOURNAL_SOCKET, F_OK) < 0)
		buf_addf(out, "log.%s: there is no journal at %s: lines are lost, and counted, until there is\n", key,
			 SINK_JOURNAL_SOCKET);
}

void logs_warnings(const struct config *c, struct buf *out)
{
	warn_of_journal(&c->access, "access", out);
	warn_of_journal(&c->audit, "audit", out);
}

void logs_outputs_fini(struct logs_outputs *outputs)
{
	sink_unref(outputs->access);
	sink_unref(outputs->audit);
	*outputs = (struct logs_outputs){0};
}

void logs_use(struct logs *l, struct logs_outputs *outputs)
{
	sink_unref(l->access.sink);
	sink_unref(l->audit.sink);
	l->access.sink = outputs->access;
	l->audit.sink = outputs->audit;
	l->format = outputs->format;
	log_set_format(outputs->format);
	*outputs = (struct logs_outputs){0};
}

static void reopen(struct sink *s)
{
	int rc = s && sink_kind(s) == SINK_FILE ? sink_reopen(s) : 0;

	if (rc)
		log_error("%s cannot be opened anew, the old file is written on: %s", sink_path(s), why_not(rc));
}

void logs_reopen(struct logs *l)
{
	reopen(l->access.sink);
	if (l->audit.sink != l->access.sink)
		reopen(l->audit.sink);
	log_info("log files were opened anew");
}

/* --- life ------------------------------------------------------------------------------------------------------------------ */

struct logs *logs_new(struct loop *loop)
{
	struct logs *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->loop = loop;
	l->log.add_lost = add_lost_text;
	l->access.add_lost = add_lost_text;
	l->audit.add_lost = audit_lost_line;
	if (sink_open(loop, SINK_STDERR, NULL, &l->log.sink)) {
		free(l);
		return NULL;
	}
	log_set_writer(write_log, l);
	return l;
}

void logs_free(struct logs *l)
{
	if (!l)
		return;
	log_set_writer(NULL, NULL);
	sink_unref(l->access.sink);
	sink_unref(l->audit.sink);
	sink_unref(l->log.sink);
	buf_fini(&l->line);
	buf_fini(&l->fields);
	buf_fini(&l->text);
	free(l);
}

/* --- status ---------------------------------------------------------------------------------------------------------------- */

const char *logs_output_text(enum logs_output output)
{
	static const char *const texts[LOGS_OUTPUTS] = {"log", "access", "audit"};

	return texts[output];
}

static const struct output *output_of(const struct logs *l, enum logs_output output)
{
	switch (output) {
	case LOGS_ACCESS:
		return &l->access;
	case LOGS_AUDIT:
		return &l->audit;
	case LOGS_LOG:
	case LOGS_OUTPUTS:
		break;
	}
	return &l->log;
}

struct sink_count logs_count(const struct logs *l, enum logs_output output)
{
	struct sink_count c = output_of(l, output)->count;

	if (output == LOGS_LOG)
		c.dropped += log_dropped();
	return c;
}

void logs_write_recent(const struct logs *l, struct json_writer *w)
{
	recent_write(&l->recent, w, "errors");
}

static void write_output(const struct logs *l, struct json_writer *w, enum logs_output output)
{
	static const char *const kinds[] = {[SINK_STDERR] = "stderr", [SINK_JOURNAL] = "journal", [SINK_FILE] = NULL};
	const struct output *o = output_of(l, output);
	const char *kind = o->sink ? kinds[sink_kind(o->sink)] : "off";
	const struct sink_count count = logs_count(l, output);

	json_object_begin(w, logs_output_text(output));
	json_cstr(w, "to", kind ? kind : sink_path(o->sink));
	json_uint(w, "written", count.written);
	json_uint(w, "dropped", count.dropped);
	json_object_end(w);
}

void logs_status(const struct logs *l, struct json_writer *w)
{
	json_object_begin(w, "outputs");
	for (unsigned i = 0; i < LOGS_OUTPUTS; i++)
		write_output(l, w, (enum logs_output)i);
	json_object_end(w);
}
