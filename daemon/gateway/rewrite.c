/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A head is never passed on as bytes. What a client sent under the names of credentials and identities is not copied, so
 * it cannot stand beside ours; hop-by-hop headers are dropped before ours are added, so that a Connection header cannot
 * take those away.
 */
#include "gateway/rewrite.h"

#include <errno.h>

#include "common/http_parse.h"
#include "common/http_write.h"
#include "gateway/headers.h"

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

int rewrite_request_head(const struct rewrite_request *r, struct buf *out)
{
	const struct http_head *head = r->head;
	struct headers_hop hop;

	if (headers_hop_collect(head, &hop))
		return -E2BIG;
	(void)buf_reserve(out, ROOM_BYTES); /* without memory the additions say so */
	http_write_request_line(out, head->method_text, r->target);
	http_write_header(out, STR("Host"), str_from(r->authority));
	for (size_t i = 0; i < head->nheaders; i++)
		if (headers_pass_request(head->headers[i].name, &hop) &&
		    !(r->whole && asks_for_less(head->headers[i].name)))
			http_write_header(out, head->headers[i].name, head->headers[i].value);
	if (r->websocket)
		add_handshake(head, out);
	if (r->key)
		http_write_header_secret(out, STR("X-API-Key"), r->key);
	http_write_header(out, STR("X-User-ID"), str_from(r->user_id));
	http_write_header(out, STR("X-Request-ID"), str_from(r->request_id));
	return 0;
}

void rewrite_response_head(const struct http_head *head, bool websocket, struct buf *out)
{
	struct headers_hop hop;

	char status[] = "HTTP/1.1 000 ";

	(void)buf_reserve(out, ROOM_BYTES);
	status[9] = (char)('0' + head->status / 100);
	status[10] = (char)('0' + head->status / 10 % 10);
	status[11] = (char)('0' + head->status % 10);
	buf_add(out, status, sizeof(status) - 1);
	buf_add_str(out, head->reason);
	buf_add_str(out, STR("\r\n"));
	if (headers_hop_collect(head, &hop))
		hop.n = 0; /* more names than anybody means; none of the fixed ones passes in any case */
	for (size_t i = 0; i < head->nheaders; i++)
		if (headers_pass_response(head->headers[i].name, &hop))
			http_write_header(out, head->headers[i].name, head->headers[i].value);
	if (websocket) {
		http_write_header(out, STR("Connection"), STR("Upgrade"));
		http_write_header(out, STR("Upgrade"), STR("websocket"));
	}
}
