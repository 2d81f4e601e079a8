/* SPDX-License-Identifier: Apache-2.0 */
/* The sources are status_page.html, .css and .js beside this file; the build puts them together and hashes the last two. */
#include "gateway/status_page.h"

#include "status_page_hashes.h"

__asm__(".pushsection .rodata.status_page, \"a\"\n"
	".globl status_page_start\n"
	".hidden status_page_start\n"
	"status_page_start:\n"
	".incbin \"status_page.html\"\n"
	".globl status_page_end\n"
	".hidden status_page_end\n"
	"status_page_end:\n"
	".popsection\n");

extern const char status_page_start[] __attribute__((visibility("hidden")));
extern const char status_page_end[] __attribute__((visibility("hidden")));

struct str status_page(void)
{
	return str_of(status_page_start, (size_t)(status_page_end - status_page_start));
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
