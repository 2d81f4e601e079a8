/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/preview_host.h"

#include <string.h>

uint16_t preview_host_port(struct str text)
{
	uint64_t port;

	if (text.n == 0 || text.n > 5 || text.p[0] == '0' || str_parse_u64(text, &port) || port > 65535)
		return 0;
	return (uint16_t)port;
}

/* How many of the bytes in front are such. */
static size_t span(struct str s, bool (*is_such)(char c))
{
	size_t n = 0;

	while (n < s.n && is_such(s.p[n]))
		n++;
	return n;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_hex(char c)
{
	return str_hex_value(c) >= 0;
}

static bool is_of_name(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("-._", c));
}

static struct str behind(struct str s, size_t n)
{
	return str_of(s.p + n, s.n - n);
}

/* Host names know no case; the server's ids do. */
static void copy_id(struct str id, char *to)
{
	to[0] = '\0';
	if (id.n > SANDBOX_DOC_ID_MAX_BYTES)
		return;
	for (size_t i = 0; i < id.n; i++)
		to[i] = id.p[i] >= 'A' && id.p[i] <= 'Z' ? (char)(id.p[i] | 0x20) : id.p[i];
	to[id.n] = '\0';
}

/* Splits what follows the id; what is no name with a port or without stays together, and is no domain of anybody's. */
static void split_domain(struct str text, struct preview_host *out)
{
	size_t n = span(text, is_of_name);
	struct str suffix = behind(text, n);
	bool is_port = suffix.n && suffix.p[0] == ':' && preview_host_port(behind(suffix, 1));

	out->domain = is_port ? str_of(text.p, n) : text;
	out->suffix = behind(text, out->domain.n);
}

bool preview_host_parse(struct str host, struct preview_host *out)
{
	size_t digits = span(host, is_digit);
	struct str rest;
	size_t hex;

	/* Nearly every other Host ends here. */
	if (digits == 0)
		return false;
	rest = behind(host, digits);
	if (rest.n < 4 || !str_eq_nocase(str_of(rest.p, 4), STR("-sb-")))
		return false;
	hex = span(behind(rest, 4), is_hex);
	if (hex == 0 || 4 + hex == rest.n || rest.p[4 + hex] != '.')
		return false;
	split_domain(behind(rest, 4 + hex + 1), out);
	out->port = preview_host_port(str_of(host.p, digits));
	copy_id(str_of(rest.p + 1, 3 + hex), out->id);
	return true;
}

uint16_t preview_host_cut_port(struct str *domain)
{
	const char *colon = domain->n ? memchr(domain->p, ':', domain->n) : NULL;
	struct str port;

	if (!colon)
		return 0;
	port = behind(*domain, (size_t)(colon - domain->p) + 1);
	domain->n = (size_t)(colon - domain->p);
	return preview_host_port(port);
}

bool preview_host_domain_is_good(struct str domain)
{
	struct str name = domain;
	uint16_t port = preview_host_cut_port(&name);

	return name.n && name.n <= SANDBOX_DOC_DOMAIN_MAX_BYTES && span(name, is_of_name) == name.n &&
	       (name.n == domain.n || port);
}
