/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/encode.h"

#include <errno.h>
#include <string.h>

bool encode_is_text(struct str bytes)
{
	if (bytes.n > ENCODE_TEXT_MAX || (bytes.n > 0 && memchr(bytes.p, 0, bytes.n)))
		return false;
	while (bytes.n > 0) {
		int len = str_utf8_len(bytes);

		if (len <= 0)
			return false;
		bytes = str_of(bytes.p + len, bytes.n - (size_t)len);
	}
	return true;
}

static const char alphabet[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void encode_base64(struct buf *out, struct str bytes)
{
	size_t groups = (bytes.n + 2) / 3;
	char *to = buf_reserve(out, groups * 4);

	if (!to)
		return;
	for (size_t i = 0; i < bytes.n; i += 3, to += 4) {
		size_t left = bytes.n - i;
		uint32_t a = (unsigned char)bytes.p[i];
		uint32_t b = left > 1 ? (unsigned char)bytes.p[i + 1] : 0;
		uint32_t c = left > 2 ? (unsigned char)bytes.p[i + 2] : 0;
		uint32_t v = a << 16 | b << 8 | c;

		to[0] = alphabet[v >> 18];
		to[1] = alphabet[v >> 12 & 63];
		to[2] = '=';
		to[3] = '=';
		if (left > 1)
			to[2] = alphabet[v >> 6 & 63];
		if (left > 2)
			to[3] = alphabet[v & 63];
	}
	buf_commit(out, groups * 4);
}

/* One byte through the polynomial 0x04C11DB7, most significant bit first. */
static uint32_t crc_table_entry(uint32_t byte)
{
	uint32_t v = byte << 24;

	for (int bit = 0; bit < 8; bit++)
		v = (v & 0x80000000u) ? (v << 1) ^ 0x04c11db7u : v << 1;
	return v;
}

static const uint32_t *crc_table(void)
{
	static uint32_t table[256];

	if (table[1] == 0) {
		for (uint32_t i = 0; i < 256; i++)
			table[i] = crc_table_entry(i);
	}
	return table;
}

static uint32_t crc_byte(uint32_t crc, unsigned char byte)
{
	return (crc << 8) ^ crc_table()[((crc >> 24) ^ byte) & 0xff];
}

void encode_cksum_add(struct encode_cksum *c, struct str bytes)
{
	for (size_t i = 0; i < bytes.n; i++)
		c->crc = crc_byte(c->crc, (unsigned char)bytes.p[i]);
	c->bytes += bytes.n;
}

uint32_t encode_cksum_value(const struct encode_cksum *c)
{
	uint32_t crc = c->crc;

	for (uint64_t n = c->bytes; n > 0; n >>= 8)
		crc = crc_byte(crc, (unsigned char)(n & 0xff));
	return ~crc;
}

int encode_cksum_parse(struct str text, bool *has_crc, uint32_t *crc, uint64_t *bytes)
{
	struct str rest = text.n > 0 && text.p[text.n - 1] == '\n' ? str_of(text.p, text.n - 1) : text;
	struct str first = str_cut(&rest, ' ');
	uint64_t value = 0;

	*has_crc = !str_eq(first, STR("-"));
	if (*has_crc && (str_parse_u64(first, &value) < 0 || value > UINT32_MAX))
		return -EINVAL;
	*crc = (uint32_t)value;
	/* wc -c indents on some systems. */
	return str_parse_u64(str_trim(rest), bytes) < 0 ? -EINVAL : 0;
}
