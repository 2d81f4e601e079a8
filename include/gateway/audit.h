/* SPDX-License-Identifier: Apache-2.0 */
/* What is kept of a request when it has ended, and the lines that the audit and the access log make of it. */
#ifndef GATEWAY_AUDIT_H
#define GATEWAY_AUDIT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/http_parse.h"
#include "common/str.h"

/*
 * A request that has ended, or a connection that was turned away (no method then). Everything is borrowed; NULL or 0 where
 * there is none, and then the line leaves the key out. No query, body or header value has a place here, but for a request id
 * that was checked.
 */
struct audit_record {
	unsigned long long connection;
	bool has_peer; /* uid, gid and pid are known */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	const char *user_id; /* the owner */
	const char *rule;
	const char *listener;
	const char *method_text;
	enum http_method method;
	const char *template; /* of the route: a literal */
	const char *path;     /* for the access log only; as sent, cut, without query */
	const char *sandbox;
	unsigned status;      /* 0: the client was answered nothing */
	bool reached;         /* the upstream may have acted on it */
	const char *upstream; /* name, when it was meant for one */
	unsigned upstream_status;
	uint64_t latency_ms;
	uint64_t bytes_up;
	uint64_t bytes_down;
	bool repeated;
	const char *request_id;
	bool is_error;    /* the end is one: the line is a warning */
	const char *end;  /* how an exchange ended; NULL: there was none */
	const char *code; /* of an answer of ours that refuses; for a connection why; NULL: not refused */
};

enum audit_kind {
	AUDIT_NOTHING, /* read and answered: no line */
	AUDIT_CHANGE,  /* may have changed something, or ran a program */
	AUDIT_REFUSAL, /* refused or failed by the gateway */
};

enum audit_kind audit_kind_of(const struct audit_record *r);

/*
 * Whether an administrator who asks what is wrong wants to hear of it: refused by us for another reason than that there is no
 * such thing, failed, or cut. Of method, status, is_error and code.
 */
bool audit_is_trouble(const struct audit_record *r);
/* What there is to say of it in a line, the same for the same trouble: no time, no request id. */
void audit_trouble_text(struct buf *out, const struct audit_record *r);

/* The line of the audit: one JSON object in printable ASCII, with newline. */
void audit_line(struct buf *out, enum audit_kind kind, const struct audit_record *r);
/*
 * Further fields for the journal (sink.h): what somebody would search by. `kind` is a literal: audit_kind_text() for lines of the
 * audit, "request" or "connection" for those of the access log.
 */
void audit_journal_fields(struct buf *out, const char *kind, const struct audit_record *r);
const char *audit_kind_text(enum audit_kind kind);

/* A line that says how many lines are missing before it. */
void audit_lost_line(struct buf *out, uint64_t lines);

/* The text of a line of the access log, and the whole line as JSON with newline. */
void audit_access_text(struct buf *out, const struct audit_record *r);
void audit_access_json(struct buf *out, const struct audit_record *r);

/* The same for a connection: `event` is a literal such as "connected", `more` what there is to say of it or NULL. */
void audit_connection_text(struct buf *out, const struct audit_record *r, const char *event, const char *more);
void audit_connection_json(struct buf *out, const struct audit_record *r, const char *event, const char *more);

#endif
