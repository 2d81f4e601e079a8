/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libFuzzer target: what stacygate-local reads of a request beside its framing. The first line is a target, the rest a
 * body. Whatever comes in, what is written back from it must be JSON again.
 */
#include <stdint.h>
#include <stdlib.h>

#include "common/check.h"
#include "local/exec_spec.h"
#include "local/file_mode.h"
#include "local/go_json.h"
#include "local/preview_host.h"
#include "local/query.h"
#include "local/route.h"
#include "local/spawn_spec.h"
#include "local/templates.h"
#include "local/utf8_tail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_is_json(struct buf *out)
{
	json_error_t error;
	json_t *again = json_loadb(buf_data(out), out->len, JSON_ALLOW_NUL, &error);

	CHECK(again);
	json_decref(again);
	buf_fini(out);
}

static void read_target(struct str target)
{
	struct str query = target;
	struct str path = str_cut(&query, '?');
	struct route_match match;
	struct buf value = BUF_EMPTY;
	char *decoded;

	for (int method = METHOD_GET; method <= METHOD_OPTIONS; method++) {
		if (route_find((enum http_method)method, path, &match) != ROUTE_FOUND)
			continue;
		CHECK(match.route < ROUTE_COUNT);
		decoded = malloc(match.param.n + 1);
		CHECK(decoded);
		CHECK(route_decode_param(match.param, decoded) <= (ssize_t)match.param.n);
		free(decoded);
	}
	if (query_get(query, STR("path"), &value))
		CHECK(value.len <= query.n);
	buf_fini(&value);
}

static void read_host(struct str host)
{
	struct preview_host preview;

	if (preview_host_parse(host, &preview) == PREVIEW_HOST_OK)
		CHECK(preview.port && str_starts(str_from(preview.id), STR("sb-")) && strlen(preview.id) < host.n);
}

static void read_spawn(const json_t *doc)
{
	struct spawn_fields f = {0};
	size_t n;
	const struct go_field *table = spawn_fields_table(&n);
	int64_t ns;

	if (go_json_bind(doc, table, n, &f))
		return;
	spawn_fields_complete(&f, NULL);
	CHECK(f.image.n && f.memory_mb && f.vcpus);
	(void)spawn_owner_fault(f.owner_id);
	(void)!spawn_ttl(&f, NULL, &ns);
	json_decref(spawn_metadata(&f, NULL));
}

static void read_exec(const json_t *doc)
{
	struct exec_fields f = {0};
	struct exec_command cmd;
	size_t n;
	const struct go_field *table = exec_fields_table(&n);

	if (go_json_bind(doc, table, n, &f))
		return;
	for (int mode = EXEC_SHELL; mode <= EXEC_ARGV; mode++) {
		if (exec_command_init(&cmd, &f, (enum exec_mode)mode) == 0)
			for (size_t i = 0; i < cmd.spec.nenv; i++)
				CHECK(memchr(cmd.spec.env[i].p, '=', cmd.spec.env[i].n));
		exec_command_fini(&cmd);
	}
	(void)exec_mode_of(f.mode);
}

static void read_template(const json_t *doc)
{
	struct template t = {.name = STR("t")};
	struct buf out = BUF_EMPTY;
	struct json_writer w = json_writer(&out);

	if (template_fields_read(doc, &t.fields))
		return;
	template_fields_default(&t.fields);
	template_write(&t, &w, NULL, t.fields.created_at);
	check_is_json(&out);
}

/* Cut anywhere, the pieces pass on every byte. */
static void pass_pieces(struct str body)
{
	struct utf8_tail tail = {.n = 0};
	struct buf out = BUF_EMPTY;
	size_t total = 0;

	for (size_t at = 0; at < body.n;) {
		size_t n = 1 + (unsigned char)body.p[at] % 7;
		if (n > body.n - at)
			n = body.n - at;
		utf8_tail_pass(&tail, str_of(body.p + at, n), &out);
		total += out.len;
		buf_reset(&out);
		at += n;
	}
	CHECK(total + tail.n == body.n);
	buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str body = str_of((const char *)data, size);
	struct str target = str_cut(&body, '\n');
	unsigned mode;
	json_t *doc;

	read_target(target);
	read_host(target);
	(void)exec_wants_exit(target);
	(void)!file_mode_parse(target, &mode);
	pass_pieces(body);
	if (go_json_parse(body, &doc))
		return 0;
	read_spawn(doc);
	read_exec(doc);
	read_template(doc);
	json_decref(doc);
	return 0;
}
