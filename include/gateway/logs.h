/* SPDX-License-Identifier: Apache-2.0 */
/* The three outputs of the gateway: its own log, the access log and the audit; each counts what it wrote and lost. */
#ifndef GATEWAY_LOGS_H
#define GATEWAY_LOGS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/err.h"
#include "common/log.h"
#include "common/sink.h"

struct audit_record;
struct buf;
struct config;
struct json_writer;
struct logs;
struct loop;

/* What a configuration asks for, opened; for logs_use. */
struct logs_outputs {
	struct sink *access; /* owned reference; NULL: off */
	struct sink *audit;  /* owned reference; NULL: off */
	enum log_format format;
};

/* Takes over the program's own log (log.h). NULL without memory. */
struct logs *logs_new(struct loop *loop);
/* Gives the log back to stderr. NULL is fine. */
void logs_free(struct logs *l);

/* Opens what a configuration asks for; what is open already is shared. 0 or negative errno, and `why` names the output. */
MUST_CHECK int logs_open(struct logs *l, const struct config *c, struct logs_outputs *out, char *why, size_t why_size);
/* Puts it in force and takes it. */
void logs_use(struct logs *l, struct logs_outputs *outputs);
/* For what does not come into force. */
void logs_outputs_fini(struct logs_outputs *outputs);

/* For -t: a line "FILE:LINE:COLUMN: ..." for each file that could not be opened; none is made. */
void logs_check(const struct config *c, struct buf *faults);
/*
 * A line when the journal is asked for and is not there. No error: a daemon that is told to log to a syslog that has not
 * come up yet starts, and so do HAProxy and nginx.
 */
void logs_warnings(const struct config *c, struct buf *out);

/* SIGUSR1: opens files anew. One that cannot be keeps its old file, and the log says so. */
void logs_reopen(struct logs *l);

/* Saves the work for a line that nobody wants; logs may be NULL: nobody does. */
bool logs_access_on(const struct logs *l);

/* Whether anything is made of a request of which method, status, upstream_status, reached, is_error and code are filled in. */
bool logs_want(const struct logs *l, const struct audit_record *r);

/* A request has ended, or a connection was turned away: to whom it may concern. */
void logs_request(struct logs *l, const struct audit_record *r);
void logs_turned_away(struct logs *l, const struct audit_record *r);
/* A line of the access log about a connection; `event` is a literal. */
void logs_connection(struct logs *l, const struct audit_record *r, const char *event, const char *more);

enum logs_output {
	LOGS_LOG,
	LOGS_ACCESS,
	LOGS_AUDIT,
	LOGS_OUTPUTS,
};
const char *logs_output_text(enum logs_output output);
/* Lines written and dropped so far. */
struct sink_count logs_count(const struct logs *l, enum logs_output output);

/* Adds the member "errors": the last warnings, errors, and requests that went wrong. */
void logs_write_recent(const struct logs *l, struct json_writer *w);

/* Adds the member "outputs": where each goes, lines written and dropped. */
void logs_status(const struct logs *l, struct json_writer *w);

#endif
