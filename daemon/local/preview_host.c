/* SPDX-License-Identifier: Apache-2.0 */
#include "local/preview_host.h"

#include <stdbool.h>

static bool is_digits(struct str s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
	return s.n > 0;
}

/* Copies it in lower case. False: it can be no sandbox's. */
static bool take_id(struct str id, char out[PREVIEW_ID_MAX + 1])
{
	if (id.n > PREVIEW_ID_MAX)
		return false;
	for (size_t i = 0; i < id.n; i++) {
		char c = id.p[i];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if ((c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-')
			return false;
		out[i] = c;
	}
	out[id.n] = '\0';
	return str_starts(str_of(out, id.n), STR("sb-"));
}

enum preview_host_result preview_host_parse(struct str host, struct preview_host *out)
{
	struct str rest = host;
	struct str port = str_cut(&rest, '-');
	struct str id = rest.p ? str_cut(&rest, '.') : rest;
	struct str domain = rest.p ? str_cut(&rest, ':') : rest;
	uint64_t number;

	/* What is left in `rest` is the port of the front itself. */
	if (!domain.p || !is_digits(port) || !str_eq_nocase(domain, STR(PREVIEW_DOMAIN)) || !take_id(id, out->id) ||
	    (rest.p && !is_digits(rest)))
		return PREVIEW_HOST_NONE;
	if (port.p[0] == '0' || str_parse_u64(port, &number) || number > UINT16_MAX)
		return PREVIEW_HOST_BAD_PORT;
	out->port = (uint16_t)number;
	return PREVIEW_HOST_OK;
}
