/* SPDX-License-Identifier: Apache-2.0 */
/* gateway/sandbox_doc: what is read out of a sandbox object. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "gateway/sandbox_doc.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* An object as the server writes it. */
Test(gateway_sandbox_doc, whole)
{
	static const char text[] =
		" {\"id\":\"sb-a1b2c3d4\",\"state\":\"running\",\"provider\":\"docker\",\"image\":\"python:3.12\","
		"\"memory_mb\":512,\"vcpus\":1,\"owner_id\":\"bob\",\"vm_id\":\"vm-1\",\"worker_id\":\"local\","
		"\"created_at\":\"2026-01-02T08:34:05.5+05:30\",\"expires_at\":\"2026-01-02T08:34:05.5+05:30\","
		"\"metadata\":{\"team\":\"ci\",\"stacygate.owner\":\"alice@h\",\"stacygate.token\":\"t1\"},"
		"\"preview_domain\":\"localhost\"}\n";
	struct sandbox_doc doc;

	cr_assert_eq(sandbox_doc_parse(STR(text), &doc), 0);
	cr_expect_str_eq(doc.id, "sb-a1b2c3d4");
	cr_expect_str_eq(doc.state, "running");
	cr_expect_str_eq(doc.owner, "alice@h");
	cr_expect_str_eq(doc.token, "t1");
	cr_expect_str_eq(doc.vm_id, "vm-1");
	cr_expect_str_eq(doc.preview_domain, "localhost");
	cr_expect(doc.has_expiry);
	cr_expect_eq(doc.expires_at_ms, 1767323045500);
	cr_expect(sandbox_doc_is_owned(&doc, "alice@h"));
	cr_expect(!sandbox_doc_is_owned(&doc, "alice"));
	cr_expect(!sandbox_doc_is_owned(&doc, "bob"));
}

/* C11: only the reserved key of metadata, spelled exactly so and holding the whole name, makes an owner. */
Test(gateway_sandbox_doc, C11_owner)
{
	static const struct {
		const char *members, *owner;
	} cases[] = {
		{"", ""},
		{"\"metadata\":null,", ""},
		{"\"metadata\":{},", ""},
		{"\"metadata\":{\"stacygate.owner\":null},", ""},
		{"\"metadata\":{\"stacygate.owner\":\"alice\"},", "alice"},
		{"\"metadata\":{\"\\u0073tacygate.owner\":\"\\u0061lice\"},", "alice"},
		{"\"metadata\":{\"Stacygate.owner\":\"alice\"},", ""},
		{"\"metadata\":{\"stacygate.owner\":\"alice\\u0000x\"},", ""},
		{"\"metadata\":{\"stacygate.owner \":\"alice\"},", ""},
		{"\"Metadata\":{\"stacygate.owner\":\"alice\"},", ""},
		{"\"stacygate.owner\":\"alice\",", ""},
		{"\"owner_id\":\"alice\",", ""},
		{"\"x\":{\"metadata\":{\"stacygate.owner\":\"alice\"}},", ""},
		{"\"image\":\"\\\"metadata\\\":{\\\"stacygate.owner\\\":\\\"alice\\\"}\",", ""},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct sandbox_doc doc;
		char text[256];

		snprintf(text, sizeof(text), "{%s\"id\":\"a\"}", cases[i].members);
		cr_assert_eq(sandbox_doc_parse(str_from(text), &doc), 0, "%s", text);
		cr_expect_str_eq(doc.owner, cases[i].owner, "%s", text);
		cr_expect(!doc.has_expiry);
	}
}

/* An owner of 128 bytes fits; a longer one is nobody, not its first 128 bytes. */
Test(gateway_sandbox_doc, long_owner)
{
	for (int n = 127; n <= 130; n++) {
		struct sandbox_doc doc;
		char text[512];
		char owner[140];

		memset(owner, 'a', sizeof(owner));
		owner[n] = '\0';
		snprintf(text, sizeof(text), "{\"id\":\"a\",\"metadata\":{\"stacygate.owner\":\"%s\"}}", owner);
		cr_assert_eq(sandbox_doc_parse(str_from(text), &doc), 0);
		cr_expect_str_eq(doc.owner, n <= 128 ? owner : "", "%d bytes", n);
	}
}

/* What the server does not write is not read. */
Test(gateway_sandbox_doc, refused)
{
	static const char *const cases[] = {
		"",
		"null",
		"[]",
		"{}",
		"{\"id\":\"\"}",
		"{\"id\":null}",
		"{\"id\":1}",
		"{\"id\":\".\"}",
		"{\"id\":\"..\"}",
		"{\"id\":\".a\"}",
		"{\"id\":\"a/b\"}",
		"{\"id\":\"a\\u0000\"}",
		"{\"id\":\"\\u00e4\"}",
		"{\"ID\":\"a\"}",
		"{\"id\":\"a\"",
		"{\"id\":\"a\"} x",
		"{\"id\":\"a\",}",
		"{\"id\":\"a\",\"id\":\"b\"}",
		"{\"id\":\"a\",\"metadata\":[]}",
		"{\"id\":\"a\",\"metadata\":{},\"metadata\":{\"stacygate.owner\":\"alice\"}}",
		"{\"id\":\"a\",\"metadata\":{\"stacygate.owner\":\"bob\",\"stacygate.owner\":\"alice\"}}",
		"{\"id\":\"a\",\"metadata\":{\"stacygate.owner\":1}}",
		"{\"id\":\"a\",\"state\":1}",
		"{\"id\":\"a\",\"expires_at\":\"tomorrow\"}",
		"{\"id\":\"a\",\"expires_at\":5}",
		"{\"id\":\"a\",\"expires_at\":\"\"}",
	};
	struct sandbox_doc doc;

	for (size_t i = 0; i < COUNT(cases); i++)
		cr_expect_eq(sandbox_doc_parse(str_from(cases[i]), &doc), -EPROTO, "%s", cases[i]);
}

/* Ids are segments of a path. */
Test(gateway_sandbox_doc, ids)
{
	char longest[SANDBOX_DOC_ID_MAX_BYTES + 1];

	memset(longest, 'a', sizeof(longest));
	cr_expect(sandbox_doc_id_is_good(STR("sb-A1.b_c")));
	cr_expect(sandbox_doc_id_is_good(str_of(longest, SANDBOX_DOC_ID_MAX_BYTES)));
	cr_expect(!sandbox_doc_id_is_good(str_of(longest, SANDBOX_DOC_ID_MAX_BYTES + 1)));
	cr_expect(!sandbox_doc_id_is_good(STR("")));
	cr_expect(!sandbox_doc_id_is_good(STR("..")));
	cr_expect(!sandbox_doc_id_is_good(STR("a b")));
	cr_expect(!sandbox_doc_id_is_good(STR("a%20b")));
	cr_expect(!sandbox_doc_id_is_good(STR("a\0b")));
}

/* The target of the longest id has room for the longest that is asked of it, its path behind it as it is. */
Test(gateway_sandbox_doc, target)
{
	static const char file[] = "/files?path=/workspace/.stacygate-01234567-89ab-cdef-0123-456789abcdef";
	char out[SANDBOX_DOC_TARGET_MAX_BYTES + 1];
	char longest[SANDBOX_DOC_ID_MAX_BYTES + 1];
	struct str target;

	cr_expect(str_eq(sandbox_doc_target(out, "sb-1", ""), STR("/api/v1/sandboxes/sb-1")));
	cr_expect(str_eq(sandbox_doc_target(out, "sb-1", "/extend"), STR("/api/v1/sandboxes/sb-1/extend")));
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	target = sandbox_doc_target(out, longest, file);
	cr_expect_eq(target.n, strlen("/api/v1/sandboxes/") + SANDBOX_DOC_ID_MAX_BYTES + sizeof(file) - 1);
	cr_expect(str_ends(target, STR(file)));
}
