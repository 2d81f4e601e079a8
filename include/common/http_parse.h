/* SPDX-License-Identifier: Apache-2.0 */
/* Reads one HTTP/1.1 message (RFC 9112): its head from assembled bytes, then the extent of its body. No I/O. */
#ifndef COMMON_HTTP_PARSE_H
#define COMMON_HTTP_PARSE_H

#include <llhttp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/str.h"

enum {
	HTTP_HEAD_MAX_BYTES = 32768,
	HTTP_TARGET_MAX_BYTES = 8192,
	HTTP_HEADERS_MAX = 256,
	HTTP_CHUNK_LINE_MAX_BYTES = 4096,
	HTTP_TRAILERS_MAX_BYTES = 8192,
};

/* Which kind of message is read is llhttp's own enum: HTTP_REQUEST or HTTP_RESPONSE. */

enum http_method {
	METHOD_GET,
	METHOD_HEAD,
	METHOD_POST,
	METHOD_PUT,
	METHOD_DELETE,
	METHOD_PATCH,
	METHOD_OPTIONS,
};

enum http_framing {
	HTTP_BODY_NONE,
	HTTP_BODY_LENGTH,
	HTTP_BODY_CHUNKED,
	HTTP_BODY_UNTIL_CLOSE, /* responses only (RFC 9112 6.3, 8) */
};

enum http_result {
	HTTP_MORE, /* well so far; more bytes are needed */
	HTTP_DONE, /* the head, or the message, is complete */
	HTTP_BAD,  /* refused: see http_parser.status and .why */
};

struct http_header {
	struct str name;  /* as sent */
	struct str value; /* without white space around it */
};

/* A head; every span points into the bytes it was parsed from and lives as long as they do. */
struct http_head {
	enum http_method method; /* requests */
	struct str method_text;  /* requests */
	struct str target;       /* requests: as sent, 1 to HTTP_TARGET_MAX_BYTES visible ASCII bytes, no '#' */
	struct str host;         /* requests: the value of Host; empty when absent (HTTP/1.0 only) */
	unsigned status;         /* responses: 100 to 599 */
	struct str reason;       /* responses */
	unsigned minor;          /* HTTP/1.minor, 0 or 1 */
	enum http_framing framing;
	uint64_t content_length; /* with HTTP_BODY_LENGTH */
	bool keep_alive;         /* the sender means to keep the connection */
	bool expect_continue;    /* requests: Expect: 100-continue */
	bool upgrade_websocket;  /* requests: Upgrade: websocket, and Connection names upgrade */
	bool has_connection;     /* there is a Connection line */
	struct str content_type; /* the first Content-Type's value; p NULL without */
	size_t nheaders;
	struct http_header headers[HTTP_HEADERS_MAX];
};

/* Where in the trailers of a chunked body the parser is. */
enum http_trailer {
	TRAILER_NONE, /* not there yet */
	TRAILER_LINE, /* at the start of a line */
	TRAILER_NAME,
	TRAILER_VALUE,
	TRAILER_VALUE_CR, /* behind a CR, which LF must follow */
	TRAILER_END,      /* behind the CR of the empty line */
};

struct http_parser {
	llhttp_type_t kind;
	enum http_framing framing;
	uint64_t left;   /* HTTP_BODY_LENGTH: body bytes still to come */
	size_t scanned;  /* head bytes already found free of an end, so that they are not looked at for it again */
	size_t overhead; /* bytes since the last body byte, that is of chunk lines, or bytes of trailers */
	enum http_trailer trailer;
	bool bodiless; /* a response that has no body whatever it says (RFC 9112 6.3, 1) */
	bool done;
	unsigned status;  /* after HTTP_BAD: the status to answer a client with */
	const char *why;  /* after HTTP_BAD: one short sentence of ours, never the sender's bytes */
	const char *mark; /* within one call: behind the last byte accounted for */
	void (*on_data)(void *arg, const char *p, size_t n);
	void *on_data_arg;
	llhttp_t ll; /* from the head on: of a chunked body, and of a head with an unusual target; else never touched */
};

/* Begins a message; also between two messages of one connection. */
void http_parser_init(struct http_parser *p, llhttp_type_t kind);

/*
 * Looks for a complete head at the start of data, which holds everything received of this message so far (on a
 * further call the same bytes and more, perhaps moved). HTTP_DONE: *out is filled and *head_bytes is where the body
 * starts. Nothing of a head that is refused may be passed on: not even its existence is agreed upon.
 */
MUST_CHECK enum http_result http_parse_head(struct http_parser *p, const char *data, size_t n, struct http_head *out,
					    size_t *head_bytes);

/*
 * After the head of a response, before http_parse_body: says that it has no body although it may show a length, as
 * the answer to HEAD. 1xx, 204 and 304 are known without it.
 */
void http_parser_no_body(struct http_parser *p);

/*
 * Takes body bytes. *used is how many belong to this message and are well-formed (also with HTTP_BAD: those before
 * the fault); HTTP_DONE: the message ended there, what follows is not part of it. on_data (may be NULL) gets the body
 * with its framing taken off. To be called once with n 0 after the head, since a message may have no body.
 */
MUST_CHECK enum http_result http_parse_body(struct http_parser *p, const char *data, size_t n, size_t *used,
					    void (*on_data)(void *arg, const char *p, size_t n), void *arg);

/* The sender closed: HTTP_DONE if the message ends with that, HTTP_BAD if it is cut. */
MUST_CHECK enum http_result http_parse_eof(struct http_parser *p);

/* The first header of that name, or NULL. */
const struct http_header *http_head_find(const struct http_head *head, struct str name);

/* Whether a list-valued header (RFC 9110 5.6.1) in any of its lines holds the token, case ignored. */
bool http_head_has_token(const struct http_head *head, struct str name, struct str token);

/* Whether Content-Type is that media type (lower case), whatever its parameters (RFC 9110 8.3). */
bool http_head_is_type(const struct http_head *head, struct str type);
/* Whether the body is a stream of records that come when they come: NDJSON or SSE. */
bool http_head_is_stream(const struct http_head *head);

#endif
