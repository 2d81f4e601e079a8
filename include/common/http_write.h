/* SPDX-License-Identifier: Apache-2.0 */
/* Writes the heads of HTTP/1.1 messages into a buffer. */
#ifndef COMMON_HTTP_WRITE_H
#define COMMON_HTTP_WRITE_H

#include "common/buf.h"
#include "common/str.h"

struct secret;

/* "GET /x HTTP/1.1\r\n". The caller vouches for the bytes. */
void http_write_request_line(struct buf *out, struct str method, struct str target);

/* "HTTP/1.1 404 Not Found\r\n", with the standard reason phrase (RFC 9110 15). */
void http_write_status_line(struct buf *out, unsigned status);

/* One header line; the caller vouches for name and value (no CR, LF or NUL). */
void http_write_header(struct buf *out, struct str name, struct str value);
void http_write_header_u64(struct buf *out, struct str name, unsigned long long value);
/* The same with a credential as value: the buffer must then be released with buf_wipe. */
void http_write_header_secret(struct buf *out, struct str name, const struct secret *value);

/* The empty line. */
void http_write_end(struct buf *out);

/* The standard reason phrase, or "Unknown". */
const char *http_reason(unsigned status);

#endif
