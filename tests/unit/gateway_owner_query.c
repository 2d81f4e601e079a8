/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/owner_query: owner and tenant in a query. */
#include <criterion/criterion.h>

#include "gateway/owner_query.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* C12: every owner in a query is the caller, no tenant is left, all else stays byte for byte. */
Test(gateway_owner_query, C12_rewritten)
{
	static const struct {
		const char *query, *expected; /* NULL: unchanged */
	} cases[] = {
		{"", NULL},
		{"&&", NULL},
		{"path=/a%2fb&x=%zz&owner=bob&owner_id2=x", NULL},
		{"x=owner_id=bob", NULL},
		{"xowner_id=bob", NULL},
		{"owner_id%zz=bob", NULL},
		{"owner_id%00=bob", NULL},
		{"owner_id=bob", "owner_id=al%40h%2F%C3%A4"},
		{"owner_id", "owner_id=al%40h%2F%C3%A4"},
		{"owner_id=", "owner_id=al%40h%2F%C3%A4"},
		{"owner_id=bob%zz", "owner_id=al%40h%2F%C3%A4"},
		{"owner_id=a=b", "owner_id=al%40h%2F%C3%A4"},
		{"a=1&owner_id=bob&b=2&owner_id=carol", "a=1&owner_id=al%40h%2F%C3%A4&b=2&owner_id=al%40h%2F%C3%A4"},
		{"Owner%5Fid=bob", "Owner%5Fid=al%40h%2F%C3%A4"},
		{"%6f%77%6e%65%72%5f%69%64=bob", "%6f%77%6e%65%72%5f%69%64=al%40h%2F%C3%A4"},
		{"a=1;owner_id=bob;b", "a=1;owner_id=al%40h%2F%C3%A4;b"},
		{"tenant_id=t", ""},
		{"a=%2f+&tenant_id=t&b", "a=%2f+&b"},
		{"%74%65%6e%61%6e%74%5f%69%64=t&a", "a"},
		{"TENANT_ID&tenant_id=2&owner_id=bob&", "owner_id=al%40h%2F%C3%A4&"},
		{"&tenant_id=2&&", "&&"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf out = BUF_EMPTY;
		bool changed = owner_query_rewrite(str_from(cases[i].query), "al@h/\xc3\xa4", &out);

		cr_expect_eq(changed, cases[i].expected != NULL, "%s", cases[i].query);
		cr_expect(str_eq(buf_str(&out), str_from(cases[i].expected)), "%s: %.*s", cases[i].query,
			  STR_ARG(buf_str(&out)));
		buf_fini(&out);
	}
	cr_expect(!owner_query_rewrite(str_of(NULL, 0), "a", NULL));
}
