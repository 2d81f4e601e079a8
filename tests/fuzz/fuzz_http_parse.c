/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer target: http_parse reads the input as requests and as responses (threats.md P29). */
#include <stddef.h>
#include <stdint.h>

#include "http_property.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	(void)http_property_check(HTTP_REQUEST, (const char *)data, size);
	(void)http_property_check(HTTP_RESPONSE, (const char *)data, size);
	return 0;
}
