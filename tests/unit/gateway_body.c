/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gateway/body: what goes to the server for what a client sent. malloc and calloc are wrapped here (-Wl,--wrap), so that
 * the n-th allocation can fail.
 */
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>

#include "gateway/body.h"
#include "gateway/body_limits.h"
#include "gateway/config.h"
#include "gateway/json_keys.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static long allocations_left = -1; /* -1: no limit */

static bool may_allocate(void)
{
	if (allocations_left == 0)
		return false;
	if (allocations_left > 0)
		allocations_left--;
	return true;
}

void *__wrap_malloc(size_t n)
{
	return may_allocate() ? __real_malloc(n) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return may_allocate() ? __real_calloc(n, size) : NULL;
}

static const struct body_policy plain = {.owner = "alice"};
static const struct body_policy stamped = {.owner = "alice", .stamp = true, .token = "t1"};

/* A case of a table: what is sent for `in`, or the status and a part of the text. */
struct body_case {
	const char *in;
	const char *out; /* NULL: refused */
	unsigned status;
	const char *why; /* a part of it */
};

static void judge(enum body_kind kind, const struct body_policy *policy, const struct body_case *c)
{
	size_t n = strlen(c->in);
	char *copy = malloc(n ? n : 1); /* exactly that size, so that a sanitizer sees a read beyond it */
	struct buf out = BUF_EMPTY;
	struct body_verdict v;

	cr_assert_not_null(copy);
	memcpy(copy, c->in, n);
	body_judge(kind, policy, str_of(copy, n), &out, &v);
	cr_expect_eq(v.status, c->status, "%s: %u %s", c->in, v.status, v.why);
	if (c->out)
		cr_expect(str_eq(buf_str(&out), str_from(c->out)), "%s:\n%.*s\n%s", c->in, STR_ARG(buf_str(&out)),
			  c->out);
	else
		cr_expect(c->why && strstr(v.why, c->why), "%s: %s", c->in, v.why);
	buf_fini(&out);
	free(copy);
}

static void judge_all(enum body_kind kind, const struct body_policy *policy, const struct body_case *cases, size_t n)
{
	for (size_t i = 0; i < n; i++)
		judge(kind, policy, &cases[i]);
}

/* C12: what two readers could understand differently, or is no JSON object, is 400 for every kind. */
Test(gateway_body, C12_malformed)
{
	static const struct body_case cases[] = {
		{"", NULL, 400, "invalid request body"},
		{" \n", NULL, 400, "invalid request body"},
		{"{", NULL, 400, "invalid request body"},
		{"[]", NULL, 400, "invalid request body"},
		{"1", NULL, 400, "invalid request body"},
		{"\"x\"", NULL, 400, "invalid request body"},
		{"{}{}", NULL, 400, "invalid request body"},
		{"{} x", NULL, 400, "invalid request body"},
		{"null null", NULL, 400, "invalid request body"},
		{"\xef\xbb\xbf{}", NULL, 400, "invalid request body"},
		{"{\"a\":01}", NULL, 400, "invalid request body"},
		{"{\"image\":\"a\",\"image\":\"b\"}", NULL, 400, "duplicate key"},
		{"{\"image\":\"a\",\"Image\":\"b\"}", NULL, 400, "duplicate key"},
		{"{\"image\":\"a\",\"\\u0049mage\":\"b\"}", NULL, 400, "duplicate key"},
		{"{\"owner_id\":\"alice\",\"owner_id\":\"bob\"}", NULL, 400, "duplicate key"},
		{"{\"xyz\":1,\"b\":2,\"XYZ\":3}", NULL, 400, "duplicate key"},
		{"{\"\":1,\"\":3}", NULL, 400, "duplicate key"},
		{"{\"vcpu\xc5\xbf\":64}", NULL, 400, "not ASCII"},
		{"{\"vcpu\\u017f\":64}", NULL, 400, "not ASCII"},
		{"{\"\\u212aey\":64}", NULL, 400, "not ASCII"},
		{"{\"\xff\":64}", NULL, 400, "not ASCII"},
		{"{\"metadata\":{\"a\":\"1\",\"a\":\"2\"}}", NULL, 400, "duplicate key in metadata"},
		{"{\"metadata\":{\"a\":\"1\",\"\\u0061\":\"2\"}}", NULL, 400, "duplicate key in metadata"},
		{"{\"ENV\":{\"a\":\"1\",\"b\":\"\",\"a\":\"2\"}}", NULL, 400, "duplicate key in env"},
	};
	static const enum body_kind kinds[] = {BODY_SPAWN, BODY_ADMISSION, BODY_EXTEND,
					       BODY_EXEC,  BODY_TEMPLATE,  BODY_TEMPLATE_SPAWN};

	for (size_t i = 0; i < COUNT(kinds); i++)
		judge_all(kinds[i], &plain, kinds[i] == BODY_TEMPLATE_SPAWN ? cases + 2 : cases,
			  COUNT(cases) - (kinds[i] == BODY_TEMPLATE_SPAWN ? 2 : 0));
	judge_all(BODY_ENVIRONMENT, &plain, cases, 21);
}

/* What needs no change is sent byte for byte, whatever it holds. */
Test(gateway_body, unchanged)
{
	static const char *const cases[] = {
		"{}",
		"null",
		" { \"command\" : \"echo \\u0000 \xff\" , \"args\":[1.50, 1e400, 99999999999999999999] }\n",
		"{\"env\":{\"a\":\"1\",\"A\":\"2\",\"\xc3\xa4\":\"\",\"\\u0000\":\"x\"}}",
		"{\"unknown\":{\"a\":1,\"a\":2},\"stream\":true}",
		"{\"env\":[],\"metadata\":5}",
		"{\"metadata\":{\"xstacygate.owner\":\"\",\"stacygat\":\"\",\"a\":5}}",
		"{\"created_at\":\"x\",\"key_that_is_longer_than_any_that_is_known\":1}",
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct body_case c = {cases[i], cases[i], 0, NULL};

		judge(BODY_EXEC, &stamped, &c);
		judge(BODY_TEMPLATE, &stamped, &c);
		judge(BODY_SPAWN, &plain, &c);
		judge(BODY_ENVIRONMENT, &stamped, &c);
	}
}

/* C12: the owner is the caller once, in whatever spelling it came; no tenant is left; known keys have one spelling. */
Test(gateway_body, C12_owner)
{
	static const struct body_case cases[] = {
		{"{\"owner_id\":\"bob\"}", "{\"owner_id\":\"alice\"}", 0, NULL},
		{"{\"Owner_ID\":\"bob\",\"x\":1}", "{\"owner_id\":\"alice\",\"x\":1}", 0, NULL},
		{"{\"\\u006fwner_id\":null}", "{\"owner_id\":\"alice\"}", 0, NULL},
		{"{\"owner_id\":{\"a\":1}}", "{\"owner_id\":\"alice\"}", 0, NULL},
		{"{\"tenant_id\":\"t\"}", "{}", 0, NULL},
		{"{\"a\":1,\"TENANT_ID\":\"t\",\"b\":2}", "{\"a\":1,\"b\":2}", 0, NULL},
		{"{ \"TenanT_id\" : \"t\" , \"owner_id\" : \"b\" , \"c\" : 1.0 }", "{\"owner_id\":\"alice\",\"c\":1.0}",
		 0, NULL},
	};
	static const struct body_case removed[] = {
		{"{\"owner_id\":\"bob\"}", "{}", 0, NULL},
		{"{\"Tenant_ID\":1,\"command\":\"x\",\"OWNER_ID\":2}", "{\"command\":\"x\"}", 0, NULL},
	};
	static const struct body_case spelled[] = {
		{"{\"IMAGE\":\"a\",\"Memory_MB\":1,\"Other\":2}", "{\"image\":\"a\",\"memory_mb\":1,\"Other\":2}", 0,
		 NULL},
		{"{\"\\u0069mage\":\"a\"}", "{\"image\":\"a\"}", 0, NULL},
		{"{\"image\\u0000\":\"a\"}", "{\"image\\u0000\":\"a\"}", 0, NULL},
	};
	static const enum body_kind removing[] = {BODY_EXEC, BODY_EXTEND, BODY_TEMPLATE, BODY_TEMPLATE_SPAWN};

	judge_all(BODY_SPAWN, &plain, cases, COUNT(cases));
	judge_all(BODY_ADMISSION, &plain, cases, COUNT(cases));
	judge_all(BODY_ENVIRONMENT, &plain, cases, COUNT(cases));
	for (size_t i = 0; i < COUNT(removing); i++)
		judge_all(removing[i], &stamped, removed, COUNT(removed));
	judge_all(BODY_SPAWN, &plain, spelled, COUNT(spelled));
	/* A map of any keys is not for us to spell. */
	judge(BODY_ENVIRONMENT, &plain, &(struct body_case){"{\"IMAGE\":1}", "{\"IMAGE\":1}", 0, NULL});
}

/* C12: no client sets what begins with the gateway's prefix, in any case, escape or kind. */
Test(gateway_body, C12_reserved_metadata)
{
	static const struct body_case cases[] = {
		{"{\"metadata\":{\"stacygate.owner\":\"bob\"}}", NULL, 400, "stacygate."},
		{"{\"metadata\":{\"a\":\"\",\"stacygate.\":\"\"}}", NULL, 400, "stacygate."},
		{"{\"METADATA\":{\"\\u0073tacygate.x\":\"\"}}", NULL, 400, "stacygate."},
		{"{\"metadata\":{\"Stacygate.Owner\":\"\"}}", NULL, 400, "stacygate."},
	};
	static const enum body_kind kinds[] = {BODY_SPAWN, BODY_ADMISSION, BODY_TEMPLATE, BODY_TEMPLATE_SPAWN};

	for (size_t i = 0; i < COUNT(kinds); i++) {
		judge_all(kinds[i], &plain, cases, COUNT(cases));
		judge_all(kinds[i], &stamped, cases, COUNT(cases));
	}
}

/* The stamp is added to metadata that can have it, and hides nothing that the server would refuse. */
Test(gateway_body, stamp)
{
#define STAMP "\"stacygate.owner\":\"alice\",\"stacygate.token\":\"t1\"}}"
	static const struct body_case cases[] = {
		{"null", "{\"metadata\":{" STAMP, 0, NULL},
		{"{}", "{\"metadata\":{" STAMP, 0, NULL},
		{"{\"image\":\"a\"}", "{\"image\":\"a\",\"metadata\":{" STAMP, 0, NULL},
		{"{\"Metadata\":null}", "{\"metadata\":{" STAMP, 0, NULL},
		{"{\"metadata\":{}}", "{\"metadata\":{" STAMP, 0, NULL},
		{"{\"metadata\":{ \"a\" : \"\\u0062\" }}", "{\"metadata\":{\"a\":\"\\u0062\"," STAMP, 0, NULL},
		{"{\"metadata\":{\"a\":1}}", "{\"metadata\":{\"a\":1," STAMP, 0, NULL},
		{"{\"metadata\":{\"a\":null,\"\":\"\"}}", "{\"metadata\":{\"a\":null,\"\":\"\"," STAMP, 0, NULL},
		{"{\"metadata\":[]}", NULL, 400, "invalid request body"},
		{"{\"metadata\":\"\"}", NULL, 400, "invalid request body"},
		{"{\"metadata\":0}", NULL, 400, "invalid request body"},
		{"{\"metadata\":false}", NULL, 400, "invalid request body"},
	};
	static const struct body_policy odd = {.owner = "a\"b<\xc3\xa4", .stamp = true};

	judge_all(BODY_SPAWN, &stamped, cases, COUNT(cases));
	judge_all(BODY_ADMISSION, &stamped, cases, COUNT(cases));
	judge(BODY_SPAWN, &odd,
	      &(struct body_case){"{}", "{\"metadata\":{\"stacygate.owner\":\"a\\\"b\\u003c\xc3\xa4\"}}", 0, NULL});
}

/* Metadata and image have bounds, both met exactly. */
Test(gateway_body, bounds)
{
	static const struct {
		const char *before, *after, *why;
		size_t max;
	} cases[] = {
		{"{\"metadata\":", "}", "metadata", BODY_METADATA_MAX_BYTES},
		{"{\"image\":", "}", "image", BODY_IMAGE_MAX_BYTES + 2},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		for (size_t over = 0; over <= 1; over++) {
			bool map = i == 0;
			struct buf text = BUF_EMPTY;
			size_t filler = cases[i].max + over - (map ? 8 : 2);

			buf_addf(&text, "%s%s", cases[i].before, map ? "{\"a\":\"" : "\"");
			for (size_t n = 0; n < filler; n++)
				buf_add_char(&text, 'x');
			buf_addf(&text, "%s%s", map ? "\"}" : "\"", cases[i].after);
			buf_add_char(&text, '\0');
			struct body_case c = {buf_data(&text), over ? NULL : buf_data(&text), over ? 400 : 0,
					      cases[i].why};
			judge(BODY_SPAWN, &plain, &c);
			judge(BODY_TEMPLATE, &plain, &c);
			buf_fini(&text);
		}
	}
	/* 512 characters of six bytes each are 512 bytes of a name. */
	struct buf text = BUF_EMPTY;
	buf_add_cstr(&text, "{\"image\":\"");
	for (int n = 0; n < BODY_IMAGE_MAX_BYTES; n++)
		buf_add_cstr(&text, "\\u0061");
	buf_add_cstr(&text, "\"}");
	buf_add_char(&text, '\0');
	judge(BODY_SPAWN, &plain, &(struct body_case){buf_data(&text), buf_data(&text), 0, NULL});
	buf_fini(&text);
}

/* spawn_defaults fill in what the server would take for absent; the client's metadata wins one by one. */
Test(gateway_body, defaults)
{
	static const struct body_policy policy = {
		.owner = "alice",
		.spawn_defaults = " {\"image\":\"python:3.12\",\"ttl\":\"30m\",\"memory_mb\":256,"
				  "\"metadata\":{\"team\":\"ci\",\"a\\u0062\":\"d\"}}",
	};
#define REST ",\"memory_mb\":256,\"ttl\":\"30m\",\"metadata\":{\"team\":\"ci\",\"a\\u0062\":\"d\"}}"
	static const struct body_case cases[] = {
		{"{}", "{\"image\":\"python:3.12\"" REST, 0, NULL},
		{"null", "{\"image\":\"python:3.12\"" REST, 0, NULL},
		{"{\"image\":\"\"}", "{\"image\":\"python:3.12\"" REST, 0, NULL},
		{"{\"image\":null}", "{\"image\":\"python:3.12\"" REST, 0, NULL},
		{"{\"image\":\"a\"}", "{\"image\":\"a\"" REST, 0, NULL},
		{"{\"image\":\"a\",\"ttl\":\"0s\",\"memory_mb\":-1,\"metadata\":{\"ab\":\"mine\",\"team\":null}}",
		 "{\"image\":\"a\",\"ttl\":\"0s\",\"memory_mb\":-1,\"metadata\":{\"ab\":\"mine\",\"team\":null}}", 0,
		 NULL},
		{"{\"image\":\"a\",\"memory_mb\":0,\"ttl\":\"\",\"metadata\":{\"ab\":\"mine\"}}",
		 "{\"image\":\"a\",\"memory_mb\":256,\"ttl\":\"30m\",\"metadata\":{\"ab\":\"mine\",\"team\":\"ci\"}}",
		 0, NULL},
		{"{\"image\":\"a\",\"memory_mb\":-0,\"ttl\":\"1h\",\"metadata\":[]}",
		 "{\"image\":\"a\",\"memory_mb\":256,\"ttl\":\"1h\",\"metadata\":[]}", 0, NULL},
	};

	judge_all(BODY_SPAWN, &policy, cases, COUNT(cases));
	judge_all(BODY_ADMISSION, &policy, cases, COUNT(cases));
	judge(BODY_EXEC, &policy, &(struct body_case){"{}", "{}", 0, NULL});
	judge(BODY_EXTEND, &policy, &(struct body_case){"{}", "{}", 0, NULL});
}

static const struct config_limits limits = {
	.max_ttl_ms = 2 * 3600 * 1000,
	.max_memory_mb = 4096,
	.max_vcpus = 4,
};

static const struct body_policy limited = {.owner = "alice", .limits = &limits};

/* C17: a limited number that is absent, null, empty or zero is sent as the limit; none above it goes to the server. */
Test(gateway_body, C17_numbers)
{
#define MEMORY(text) "{\"memory_mb\":" text ",\"vcpus\":4,\"ttl\":\"2h0m0s\"}"
	static const struct body_case cases[] = {
		{"{}", MEMORY("4096"), 0, NULL},
		{"null", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":null}", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":0}", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":-0}", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":\"\"}", MEMORY("4096"), 0, NULL},
		{"{\"MEMORY_MB\":1}", MEMORY("1"), 0, NULL},
		{"{\"memory_mb\":4096}", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":4097}", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":9223372036854775807}", MEMORY("4096"), 0, NULL},
		{"{\"memory_mb\":9223372036854775808}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":99999999999999999999999}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":-1}", NULL, 400, "memory_mb is negative"},
		{"{\"memory_mb\":1.5}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":1e3}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":0.0}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":\"5\"}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":[]}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":false}", NULL, 400, "memory_mb"},
		{"{\"memory_mb\":1,\"vcpus\":-1}", NULL, 400, "vcpus is negative"},
		{"{\"memory_mb\":1,\"vcpus\":64}", MEMORY("1"), 0, NULL},
	};

	judge_all(BODY_SPAWN, &limited, cases, COUNT(cases));
	judge_all(BODY_ADMISSION, &limited, cases, COUNT(cases));
}

/* C17: the same for a ttl, which is a duration as Go reads it. */
Test(gateway_body, C17_ttl)
{
#define TTL(text) "{\"ttl\":\"" text "\",\"memory_mb\":4096,\"vcpus\":4}"
	static const struct body_case cases[] = {
		{"{\"ttl\":null}", TTL("2h0m0s"), 0, NULL},
		{"{\"ttl\":\"\"}", TTL("2h0m0s"), 0, NULL},
		{"{\"ttl\":\"0\"}", TTL("2h0m0s"), 0, NULL},
		{"{\"ttl\":\"0s\"}", TTL("2h0m0s"), 0, NULL},
		{"{\"ttl\":\"-0h\"}", TTL("2h0m0s"), 0, NULL},
		{"{\"ttl\":\"1h59m59.5s\"}", TTL("1h59m59.5s"), 0, NULL},
		{"{\"ttl\":\"2h\"}", TTL("2h"), 0, NULL},
		{"{\"ttl\":\"2h1ns\"}", TTL("2h0m0s"), 0, NULL},
		{"{\"TTL\":\"2000000h\"}", TTL("2h0m0s"), 0, NULL},
		{"{\"ttl\":\"-1s\"}", NULL, 400, "ttl is negative"},
		{"{\"ttl\":\"99999999999h\"}", NULL, 400, "ttl is no duration"},
		{"{\"ttl\":\"1d\"}", NULL, 400, "ttl is no duration"},
		{"{\"ttl\":\"30\"}", NULL, 400, "ttl is no duration"},
		{"{\"ttl\":\"1h\\u0000\"}", NULL, 400, "ttl is no duration"},
		{"{\"ttl\":30}", NULL, 400, "ttl is no duration"},
		{"{\"ttl\":{}}", NULL, 400, "ttl is no duration"},
	};
	static const struct body_case extend[] = {
		{"{}", "{}", 0, NULL},
		{"{\"ttl\":null}", "{\"ttl\":null}", 0, NULL},
		{"{\"ttl\":\"\"}", "{\"ttl\":\"\"}", 0, NULL},
		{"{\"ttl\":\"0s\"}", "{\"ttl\":\"0s\"}", 0, NULL},
		{"{\"ttl\": \"2h\" }", "{\"ttl\": \"2h\" }", 0, NULL},
		{"{\"Ttl\":\"2h1s\"}", "{\"ttl\":\"2h0m0s\"}", 0, NULL},
		{"{\"ttl\":\"-1s\"}", NULL, 400, "ttl is negative"},
		{"{\"ttl\":\"soon\"}", NULL, 400, "ttl is no duration"},
		{"{\"ttl\":5}", NULL, 400, "ttl is no duration"},
	};
	static const struct body_case unlimited[] = {
		{"{\"ttl\":\"soon\"}", "{\"ttl\":\"soon\"}", 0, NULL},
		{"{\"ttl\":\"-1s\",\"memory_mb\":-1}", "{\"ttl\":\"-1s\",\"memory_mb\":-1}", 0, NULL},
	};
	static const struct config_limits none = {.requests_per_second = 1};
	const struct body_policy other = {.owner = "alice", .limits = &none};

	judge_all(BODY_SPAWN, &limited, cases, COUNT(cases));
	judge_all(BODY_EXTEND, &limited, extend, COUNT(extend));
	judge_all(BODY_TEMPLATE_SPAWN, &limited, extend, COUNT(extend));
	judge_all(BODY_SPAWN, &plain, unlimited, COUNT(unlimited));
	judge_all(BODY_SPAWN, &other, unlimited, COUNT(unlimited));
	judge_all(BODY_EXTEND, &plain, unlimited, COUNT(unlimited));
}

/* What was lowered is named, what was only made explicit is not. */
Test(gateway_body, clamped)
{
	static const struct {
		const char *in, *line;
	} cases[] = {
		{"{}", ""},
		{"{\"ttl\":\"1h\",\"memory_mb\":1,\"vcpus\":1}", ""},
		{"{\"ttl\":\"3h\",\"memory_mb\":9999}", "Stacygate-Clamped: ttl, memory_mb\r\n"},
		{"{\"ttl\":\"3h\",\"memory_mb\":9999,\"vcpus\":5}", "Stacygate-Clamped: ttl, memory_mb, vcpus\r\n"},
		{"{\"vcpus\":5}", "Stacygate-Clamped: vcpus\r\n"},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		struct buf out = BUF_EMPTY;
		struct buf line = BUF_EMPTY;
		struct body_verdict v;

		body_judge(BODY_SPAWN, &limited, str_from(cases[i].in), &out, &v);
		body_add_clamped(v.clamped, &line);
		cr_expect(str_eq(buf_str(&line), str_from(cases[i].line)), "%s: %.*s", cases[i].in,
			  STR_ARG(buf_str(&line)));
		buf_fini(&line);
		buf_fini(&out);
	}
}

/* C17: images and providers are those that are named, and something must be named. */
Test(gateway_body, C17_names)
{
	static char *images[] = {"python:*", "ghcr.io/team/*:1"};
	static char *providers[] = {"docker"};
	static const struct config_limits names = {
		.nimages = 2, .images = images, .nproviders = 1, .providers = providers};
	const struct body_policy policy = {.owner = "alice", .limits = &names};
	const struct body_policy defaulted = {.owner = "alice",
					      .limits = &names,
					      .spawn_defaults = "{\"image\":\"python:3\",\"provider\":\"docker\"}"};
#define NAMED(image) "{\"image\":" image ",\"provider\":\"docker\"}"
	static const struct body_case cases[] = {
		{NAMED("\"python:3.12\""), NAMED("\"python:3.12\""), 0, NULL},
		{NAMED("\"python:\""), NAMED("\"python:\""), 0, NULL},
		{NAMED("\"ghcr.io/team/x:1\""), NAMED("\"ghcr.io/team/x:1\""), 0, NULL},
		{"{\"Image\":\"python:3\",\"PROVIDER\":\"docker\"}", NAMED("\"python:3\""), 0, NULL},
		{"{\"image\":\"python:3\",\"provider\":\"docker\",\"Template\":\"t\"}", NAMED("\"python:3\""), 0, NULL},
		{NAMED("\"python:5000/x\""), NULL, 403, "limits.images"},
		{NAMED("\"python\""), NULL, 403, "limits.images"},
		{NAMED("\"xpython:3\""), NULL, 403, "limits.images"},
		{NAMED("\"Python:3\""), NULL, 403, "limits.images"},
		{NAMED("\"ghcr.io/team/a/x:1\""), NULL, 403, "limits.images"},
		{NAMED("\"ghcr.io/team/x:2\""), NULL, 403, "limits.images"},
		{NAMED("\"python:3\\u0000\""), NULL, 400, "image is no name"},
		{NAMED("5"), NULL, 400, "image is no name"},
		{NAMED("\"\""), NULL, 400, "image is required"},
		{NAMED("null"), NULL, 400, "image is required"},
		{"{\"provider\":\"docker\"}", NULL, 400, "image is required"},
		{"{\"image\":\"python:3\"}", NULL, 400, "provider is required"},
		{"{\"image\":\"python:3\",\"provider\":\"e2b\"}", NULL, 403, "limits.providers"},
	};
	static const struct body_case filled[] = {
		{"{}", NAMED("\"python:3\""), 0, NULL},
		{"{\"image\":\"\",\"provider\":null}", NAMED("\"python:3\""), 0, NULL},
		{"{\"image\":\"evil\"}", NULL, 403, "limits.images"},
	};

	judge_all(BODY_SPAWN, &policy, cases, COUNT(cases));
	judge_all(BODY_ADMISSION, &policy, cases, COUNT(cases));
	judge_all(BODY_SPAWN, &defaulted, filled, COUNT(filled));
}

/* Under limits the defaults fill in first, a ttl of no time included, and are limited too. */
Test(gateway_body, C17_defaults)
{
	static const struct body_policy policy = {
		.owner = "alice", .limits = &limits, .spawn_defaults = "{\"ttl\":\"30m\",\"memory_mb\":8192}"};
	static const struct body_case cases[] = {
		{"{}", "{\"memory_mb\":4096,\"vcpus\":4,\"ttl\":\"30m\"}", 0, NULL},
		{"{\"ttl\":\"0s\"}", "{\"ttl\":\"30m\",\"memory_mb\":4096,\"vcpus\":4}", 0, NULL},
		{"{\"ttl\":\"-1s\"}", NULL, 400, "ttl is negative"},
		{"{\"memory_mb\":5,\"ttl\":\"1s\"}", "{\"memory_mb\":5,\"ttl\":\"1s\",\"vcpus\":4}", 0, NULL},
	};

	judge_all(BODY_SPAWN, &policy, cases, COUNT(cases));
}

/* A star stands for any run without a slash. */
Test(gateway_body, patterns)
{
	static const struct {
		const char *pattern, *text;
		bool match;
	} cases[] = {
		{"", "", true},          {"", "a", false},          {"a", "a", true},        {"a", "", false},
		{"*", "", true},         {"*", "abc", true},        {"*", "a/b", false},     {"**", "ab", true},
		{"a*", "a", true},       {"a*c", "abbc", true},     {"a*c", "abcbc", true},  {"a*c", "abcb", false},
		{"*a*b", "xaxab", true}, {"*/*", "a/b", true},      {"*/*", "a/b/c", false}, {"*/b", "a/b", true},
		{"a/*", "a/", true},     {"*a/*b", "xa/yb", true},  {"*b", "a/b", false},    {"a*/x*", "ab/y", false},
		{"*:1", "a:1:1", true},  {"*a/b", "aa/a/b", false}, {"a*b*", "a/b", false},  {"/*", "//", false},
	};

	for (size_t i = 0; i < COUNT(cases); i++)
		cr_expect_eq(body_limits_match(str_from(cases[i].pattern), str_from(cases[i].text)), cases[i].match,
			     "%s on %s", cases[i].pattern, cases[i].text);
}

/* C13: a template spawn becomes an ordinary one: override, template, default, in this order, and the stamp. */
Test(gateway_body, C13_template)
{
#define NAME          "\"name\":\"t\""
#define STAMPED(rest) rest "\"stacygate.owner\":\"alice\",\"stacygate.token\":\"t1\"}}"
	static const char template[] =
		"{" NAME ",\"version\":1,\"image\":\"python:3\",\"setup\":[\"x\"],\"memory_mb\":512,\"cpu_cores\":2,"
		"\"ttl_seconds\":300,\"env\":{},\"pool_size\":0,\"created_at\":\"x\"}\n";
	static const struct {
		const char *template, *overrides;
		struct body_case c;
	} cases[] = {
		{template,
		 "",
		 {NULL,
		  STAMPED("{\"image\":\"python:3\",\"memory_mb\":512,\"vcpus\":2,\"ttl\":\"300s\","
			  "\"metadata\":{\"template\":\"t\","),
		  0, NULL}},
		{template,
		 "null",
		 {NULL,
		  STAMPED("{\"image\":\"python:3\",\"memory_mb\":512,\"vcpus\":2,\"ttl\":\"300s\","
			  "\"metadata\":{\"template\":\"t\","),
		  0, NULL}},
		{template,
		 "{\"TTL\":\"1h\",\"provider\":\"p\",\"memory_mb\":5,\"vcpus\":1,\"image\":\"evil\",\"owner_id\":"
		 "\"bob\","
		 "\"metadata\":{\"a\":\"b\",\"template\":\"x\"}}",
		 {NULL,
		  STAMPED("{\"image\":\"python:3\",\"provider\":\"p\",\"memory_mb\":5,\"vcpus\":1,\"ttl\":\"1h\","
			  "\"metadata\":{\"a\":\"b\",\"template\":\"t\","),
		  0, NULL}},
		{"{" NAME ",\"image\":\"\",\"memory_mb\":0,\"cpu_cores\":0,\"ttl_seconds\":0}",
		 "{\"ttl\":\"\"}",
		 {NULL, STAMPED("{\"ttl\":\"0s\",\"metadata\":{\"template\":\"t\","), 0, NULL}},
		{"{" NAME ",\"vcpus\":3,\"ttl\":\"5m\",\"provider\":\"p\",\"metadata\":{\"a\":\"1\",\"c\":\"3\","
		 "\"template\":\"y\"}}",
		 "{\"metadata\":{\"a\":\"2\"}}",
		 {NULL,
		  STAMPED("{\"provider\":\"p\",\"vcpus\":3,\"ttl\":\"5m\",\"metadata\":{\"c\":\"3\",\"a\":\"2\","
			  "\"template\":\"t\","),
		  0, NULL}},
		{template,
		 "{\"metadata\":null}",
		 {NULL,
		  STAMPED("{\"image\":\"python:3\",\"memory_mb\":512,\"vcpus\":2,\"ttl\":\"300s\","
			  "\"metadata\":{\"template\":\"t\","),
		  0, NULL}},
		{template, "{", {NULL, NULL, 400, "invalid request body"}},
		{template, "{\"ttl\":\"1h\",\"TTL\":\"2h\"}", {NULL, NULL, 400, "duplicate key"}},
		{template, "{\"metadata\":[]}", {NULL, NULL, 400, "invalid request body"}},
		{template, "{\"metadata\":{\"stacygate.owner\":\"bob\"}}", {NULL, NULL, 400, "stacygate."}},
		{"{" NAME ",\"metadata\":{\"stacygate.owner\":\"bob\"}}", "", {NULL, NULL, 400, "stacygate."}},
		{"{" NAME ",\"metadata\":5}", "", {NULL, NULL, 502, "template"}},
		{"{\"image\":\"a\"}", "", {NULL, NULL, 502, "template"}},
		{"{\"name\":5}", "", {NULL, NULL, 502, "template"}},
		{"", "", {NULL, NULL, 502, "template"}},
		{"[]", "", {NULL, NULL, 502, "template"}},
		{"{" NAME ",\"image\":\"a\",\"image\":\"b\"}", "", {NULL, NULL, 502, "template"}},
	};

	for (size_t i = 0; i < COUNT(cases); i++) {
		const struct body_case *c = &cases[i].c;
		struct buf out = BUF_EMPTY;
		struct body_verdict v;

		body_from_template(&stamped, str_from(cases[i].template), str_from(cases[i].overrides), &out, &v);
		cr_expect_eq(v.status, c->status, "%zu: %u %s", i, v.status, v.why);
		if (c->out)
			cr_expect(str_eq(buf_str(&out), str_from(c->out)), "%zu:\n%.*s\n%s", i, STR_ARG(buf_str(&out)),
				  c->out);
		else
			cr_expect(strstr(v.why, c->why), "%zu: %s", i, v.why);
		buf_fini(&out);
	}
}

/* C13, C17: a template brings nothing past the limits. */
Test(gateway_body, C17_template)
{
	static char *images[] = {"python:*"};
	static const struct config_limits all = {
		.max_ttl_ms = 60000, .max_memory_mb = 100, .max_vcpus = 1, .nimages = 1, .images = images};
	const struct body_policy policy = {.owner = "alice", .limits = &all};
	struct buf out = BUF_EMPTY;
	struct body_verdict v;

	body_from_template(&policy,
			   STR("{\"name\":\"t\",\"image\":\"python:3\",\"memory_mb\":512,\"cpu_cores\":2,"
			       "\"ttl_seconds\":300}"),
			   STR(""), &out, &v);
	cr_expect_eq(v.status, 0, "%s", v.why);
	cr_expect_eq(v.clamped, BODY_CLAMPED_TTL | BODY_CLAMPED_MEMORY_MB | BODY_CLAMPED_VCPUS);
	cr_expect(str_eq(buf_str(&out), STR("{\"image\":\"python:3\",\"memory_mb\":100,\"vcpus\":1,\"ttl\":\"1m0s\","
					    "\"metadata\":{\"template\":\"t\"}}")),
		  "%.*s", STR_ARG(buf_str(&out)));
	buf_reset(&out);
	body_from_template(&policy, STR("{\"name\":\"t\",\"image\":\"evil\"}"), STR(""), &out, &v);
	cr_expect_eq(v.status, 403);
	body_from_template(&policy, STR("{\"name\":\"t\"}"), STR("{\"image\":\"python:3\"}"), &out, &v);
	cr_expect_eq(v.status, 400);
	body_from_template(&policy, STR("{\"name\":\"t\",\"image\":\"python:3\",\"ttl_seconds\":-5}"), STR(""), &out,
			   &v);
	cr_expect_eq(v.status, 400);
	buf_fini(&out);
}

/* An empty body is one for a template spawn alone. */
Test(gateway_body, empty)
{
	judge(BODY_TEMPLATE_SPAWN, &stamped, &(struct body_case){"", "", 0, NULL});
	judge(BODY_TEMPLATE_SPAWN, &stamped, &(struct body_case){" \n", "", 0, NULL});
}

/* So many keys are judged and so many more are refused, at the top level and in a map. */
Test(gateway_body, many_keys)
{
	for (int where = 0; where < 2; where++) {
		for (int over = 0; over <= 1; over++) {
			struct buf text = BUF_EMPTY;
			struct buf out = BUF_EMPTY;
			struct body_verdict v;

			buf_add_cstr(&text, where ? "{\"env\":{" : "{");
			for (int i = 0; i < JSON_KEYS_MAX + over; i++)
				buf_addf(&text, "%s\"%d\":1", i ? "," : "", i);
			buf_add_cstr(&text, where ? "}}" : "}");
			body_judge(BODY_EXEC, &plain, buf_str(&text), &out, &v);
			cr_expect_eq(v.status, over ? 400 : 0, "%s", v.why);
			if (!over)
				cr_expect(str_eq(buf_str(&out), buf_str(&text)));
			buf_fini(&out);
			buf_fini(&text);
		}
	}
}

/* Whichever allocation fails, the answer is 503 and nothing is leaked; enough of them, and it is the right one. */
Test(gateway_body, no_memory)
{
	static const struct body_policy policy = {.owner = "alice",
						  .stamp = true,
						  .token = "t1",
						  .limits = &limits,
						  .spawn_defaults = "{\"image\":\"a\",\"metadata\":{\"d\":\"e\"}}"};
	static const char in[] = "{\"owner_id\":\"b\",\"ttl\":\"9h\",\"memory_mb\":1,\"metadata\":{\"a\":\"b\"}}";
	static const char template[] = "{\"name\":\"t\",\"metadata\":{\"m\":\"n\"},\"ttl_seconds\":5}";
	bool done[2] = {false, false};
	long most = 0;

	for (int which = 0; which < 2; which++) {
		for (long n = 0; !done[which] && n < 1000; n++) {
			struct buf out = BUF_EMPTY;
			struct body_verdict v;

			allocations_left = n;
			if (which)
				body_from_template(&policy, STR(template), STR(in), &out, &v);
			else
				body_judge(BODY_SPAWN, &policy, STR(in), &out, &v);
			allocations_left = -1;
			cr_expect(v.status == 503 || (v.status == 0 && !out.failed), "%ld: %u", n, v.status);
			done[which] = v.status == 0;
			most = n;
			buf_fini(&out);
		}
		cr_expect(done[which]);
	}
	cr_expect_gt(most, 10, "only %ld allocations", most);
}

/* Keys are found by what they stand for. */
Test(gateway_body, keys)
{
	struct json_keys keys;

	cr_assert_eq(json_keys_init(&keys, STR("{\"b\":1,\"\\u0061\":2,\"\":3,\"bb\":{\"c\":4}}"), JSON_KEYS_EXACT), 0);
	cr_expect(json_keys_has(&keys, STR("a")));
	cr_expect(json_keys_has(&keys, STR("b")));
	cr_expect(json_keys_has(&keys, STR("")));
	cr_expect(json_keys_has(&keys, STR("bb")));
	cr_expect(!json_keys_has(&keys, STR("c")));
	cr_expect(!json_keys_has(&keys, STR("B")));
	json_keys_fini(&keys);
	cr_assert_eq(json_keys_init(&keys, STR("{}"), JSON_KEYS_FOLDED), 0);
	cr_expect(!json_keys_has(&keys, STR("")));
	json_keys_fini(&keys);
}
