/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source is openapi.json beside this file. It is written by hand; that it has exactly the routes of route.c, with
 * their classes, is what its test compares, and that real answers are as it says what the end-to-end test does.
 */
#include "gateway/openapi.h"

#include "common/embed.h"

/* The build makes this openapi.json, with the version in it, in the directory in which the compiler runs. */
EMBED(openapi, "openapi.json");

struct str openapi_document(void)
{
	struct str text = EMBEDDED(openapi);

	while (text.n && text.p[text.n - 1] == '\n')
		text.n--;
	return text;
}
