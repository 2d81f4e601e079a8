/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http_parse against exact bytes: the rows P1 to P27 of the project's threat list, responses, bounds and ends of
 * connections. Every vector also goes through the fuzz property, which cuts it at every byte.
 */
#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/buf.h"
#include "common/http_parse.h"
#include "http_property.h"

#define HOST    "Host: a\r\n"
#define GET     "GET /api/v1/x HTTP/1.1\r\n" HOST
#define POST    "POST /api/v1/x HTTP/1.1\r\n" HOST
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define OK      "HTTP/1.1 200 OK\r\n"

struct vector {
	const char *id;
	struct str bytes;
	unsigned status; /* what refuses it */
};

#define V(id, literal, status)                                                                                         \
	{                                                                                                              \
		id, {literal, sizeof(literal) - 1}, status                                                             \
	}

static const struct vector refused_requests[] = {
	V("P1 CL then TE", POST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	V("P1 TE then CL", POST "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400),
	V("P2 two CL, the same", POST "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
	V("P2 two CL, different", POST "Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde", 400),
	V("P2 CL list", POST "Content-Length: 3, 3\r\n\r\nabc", 400),
	V("P3 +3", POST "Content-Length: +3\r\n\r\nabc", 400),
	V("P3 -1", POST "Content-Length: -1\r\n\r\nabc", 400),
	V("P3 0x3", POST "Content-Length: 0x3\r\n\r\nabc", 400),
	V("P3 empty", POST "Content-Length: \r\n\r\nabc", 400),
	V("P3 nothing at all", POST "Content-Length:\r\n\r\nabc", 400),
	V("P3 TAB behind", POST "Content-Length: 3\t\r\n\r\nabc", 400),
	V("P3 TAB and spaces behind", POST "Content-Length: 3 \t \r\n\r\nabc", 400),
	V("P3 2^64+1", POST "Content-Length: 18446744073709551617\r\n\r\nabc", 400),
	V("P3 2^63", POST "Content-Length: 9223372036854775808\r\n\r\nabc", 400),
	V("P3 two numbers", POST "Content-Length: 3 3\r\n\r\nabc", 400),
	V("P3 fraction", POST "Content-Length: 3.0\r\n\r\nabc", 400),
	V("P3 quoted", POST "Content-Length: \"3\"\r\n\r\nabc", 400),
	V("P4 space before colon, CL", POST "Content-Length : 3\r\n\r\nabc", 400),
	V("P4 tab before colon, CL", POST "Content-Length\t: 3\r\n\r\nabc", 400),
	V("P4 space before colon, TE", POST "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
	V("P5 xchunked", POST "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
	V("P5 chunked, identity", POST "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
	V("P5 identity", POST "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 501),
	V("P5 twice", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	V("P5 twice, one other", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n", 400),
	V("P5 ,chunked", POST "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n", 501),
	V("P5 gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
	V("P5 chunked with a parameter", POST "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n", 501),
	V("P5 empty", POST "Transfer-Encoding:\r\n\r\n0\r\n\r\n", 501),
	V("P5 vertical tab before",
	  POST "Transfer-Encoding: \x0b"
	       "chunked\r\n\r\n0\r\n\r\n",
	  400),
	V("P5 vertical tab behind", POST "Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n", 400),
	V("P6 folded TE", POST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", 400),
	V("P6 TE on HTTP/1.0", "POST /x HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
	V("P7 0x1", CHUNKED "0x1\r\na\r\n0\r\n\r\n", 400),
	V("P7 +1", CHUNKED "+1\r\na\r\n0\r\n\r\n", 400),
	V("P7 -1", CHUNKED "-1\r\na\r\n0\r\n\r\n", 400),
	V("P7 overflow", CHUNKED "10000000000000001\r\na\r\n0\r\n\r\n", 400),
	V("P7 bare LF behind the size", CHUNKED "1\na\r\n0\r\n\r\n", 400),
	V("P7 bare CR behind the size", CHUNKED "1\ra\r\n0\r\n\r\n", 400),
	V("P7 bare LF behind the data", CHUNKED "1\r\na\n0\r\n\r\n", 400),
	V("P7 space before", CHUNKED " 1\r\na\r\n0\r\n\r\n", 400),
	V("P7 empty size", CHUNKED "\r\na\r\n0\r\n\r\n", 400),
	V("P7 only an extension", CHUNKED ";x\r\na\r\n0\r\n\r\n", 400),
	V("P7 spill", CHUNKED "1\r\nab\r\n0\r\n\r\n", 400),
	V("P7 no semicolon", CHUNKED "1x\r\na\r\n0\r\n\r\n", 400),
	V("P7 last chunk 0x0", CHUNKED "1\r\na\r\n0x0\r\n\r\n", 400),
	V("P7 LF in the extension", CHUNKED "1;x\na\r\n0\r\n\r\n", 400),
	V("P7 CR in the extension", CHUNKED "1;x\ry\r\na\r\n0\r\n\r\n", 400),
	V("P7 bare LF at the end", CHUNKED "1\r\na\r\n0\r\n\n", 400),
	V("P7 bare CR at the end", CHUNKED "1\r\na\r\n0\r\n\rx", 400),
	V("P20 trailer ended by LF", CHUNKED "0\r\nX: a\n\r\n", 400),
	V("P20 folded trailer", CHUNKED "0\r\nX: a\r\n b\r\n\r\n", 400),
	V("P20 trailer with CR", CHUNKED "0\r\nX: a\rb\r\n\r\n", 400),
	V("P20 trailer without a colon", CHUNKED "0\r\nX\r\n\r\n", 400),
	V("P20 trailer without a name", CHUNKED "0\r\n: x\r\n\r\n", 400),
	V("P20 space behind a trailer's name", CHUNKED "0\r\nX : a\r\n\r\n", 400),
	V("P20 NUL in a trailer", CHUNKED "0\r\nX: \0\r\n\r\n", 400),
	V("P9 LF only", "GET /x HTTP/1.1\nHost: a\n\n", 400),
	V("P9 LF behind one header", GET "X: 1\nY: 2\r\n\r\n", 400),
	V("P9 LF as the empty line", GET "\n", 400),
	V("P9 CR only", "GET /x HTTP/1.1\rHost: a\r\r", 400),
	V("P9 CR in a value", GET "X: a\rY: b\r\n\r\n", 400),
	V("P9 CR CR LF", GET "X: a\r\r\n\r\n", 400),
	V("P9 CR within the request line", "GET /x\r HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P10 CRLF CR X", "GET /x HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", 400),
	V("P11 fold by space", GET "X: a\r\n b\r\n\r\n", 400),
	V("P11 fold by tab", GET "X: a\r\n\tb\r\n\r\n", 400),
	V("P11 fold of nothing", GET "X: a\r\n \r\n\r\n", 400),
	V("P11 space before the first header", "GET /x HTTP/1.1\r\n Host: a\r\n\r\n", 400),
	V("P12 NUL in a name", GET "X\0Y: a\r\n\r\n", 400),
	V("P12 NUL in a value", GET "X: a\0b\r\n\r\n", 400),
	V("P12 NUL in the request line", "GET /x\0 HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P12 8-bit name", GET "X\xe4: a\r\n\r\n", 400),
	V("P12 empty name", GET ": a\r\n\r\n", 400),
	V("P12 no colon", GET "X\r\n\r\n", 400),
	V("P12 name with a space", GET "X Y: a\r\n\r\n", 400),
	V("P12 control byte in a value", GET "X: a\x01\r\n\r\n", 400),
	V("P12 DEL in a value", GET "X: a\x7f\r\n\r\n", 400),
	V("P13 0.9", "GET /x\r\n\r\n", 400),
	V("P13 HTTP/0.9", "GET /x HTTP/0.9\r\n" HOST "\r\n", 505),
	V("P13 HTTP/2.0", "GET /x HTTP/2.0\r\n" HOST "\r\n", 505),
	V("P13 HTTP/1.2", "GET /x HTTP/1.2\r\n" HOST "\r\n", 505),
	V("P13 HTTP/1.10", "GET /x HTTP/1.10\r\n" HOST "\r\n", 505),
	V("P13 HTTP/1", "GET /x HTTP/1\r\n" HOST "\r\n", 505),
	V("P13 http/1.1", "GET /x http/1.1\r\n" HOST "\r\n", 400),
	V("P13 ICE/1.0", "GET /x ICE/1.0\r\n" HOST "\r\n", 400),
	V("P13 two spaces before the target", "GET  /x HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 two spaces behind the target", "GET /x  HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 space behind the version", "GET /x HTTP/1.1 \r\n" HOST "\r\n", 400),
	V("P13 space before the method", " GET /x HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 tab", "GET\t/x HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 lower case", "get /x HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 digits in the method", "GE7 /x HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 unknown method", "BREW /x HTTP/1.1\r\n" HOST "\r\n", 405),
	V("P13 an empty line first", "\r\nGET /x HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P13 no target", "GET HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P17 unknown expectation", POST "Expect: 200-maybe\r\nContent-Length: 1\r\n\r\na", 417),
	V("P17 two expectations", POST "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
	  417),
	V("P19 h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
	V("P19 TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", 400),
	V("P21 NUL in the target", "GET /a\0b HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P21 8-bit in the target", "GET /\xc3\xa4 HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P21 fragment", "GET /x#y HTTP/1.1\r\n" HOST "\r\n", 400),
	V("P21 DEL", "GET /x\x7f HTTP/1.1\r\n" HOST "\r\n", 400),
	V("U8 CONNECT", "CONNECT a:80 HTTP/1.1\r\n" HOST "\r\n", 405),
	V("U8 TRACE", "TRACE /x HTTP/1.1\r\n" HOST "\r\n", 405),
	V("U9 no Host", "GET /x HTTP/1.1\r\n\r\n", 400),
	V("U9 empty Host", "GET /x HTTP/1.1\r\nHost:\r\n\r\n", 400),
	V("U9 two Hosts", "GET /x HTTP/1.1\r\n" HOST HOST "\r\n", 400),
	V("U9 user information", "GET /x HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
	V("U9 path in Host", "GET /x HTTP/1.1\r\nHost: stacygated/evil?\r\n\r\n", 400),
	V("U9 list in Host", "GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
};

static const struct vector refused_responses[] = {
	V("F8 differing lengths", OK "Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", 502),
	V("F8 list", OK "Content-Length: 2, 2\r\n\r\nab", 502),
	V("F8 negative", OK "Content-Length: -2\r\n\r\nab", 502),
	V("F8 +2", OK "Content-Length: +2\r\n\r\nab", 502),
	V("F9 both", OK "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
	V("F10 gzip", OK "Transfer-Encoding: gzip\r\n\r\n", 502),
	V("F10 HTTP/0.9", "hello\r\n\r\n", 502),
	V("F10 four digits", "HTTP/1.1 2000 OK\r\n\r\n", 502),
	V("F10 two digits", "HTTP/1.1 20 OK\r\n\r\n", 502),
	V("F10 status 099", "HTTP/1.1 099 X\r\n\r\n", 502),
	V("F10 status 600", "HTTP/1.1 600 X\r\n\r\n", 502),
	V("F10 HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", 502),
	V("F10 two spaces", "HTTP/1.1  200 OK\r\n\r\n", 502),
	V("F10 TE on 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
	V("H9 bare CR", OK "X: a\rY: b\r\n\r\n", 502),
	V("H9 NUL", OK "X: a\0b\r\n\r\n", 502),
	V("F10 letters in the status", "HTTP/1.1 2xx OK\r\n\r\n", 502),
	V("F10 TE twice", OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 502),
	V("control byte in a header", OK "X: \x01\r\n\r\n", 502),
	V("8-bit byte in a name", OK "X\xe4: a\r\n\r\n", 502),
	V("bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", 502),
	V("folded", OK "X: a\r\n b\r\n\r\n", 502),
	V("chunk size 0x1", OK "Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 502),
	V("chunk spill", OK "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 502),
};

/* What came of one message that is handed over whole. */
struct outcome {
	enum http_result result;
	unsigned status;
	size_t used; /* bytes of the message, when complete */
	struct http_head head;
	struct buf body;
};

static void add_data(void *arg, const char *p, size_t n)
{
	buf_add(arg, p, n);
}

static struct outcome *parse(llhttp_type_t kind, struct str bytes)
{
	struct outcome *o = calloc(1, sizeof(*o));
	struct http_parser parser;
	size_t head_bytes = 0;
	size_t used = 0;

	cr_assert(o);
	http_parser_init(&parser, kind);
	o->result = http_parse_head(&parser, bytes.p, bytes.n, &o->head, &head_bytes);
	if (o->result == HTTP_DONE)
		o->result =
			http_parse_body(&parser, bytes.p + head_bytes, bytes.n - head_bytes, &used, add_data, &o->body);
	o->status = parser.status;
	o->used = head_bytes + used;
	return o;
}

static void outcome_free(struct outcome *o)
{
	buf_fini(&o->body);
	free(o);
}

static void assert_refused(llhttp_type_t kind, const struct vector *v)
{
	struct outcome *o = parse(kind, v->bytes);

	cr_expect_eq(o->result, HTTP_BAD, "%s: not refused", v->id);
	cr_expect_eq(o->status, v->status, "%s: status %u, not %u", v->id, o->status, v->status);
	cr_expect_eq(http_property_check(kind, v->bytes.p, v->bytes.n), PROPERTY_REFUSED, "%s: not in pieces", v->id);
	outcome_free(o);
}

/* Malformed and ambiguous requests are refused with the right status, however they are cut. */
Test(common_http_parse, refused_requests)
{
	for (size_t i = 0; i < sizeof(refused_requests) / sizeof(refused_requests[0]); i++)
		assert_refused(HTTP_REQUEST, &refused_requests[i]);
}

/* Malformed and ambiguous responses are a bad gateway, however they are cut. */
Test(common_http_parse, refused_responses)
{
	for (size_t i = 0; i < sizeof(refused_responses) / sizeof(refused_responses[0]); i++)
		assert_refused(HTTP_RESPONSE, &refused_responses[i]);
}

/*
 * llhttp is not asked about most heads: whatever single byte of one is changed, and wherever one is put in, the head is
 * refused or read by both alike, which the property checks.
 */
Test(common_http_parse, read_like_llhttp)
{
	static const struct {
		llhttp_type_t kind;
		struct str bytes;
	} heads[] = {
		{HTTP_REQUEST,
		 STR("GET /a/b?c=d HTTP/1.1\r\nHost: a:80\r\nConnection: close, upgrade\r\nUpgrade: websocket\r\n"
		     "Content-Length: 12\r\nProxy-Connection: x\r\nA:\r\nB: \tc \r\n\r\n")},
		{HTTP_REQUEST, STR("DELETE http://a/b HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\nConnection: "
				   "keep-alive\r\n\r\n")},
		{HTTP_REQUEST,
		 STR("OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n")},
		{HTTP_RESPONSE,
		 STR("HTTP/1.1 200 OK fine\r\nContent-Length: 12\r\nConnection: close\r\nUpgrade: h2c\r\nX:y\r\n\r\n")},
		{HTTP_RESPONSE, STR("HTTP/1.1 101\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")},
		{HTTP_RESPONSE, STR("HTTP/1.0 304 \r\nTransfer-Encoding: chunked\r\nContent-Type: a/b; c\r\n\r\n")},
	};

	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++) {
		struct str head = heads[i].bytes;
		unsigned waits = 0;
		for (size_t at = 0; at < 2 * head.n; at++) {
			for (int c = 0; c < 256; c++) {
				struct buf changed = BUF_EMPTY, understood = BUF_EMPTY;
				/* In the place of a byte, then before it. */
				buf_add(&changed, head.p, at / 2);
				buf_add_char(&changed, (char)c);
				buf_add(&changed, head.p + at / 2 + (at % 2 == 0), head.n - at / 2 - (at % 2 == 0));
				waits += http_property_run(heads[i].kind, changed.mem, changed.len, 0, &understood) !=
					 PROPERTY_REFUSED;
				buf_fini(&changed);
				buf_fini(&understood);
			}
		}
		cr_expect_gt(waits, 256, "head %zu is never accepted", i);
	}
}

static bool is_token_byte(int c)
{
	return c && (strchr("!#$%&'*+-.^_`|~", c) || (c < 0x80 && isalnum(c)));
}

/* Any byte at any place of a header line: a name takes tokens only, a value all but control bytes. */
Test(common_http_parse, every_byte_of_a_header)
{
	enum {
		NAME = 20,
		VALUE = 39
	};
	char text[] = GET "Abcdefghij-lmnopqrst: abcdefghijklmnopqrstuvwxyz0123456789.,;\r\nUser: x\r\n\r\n";
	size_t at = sizeof(GET) - 1;

	for (size_t i = 0; i < NAME + 2 + VALUE; i++) {
		char before = text[at + i];
		/* The colon, and the space behind it, are neither. */
		if (i == NAME || i == NAME + 1)
			continue;
		for (int c = 0; c < 256; c++) {
			bool in_name = i < NAME;
			bool good =
				in_name ? is_token_byte(c) || (c == ':' && i) : (c >= 0x20 && c != 0x7f) || c == '\t';
			text[at + i] = (char)c;
			struct outcome *o = parse(HTTP_REQUEST, str_of(text, sizeof(text) - 1));
			cr_expect_eq(o->result, good ? HTTP_DONE : HTTP_BAD, "byte %d at %zu", c, i);
			if (good && c != ':')
				cr_expect(str_eq(o->head.headers[1].name, str_of(text + at, NAME)), "byte %d at %zu", c,
					  i);
			outcome_free(o);
		}
		text[at + i] = before;
	}
}

/* A message cut anywhere is waited for: no prefix of a good one is refused or taken as complete. */
static void assert_every_prefix_waits(llhttp_type_t kind, struct str bytes, size_t whole)
{
	for (size_t n = 1; n < whole; n++)
		cr_assert_eq(http_property_check(kind, bytes.p, n), PROPERTY_WAITS, "prefix of %zu bytes", n);
}

struct accepted {
	const char *id;
	struct str bytes; /* one message, perhaps with more behind it */
	size_t behind;    /* bytes that are not part of it */
	enum http_framing framing;
	struct str body;
	bool keep_alive;
};

#define A(id, literal, behind, framing, body, keep)                                                                    \
	{                                                                                                              \
		id, {literal, sizeof(literal) - 1}, behind, framing, {body, sizeof(body) - 1}, keep                    \
	}

static const struct accepted accepted_requests[] = {
	A("no body", GET "\r\n", 0, HTTP_BODY_NONE, "", true),
	A("length 0", POST "Content-Length: 0\r\n\r\n", 0, HTTP_BODY_LENGTH, "", true),
	A("length", POST "Content-Length: 3\r\n\r\nabc", 0, HTTP_BODY_LENGTH, "abc", true),
	A("leading zeros", POST "Content-Length: 003\r\n\r\nabc", 0, HTTP_BODY_LENGTH, "abc", true),
	A("bytes behind", POST "Content-Length: 3\r\n\r\nabcGET", 3, HTTP_BODY_LENGTH, "abc", true),
	A("chunked", CHUNKED "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 0, HTTP_BODY_CHUNKED, "abcde", true),
	A("chunked, nothing", CHUNKED "0\r\n\r\n", 0, HTTP_BODY_CHUNKED, "", true),
	A("chunked, case", POST "tRANSFER-eNCODING: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n", 0, HTTP_BODY_CHUNKED, "a",
	  true),
	A("chunked, zeros", CHUNKED "0001\r\na\r\n000\r\n\r\n", 0, HTTP_BODY_CHUNKED, "a", true),
	A("chunked, hex", CHUNKED "A\r\n0123456789\r\n0\r\n\r\n", 0, HTTP_BODY_CHUNKED, "0123456789", true),
	A("P8 extension", CHUNKED "1;a=b\r\na\r\n0;c\r\n\r\n", 0, HTTP_BODY_CHUNKED, "a", true),
	A("P14 hidden request", GET "Content-Length: 27\r\n\r\nGET /admin HTTP/1.1\r\nX: y\r\n\r\n", 2,
	  HTTP_BODY_LENGTH, "GET /admin HTTP/1.1\r\nX: y\r\n", true),
	A("P16 close", GET "Connection: close\r\n\r\nGET /y HTTP/1.1\r\n", 17, HTTP_BODY_NONE, "", false),
	A("P18 length named by Connection", POST "Connection: Content-Length\r\nContent-Length: 1\r\n\r\na", 0,
	  HTTP_BODY_LENGTH, "a", true),
	A("P20 trailers", CHUNKED "1\r\na\r\n0\r\nX-API-Key: k\r\nX-User-Id: u\r\n\r\n", 0, HTTP_BODY_CHUNKED, "a",
	  true),
	A("close in a list", GET "Connection: x, Close\r\n\r\n", 0, HTTP_BODY_NONE, "", false),
	A("1.0", "GET /x HTTP/1.0\r\n\r\n", 0, HTTP_BODY_NONE, "", false),
	A("1.0 kept", "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 0, HTTP_BODY_NONE, "", true),
	A("close beats keep-alive", GET "Connection: keep-alive, close\r\n\r\n", 0, HTTP_BODY_NONE, "", false),
};

/* Well-formed requests: framing, body, what is behind them, and every prefix waits. */
Test(common_http_parse, accepted_requests)
{
	for (size_t i = 0; i < sizeof(accepted_requests) / sizeof(accepted_requests[0]); i++) {
		const struct accepted *a = &accepted_requests[i];
		struct outcome *o = parse(HTTP_REQUEST, a->bytes);
		cr_assert_eq(o->result, HTTP_DONE, "%s: not accepted", a->id);
		cr_expect_eq(o->used, a->bytes.n - a->behind, "%s: %zu bytes used", a->id, o->used);
		cr_expect_eq(o->head.framing, a->framing, "%s: framing", a->id);
		cr_expect(str_eq(buf_str(&o->body), a->body), "%s: body", a->id);
		cr_expect_eq(o->head.keep_alive, a->keep_alive, "%s: keep-alive", a->id);
		assert_every_prefix_waits(HTTP_REQUEST, a->bytes, o->used);
		cr_expect_eq(http_property_check(HTTP_REQUEST, a->bytes.p, o->used), PROPERTY_WHOLE, "%s", a->id);
		outcome_free(o);
	}
}

static const struct accepted accepted_responses[] = {
	A("length", OK "Content-Length: 2\r\n\r\nab", 0, HTTP_BODY_LENGTH, "ab", true),
	A("chunked", OK "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", 0, HTTP_BODY_CHUNKED, "ab", true),
	A("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", 0, HTTP_BODY_NONE, "", true),
	A("204 chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 0, HTTP_BODY_NONE, "", true),
	A("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 0, HTTP_BODY_NONE, "", true),
	A("100", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1", 8, HTTP_BODY_NONE, "", true),
	A("101", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nraw", 3,
	  HTTP_BODY_NONE, "", true),
	A("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 0, HTTP_BODY_LENGTH, "", true),
	A("no reason, no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", 0, HTTP_BODY_LENGTH, "", true),
	A("close", OK "Connection: close\r\nContent-Length: 0\r\n\r\n", 0, HTTP_BODY_LENGTH, "", false),
	A("1.0 closes", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", 0, HTTP_BODY_LENGTH, "a", false),
};

/* Well-formed responses: framing, body, what is behind them. */
Test(common_http_parse, accepted_responses)
{
	for (size_t i = 0; i < sizeof(accepted_responses) / sizeof(accepted_responses[0]); i++) {
		const struct accepted *a = &accepted_responses[i];
		struct outcome *o = parse(HTTP_RESPONSE, a->bytes);
		cr_assert_eq(o->result, HTTP_DONE, "%s: not accepted", a->id);
		cr_expect_eq(o->used, a->bytes.n - a->behind, "%s: %zu bytes used", a->id, o->used);
		cr_expect_eq(o->head.framing, a->framing, "%s: framing", a->id);
		cr_expect(str_eq(buf_str(&o->body), a->body), "%s: body", a->id);
		cr_expect_eq(o->head.keep_alive, a->keep_alive, "%s: keep-alive", a->id);
		assert_every_prefix_waits(HTTP_RESPONSE, a->bytes, o->used);
		outcome_free(o);
	}
}

/* What a head says is reported as it was sent, spans pointing into the bytes given. */
Test(common_http_parse, head_as_sent)
{
	const struct str raw = STR("DELETE /api/v1/sandboxes/sb-1?x=/../a&y=%2e HTTP/1.1\r\n"
				   "hOsT:  [::1]:80 \t\r\nX-Empty:\r\nX-Colon: a:b: c\r\nX-High: \xc3\xa4\r\n"
				   "Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n");
	struct outcome *o = parse(HTTP_REQUEST, raw);

	cr_assert_eq(o->result, HTTP_DONE);
	cr_expect_eq(o->head.method, METHOD_DELETE);
	cr_expect(str_eq(o->head.target, STR("/api/v1/sandboxes/sb-1?x=/../a&y=%2e")));
	cr_expect_eq(o->head.target.p, raw.p + 7);
	cr_expect(str_eq(o->head.host, STR("[::1]:80")));
	cr_expect_eq(o->head.minor, 1);
	cr_expect(o->head.upgrade_websocket);
	cr_expect_not(o->head.expect_continue);
	cr_expect_eq(o->head.nheaders, 6);
	cr_expect(str_eq(o->head.headers[0].name, STR("hOsT")));
	cr_expect_eq(o->head.headers[1].value.n, 0);
	cr_expect(str_eq(http_head_find(&o->head, STR("x-colon"))->value, STR("a:b: c")));
	cr_expect(str_eq(http_head_find(&o->head, STR("X-HIGH"))->value, STR("\xc3\xa4")));
	cr_expect_null(http_head_find(&o->head, STR("x")));
	outcome_free(o);
}

/* The seven methods are told apart. */
Test(common_http_parse, methods)
{
	static const struct {
		const char *text;
		enum http_method method;
	} known[] = {{"GET", METHOD_GET},        {"HEAD", METHOD_HEAD},     {"POST", METHOD_POST},
		     {"PUT", METHOD_PUT},        {"DELETE", METHOD_DELETE}, {"PATCH", METHOD_PATCH},
		     {"OPTIONS", METHOD_OPTIONS}};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		struct buf raw = BUF_EMPTY;
		buf_addf(&raw, "%s * HTTP/1.1\r\n" HOST "\r\n", known[i].text);
		struct outcome *o = parse(HTTP_REQUEST, buf_str(&raw));
		/* llhttp knows which methods may have the asterisk; only OPTIONS needs it. */
		if (o->result == HTTP_DONE)
			cr_expect_eq(o->head.method, known[i].method, "%s", known[i].text);
		outcome_free(o);
		buf_reset(&raw);
		buf_addf(&raw, "%s /x HTTP/1.1\r\n" HOST "\r\n", known[i].text);
		o = parse(HTTP_REQUEST, buf_str(&raw));
		cr_assert_eq(o->result, HTTP_DONE, "%s", known[i].text);
		cr_expect_eq(o->head.method, known[i].method, "%s", known[i].text);
		cr_expect(str_eq(o->head.method_text, str_from(known[i].text)));
		outcome_free(o);
		buf_fini(&raw);
	}
}

/* P17: 100-continue is seen, in any case; HTTP/1.0 does not know it (RFC 9110 10.1.1). */
Test(common_http_parse, expect_continue)
{
	struct outcome *o = parse(HTTP_REQUEST, STR(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"));

	cr_expect_eq(o->result, HTTP_MORE);
	cr_expect(o->head.expect_continue);
	outcome_free(o);
	o = parse(HTTP_REQUEST, STR("POST /x HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na"));
	cr_expect_eq(o->result, HTTP_DONE);
	cr_expect_not(o->head.expect_continue);
	outcome_free(o);
}

/* P23: only one plain `Upgrade: websocket` that Connection names is one; bytes behind stay outside the message. */
Test(common_http_parse, upgrades)
{
	static const struct {
		struct str headers;
		bool websocket;
	} cases[] = {
		{STR("Upgrade: websocket\r\nConnection: upgrade\r\n"), true},
		{STR("Upgrade: websocket\r\n"), false},
		{STR("Upgrade: websocket\r\nConnection: close\r\n"), false},
		{STR("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n"), false},
		{STR("Upgrade: websocket, h2c\r\nConnection: upgrade\r\n"), false},
		{STR("Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: upgrade\r\n"), false},
		{STR("Upgrade: h2c\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"), false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct buf raw = BUF_EMPTY;
		buf_add_str(&raw, STR(GET));
		buf_add_str(&raw, cases[i].headers);
		buf_add_str(&raw, STR("Content-Length: 2\r\n\r\nabGET /smuggled HTTP/1.1\r\n"));
		struct outcome *o = parse(HTTP_REQUEST, buf_str(&raw));
		cr_expect_eq(o->result, HTTP_DONE, "case %zu", i);
		cr_expect_eq(o->head.upgrade_websocket, cases[i].websocket, "case %zu", i);
		cr_expect(str_eq(buf_str(&o->body), STR("ab")), "case %zu", i);
		outcome_free(o);
		buf_fini(&raw);
	}
}

static void assert_result(llhttp_type_t kind, const struct buf *raw, enum http_result result, unsigned status,
			  const char *what)
{
	struct outcome *o = parse(kind, buf_str(raw));

	cr_assert_not(raw->failed);
	cr_expect_eq(o->result, result, "%s: result %d", what, (int)o->result);
	if (result == HTTP_BAD)
		cr_expect_eq(o->status, status, "%s: status %u", what, o->status);
	outcome_free(o);
}

static void fill(struct buf *b, char c, size_t n)
{
	while (n--)
		buf_add_char(b, c);
}

static void set(struct buf *b, const char *before, char c, size_t n, const char *behind)
{
	buf_reset(b);
	buf_add_cstr(b, before);
	fill(b, c, n);
	buf_add_cstr(b, behind);
}

/* P25: line, target, header, head and count are bounded; the last that fits passes, one more does not. */
Test(common_http_parse, head_bounds)
{
	struct buf raw = BUF_EMPTY;

	set(&raw, "GET /", 'a', HTTP_TARGET_MAX_BYTES - 1, " HTTP/1.1\r\n" HOST "\r\n");
	assert_result(HTTP_REQUEST, &raw, HTTP_DONE, 0, "longest target");
	set(&raw, "GET /", 'a', HTTP_TARGET_MAX_BYTES, " HTTP/1.1\r\n" HOST "\r\n");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 414, "target one too long");
	set(&raw, "GET /", 'a', 100000, "");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 414, "100 KB of target");
	set(&raw, "", 'A', 8500, "");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 414, "8.5 KB of method");
	set(&raw, GET "X: ", 'a', 100000, "\r\n\r\n");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 431, "100 KB of value");
	set(&raw, GET, 'a', 100000, ": x\r\n\r\n");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 431, "100 KB of name");
	set(&raw, GET "X: ", 'a', HTTP_HEAD_MAX_BYTES - sizeof(GET "X: \r\n\r\n") + 1, "\r\n\r\n");
	cr_assert_eq(raw.len, HTTP_HEAD_MAX_BYTES);
	assert_result(HTTP_REQUEST, &raw, HTTP_DONE, 0, "largest head");
	set(&raw, GET "X: ", 'a', HTTP_HEAD_MAX_BYTES - sizeof(GET "X: \r\n\r\n") + 2, "\r\n\r\n");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 431, "head one too large");
	set(&raw, OK "X: ", 'a', 100000, "");
	assert_result(HTTP_RESPONSE, &raw, HTTP_BAD, 502, "100 KB in a response");
	set(&raw, "HTTP/1.1 200 ", 'a', 100000, "");
	assert_result(HTTP_RESPONSE, &raw, HTTP_BAD, 502, "100 KB of reason");
	set(&raw, "", 'Z', 1000000, "");
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 414, "1 MB of garbage");
	buf_fini(&raw);
}

static void set_lines(struct buf *b, const char *first, unsigned n)
{
	buf_reset(b);
	buf_add_cstr(b, first);
	while (n--)
		buf_add_cstr(b, "a:b\r\n");
	buf_add_cstr(b, "\r\n");
}

/* P25: as many header lines as there is room for, and not one more. */
Test(common_http_parse, header_count)
{
	struct buf raw = BUF_EMPTY;

	set_lines(&raw, GET, HTTP_HEADERS_MAX - 1);
	assert_result(HTTP_REQUEST, &raw, HTTP_DONE, 0, "as many as fit");
	set_lines(&raw, GET, HTTP_HEADERS_MAX);
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 431, "one too many");
	set_lines(&raw, GET, 5000);
	assert_result(HTTP_REQUEST, &raw, HTTP_BAD, 431, "5000");
	set_lines(&raw, OK, HTTP_HEADERS_MAX + 1);
	assert_result(HTTP_RESPONSE, &raw, HTTP_BAD, 502, "one too many in a response");
	buf_fini(&raw);
}

/* The verdict on a bound is the same in one piece and byte by byte (P24, P27). */
static void assert_bound(const struct buf *raw, enum http_result result, const char *what)
{
	static const enum property_verdict verdict_of[] = {
		[HTTP_MORE] = PROPERTY_WAITS, [HTTP_DONE] = PROPERTY_WHOLE, [HTTP_BAD] = PROPERTY_REFUSED};
	static const size_t steps[] = {0, 1, 7, 4096};

	assert_result(HTTP_REQUEST, raw, result, 400, what);
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct buf seen = BUF_EMPTY;
		cr_expect_eq(http_property_run(HTTP_REQUEST, raw->mem, raw->len, steps[i], &seen), verdict_of[result],
			     "%s, %zu bytes at a time", what, steps[i]);
		buf_fini(&seen);
	}
}

/* P24: chunk lines and trailers are bounded, wherever they stand and however they arrive. */
Test(common_http_parse, chunk_bounds)
{
	struct buf raw = BUF_EMPTY;

	set(&raw, CHUNKED "1;", 'x', HTTP_CHUNK_LINE_MAX_BYTES - 4, "\r\na\r\n0\r\n\r\n");
	assert_bound(&raw, HTTP_DONE, "longest first chunk line");
	set(&raw, CHUNKED "1;", 'x', HTTP_CHUNK_LINE_MAX_BYTES - 3, "\r\na\r\n0\r\n\r\n");
	assert_bound(&raw, HTTP_BAD, "first chunk line one too long");
	set(&raw, CHUNKED "1;", 'x', 100000, "");
	assert_bound(&raw, HTTP_BAD, "endless extension");
	set(&raw, CHUNKED "", '0', 100000, "");
	assert_bound(&raw, HTTP_BAD, "endless size");
	set(&raw, CHUNKED "1\r\na\r\n0;", 'x', 3000, "\r\n\r\n");
	assert_bound(&raw, HTTP_DONE, "extension of the last chunk");
	set(&raw, CHUNKED "1\r\na\r\n0;", 'x', 5000, "\r\n\r\n");
	assert_bound(&raw, HTTP_BAD, "extension of the last chunk too long");
	set(&raw, CHUNKED "0\r\nX: ", 'x', 8000, "\r\n\r\n");
	assert_bound(&raw, HTTP_DONE, "trailers of 8 KB");
	set(&raw, CHUNKED "0\r\nX: ", 'x', 8300, "\r\n\r\n");
	assert_bound(&raw, HTTP_BAD, "trailers too long");
	set(&raw, CHUNKED "0\r\nX: ", 'x', 100000, "");
	assert_bound(&raw, HTTP_BAD, "endless trailer");
	buf_fini(&raw);
}

/* The bound is of one chunk line, not of the sum of all: a body of many chunks passes. */
Test(common_http_parse, many_chunks)
{
	struct buf raw = BUF_EMPTY;

	buf_add_cstr(&raw, CHUNKED);
	for (unsigned i = 0; i < 5000; i++)
		buf_add_cstr(&raw, "1;ext=1\r\na\r\n");
	buf_add_cstr(&raw, "0\r\n\r\n");
	struct outcome *o = parse(HTTP_REQUEST, buf_str(&raw));
	cr_expect_eq(o->result, HTTP_DONE);
	cr_expect_eq(o->body.len, 5000);
	outcome_free(o);
	buf_fini(&raw);
}

/* P15: a parser that is begun anew takes the next message where the last one ended. */
Test(common_http_parse, pipelined)
{
	struct buf raw = BUF_EMPTY;
	struct http_parser parser;
	struct http_head head;
	size_t at = 0;

	for (unsigned i = 0; i < 1000; i++)
		buf_addf(&raw, "POST /x?n=%u HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n%c", i, 'a' + (int)(i % 26));
	for (unsigned i = 0; i < 1000; i++) {
		size_t head_bytes;
		size_t used;
		char target[32];
		struct buf body = BUF_EMPTY;
		snprintf(target, sizeof(target), "/x?n=%u", i);
		http_parser_init(&parser, HTTP_REQUEST);
		cr_assert_eq(http_parse_head(&parser, raw.mem + at, raw.len - at, &head, &head_bytes), HTTP_DONE);
		cr_assert(str_eq(head.target, str_from(target)));
		at += head_bytes;
		cr_assert_eq(http_parse_body(&parser, raw.mem + at, raw.len - at, &used, add_data, &body), HTTP_DONE);
		cr_assert_eq(used, 1);
		cr_assert_eq(body.mem[0], 'a' + (char)(i % 26));
		at += used;
		buf_fini(&body);
	}
	cr_expect_eq(at, raw.len);
	buf_fini(&raw);
}

static enum http_result eof_after(llhttp_type_t kind, struct str bytes)
{
	struct http_parser parser;
	struct http_head head;
	size_t head_bytes;
	size_t used;

	http_parser_init(&parser, kind);
	if (http_parse_head(&parser, bytes.p, bytes.n, &head, &head_bytes) == HTTP_DONE)
		(void)!http_parse_body(&parser, bytes.p + head_bytes, bytes.n - head_bytes, &used, NULL, NULL);
	return http_parse_eof(&parser);
}

/* P26, F4: a close ends only what ends with it; anything else is cut, and said to be. */
Test(common_http_parse, closed_by_the_sender)
{
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR(OK "\r\nsome")), HTTP_DONE, "until close");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR("HTTP/1.0 200 OK\r\n\r\n")), HTTP_DONE, "until close, empty");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR(OK "Content-Length: 2\r\n\r\nab")), HTTP_DONE, "complete");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR("HTTP/1.1 204 X\r\n\r\n")), HTTP_DONE, "bodiless");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR(OK "Content-Length: 2\r\n\r\na")), HTTP_BAD, "short of its length");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR(OK "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n")), HTTP_BAD,
		     "no last chunk");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR(OK "Transfer-Encoding: chunked\r\n\r\n0\r\n")), HTTP_BAD,
		     "no end of trailers");
	cr_expect_eq(eof_after(HTTP_RESPONSE, STR("HTTP/1.1 200")), HTTP_BAD, "within the head");
	cr_expect_eq(eof_after(HTTP_REQUEST, STR(POST "Content-Length: 2\r\n\r\na")), HTTP_BAD, "request, short");
	cr_expect_eq(eof_after(HTTP_REQUEST, STR(GET)), HTTP_BAD, "request, within the head");
	cr_expect_eq(eof_after(HTTP_REQUEST, STR(GET "\r\n")), HTTP_DONE, "request, complete");
}

/* The answer to HEAD has no body although it shows a length, and the next answer follows at once. */
Test(common_http_parse, answer_to_head)
{
	const struct str raw = STR(OK "Content-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\n");
	struct http_parser parser;
	struct http_head head;
	size_t head_bytes;
	size_t used;

	http_parser_init(&parser, HTTP_RESPONSE);
	cr_assert_eq(http_parse_head(&parser, raw.p, raw.n, &head, &head_bytes), HTTP_DONE);
	http_parser_no_body(&parser);
	cr_expect_eq(http_parse_body(&parser, raw.p + head_bytes, raw.n - head_bytes, &used, NULL, NULL), HTTP_DONE);
	cr_expect_eq(used, 0);
	cr_expect_eq(http_parse_eof(&parser), HTTP_DONE);
}

/* With a fault in the body, exactly the bytes before it count as agreed upon. */
Test(common_http_parse, used_before_a_fault)
{
	const struct str raw = STR(OK "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz");
	struct http_parser parser;
	struct http_head head;
	struct buf body = BUF_EMPTY;
	size_t head_bytes;
	size_t used;

	http_parser_init(&parser, HTTP_RESPONSE);
	cr_assert_eq(http_parse_head(&parser, raw.p, raw.n, &head, &head_bytes), HTTP_DONE);
	cr_expect_eq(http_parse_body(&parser, raw.p + head_bytes, raw.n - head_bytes, &used, add_data, &body),
		     HTTP_BAD);
	cr_expect_eq(used, 5, "3 bytes of chunk line and 2 of data, not %zu", used);
	cr_expect(str_eq(buf_str(&body), STR("ab")));
	cr_expect_eq(parser.status, 502);
	cr_expect_not_null(parser.why);
	buf_fini(&body);
}

/* Tokens are found in any line of a list-valued header, whole and without regard to case. */
Test(common_http_parse, tokens)
{
	struct outcome *o =
		parse(HTTP_REQUEST, STR(GET "Connection: a ,\tB\r\nX: c\r\nconnection:\r\nCONNECTION: d-e\r\n\r\n"));

	cr_assert_eq(o->result, HTTP_DONE);
	cr_expect(http_head_has_token(&o->head, STR("connection"), STR("A")));
	cr_expect(http_head_has_token(&o->head, STR("connection"), STR("b")));
	cr_expect(http_head_has_token(&o->head, STR("Connection"), STR("D-E")));
	cr_expect_not(http_head_has_token(&o->head, STR("connection"), STR("c")));
	cr_expect_not(http_head_has_token(&o->head, STR("connection"), STR("d")));
	outcome_free(o);
}

/* P22: white space behind `chunked` neither hangs nor changes the framing. */
Test(common_http_parse, space_behind_chunked)
{
	struct outcome *o = parse(HTTP_REQUEST, STR(POST "Transfer-Encoding: chunked \t\r\n\r\n1\r\na\r\n0\r\n\r\n"));

	cr_expect_neq(o->result, HTTP_MORE);
	if (o->result == HTTP_DONE)
		cr_expect(str_eq(buf_str(&o->body), STR("a")));
	outcome_free(o);
}

/* A response without a length hands on everything until the end, in whatever pieces it comes. */
Test(common_http_parse, body_until_close)
{
	const struct str raw = STR(OK "\r\nsome bytes");
	struct http_parser parser;
	struct http_head head;
	struct buf body = BUF_EMPTY;
	size_t head_bytes;
	size_t used;

	http_parser_init(&parser, HTTP_RESPONSE);
	cr_assert_eq(http_parse_head(&parser, raw.p, raw.n, &head, &head_bytes), HTTP_DONE);
	cr_expect_eq(head.framing, HTTP_BODY_UNTIL_CLOSE);
	cr_expect_not(head.keep_alive);
	cr_expect_eq(http_parse_body(&parser, NULL, 0, &used, add_data, &body), HTTP_MORE);
	for (const char *p = raw.p + head_bytes; p < raw.p + raw.n; p++) {
		cr_expect_eq(http_parse_body(&parser, p, 1, &used, add_data, &body), HTTP_MORE);
		cr_expect_eq(used, 1);
	}
	cr_expect(str_eq(buf_str(&body), STR("some bytes")));
	cr_expect_eq(http_parse_eof(&parser), HTTP_DONE);
	buf_fini(&body);
}

/* The head is looked through eight bytes at a time: every byte at every place, with and without a TAB before it. */
Test(common_http_parse, every_byte_at_every_place)
{
	static const char text[] = GET "X-Long: 0123456789abcdef0123456789\r\n\r\n";
	const size_t first = sizeof(GET "X-Long: ") - 1;
	const size_t last = sizeof(text) - 1 - 5;

	for (size_t at = first + 1; at < last; at++) {
		for (unsigned c = 0; c < 256; c++) {
			for (int tab = 0; tab < 2; tab++) {
				static struct http_head head;
				struct http_parser p;
				char bytes[sizeof(text)];
				size_t used;
				bool control = (c < 0x20 && c != '\t') || c == 0x7f;

				memcpy(bytes, text, sizeof(text));
				bytes[at] = (char)c;
				if (tab)
					bytes[at - 1] = '\t';
				http_parser_init(&p, HTTP_REQUEST);
				enum http_result rc = http_parse_head(&p, bytes, sizeof(text) - 1, &head, &used);
				if (rc != (control ? HTTP_BAD : HTTP_DONE))
					cr_assert_fail("0x%02x at %zu, tab %d: %d", c, at, tab, (int)rc);
			}
		}
	}
}
