/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/request_id.h"

#include "gateway/random.h"

bool request_id_is_good(struct str id)
{
	return str_is_id(id, REQUEST_ID_MAX_BYTES);
}

void request_id_make(char out[REQUEST_ID_MAX_BYTES + 1])
{
	unsigned char raw[16];

	random_take(raw);
	raw[6] = (unsigned char)(0x40 | (raw[6] & 0x0f));
	raw[8] = (unsigned char)(0x80 | (raw[8] & 0x3f));
	random_put_hex(out, raw);
	random_put_hex(out + 9, raw + 4);
	random_put_hex(out + 14, raw + 6);
	random_put_hex(out + 19, raw + 8);
	random_put_hex(out + 24, raw + 10);
	random_put_hex(out + 28, raw + 12);
	out[8] = out[13] = out[18] = out[23] = '-';
	out[36] = '\0';
}
