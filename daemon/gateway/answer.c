/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/answer.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/http_write.h"
#include "common/json_write.h"
#include "gateway/client.h"

static const struct {
	unsigned status;
	const char *code;
} codes[] = {
	{403, "FORBIDDEN"},        {404, "NOT_FOUND"},      {408, "REQUEST_TIMEOUT"},   {409, "CONFLICT"},
	{413, "TOO_LARGE"},        {429, "RESOURCE_LIMIT"}, {431, "HEADERS_TOO_LARGE"}, {500, "INTERNAL_ERROR"},
	{502, "CONNECTION_ERROR"}, {503, "UNAVAILABLE"},    {504, "UPSTREAM_TIMEOUT"},
};

const char *answer_code(unsigned status)
{
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (codes[i].status == status)
			return codes[i].code;
	return "BAD_REQUEST";
}

static void add_common(struct buf *head, const struct client *c, const char *request_id, const char *lines, bool keep)
{
	if (request_id)
		http_write_header(head, STR("X-Request-ID"), str_from(request_id));
	if (lines)
		buf_add_cstr(head, lines);
	answer_add_connection(head, c, keep);
}

void answer_add_common(struct buf *head, const struct client *c, const char *request_id, bool keep)
{
	add_common(head, c, request_id, client_head_lines(c), keep);
}

void answer_add_connection(struct buf *head, const struct client *c, bool keep)
{
	if (!keep)
		http_write_header(head, STR("Connection"), STR("close"));
	else if (client_minor(c) == 0)
		http_write_header(head, STR("Connection"), STR("keep-alive"));
}

bool answer_send(const struct answer_to *to, unsigned status, struct buf *head, struct str body)
{
	bool keep = client_may_keep_alive(to->client);
	bool sent;

	if (status != 204) /* RFC 9110 8.6 */
		http_write_header_u64(head, STR("Content-Length"), body.n);
	add_common(head, to->client, to->request_id, to->lines ? to->lines : client_head_lines(to->client), keep);
	http_write_end(head);
	if (head->failed) {
		client_cut(to->client, CLIENT_END_NO_MEMORY);
		return false;
	}
	client_send(to->client, buf_str(head), to->head_only ? str_of(NULL, 0) : body);
	sent = !client_is_broken(to->client);
	client_finish(to->client, keep);
	return sent;
}

static void send_answer(const struct answer_to *to, unsigned status, struct buf *head, struct buf *body)
{
	http_write_header(head, STR("Content-Type"), STR("application/json"));
	head->failed = head->failed || body->failed;
	answer_send(to, status, head, buf_str(body));
	buf_fini(head);
	buf_fini(body);
}

/* `extra` is header lines. */
static void send_message(const struct answer_to *to, unsigned status, unsigned retry_after_s, const char *extra,
			 const char *message)
{
	struct buf head = BUF_EMPTY;
	struct buf body = BUF_EMPTY;
	struct json_writer w = json_writer(&body);

	json_object_begin(&w, NULL);
	json_cstr(&w, "code", answer_code(status));
	json_cstr(&w, "message", message);
	json_object_end(&w);
	buf_add_char(&body, '\n');
	http_write_status_line(&head, status);
	http_write_header(&head, STR("Stacygate-Error"), str_from(answer_code(status)));
	if (status == 503 || status == 429)
		http_write_header_u64(&head, STR("Retry-After"), retry_after_s);
	buf_add_cstr(&head, extra);
	send_answer(to, status, &head, &body);
}

static void send_error(const struct answer_to *to, unsigned status, unsigned retry_after_s, const char *fmt, va_list ap)
{
	char message[512];

	vsnprintf(message, sizeof(message), fmt, ap);
	send_message(to, status, retry_after_s, "", message);
}

void answer_not_allowed(const struct answer_to *to, unsigned methods)
{
	static const struct {
		enum http_method method;
		const char *word;
	} words[] = {
		{METHOD_GET, "GET"},     {METHOD_HEAD, "HEAD"},     {METHOD_POST, "POST"},       {METHOD_PUT, "PUT"},
		{METHOD_PATCH, "PATCH"}, {METHOD_DELETE, "DELETE"}, {METHOD_OPTIONS, "OPTIONS"},
	};
	char allow[100] = "";
	char lines[120];
	char message[140];
	size_t n = 0;

	methods |= 1u << METHOD_OPTIONS;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (methods & 1u << words[i].method)
			n += (size_t)snprintf(allow + n, sizeof(allow) - n, "%s%s", n ? ", " : "", words[i].word);
	snprintf(lines, sizeof(lines), "Allow: %s\r\n", allow);
	snprintf(message, sizeof(message), "this route is for %s only", allow);
	send_message(to, 405, 0, lines, message);
}

void answer_error(const struct answer_to *to, unsigned status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	send_error(to, status, 1, fmt, ap);
	va_end(ap);
}

void answer_error_later(const struct answer_to *to, unsigned status, unsigned retry_after_s, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	send_error(to, status, retry_after_s, fmt, ap);
	va_end(ap);
}

void answer_options(const struct answer_to *to)
{
	struct buf head = BUF_EMPTY;

	http_write_status_line(&head, 204);
	http_write_header(&head, STR("Allow"), STR("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
	answer_send(to, 204, &head, str_of(NULL, 0));
	buf_fini(&head);
}

void answer_json(const struct answer_to *to, struct buf *json)
{
	struct buf head = BUF_EMPTY;

	buf_add_char(json, '\n');
	http_write_status_line(&head, 200);
	http_write_header(&head, STR("Cache-Control"), STR("no-store"));
	send_answer(to, 200, &head, json);
}
