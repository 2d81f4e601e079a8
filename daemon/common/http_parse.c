/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A head is first assembled and looked through as a whole: only CRLF ends lines, no folding, no NUL, bounded; after
 * that a line has one first colon, and the spans are cut there. Then it is judged: exactly one framing, one Host, known
 * versions and methods. What passes is so narrow that llhttp (strict) reads the same in it, which the fuzz property checks
 * of every head that is accepted. So llhttp is asked only where there is more to it: about a target that is not in origin
 * form, and about the head of a chunked body, which it has to go on with.
 *
 * Bodies with a length are counted here; chunked ones go through llhttp, whose chunk lines are bounded by what lies
 * between two spans of data. It is left behind the line of the last chunk: of the trailers it would take bare LFs, so they
 * are read here.
 *
 * Anything that is not certain is HTTP_BAD, and the connection it came on is not used again.
 */
#include "common/http_parse.h"

#include <errno.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "common/check.h"

static enum http_result refuse(struct http_parser *p, unsigned status, const char *why)
{
	p->status = status;
	p->why = why;
	return HTTP_BAD;
}

/* --- llhttp's callbacks ------------------------------------------------------------------------------------ */

static int cb_headers_complete(llhttp_t *ll)
{
	ll->upgrade = 0;
	return HPE_PAUSED;
}

static int cb_chunk_header(llhttp_t *ll)
{
	return ll->content_length == 0 ? HPE_PAUSED : 0;
}

/* Counts what lies between the last accounted byte and `at`; false when a chunk line is too long. */
static bool account(struct http_parser *p, const char *at)
{
	p->overhead += (size_t)(at - p->mark);
	p->mark = at;
	return p->overhead <= HTTP_CHUNK_LINE_MAX_BYTES;
}

static int cb_body(llhttp_t *ll, const char *at, size_t n)
{
	struct http_parser *p = ll->data;

	if (!account(p, at)) {
		refuse(p, 400, "chunk line too long");
		return HPE_USER;
	}
	p->overhead = 0;
	p->mark = at + n;
	if (p->on_data)
		p->on_data(p->on_data_arg, at, n);
	return 0;
}

static const llhttp_settings_t settings = {
	.on_headers_complete = cb_headers_complete,
	.on_body = cb_body,
	.on_chunk_header = cb_chunk_header,
};

void http_parser_init(struct http_parser *p, llhttp_type_t kind)
{
	memset(p, 0, offsetof(struct http_parser, ll));
	p->kind = kind;
}

/* --- the look at the assembled head ------------------------------------------------------------------------ */

/* What a byte may be part of: a token (RFC 9110 5.6.2), a request target (visible ASCII but '#'), Host. */
enum {
	BYTE_TOKEN = 1,
	BYTE_TARGET = 2,
	BYTE_HOST = 4,
	BYTE_WORD = BYTE_TOKEN | BYTE_TARGET,
	BYTE_ANY = BYTE_WORD | BYTE_HOST,
};

static const unsigned char byte_class[256] = {
	['!'] = BYTE_WORD,
	['"'] = BYTE_TARGET,
	['#'] = BYTE_TOKEN,
	['$' ... '\''] = BYTE_WORD,
	['(' ... ')'] = BYTE_TARGET,
	['*' ... '+'] = BYTE_WORD,
	[','] = BYTE_TARGET,
	['-' ... '.'] = BYTE_ANY,
	['/'] = BYTE_TARGET,
	['0' ... '9'] = BYTE_ANY,
	[':'] = BYTE_TARGET | BYTE_HOST,
	[';' ... '@'] = BYTE_TARGET,
	['A' ... 'Z'] = BYTE_ANY,
	['['] = BYTE_TARGET | BYTE_HOST,
	['\\'] = BYTE_TARGET,
	[']'] = BYTE_TARGET | BYTE_HOST,
	['^'] = BYTE_WORD,
	['_'] = BYTE_ANY,
	['`'] = BYTE_WORD,
	['a' ... 'z'] = BYTE_ANY,
	['{'] = BYTE_TARGET,
	['|'] = BYTE_WORD,
	['}'] = BYTE_TARGET,
	['~'] = BYTE_WORD,
};

static bool all_bytes(struct str s, unsigned char class)
{
	const unsigned char *p = (const unsigned char *)s.p;
	unsigned char seen = class;
	size_t i = 0;

	for (; s.n - i >= 4; i += 4)
		seen &= byte_class[p[i]] & byte_class[p[i + 1]] & byte_class[p[i + 2]] & byte_class[p[i + 3]];
	for (; i < s.n; i++)
		seen &= byte_class[p[i]];
	return seen == class;
}

static bool is_control(char c)
{
	unsigned char byte = (unsigned char)c;

	return (byte < 0x20 && byte != '\t') || byte == 0x7f;
}

#ifdef __SSE2__
/* Sixteen bytes at a time, one bit for each: those that are at most `max`. */
static __m128i at_most(__m128i x, char max)
{
	return _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(max)), x);
}

/* Those that are control bytes other than TAB. */
static unsigned controls_16(const char *p)
{
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i tab = _mm_cmpeq_epi8(x, _mm_set1_epi8('\t'));
	__m128i del = _mm_cmpeq_epi8(x, _mm_set1_epi8(0x7f));

	return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(tab, at_most(x, 0x1f)), del));
}

/* Those that are letters or '-', which most names are made of. */
static unsigned letters_16(const char *p)
{
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i dash = _mm_cmpeq_epi8(x, _mm_set1_epi8('-'));
	__m128i place = _mm_sub_epi8(_mm_or_si128(x, _mm_set1_epi8(0x20)), _mm_set1_epi8('a'));

	return (unsigned)_mm_movemask_epi8(_mm_or_si128(at_most(place, 25), dash));
}
#endif

/* Where the first control byte other than TAB stands in p, from `at` on; n without one. */
static size_t next_control(const char *p, size_t at, size_t n)
{
#ifdef __SSE2__
	for (; n - at >= 16; at += 16) {
		unsigned found = controls_16(p + at);
		if (found)
			return at + (size_t)__builtin_ctz(found);
	}
#endif
	while (at < n && !is_control(p[at]))
		at++;
	return at;
}

/* How many of n bytes at p are a token's. */
static size_t token_length(const char *p, size_t n)
{
	size_t at = 0;

#ifdef __SSE2__
	if (n >= 16)
		at = (size_t)__builtin_ctz(~letters_16(p));
#endif
	while (at < n && (byte_class[(unsigned char)p[at]] & BYTE_TOKEN))
		at++;
	return at;
}

/*
 * Cuts a header line of n bytes, CRLF behind them, in two behind its token. The value of one that is no header has no bytes to point at. Those above
 * HTTP_HEADERS_MAX are counted only.
 */
static void cut_header(struct http_head *head, const char *line, size_t n, size_t name)
{
	if (head->nheaders++ >= HTTP_HEADERS_MAX)
		return;
	struct http_header *h = &head->headers[head->nheaders - 1];
	h->name = str_of(line, name);
	h->value = name && line[name] == ':' ? str_trim(str_of(line + name + 1, n - name - 1)) : str_of(NULL, 0);
}

static enum http_result bad_byte(struct http_parser *p, char c)
{
	return refuse(p, 400,
		      c == '\0'   ? "NUL in the head"
		      : c == '\r' ? "CR without LF in the head"
		      : c == '\n' ? "LF without CR in the head"
				  : "control byte in the head");
}

static bool continues(char c)
{
	return c <= ':' && (c == ' ' || c == '\t' || c == ':');
}

/*
 * Finds the end of the head: HTTP_DONE with *end behind the empty line. Every LF must follow a CR, and no other CR, NUL or
 * control byte may stand in a line; a line that begins with white space continues the one before (obs-fold, RFC 9112 5.2)
 * and is refused, as is one that begins with a colon. The lines are cut on the way.
 */
static enum http_result find_head_end(struct http_parser *p, const char *data, size_t n, struct http_head *head,
				      struct str *first, size_t *end)
{
	size_t limit = n < HTTP_HEAD_MAX_BYTES ? n : HTTP_HEAD_MAX_BYTES;
	size_t line = p->scanned; /* start of the first line that is not known to be complete */

	while (line < limit) {
		size_t stop = next_control(data, line, limit);
		bool whole = stop + 1 < limit && data[stop] == '\r' && data[stop + 1] == '\n';

		if (whole && stop == line) {
			if (line == 0)
				return refuse(p, 400, "empty request line");
			*end = stop + 2;
			return HTTP_DONE;
		}
		if (line > 0 && continues(data[line]))
			return refuse(p, 400, "header line that begins with white space or a colon");
		if (!whole) {
			/* A CR at the end of what is here may still be followed by its LF. */
			if (stop == limit || (data[stop] == '\r' && stop + 1 == limit))
				break;
			return bad_byte(p, data[stop]);
		}
		if (line == 0)
			*first = str_of(data, stop);
		else
			cut_header(head, data + line, stop - line, token_length(data + line, limit - line));
		line = stop + 2;
		p->scanned = line;
	}
	if (n >= HTTP_HEAD_MAX_BYTES)
		return refuse(p, p->scanned == 0 ? 414 : 431,
			      p->scanned == 0 ? "request line too long" : "request head too large");
	return HTTP_MORE;
}

/* A request line longer than any acceptable target is refused before the rest of the head is waited for. */
static enum http_result check_request_line_length(struct http_parser *p, size_t n)
{
	if (p->kind == HTTP_REQUEST && p->scanned == 0 && n > HTTP_TARGET_MAX_BYTES + 64)
		return refuse(p, 414, "request line too long");
	return HTTP_MORE;
}

/* --- judging what llhttp found ------------------------------------------------------------------------------ */

static const struct {
	struct str name;
	enum http_method method;
} methods[] = {
	{{"GET", 3}, METHOD_GET},         {{"HEAD", 4}, METHOD_HEAD},     {{"POST", 4}, METHOD_POST},
	{{"PUT", 3}, METHOD_PUT},         {{"DELETE", 6}, METHOD_DELETE}, {{"PATCH", 5}, METHOD_PATCH},
	{{"OPTIONS", 7}, METHOD_OPTIONS},
};

/*
 * The request line, looked at before llhttp: METHOD SP target SP HTTP/1.x with single spaces. Tells an unknown method
 * (405) and an unknown version (505) from a malformed line (400).
 */
static enum http_result check_request_line(struct http_parser *p, struct str line, struct http_head *head)
{
	struct str rest = line;
	struct str method = str_cut(&rest, ' ');
	struct str target = str_cut(&rest, ' ');

	if (!rest.p || method.n == 0 || target.n == 0)
		return refuse(p, 400, "malformed request line");
	for (size_t i = 0; i < method.n; i++)
		if ((method.p[i] < 'A' || method.p[i] > 'Z') && method.p[i] != '-')
			return refuse(p, 400, "malformed method");
	if (!all_bytes(target, BYTE_TARGET))
		return refuse(p, 400, "forbidden byte in the request target");
	if (target.n > HTTP_TARGET_MAX_BYTES)
		return refuse(p, 414, "request target too long");
	if (rest.n != 8 || !str_starts(rest, STR("HTTP/")) || rest.p[6] != '.' || rest.p[5] < '0' || rest.p[5] > '9' ||
	    rest.p[7] < '0' || rest.p[7] > '9')
		return refuse(p, str_starts(rest, STR("HTTP/")) && !memchr(rest.p, ' ', rest.n) ? 505 : 400,
			      "malformed or unknown HTTP version");
	if (rest.p[5] != '1' || rest.p[7] > '1')
		return refuse(p, 505, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	head->minor = (unsigned)(rest.p[7] - '0');
	head->method_text = method;
	head->target = target;
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (str_eq(method, methods[i].name)) {
			head->method = methods[i].method;
			return HTTP_DONE;
		}
	}
	return refuse(p, 405, "method not known here");
}

static enum http_result check_status_line(struct http_parser *p, struct str line, struct http_head *head)
{
	if (line.n < 12 || !str_starts(line, STR("HTTP/1.")) || line.p[7] < '0' || line.p[7] > '1' ||
	    line.p[8] != ' ' || (line.n > 12 && line.p[12] != ' '))
		return refuse(p, 502, "malformed status line");
	head->status = 0;
	for (size_t i = 9; i < 12; i++) {
		if (line.p[i] < '0' || line.p[i] > '9')
			return refuse(p, 502, "malformed status code");
		head->status = head->status * 10 + (unsigned)(line.p[i] - '0');
	}
	if (head->status < 100 || head->status > 599)
		return refuse(p, 502, "status code out of range");
	head->minor = (unsigned)(line.p[7] - '0');
	if (line.n > 13)
		head->reason = str_of(line.p + 13, line.n - 13);
	return HTTP_DONE;
}

/* One octet sequence for all header names that frame or route a message. */
enum special {
	SPECIAL_NONE,
	SPECIAL_CONTENT_LENGTH,
	SPECIAL_TRANSFER_ENCODING,
	SPECIAL_HOST,
	SPECIAL_EXPECT,
	SPECIAL_UPGRADE,
	SPECIAL_CONNECTION,
	SPECIAL_CONTENT_TYPE,
};

static enum special special_of(struct str name)
{
	switch (name.n) {
	case 4:
		return str_eq_nocase(name, STR("host")) ? SPECIAL_HOST : SPECIAL_NONE;
	case 6:
		return str_eq_nocase(name, STR("expect")) ? SPECIAL_EXPECT : SPECIAL_NONE;
	case 7:
		return str_eq_nocase(name, STR("upgrade")) ? SPECIAL_UPGRADE : SPECIAL_NONE;
	case 10:
		return str_eq_nocase(name, STR("connection")) ? SPECIAL_CONNECTION : SPECIAL_NONE;
	case 12:
		return str_eq_nocase(name, STR("content-type")) ? SPECIAL_CONTENT_TYPE : SPECIAL_NONE;
	case 14:
		return str_eq_nocase(name, STR("content-length")) ? SPECIAL_CONTENT_LENGTH : SPECIAL_NONE;
	case 17:
		return str_eq_nocase(name, STR("transfer-encoding")) ? SPECIAL_TRANSFER_ENCODING : SPECIAL_NONE;
	default:
		return SPECIAL_NONE;
	}
}

struct special_counts {
	unsigned content_length;
	unsigned transfer_encoding;
	unsigned host;
	unsigned expect;
	unsigned upgrade;
	bool websocket;
};

static unsigned bad_status(const struct http_parser *p)
{
	return p->kind == HTTP_REQUEST ? 400 : 502;
}

static enum http_result judge_header(struct http_parser *p, struct http_head *head, const struct http_header *h,
				     struct special_counts *seen)
{
	if (!h->value.p)
		return refuse(p, bad_status(p), "forbidden byte in a header name");
	switch (special_of(h->name)) {
	case SPECIAL_NONE:
		break;
	case SPECIAL_CONTENT_LENGTH:
		/* A TAB behind the number is allowed, but unheard of, and llhttp refuses it. */
		if (seen->content_length++ || str_parse_u64(h->value, &head->content_length) ||
		    h->value.p[h->value.n + strspn(h->value.p + h->value.n, " ")] != '\r' ||
		    head->content_length > INT64_MAX)
			return refuse(p, bad_status(p), "not exactly one valid Content-Length");
		break;
	case SPECIAL_TRANSFER_ENCODING:
		if (seen->transfer_encoding++)
			return refuse(p, bad_status(p), "more than one Transfer-Encoding");
		if (!str_eq_nocase(h->value, STR("chunked")))
			return refuse(p, p->kind == HTTP_REQUEST ? 501 : 502, "transfer coding other than chunked");
		break;
	case SPECIAL_HOST:
		if (p->kind == HTTP_REQUEST && seen->host++)
			return refuse(p, 400, "more than one Host");
		head->host = h->value;
		break;
	case SPECIAL_EXPECT:
		if (p->kind == HTTP_RESPONSE)
			break;
		if (seen->expect++ || !str_eq_nocase(h->value, STR("100-continue")))
			return refuse(p, 417, "expectation other than 100-continue");
		/* An HTTP/1.0 client does not know interim answers (RFC 9110 10.1.1). */
		head->expect_continue = head->minor == 1;
		break;
	case SPECIAL_UPGRADE:
		/* One line only: whoever reads another one would take another protocol. */
		seen->websocket = !seen->upgrade++ && str_eq_nocase(h->value, STR("websocket"));
		break;
	case SPECIAL_CONNECTION:
		head->has_connection = true;
		break;
	case SPECIAL_CONTENT_TYPE:
		if (!head->content_type.p)
			head->content_type = h->value;
		break;
	}
	return HTTP_DONE;
}

static enum http_result judge_framing(struct http_parser *p, struct http_head *head, const struct special_counts *seen)
{
	unsigned bad = p->kind == HTTP_REQUEST ? 400 : 502;

	if (seen->content_length && seen->transfer_encoding)
		return refuse(p, bad, "both Content-Length and Transfer-Encoding");
	if (seen->transfer_encoding && head->minor == 0)
		return refuse(p, bad, "Transfer-Encoding in HTTP/1.0");
	if (p->kind == HTTP_RESPONSE && (head->status < 200 || head->status == 204 || head->status == 304)) {
		p->bodiless = true;
		head->framing = HTTP_BODY_NONE;
		return HTTP_DONE;
	}
	if (seen->transfer_encoding)
		head->framing = HTTP_BODY_CHUNKED;
	else if (seen->content_length)
		head->framing = HTTP_BODY_LENGTH;
	else
		head->framing = p->kind == HTTP_REQUEST ? HTTP_BODY_NONE : HTTP_BODY_UNTIL_CLOSE;
	return HTTP_DONE;
}

/* Host is a name or address with an optional port (RFC 9110 7.2); what it names is judged elsewhere. */
static bool host_is_well_formed(struct str host)
{
	if (host.n == 0 || host.n > 320)
		return false;
	return all_bytes(host, BYTE_HOST);
}

/* What the Connection lines say; most heads have none. */
static void judge_connection(struct http_head *head, const struct special_counts *seen)
{
	const struct str connection = STR("connection");

	head->keep_alive = head->minor == 1;
	if (!head->has_connection)
		return;
	head->upgrade_websocket =
		seen->websocket && head->minor == 1 && http_head_has_token(head, connection, STR("upgrade"));
	if (http_head_has_token(head, connection, STR("close")))
		head->keep_alive = false;
	else if (head->minor == 0)
		head->keep_alive = http_head_has_token(head, connection, STR("keep-alive"));
}

static enum http_result judge(struct http_parser *p, struct http_head *head)
{
	struct special_counts seen = {0};
	enum http_result rc = HTTP_DONE;

	for (size_t i = 0; i < head->nheaders && rc == HTTP_DONE; i++)
		rc = judge_header(p, head, &head->headers[i], &seen);
	if (rc == HTTP_DONE)
		rc = judge_framing(p, head, &seen);
	if (rc != HTTP_DONE)
		return rc;
	if (p->kind == HTTP_REQUEST) {
		if (seen.host == 0 && head->minor == 1)
			return refuse(p, 400, "no Host");
		if (seen.host && !host_is_well_formed(head->host))
			return refuse(p, 400, "malformed Host");
	}
	judge_connection(head, &seen);
	if (head->framing == HTTP_BODY_UNTIL_CLOSE)
		head->keep_alive = false;
	return HTTP_DONE;
}

static bool needs_llhttp(const struct http_parser *p, const struct http_head *head)
{
	return head->framing == HTTP_BODY_CHUNKED || (p->kind == HTTP_REQUEST && head->target.p[0] != '/');
}

/* Asks llhttp whether the assembled head is one; it pauses itself at its end. */
static enum http_result run_llhttp(struct http_parser *p, const char *data, size_t n)
{
	llhttp_init(&p->ll, p->kind, &settings);
	p->ll.data = p;
	llhttp_errno_t rc = llhttp_execute(&p->ll, data, n);

	/* llhttp pauses after the LF of the empty line, or, with no body, may have completed the message. */
	if (rc != HPE_PAUSED && rc != HPE_OK)
		return refuse(p, bad_status(p), "malformed head");
	return HTTP_DONE;
}

/* Finds the end and cuts the lines, those that earlier calls have found complete as well. */
static enum http_result cut_head(struct http_parser *p, const char *data, size_t n, struct http_head *head,
				 struct str *first, size_t *end)
{
	bool resumed = p->scanned != 0;
	enum http_result rc;

	memset(head, 0, offsetof(struct http_head, headers));
	rc = find_head_end(p, data, n, head, first, end);
	if (rc != HTTP_DONE || !resumed)
		return rc;
	head->nheaders = 0;
	p->scanned = 0;
	return find_head_end(p, data, *end, head, first, end);
}

enum http_result http_parse_head(struct http_parser *p, const char *data, size_t n, struct http_head *out,
				 size_t *head_bytes)
{
	struct str first = str_of(NULL, 0);
	size_t end = 0;
	enum http_result rc;

	CHECK(!p->why);
	rc = cut_head(p, data, n, out, &first, &end);
	if (rc == HTTP_MORE)
		return check_request_line_length(p, n);
	if (rc != HTTP_DONE)
		return p->kind == HTTP_REQUEST ? rc : refuse(p, 502, p->why);
	rc = p->kind == HTTP_REQUEST ? check_request_line(p, first, out) : check_status_line(p, first, out);
	if (rc == HTTP_DONE && out->nheaders > HTTP_HEADERS_MAX)
		return refuse(p, p->kind == HTTP_REQUEST ? 431 : 502, "too many header lines");
	if (rc == HTTP_DONE)
		rc = judge(p, out);
	if (rc == HTTP_DONE && needs_llhttp(p, out))
		rc = run_llhttp(p, data, end);
	if (rc != HTTP_DONE)
		return rc;
	p->framing = out->framing;
	p->left = out->content_length;
	*head_bytes = end;
	return HTTP_DONE;
}

void http_parser_no_body(struct http_parser *p)
{
	p->bodiless = true;
}

/* --- bodies -------------------------------------------------------------------------------------------------- */

static enum http_result parse_length(struct http_parser *p, const char *data, size_t n, size_t *used)
{
	size_t take = p->left < n ? (size_t)p->left : n;

	if (take && p->on_data)
		p->on_data(p->on_data_arg, data, take);
	p->left -= take;
	*used = take;
	return p->left ? HTTP_MORE : HTTP_DONE;
}

/* One byte of the trailers: HTTP_DONE with the LF of the empty line. */
static enum http_result trailer_byte(struct http_parser *p, unsigned char c)
{
	switch (p->trailer) {
	case TRAILER_NONE:
		break;
	case TRAILER_LINE:
		if (c == '\r')
			p->trailer = TRAILER_END;
		else if (byte_class[c] & BYTE_TOKEN)
			p->trailer = TRAILER_NAME;
		else
			return HTTP_BAD;
		return HTTP_MORE;
	case TRAILER_NAME:
		if (c == ':')
			p->trailer = TRAILER_VALUE;
		else if (!(byte_class[c] & BYTE_TOKEN))
			return HTTP_BAD;
		return HTTP_MORE;
	case TRAILER_VALUE:
		if (c == '\r')
			p->trailer = TRAILER_VALUE_CR;
		else if ((c < 0x20 && c != '\t') || c == 0x7f)
			return HTTP_BAD;
		return HTTP_MORE;
	case TRAILER_VALUE_CR:
		p->trailer = TRAILER_LINE;
		return c == '\n' ? HTTP_MORE : HTTP_BAD;
	case TRAILER_END:
		return c == '\n' ? HTTP_DONE : HTTP_BAD;
	}
	return HTTP_BAD;
}

static enum http_result parse_trailers(struct http_parser *p, const char *data, size_t n, size_t *used)
{
	unsigned bad = p->kind == HTTP_REQUEST ? 400 : 502;

	while (*used < n) {
		if (p->overhead++ == HTTP_TRAILERS_MAX_BYTES)
			return refuse(p, bad, "trailers too long");
		enum http_result rc = trailer_byte(p, (unsigned char)data[*used]);
		if (rc == HTTP_BAD)
			return refuse(p, bad, "malformed trailers");
		++*used;
		if (rc == HTTP_DONE)
			return HTTP_DONE;
	}
	return HTTP_MORE;
}

static enum http_result parse_chunked(struct http_parser *p, const char *data, size_t n, size_t *used)
{
	unsigned bad = p->kind == HTTP_REQUEST ? 400 : 502;
	llhttp_errno_t rc;

	if (p->trailer != TRAILER_NONE)
		return parse_trailers(p, data, n, used);
	p->mark = data;
	llhttp_resume(&p->ll);
	rc = llhttp_execute(&p->ll, data, n);
	/* With a fault only whole data spans before it were agreed upon. */
	*used = (size_t)(p->mark - data);
	if (p->why)
		return HTTP_BAD;
	if (rc != HPE_OK && rc != HPE_PAUSED)
		return refuse(p, bad, "malformed chunked body");
	const char *end = rc == HPE_PAUSED ? llhttp_get_error_pos(&p->ll) : data + n;
	if (!account(p, end))
		return refuse(p, bad, "chunk line too long");
	*used = (size_t)(end - data);
	if (rc == HPE_OK)
		return HTTP_MORE;
	p->trailer = TRAILER_LINE;
	p->overhead = 0;
	return parse_trailers(p, data, n, used);
}

enum http_result http_parse_body(struct http_parser *p, const char *data, size_t n, size_t *used,
				 void (*on_data)(void *arg, const char *p, size_t n), void *arg)
{
	enum http_result rc = HTTP_DONE;

	CHECK(!p->why);
	p->on_data = on_data;
	p->on_data_arg = arg;
	*used = 0;
	if (p->bodiless || p->done)
		return HTTP_DONE;
	switch (p->framing) {
	case HTTP_BODY_NONE:
		break;
	case HTTP_BODY_LENGTH:
		rc = parse_length(p, data, n, used);
		break;
	case HTTP_BODY_CHUNKED:
		if (n == 0)
			return HTTP_MORE;
		rc = parse_chunked(p, data, n, used);
		break;
	case HTTP_BODY_UNTIL_CLOSE:
		if (n && on_data)
			on_data(arg, data, n);
		*used = n;
		return HTTP_MORE;
	}
	if (rc == HTTP_DONE)
		p->done = true;
	return rc;
}

enum http_result http_parse_eof(struct http_parser *p)
{
	if (p->done || p->bodiless || p->framing == HTTP_BODY_UNTIL_CLOSE)
		return HTTP_DONE;
	return refuse(p, p->kind == HTTP_REQUEST ? 400 : 502, "the connection was closed within a message");
}

/* --- questions ------------------------------------------------------------------------------------------------ */

const struct http_header *http_head_find(const struct http_head *head, struct str name)
{
	for (size_t i = 0; i < head->nheaders; i++)
		if (str_eq_nocase(head->headers[i].name, name))
			return &head->headers[i];
	return NULL;
}

bool http_head_has_token(const struct http_head *head, struct str name, struct str token)
{
	for (size_t i = 0; i < head->nheaders; i++) {
		if (!str_eq_nocase(head->headers[i].name, name))
			continue;
		for (struct str rest = head->headers[i].value; rest.p;)
			if (str_eq_nocase(str_trim(str_cut(&rest, ',')), token))
				return true;
	}
	return false;
}

bool http_head_is_type(const struct http_head *head, struct str type)
{
	struct str value = head->content_type;

	if (value.n < type.n || !str_eq_nocase(str_of(value.p, type.n), type))
		return false;
	value = str_trim(str_of(value.p + type.n, value.n - type.n));
	return value.n == 0 || value.p[0] == ';';
}

bool http_head_is_stream(const struct http_head *head)
{
	return http_head_is_type(head, STR("text/event-stream")) ||
	       http_head_is_type(head, STR("application/x-ndjson"));
}
