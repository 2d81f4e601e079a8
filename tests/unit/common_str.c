/* SPDX-License-Identifier: Apache-2.0 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "common/str.h"

/* Equality with and without case: only ASCII letters have case. */
Test(common_str, equality)
{
	cr_expect(str_eq(STR(""), str_of(NULL, 0)));
	cr_expect(str_eq(STR("a\0b"), STR("a\0b")));
	cr_expect_not(str_eq(STR("a\0b"), STR("a\0c")));
	cr_expect_not(str_eq(STR("a"), STR("ab")));
	cr_expect(str_eq_nocase(STR("X-Api-Key"), STR("x-aPI-kEY")));
	cr_expect_not(str_eq_nocase(STR("x-api-key"), STR("x_api_key")));
	/* '@' and '`', '[' and '{' differ in the bit that letters' case differs in. */
	cr_expect_not(str_eq_nocase(STR("@["), STR("`{")));
	cr_expect_not(str_eq_nocase(STR("\xc3\x84"), STR("\xc3\xa4")));
	cr_expect_eq(str_from(NULL).n, 0);
}

static bool same_letter(unsigned a, unsigned b)
{
	return a == b || ((a ^ b) == 0x20 && (a | 0x20) >= 'a' && (a | 0x20) <= 'z');
}

/* Names are compared eight bytes at a time: every pair of bytes, wherever it stands in names of every length. */
Test(common_str, every_pair_of_bytes_without_case)
{
	static const char text[] = "Transfer-Encoding";

	for (size_t n = 1; n < sizeof(text); n++) {
		for (size_t at = n > 9 ? n - 9 : 0; at < n; at++) {
			char a[sizeof(text)];
			char b[sizeof(text)];
			memcpy(a, text, sizeof(text));
			memcpy(b, text, sizeof(text));
			for (unsigned pair = 0; pair < 65536; pair++) {
				a[at] = (char)(pair >> 8);
				b[at] = (char)(pair & 255);
				if (str_eq_nocase(str_of(a, n), str_of(b, n)) != same_letter(pair >> 8, pair & 255))
					cr_assert_fail("0x%04x at %zu of %zu", pair, at, n);
			}
		}
	}
}

/* Prefix and suffix, also of what is shorter. */
Test(common_str, starts_and_ends)
{
	cr_expect(str_starts(STR("/api/v1/x"), STR("/api/v1")));
	cr_expect(str_starts(STR("x"), STR("")));
	cr_expect_not(str_starts(STR("/ap"), STR("/api")));
	cr_expect(str_ends(STR("64KiB"), STR("KiB")));
	cr_expect(str_ends(STR("x"), STR("")));
	cr_expect_not(str_ends(STR("iB"), STR("KiB")));
}

/* Only spaces and tabs are taken off, and only at the ends. */
Test(common_str, trim)
{
	cr_expect(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
	cr_expect(str_eq(str_trim(STR(" \t ")), STR("")));
	cr_expect(str_eq(str_trim(STR("\va\r")), STR("\va\r")));
}

/* Cutting yields every field, empty ones too, and ends with p NULL. */
Test(common_str, cut)
{
	struct str rest = STR("a,,b,");

	cr_expect(str_eq(str_cut(&rest, ','), STR("a")));
	cr_expect(str_eq(str_cut(&rest, ','), STR("")));
	cr_expect(str_eq(str_cut(&rest, ','), STR("b")));
	cr_expect_not_null(rest.p);
	cr_expect(str_eq(str_cut(&rest, ','), STR("")));
	cr_expect_null(rest.p);
	cr_expect_eq(str_cut(&rest, ',').n, 0);
}

/* Numbers are digits and nothing else, and must fit. */
Test(common_str, parse_u64)
{
	static const char *const bad[] = {"", "+1", "-1", " 1", "1 ", "0x1", "1e3", "1.0", "\xd9\xa1"};
	uint64_t v = 42;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(str_parse_u64(str_from(bad[i]), &v), -EINVAL, "'%s'", bad[i]);
	cr_expect_eq(str_parse_u64(STR("18446744073709551616"), &v), -ERANGE);
	cr_expect_eq(str_parse_u64(STR("99999999999999999999999"), &v), -ERANGE);
	cr_expect_eq(v, 42, "a failure leaves it alone");
	cr_expect_eq(str_parse_u64(STR("18446744073709551615"), &v), 0);
	cr_expect_eq(v, UINT64_MAX);
	cr_expect_eq(str_parse_u64(STR("0000"), &v), 0);
	cr_expect_eq(v, 0);
}

/* A copy is terminated and its own. */
Test(common_str, dup)
{
	char *copy = str_dup(STR("abc"));
	char *empty = str_dup(str_of(NULL, 0));

	cr_expect_str_eq(copy, "abc");
	cr_expect_str_eq(empty, "");
	free(copy);
	free(empty);
}

static void assert_decodes(struct str in, bool plus, struct str expected)
{
	char out[64];
	ssize_t n = str_percent_decode(in, plus, out);

	cr_expect_eq(n, (ssize_t)expected.n, "%.*s", STR_ARG(in));
	cr_expect(n < 0 || str_eq(str_of(out, (size_t)n), expected), "%.*s", STR_ARG(in));
}

/* Known values of FNV-1a: journals of before have it. */
Test(common_str, hash)
{
	cr_expect_eq(str_hash(STR("")), 0x811c9dc5);
	cr_expect_eq(str_hash(STR("a")), 0xe40c292c);
	cr_expect_eq(str_hash(STR("foobar")), 0xbf9cf968);
}

/* Escapes are decoded, bad ones refused wherever they stand. */
Test(common_str, percent_decode)
{
	static const char *const bad[] = {"%", "a%", "%1", "a%2", "%zz", "%1g", "%%20", "% 1", "%+1"};
	char out[64];

	assert_decodes(STR("a%20b%2Fc%c3%a4%00"), false, STR("a b/c\xc3\xa4\0"));
	assert_decodes(STR("a+b"), false, STR("a+b"));
	assert_decodes(STR("a+b%2b"), true, STR("a b+"));
	assert_decodes(STR(""), true, STR(""));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		cr_expect_eq(str_percent_decode(str_from(bad[i]), false, out), -EINVAL, "'%s'", bad[i]);
}

/* Decoding in place is allowed. */
Test(common_str, percent_decode_in_place)
{
	char text[] = "%41%42c";

	cr_expect_eq(str_percent_decode(str_of(text, 7), false, text), 3);
	cr_expect(str_eq(str_of(text, 3), STR("ABc")));
}

/* The table of RFC 3629: what is valid, what never is, what may yet become valid. */
Test(common_str, utf8_len)
{
	static const struct {
		struct str s;
		int len;
	} cases[] = {
		{STR("a"), 1},
		{STR("\0"), 1},
		{STR("\x7f"), 1},
		{STR("\xc2\x80"), 2},
		{STR("\xdf\xbf"), 2},
		{STR("\xe0\xa0\x80"), 3},
		{STR("\xed\x9f\xbf"), 3},
		{STR("\xee\x80\x80"), 3},
		{STR("\xf0\x90\x80\x80"), 4},
		{STR("\xf4\x8f\xbf\xbf"), 4},
		{STR("\x80"), 0},
		{STR("\xc0\x80"), 0},
		{STR("\xc1\xbf"), 0},
		{STR("\xe0\x9f\xbf"), 0},
		{STR("\xed\xa0\x80"), 0},
		{STR("\xf0\x8f\xbf\xbf"), 0},
		{STR("\xf4\x90\x80\x80"), 0},
		{STR("\xf5\x80\x80\x80"), 0},
		{STR("\xff"), 0},
		{STR("\xc3("), 0},
		{STR("\xe2\x82("), 0},
		{STR("\xc3"), -1},
		{STR("\xe2\x82"), -1},
		{STR("\xf0\x9f\x98"), -1},
		{STR("\xf0"), -1},
		{STR("\xe0\x9f"), 0},
		{STR(""), -1},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		cr_expect_eq(str_utf8_len(cases[i].s), cases[i].len, "case %zu", i);
}
