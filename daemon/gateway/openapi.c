/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source is openapi.json beside this file. It is written by hand; that it has exactly the routes of route.c, with
 * their classes, is what its test compares, and that real answers are as it says what the end-to-end test does.
 */
#include "gateway/openapi.h"

/* The build makes this openapi.json, with the version in it, in the directory in which the compiler runs. */
__asm__(".pushsection .rodata.openapi, \"a\"\n"
	".globl openapi_start\n"
	".hidden openapi_start\n"
	"openapi_start:\n"
	".incbin \"openapi.json\"\n"
	".globl openapi_end\n"
	".hidden openapi_end\n"
	"openapi_end:\n"
	".popsection\n");

extern const char openapi_start[] __attribute__((visibility("hidden")));
extern const char openapi_end[] __attribute__((visibility("hidden")));

struct str openapi_document(void)
{
	struct str text = str_of(openapi_start, (size_t)(openapi_end - openapi_start));

	while (text.n && text.p[text.n - 1] == '\n')
		text.n--;
	return text;
}
