/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/record.h"

const char *record_text(const json_t *record, const char *key)
{
	const char *text = json_string_value(json_object_get(record, key));

	return text ? text : "";
}
