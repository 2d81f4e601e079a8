/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A head is never passed on as bytes. What a client sent under the names of credentials and identities is not copied, so
 * it cannot stand beside ours; hop-by-hop headers are dropped before ours are added, so that a Connection header cannot
 * take those away.
 */
#include "gateway/rewrite.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "common/http_parse.h"
#include "common/http_write.h"
#include "common/secret.h"
#include "gateway/headers.h"
#include "gateway/trace_context.h"

/* A usual head fits, so that it is allocated once. */
enum {
	ROOM_BYTES = 1024
};

static void add_handshake(const struct http_head *head, struct buf *out)
{
	http_write_header(out, STR("Connection"), STR("Upgrade"));
	http_write_header(out, STR("Upgrade"), STR("websocket"));
	for (size_t i = 0; i < head->nheaders; i++) {
		struct str name = head->headers[i].name;
		if (name.n > 14 && str_eq_nocase_n(name.p, "sec-websocket-", 14))
			http_write_header(out, name, head->headers[i].value);
	}
}

/* Whether a header asks for an answer other than the whole of it as it is. */
static bool asks_for_less(struct str name)
{
	return str_eq_nocase(name, STR("accept-encoding")) || str_eq_nocase(name, STR("range")) ||
	       (name.n > 3 && str_eq_nocase_n(name.p, "if-", 3));
}

static void add_passing(const struct http_head *head, const struct headers_hop *hop, bool whole, bool traced,
			struct buf *out)
{
	for (size_t i = 0; i < head->nheaders; i++)
		if (headers_pass_request(head->headers[i].name, hop) &&
		    !(whole && asks_for_less(head->headers[i].name)) &&
		    !(traced && trace_context_owns(head->headers[i].name)))
			http_write_header(out, head->headers[i].name, head->headers[i].value);
}

int rewrite_request_lines(const struct http_head *head, bool traced, struct buf *out)
{
	struct headers_hop hop;

	if (headers_hop_collect(head, &hop))
		return -E2BIG;
	add_passing(head, &hop, true, traced, out);
	return 0;
}

int rewrite_request_head(const struct rewrite_request *r, struct buf *out)
{
	const struct http_head *head = r->head;
	struct headers_hop hop;

	if (headers_hop_collect(head, &hop))
		return -E2BIG;
	(void)buf_reserve(out, ROOM_BYTES); /* without memory the additions say so */
	http_write_request_line(out, head->method_text, r->target);
	http_write_header(out, STR("Host"), str_from(r->authority));
	add_passing(head, &hop, r->whole, r->trace_lines != NULL, out);
	if (r->websocket)
		add_handshake(head, out);
	if (r->key)
		http_write_header_secret(out, STR("X-API-Key"), r->key);
	if (r->admin_key)
		http_write_header_secret(out, STR("X-Admin-API-Key"), r->admin_key);
	http_write_header(out, STR("X-User-ID"), str_from(r->user_id));
	http_write_header(out, STR("X-Request-ID"), str_from(r->request_id));
	if (r->trace_lines)
		buf_add_cstr(out, r->trace_lines);
	return 0;
}

int rewrite_preview_head(const struct rewrite_request *r, struct buf *out)
{
	const struct http_head *head = r->head;
	struct headers_hop hop;

	if (headers_hop_collect(head, &hop))
		return -E2BIG;
	(void)buf_reserve(out, ROOM_BYTES);
	http_write_request_line(out, head->method_text, r->target);
	for (size_t i = 0; i < head->nheaders; i++)
		if (headers_pass_preview_request(head->headers[i].name, &hop))
			http_write_header(out, head->headers[i].name, head->headers[i].value);
	http_write_header(out, STR("Connection"), r->websocket ? STR("Upgrade") : STR("close"));
	if (r->websocket)
		http_write_header(out, STR("Upgrade"), STR("websocket"));
	return 0;
}

void rewrite_preview_host(struct buf *request, const char *host)
{
	struct str all = buf_str(request);
	const char *end = all.n ? memmem(all.p, all.n, "\r\n", 2) : NULL;
	struct buf out = BUF_EMPTY;
	size_t line;

	if (!end)
		return;
	line = (size_t)(end - all.p) + 2;
	(void)buf_reserve(&out, ROOM_BYTES);
	buf_add(&out, all.p, line);
	http_write_header(&out, STR("Host"), str_from(host));
	buf_add(&out, all.p + line, all.n - line);
	buf_fini(request);
	*request = out;
}

/*
 * Found by its line: a client's own is never copied, and no value of a header holds a line break, so there is one, and it is
 * in the head.
 */
static void replace_header(struct buf *request, struct str name, const struct secret *value)
{
	struct str all = buf_str(request);
	struct buf out = BUF_EMPTY;
	size_t at = 0;
	const char *end;

	if (!value)
		return;
	while (at + name.n + 4 <= all.n &&
	       !(memcmp(all.p + at, "\r\n", 2) == 0 && memcmp(all.p + at + 2, name.p, name.n) == 0 &&
		 all.p[at + 2 + name.n] == ':'))
		at++;
	end = at + name.n + 4 <= all.n ? memmem(all.p + at + 2, all.n - at - 2, "\r\n", 2) : NULL;
	if (!end)
		return;
	buf_add(&out, all.p, at + 2);
	http_write_header_secret(&out, name, value);
	buf_add(&out, end + 2, all.n - (size_t)(end + 2 - all.p));
	buf_wipe(request);
	*request = out;
}

void rewrite_request_keys(struct buf *request, const struct secret *key, const struct secret *admin_key)
{
	replace_header(request, STR("X-API-Key"), key);
	replace_header(request, STR("X-Admin-API-Key"), admin_key);
}

/* Nothing shorter can hold one of the keys: nearly every header is. */
static size_t shortest_key(const struct rewrite_response *r)
{
	size_t n = r->key ? secret_bytes(r->key).n : SIZE_MAX;

	return r->admin_key && secret_bytes(r->admin_key).n < n ? secret_bytes(r->admin_key).n : n;
}

/* Whether the server sends back what only it and we may know. */
static bool shows_key(const struct rewrite_response *r, size_t shortest, struct str text)
{
	if (text.n < shortest)
		return false;
	return (r->key && secret_is_within(r->key, text)) || (r->admin_key && secret_is_within(r->admin_key, text));
}

void rewrite_response_head(const struct rewrite_response *r, struct buf *out)
{
	const struct http_head *head = r->head;
	size_t shortest = shortest_key(r);
	struct headers_hop hop;

	char status[] = "HTTP/1.1 000 ";

	(void)buf_reserve(out, ROOM_BYTES);
	status[9] = (char)('0' + head->status / 100);
	status[10] = (char)('0' + head->status / 10 % 10);
	status[11] = (char)('0' + head->status % 10);
	buf_add(out, status, sizeof(status) - 1);
	buf_add_str(out, shows_key(r, shortest, head->reason) ? str_from(http_reason(head->status)) : head->reason);
	buf_add_str(out, STR("\r\n"));
	if (headers_hop_collect(head, &hop))
		hop.n = 0; /* more names than anybody means; none of the fixed ones passes in any case */
	for (size_t i = 0; i < head->nheaders; i++)
		if ((r->preview ? headers_pass_preview_response(head->headers[i].name, &hop)
				: headers_pass_response(head->headers[i].name, &hop)) &&
		    !shows_key(r, shortest, head->headers[i].value) && !shows_key(r, shortest, head->headers[i].name))
			http_write_header(out, head->headers[i].name, head->headers[i].value);
	if (r->websocket) {
		http_write_header(out, STR("Connection"), STR("Upgrade"));
		http_write_header(out, STR("Upgrade"), STR("websocket"));
	}
}
