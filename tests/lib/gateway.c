/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/gateway.h"

#include <criterion/criterion.h>
#include <criterion/logging.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "lib/wait.h"
#include "lib/wire.h"

static struct gw *current; /* of the running test, so that gw_fini finds it */

static void add_section(struct buf *out, const char *name, const char *content)
{
	if (content)
		buf_addf(out, "    %s: { %s }\n", name, content);
}

void gw_configure(struct gw *gw, const struct gw_options *options)
{
	struct buf text = BUF_EMPTY;
	const struct gw_options none = {0};

	options = options ? options : &none;
	buf_addf(&text, "listen:\n  - path: %s\n    mode: \"0666\"\n", gw->socket);
	if (options->listen)
		buf_addf(&text, "%s\n", options->listen);
	buf_addf(&text, "upstreams:\n  main:\n    url: %s\n",
		 gw->up ? upstream_url(gw->up) : scratch_path(&gw->dir, "nowhere.sock"));
	add_section(&text, "pool", options->pool);
	add_section(&text, "timeouts", options->timeouts);
	buf_addf(&text, "credentials:\n  team:\n    api_key: { file: %s }\n", gw->key_file);
	if (options->clients)
		buf_addf(&text, "clients: %s\n", options->clients);
	else
		buf_addf(&text,
			 "clients:\n  - name: me\n    match: { uid: %u }\n    upstream: main\n    credential: team\n"
			 "    user_id: \"%s\"\n    admin: true\n",
			 (unsigned)getuid(), GW_USER_ID);
	buf_addf(&text, "log: { %s }\n", options->log ? options->log : "level: debug, access: stderr");
	if (options->top)
		buf_addf(&text, "%s\n", options->top);
	scratch_file(&gw->dir, "stacygate.yaml", 0644, buf_data(&text), text.len);
	buf_fini(&text);
}

struct gw *gw_prepare(const struct gw_options *options)
{
	const struct gw_options none = {0};
	struct gw *gw = calloc(1, sizeof(*gw));

	cr_assert_not_null(gw);
	current = gw;
	options = options ? options : &none;
	scratch_init(&gw->dir);
	snprintf(gw->socket, sizeof(gw->socket), "%s/gw.sock", gw->dir.path);
	snprintf(gw->config, sizeof(gw->config), "%s/stacygate.yaml", gw->dir.path);
	snprintf(gw->key_file, sizeof(gw->key_file), "%s/team.key", gw->dir.path);
	snprintf(gw->upstream_path, sizeof(gw->upstream_path), "%s/up.sock", gw->dir.path);
	scratch_text(&gw->dir, "team.key", 0600, GW_KEY "\n");
	if (options->uid) {
		cr_assert_eq(chown(gw->key_file, options->uid, options->uid), 0);
		cr_assert_eq(chown(gw->dir.path, options->uid, options->uid), 0);
	}
	gw->up = upstream_start(options->tcp ? NULL : gw->upstream_path, options->scripts, options->nscripts);
	if (options->no_upstream)
		upstream_refuse(gw->up);
	gw_configure(gw, options);
	gw->argv[0] = "-c";
	gw->argv[1] = gw->config;
	return gw;
}

void gw_run(struct gw *gw, const struct gw_options *options)
{
	struct daemon_spec spec = {
		.argv = gw->argv,
		.env = options ? options->env : NULL,
		.uid = options ? options->uid : 0,
		.ready_socket = gw->socket,
	};

	gw->daemon = daemon_start(&gw->dir, &spec);
}

struct gw *gw_start(const struct gw_options *options)
{
	struct gw *gw = gw_prepare(options);

	gw_run(gw, options);
	return gw;
}

void gw_stop(struct gw *gw)
{
	struct daemon *d = gw->daemon;

	gw->daemon = NULL;
	daemon_stop(d);
	gw_fini();
}

void gw_fini(void)
{
	daemon_kill_all();
	if (!current)
		return;
	upstream_stop(current->up);
	scratch_fini(&current->dir);
	free(current);
	current = NULL;
}

struct raw gw_connect(struct gw *gw)
{
	return raw_unix(gw->socket);
}

struct answer gw_ask(struct gw *gw, const char *format, ...)
{
	struct answer a;
	char *request;
	va_list ap;

	va_start(ap, format);
	cr_assert_geq(vasprintf(&request, format, ap), 0);
	va_end(ap);
	a = raw_once(gw->socket, request);
	free(request);
	return a;
}

json_t *answer_json(const struct answer *a)
{
	json_error_t fault;
	json_t *json = json_loadb(a->body.len ? buf_data(&a->body) : "", a->body.len, JSON_REJECT_DUPLICATES, &fault);

	cr_assert_not_null(json, "the body is no JSON: %s: %.*s", fault.text, STR_ARG(buf_str(&a->body)));
	return json;
}

json_t *gw_get(struct gw *gw, const char *path)
{
	struct answer a = gw_ask(gw, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
	json_t *json;

	expect_status(&a, 200);
	json = answer_json(&a);
	answer_fini(&a);
	return json;
}

/* The value at a dotted path; NULL when there is none. */
static json_t *json_at(json_t *at, const char *path)
{
	struct str rest = str_from(path);

	while (at && rest.n) {
		struct str word = str_cut(&rest, '.');
		char key[64];

		snprintf(key, sizeof(key), "%.*s", STR_ARG(word));
		at = json_is_array(at) ? json_array_get(at, strtoul(key, NULL, 10)) : json_object_get(at, key);
	}
	return at;
}

json_int_t json_number_at(json_t *root, const char *path)
{
	json_t *value = json_at(root, path);

	if (!json_is_integer(value)) {
		char *text = json_dumps(root, JSON_INDENT(1));

		cr_log_error("%s", text);
		free(text);
	}
	cr_assert(json_is_integer(value), "no number at %s", path);
	return json_integer_value(value);
}

const char *json_text_at(json_t *root, const char *path)
{
	json_t *value = json_at(root, path);

	cr_assert(json_is_string(value), "no text at %s", path);
	return json_string_value(value);
}

void expect_status(const struct answer *a, unsigned status)
{
	cr_assert_eq(a->end, ANSWER_COMPLETE, "no complete answer (%d), expected %u; head: %.*s", (int)a->end, status,
		     STR_ARG(buf_str(&a->head)));
	cr_assert_eq(a->status, status, "status %u, expected %u; body: %.*s", a->status, status,
		     STR_ARG(buf_str(&a->body)));
}

void expect_error(const struct answer *a, unsigned status, const char *code)
{
	json_t *json;

	expect_status(a, status);
	cr_assert(wire_header_is(answer_head(a), "Stacygate-Error", code), "Stacygate-Error is not %s: %.*s", code,
		  STR_ARG(buf_str(&a->head)));
	json = answer_json(a);
	cr_assert_str_eq(json_text_at(json, "code"), code);
	cr_assert_gt(strlen(json_text_at(json, "message")), 0);
	json_decref(json);
	cr_assert(wire_count(answer_head(a), "X-Request-ID") == 1, "an error without X-Request-ID");
}
