/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The naive readers here share nothing with http_parse: they know only messages that were accepted, so they can be a
 * few lines long. Input is handed over in allocations of its exact size, so that AddressSanitizer sees every byte
 * read beyond it.
 */
#include "http_property.h"

#include <stdlib.h>
#include <string.h>

#include "common/check.h"
#include "common/http_parse.h"
#include "common/http_write.h"

enum {
	BYTEWISE_MAX_BYTES = 4096,
	MESSAGES_MAX = 64
};

static void add_data(void *arg, const char *p, size_t n)
{
	buf_add(arg, p, n);
}

/* A copy that ends where the allocation ends. */
static char *exact_copy(const char *bytes, size_t n)
{
	char *copy = malloc(n ? n : 1);

	CHECK(copy);
	if (n)
		memcpy(copy, bytes, n);
	return copy;
}

static bool within(struct str s, const char *bytes, size_t n)
{
	return s.n == 0 || (s.p >= bytes && s.p + s.n <= bytes + n);
}

/* The head's lines, read by nothing but CRLF and the first colon, are what the parser reported. */
static void check_lines(const struct http_head *head, const char *bytes, size_t n)
{
	size_t at = (size_t)((const char *)memchr(bytes, '\n', n) - bytes) + 1;
	size_t lines = 0;
	unsigned lengths = 0;
	unsigned codings = 0;

	for (;;) {
		const char *cr = memchr(bytes + at, '\r', n - at);
		CHECK(cr && cr + 1 < bytes + n && cr[1] == '\n');
		struct str value = str_of(bytes + at, (size_t)(cr - (bytes + at)));
		if (value.n == 0)
			break;
		struct str name = str_cut(&value, ':');
		CHECK(value.p && lines < head->nheaders);
		CHECK(str_eq(name, head->headers[lines].name));
		CHECK(str_eq(str_trim(value), head->headers[lines].value));
		CHECK(within(head->headers[lines].value, bytes, n));
		lengths += str_eq_nocase(name, STR("content-length"));
		codings += str_eq_nocase(name, STR("transfer-encoding"));
		lines++;
		at = (size_t)(cr - bytes) + 2;
	}
	CHECK(at + 2 == n && lines == head->nheaders);
	CHECK(lengths + codings <= 1);
}

/* What llhttp found so far in a head that http_parse accepted. */
struct second_reading {
	const struct http_head *head; /* borrowed; what http_parse found */
	size_t nheaders;
	size_t nvalues;
	uint64_t content_length;
	bool chunked;
};

static int second_target(llhttp_t *ll, const char *at, size_t n)
{
	const struct second_reading *r = ll->data;

	CHECK(str_eq(str_of(at, n), r->head->target));
	return 0;
}

static int second_reason(llhttp_t *ll, const char *at, size_t n)
{
	const struct second_reading *r = ll->data;

	CHECK(str_eq(str_of(at, n), r->head->reason));
	return 0;
}

static int second_name(llhttp_t *ll, const char *at, size_t n)
{
	struct second_reading *r = ll->data;

	CHECK(r->nheaders < r->head->nheaders);
	CHECK(str_eq(str_of(at, n), r->head->headers[r->nheaders++].name));
	return 0;
}

static int second_value(llhttp_t *ll, const char *at, size_t n)
{
	struct second_reading *r = ll->data;

	CHECK(r->nheaders > r->nvalues);
	r->nvalues = r->nheaders;
	CHECK(str_eq(str_trim(str_of(at, n)), r->head->headers[r->nheaders - 1].value));
	return 0;
}

static int second_complete(llhttp_t *ll)
{
	struct second_reading *r = ll->data;

	r->content_length = ll->content_length;
	r->chunked = ll->flags & F_CHUNKED;
	ll->upgrade = 0;
	return HPE_PAUSED;
}

/*
 * llhttp, which is not asked about most heads, reads the same in every head that is accepted: each span, the method or
 * the status, the version, the framing, and no byte more or less.
 */
static void check_llhttp(llhttp_type_t kind, const struct http_head *head, const char *bytes, size_t n)
{
	static const llhttp_settings_t settings = {
		.on_url = second_target,
		.on_status = second_reason,
		.on_header_field = second_name,
		.on_header_value = second_value,
		.on_headers_complete = second_complete,
	};
	struct second_reading r = {.head = head};
	llhttp_t ll;

	llhttp_init(&ll, kind, &settings);
	ll.data = &r;
	CHECK(llhttp_execute(&ll, bytes, n) == HPE_PAUSED && llhttp_get_error_pos(&ll) == bytes + n);
	CHECK(r.nheaders == head->nheaders);
	CHECK(ll.http_major == 1 && ll.http_minor == head->minor);
	if (kind == HTTP_REQUEST)
		CHECK(str_eq(str_from(llhttp_method_name(ll.method)), head->method_text));
	else
		CHECK(ll.status_code == head->status);
	if (head->framing == HTTP_BODY_LENGTH)
		CHECK(r.content_length == head->content_length);
	/* Of a body that it does not take for chunked, as behind a TAB, it refuses the first byte. */
	if (kind == HTTP_REQUEST && r.chunked)
		CHECK(head->framing == HTTP_BODY_CHUNKED);
}

static void check_request(const struct http_head *head)
{
	CHECK(head->target.n >= 1 && head->target.n <= HTTP_TARGET_MAX_BYTES && head->minor <= 1);
	for (size_t i = 0; i < head->target.n; i++)
		CHECK(head->target.p[i] > 0x20 && head->target.p[i] < 0x7f && head->target.p[i] != '#');
	CHECK(head->framing != HTTP_BODY_UNTIL_CLOSE);
	CHECK(head->minor == 0 || head->host.n > 0);
}

static unsigned hex_digit(char c)
{
	const char *digits = "0123456789abcdef0123456789ABCDEF";
	const char *at = c ? strchr(digits, c) : NULL;

	CHECK(at);
	return (unsigned)((at - digits) % 16);
}

/* Decodes a chunked body that is known to be accepted; returns where it ends. */
static size_t decode_chunked(const char *p, size_t n, struct buf *body)
{
	size_t at = 0;
	size_t size;

	do {
		size = 0;
		CHECK(at < n && p[at] != '\r' && p[at] != ';');
		for (; at < n && p[at] != '\r' && p[at] != ';'; at++)
			size = size * 16 + hex_digit(p[at]);
		const char *lf = memchr(p + at, '\n', n - at);
		CHECK(lf && lf[-1] == '\r');
		at = (size_t)(lf - p) + 1;
		CHECK(size <= n - at);
		buf_add(body, p + at, size);
		at += size;
		if (size) {
			CHECK(n - at >= 2 && p[at] == '\r' && p[at + 1] == '\n');
			at += 2;
		}
	} while (size);
	for (;;) {
		const char *lf = memchr(p + at, '\n', n - at);
		CHECK(lf && lf[-1] == '\r');
		bool end = lf == p + at + 1;
		at = (size_t)(lf - p) + 1;
		if (end)
			return at;
	}
}

static void add_head(struct buf *out, const struct http_head *head)
{
	buf_addf(out, "[%.*s %.*s %u %.*s HTTP/1.%u framing=%d length=%llu keep=%d expect=%d ws=%d]\n",
		 STR_ARG(head->method_text), STR_ARG(head->target), head->status, STR_ARG(head->reason), head->minor,
		 (int)head->framing, (unsigned long long)head->content_length, head->keep_alive, head->expect_continue,
		 head->upgrade_websocket);
	for (size_t i = 0; i < head->nheaders; i++) {
		buf_add_str(out, head->headers[i].name);
		buf_add_char(out, '=');
		buf_add_str(out, head->headers[i].value);
		buf_add_char(out, '\n');
	}
}

/* Feeds the head, growing by `step`; *head_copy then owns the bytes that the spans of *head point into. */
static enum http_result feed_head(struct http_parser *p, const char *bytes, size_t n, size_t step, char **head_copy,
				  struct http_head *head, size_t *head_bytes)
{
	enum http_result rc = HTTP_MORE;
	size_t have = 0;

	*head_copy = NULL;
	while (rc == HTTP_MORE && have < n) {
		have = step && step < n - have ? have + step : n;
		free(*head_copy);
		*head_copy = exact_copy(bytes, have);
		rc = http_parse_head(p, *head_copy, have, head, head_bytes);
		CHECK(rc != HTTP_DONE || (*head_bytes >= 16 && *head_bytes <= have));
	}
	return rc;
}

static enum http_result feed_body(struct http_parser *p, const char *bytes, size_t n, size_t step, struct buf *body,
				  size_t *taken)
{
	size_t used;
	enum http_result rc = http_parse_body(p, NULL, 0, &used, add_data, body);

	CHECK(used == 0);
	*taken = 0;
	while (rc == HTTP_MORE && *taken < n) {
		size_t piece = step && step < n - *taken ? step : n - *taken;
		char *copy = exact_copy(bytes + *taken, piece);
		rc = http_parse_body(p, copy, piece, &used, add_data, body);
		free(copy);
		CHECK(used <= piece && (rc != HTTP_MORE || used == piece));
		*taken += used;
	}
	return rc;
}

/* One message at the start of bytes; *used is its length if it is complete. */
static enum http_result run_message(llhttp_type_t kind, const char *bytes, size_t n, size_t step, struct buf *out,
				    size_t *used)
{
	struct http_parser parser;
	struct http_head *head = malloc(sizeof(*head));
	struct buf body = BUF_EMPTY;
	char *head_copy;
	size_t head_bytes = 0;
	size_t taken = 0;

	CHECK(head);
	http_parser_init(&parser, kind);
	enum http_result rc = feed_head(&parser, bytes, n, step, &head_copy, head, &head_bytes);
	if (rc == HTTP_DONE) {
		check_lines(head, head_copy, head_bytes);
		check_llhttp(kind, head, head_copy, head_bytes);
		if (kind == HTTP_REQUEST)
			check_request(head);
		add_head(out, head);
		rc = feed_body(&parser, bytes + head_bytes, n - head_bytes, step, &body, &taken);
		if (rc == HTTP_DONE && head->framing == HTTP_BODY_CHUNKED) {
			struct buf naive = BUF_EMPTY;
			CHECK(decode_chunked(bytes + head_bytes, n - head_bytes, &naive) == taken);
			CHECK(str_eq(buf_str(&naive), buf_str(&body)));
			buf_fini(&naive);
		}
		buf_addf(out, "body %zu: ", body.len);
		buf_add_str(out, buf_str(&body));
		buf_add_char(out, '\n');
	}
	CHECK(rc != HTTP_BAD || (parser.why && parser.status >= 400 && parser.status <= 505));
	buf_fini(&body);
	free(head_copy);
	free(head);
	*used = head_bytes + taken;
	return rc;
}

enum property_verdict http_property_run(llhttp_type_t kind, const char *bytes, size_t n, size_t step,
					struct buf *understood)
{
	for (unsigned i = 0; n && i < MESSAGES_MAX; i++) {
		size_t used;
		switch (run_message(kind, bytes, n, step, understood, &used)) {
		case HTTP_BAD:
			return PROPERTY_REFUSED;
		case HTTP_MORE:
			return PROPERTY_WAITS;
		case HTTP_DONE:
			bytes += used;
			n -= used;
			break;
		}
	}
	return PROPERTY_WHOLE;
}

static void check_cut(llhttp_type_t kind, const char *bytes, size_t n, size_t step, enum property_verdict verdict,
		      const struct buf *understood)
{
	struct buf other = BUF_EMPTY;

	CHECK(http_property_run(kind, bytes, n, step, &other) == verdict);
	/* Of what is refused anyway, a cut may let more or less be seen. */
	if (verdict != PROPERTY_REFUSED)
		CHECK(str_eq(buf_str(&other), buf_str(understood)));
	buf_fini(&other);
}

static void write_anew(struct buf *out, llhttp_type_t kind, const struct http_head *head, const struct buf *body)
{
	if (kind == HTTP_REQUEST)
		http_write_request_line(out, head->method_text, head->target);
	else
		http_write_status_line(out, head->status);
	for (size_t i = 0; i < head->nheaders; i++)
		if (!str_eq_nocase(head->headers[i].name, STR("transfer-encoding")) &&
		    !str_eq_nocase(head->headers[i].name, STR("content-length")))
			http_write_header(out, head->headers[i].name, head->headers[i].value);
	if (kind == HTTP_REQUEST && head->host.n == 0)
		http_write_header(out, STR("Host"), STR("added"));
	if (head->framing != HTTP_BODY_NONE)
		http_write_header_u64(out, STR("Content-Length"), body->len);
	http_write_end(out);
	buf_add_str(out, buf_str(body));
}

/* Parses a whole message; the spans of *head lie in bytes. */
static enum http_result parse_whole(llhttp_type_t kind, const char *bytes, size_t n, struct http_head *head,
				    struct buf *body)
{
	struct http_parser parser;
	size_t head_bytes;
	size_t used;

	http_parser_init(&parser, kind);
	enum http_result rc = http_parse_head(&parser, bytes, n, head, &head_bytes);
	if (rc == HTTP_DONE)
		rc = http_parse_body(&parser, bytes + head_bytes, n - head_bytes, &used, add_data, body);
	return rc;
}

static bool is_framing(const struct http_header *h)
{
	return str_eq_nocase(h->name, STR("transfer-encoding")) || str_eq_nocase(h->name, STR("content-length"));
}

/* The headers but those of framing are the same in the same order; `again` may have a Host more behind them. */
static void check_same_headers(const struct http_head *head, const struct http_head *again)
{
	size_t k = 0;

	for (size_t i = 0; i < head->nheaders; i++) {
		if (is_framing(&head->headers[i]))
			continue;
		CHECK(k < again->nheaders && str_eq(head->headers[i].name, again->headers[k].name));
		CHECK(str_eq(head->headers[i].value, again->headers[k].value));
		k++;
	}
	if (k < again->nheaders && str_eq(again->headers[k].name, STR("Host")) &&
	    str_eq(again->headers[k].value, STR("added")))
		k++;
	CHECK(again->nheaders == k + (again->framing != HTTP_BODY_NONE));
}

/* What was written anew is what is written when it is read again. */
static void check_fixed_point(llhttp_type_t kind, const struct buf *out, const struct http_head *again,
			      const struct buf *body)
{
	struct buf twice = BUF_EMPTY;

	write_anew(&twice, kind, again, body);
	CHECK(!twice.failed && str_eq(buf_str(&twice), buf_str(out)));
	buf_fini(&twice);
}

static void check_rewrite(llhttp_type_t kind, const char *bytes, size_t n)
{
	struct http_head *head = malloc(2 * sizeof(*head));
	struct http_head *again = head + 1;
	struct buf body = BUF_EMPTY;
	struct buf body_again = BUF_EMPTY;
	struct buf out = BUF_EMPTY;

	CHECK(head);
	if (n && parse_whole(kind, bytes, n, head, &body) == HTTP_DONE && head->nheaders < HTTP_HEADERS_MAX) {
		write_anew(&out, kind, head, &body);
		CHECK(!out.failed);
		/* What is added may take a head that was just within its bound beyond it. */
		if (out.len - body.len <= HTTP_HEAD_MAX_BYTES) {
			CHECK(parse_whole(kind, out.mem, out.len, again, &body_again) == HTTP_DONE);
			CHECK(str_eq(buf_str(&body), buf_str(&body_again)));
			CHECK(str_eq(head->method_text, again->method_text) && str_eq(head->target, again->target));
			CHECK(head->status == again->status && head->upgrade_websocket <= again->upgrade_websocket);
			check_same_headers(head, again);
			check_fixed_point(kind, &out, again, &body_again);
		}
	}
	buf_fini(&body);
	buf_fini(&body_again);
	buf_fini(&out);
	free(head);
}

enum property_verdict http_property_check(llhttp_type_t kind, const char *bytes, size_t n)
{
	struct buf understood = BUF_EMPTY;
	enum property_verdict verdict = http_property_run(kind, bytes, n, 0, &understood);
	size_t step = 2;

	/* One more cut, which the input itself chooses. */
	for (size_t i = 0; i < n; i++)
		step = step * 31 + (unsigned char)bytes[i];
	if (n > 2)
		check_cut(kind, bytes, n, 2 + step % (n - 2), verdict, &understood);
	if (n <= BYTEWISE_MAX_BYTES)
		check_cut(kind, bytes, n, 1, verdict, &understood);
	buf_fini(&understood);
	check_rewrite(kind, bytes, n);
	return verdict;
}
