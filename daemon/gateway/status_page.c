/* SPDX-License-Identifier: Apache-2.0 */
/* The sources are status_page.html, .css and .js beside this file; the build puts them together and hashes the last two. */
#include "gateway/status_page.h"

#include "status_page_hashes.h"

#include "common/embed.h"

EMBED(status_page, "status_page.html");

struct str status_page(void)
{
	return EMBEDDED(status_page);
}

const char *status_page_lines(void)
{
	/* Content Security Policy Level 3, 2.3.1: a hash lets exactly one inline text run. */
	return "X-Content-Type-Options: nosniff\r\n"
	       "Referrer-Policy: no-referrer\r\n"
	       "Content-Security-Policy: default-src 'none'; style-src 'sha256-" STATUS_PAGE_STYLE_SHA256 "'; "
	       "script-src 'sha256-" STATUS_PAGE_SCRIPT_SHA256 "'; img-src data:; connect-src 'self'; base-uri 'none'; "
	       "form-action 'none'; frame-ancestors 'none'\r\n";
}
