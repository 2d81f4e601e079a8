/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration as values: exact places of faults, what covers what, defaults, and -T's text read again. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gateway/config.h"
#include "gateway/config_yaml.h"
#include "gateway/route_class.h"
#include "lib/scratch.h"
#include "lib/wait.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define GRANT        "allow: [all], isolation: none"
#define LOCAL(match) "clients: [ { name: me, match: " match ", user_id: x, " GRANT " } ]\n"

static struct scratch dir;
static struct config_places places;

static void begin(void)
{
	scratch_init(&dir);
	setenv("RUNTIME_DIRECTORY", dir.path, 1);
	setenv("STATE_DIRECTORY", dir.path, 1);
	cr_assert_eq(config_places_init(&places), 0);
}

static void end(void)
{
	config_places_fini(&places);
	scratch_fini(&dir);
}

TestSuite(gateway_config, .init = begin, .fini = end, .timeout = 60);

/* Loads a text; NULL and the faults, or the configuration. */
static struct config *load_bytes(const char *text, size_t n, struct buf *faults)
{
	struct config *c = NULL;
	int rc = config_load(scratch_file(&dir, "c.yaml", 0644, text, n), &places, &c, faults);

	cr_assert_eq(rc == 0, c != NULL);
	cr_assert_eq(rc == 0, faults->len == 0, "%.*s", STR_ARG(buf_str(faults)));
	return c;
}

static struct config *load(const char *text)
{
	struct buf faults = BUF_EMPTY;
	struct config *c = load_bytes(text, strlen(text), &faults);

	cr_assert_not_null(c, "%s\n%.*s", text, STR_ARG(buf_str(&faults)));
	buf_fini(&faults);
	return c;
}

/* The faults of a text must begin with FILE:PLACE and be `lines` lines. */
static void expect_fault(const char *text, const char *place, unsigned lines)
{
	struct buf faults = BUF_EMPTY;
	struct config *c = load_bytes(text, strlen(text), &faults);
	char want[200];
	unsigned n = 0;

	snprintf(want, sizeof(want), "%s:%s", scratch_path(&dir, "c.yaml"), place);
	cr_expect_null(c, "%s", text);
	cr_expect(str_starts(buf_str(&faults), str_from(want)), "%s\nsays %.*swants %s", text,
		  STR_ARG(buf_str(&faults)), want);
	for (size_t i = 0; i < faults.len; i++)
		n += buf_data(&faults)[i] == '\n';
	cr_expect_eq(n, lines, "%s\nsays %.*s", text, STR_ARG(buf_str(&faults)));
	config_unref(c);
	buf_fini(&faults);
}

/* FILE:LINE:COLUMN and the first words of what is wrong. */
Test(gateway_config, faults)
{
	static const struct {
		const char *text;
		const char *place;
		unsigned lines;
	} rows[] = {
		{"", "1:1: there is nothing in it; for the defaults write {}", 1},
		{"# nothing but a comment\n", "1:1: there is nothing in it", 1},
		{"---\n", "1:1: there is nothing in it", 1},
		{"~\n", "1:1: there is nothing in it", 1},
		{"a: 1\n", "1:1: unknown key \"a\", expected one of: user, drain_timeout, host, listen, ", 1},
		{"host: h\nhost: i\n", "2:1: key \"host\" is written twice, first in line 1", 1},
		{"log:\n\tlevel: info\n",
		 "2:1: not valid YAML: found character that cannot start any token (a tab is no indentation, expected",
		 1},
		{"log:\n  level: info\n \tformat: text\n",
		 "3:2: not valid YAML: found a tab character that violates "
		 "indentation (a tab is no indentation, expected spaces)",
		 1},
		{"log:\n  level: @info\n", "2:10: not valid YAML: found character that cannot start any token\n", 1},
		{"[host]: h\n", "1:1: a key must be a single word", 1},
		{"host:\n", "1:6: host is missing or not a single value", 1},
		{"host: \"a b\"\n", "1:7: host is \"a b\", expected 1 to 64 letters", 1},
		{"host: \"a\\0b\"\n", "1:7: host holds a NUL byte", 1},
		{"drain_timeout: 25h\n", "1:16: drain_timeout is \"25h\", expected a duration from 0s to 24h0m0s", 1},
		{"drain_timeout: 1us\n", "1:16: drain_timeout is \"1us\"", 1},
		{"log: { access: yes }\n", "1:16: access is \"yes\", expected off, stderr, journal or an absolute path",
		 1},
		{"log: { audit: file.log }\n", "1:15: audit is \"file.log\", expected off, stderr, journal or an", 1},
		{"log: { format: xml }\n", "1:16: format is \"xml\", expected text or json", 1},
		{"bounds: { connections: 0 }\n",
		 "1:24: connections is \"0\", expected a whole number from 1 to 1000000", 1},
		{"bounds: { connections: 1.5 }\n", "1:24: connections is \"1.5\"", 1},
		{"bounds: { body: 1MB }\n", "1:17: body is \"1MB\", expected a size from 1024 to", 1},
		{"bounds: { body: 1023 }\n", "1:17: body is \"1023\"", 1},
		{"bounds: { client_head: 9ms }\n",
		 "1:24: client_head is \"9ms\", expected a duration from 10ms to 24h0m0s", 1},
		{"cache: { max_entries: 0 }\n", "1:23: max_entries is \"0\", expected a whole number from 1", 1},
		{"cache: { max_bytes: 1KiB }\n", "1:21: max_bytes is \"1KiB\", expected a size from 65536", 1},
		{"cache: { templates: { ttl: 25h } }\n", "1:28: ttl is \"25h\", expected a duration from 0s to 24h0m0s",
		 1},
		{"cache: { templates: { ttl: 0s, stale_if_error: 1m } }\n",
		 "1:21: templates: stale_if_error has no effect with a ttl of 0s", 1},
		{"cache: { templates: { stale_while_revalidate: 1m, ttl: 0s } }\n",
		 "1:21: templates: stale_while_revalidate has no effect with a ttl of 0s", 1},
		{"cache: { keep: true, templates: { stale_if_error: 0s } }\n",
		 "1:8: cache: keep has no effect without templates: stale_if_error", 1},
		{"cache: { keep: yes }\n", "1:16: keep is \"yes\", expected true or false", 1},
		{"cache: { previews: 5m }\n", "1:20: previews must be a mapping", 1},
		{"cache: { ttl: 5m }\n", "1:10: unknown key \"ttl\", expected one of: templates, previews,", 1},
		{"leases: { ttl: 299ms }\n", "1:16: ttl is \"299ms\", expected a duration from 300ms to 24h0m0s", 1},
		{"leases: { extend: 99ms }\n", "1:19: extend is \"99ms\", expected a duration from 100ms to 24h0m0s",
		 1},
		{"leases: { grace: 0s }\n", "1:18: grace is \"0s\", expected a duration from 100ms", 1},
		{"leases: { extend: 41s }\n", "1:9: leases.ttl is shorter than three times leases.extend", 1},
		{"leases: { ttl: 119s }\n", "1:9: leases.ttl is shorter than three times leases.extend", 1},
		{"leases: 1\n", "1:9: leases must be", 1},
		{"listen: { path: /x }\n", "1:9: listen must be a list with at least one entry", 1},
		{"listen:\n- path: /x\n  mode: \"1777\"\n", "3:9: mode is \"1777\", expected octal permissions", 1},
		{"listen:\n- path: /x\n  mode: \"66\"\n", "3:9: mode is \"66\"", 1},
		{"upstreams: {}\n" LOCAL("{}"), "1:12: upstreams is empty", 1},
		{"upstreams: { \"a b\": { url: local } }\n", "1:14: the name of an upstream is \"a b\"", 2},
		{"upstreams: { a: { url: local }, b: { url: local } }\n" LOCAL("{}"),
		 "2:12: the rule names no upstream, and there are several", 3},
		{"upstreams: { a: { url: \"https://x\" } }\n" LOCAL("{}"),
		 "2:12: the rule names no credential for its upstream", 1},
		{"upstreams: { a: { url: \"https://u@x\" } }\n",
		 "1:24: url has a user or password, which may not stand in it: expected https://HOST:PORT", 2},
		{"upstreams: { a: { url: local, tls: { server_name: x } } }\n" LOCAL("{}"),
		 "1:36: tls has no effect here", 1},
		{"upstreams: { a: { url: local, proxy: \"http://p:1\" } }\n" LOCAL("{}"),
		 "1:38: proxy has no effect here", 1},
		{"upstreams: { a: { url: \"https://x\", proxy: \"ftp://p:1\" } }\n",
		 "1:44: proxy is \"ftp://p:1\", expected http://HOST:PORT or socks5h", 2},
		{"upstreams: { a: { url: \"https://x\", tls: { ca_file: rel } } }\n",
		 "1:53: ca_file is \"rel\", expected an absolute path", 2},
		{"upstreams: { a: { url: \"https://x\", tls: { ca_file: /nonexistent } } }\n",
		 "1:53: ca_file: /nonexistent cannot be read", 2},
		{"upstreams: { a: { url: \"https://x\", tls: { ca_file: /etc/passwd } } }\n",
		 "1:42: ca_file: /etc/passwd holds no certificate in PEM", 2},
		{"upstreams: { a: { url: \"https://x\", tls: { key_file: /etc/passwd } } }\n",
		 "1:42: key_file without cert_file has no effect", 2},
		{"upstreams: { a: { url: \"https://x\", tls: { server_name: \"a b\" } } }\n",
		 "1:57: server_name is \"a b\", expected a host name", 2},
		{"preview: { url: local }\n", "1:17: url is \"local\", expected http://HOST:PORT or https://HOST:PORT",
		 1},
		{"preview: { url: \"http://h/p\" }\n", "1:17: url is \"http://h/p\"", 1},
		{"preview: { url: \"https://u@h\" }\n", "1:17: url has a user or password, which may not stand in it",
		 1},
		{"preview: { url: \"http://h:65536\" }\n", "1:17: url is", 1},
		{"tracing: { sample: 1, service_name: x }\n",
		 "1:10: tracing has no endpoint, without which nothing in it has an effect", 1},
		{"tracing: on\n", "1:10: ", 1},
		{"tracing: { endpoint: \"http://127.0.0.1:4318\" }\n",
		 "1:22: endpoint is \"http://127.0.0.1:4318\", expected http://HOST:PORT/PATH", 1},
		{"tracing: { endpoint: \"http://u@h/v1\" }\n", "1:22: endpoint is", 1},
		{"tracing: { endpoint: \"https://h/v1?x\" }\n",
		 "1:22: endpoint has a query, which may not stand in it", 1},
		{"tracing: { endpoint: \"https://h/a b\" }\n", "1:22: endpoint is", 1},
		{"tracing: { endpoint: \"ftp://h/v1\" }\n", "1:22: endpoint is", 1},
		{"tracing: { endpoint: local }\n", "1:22: endpoint is", 1},
		{"tracing: { endpoint: \"http://h.test/v1\" }\n",
		 "1:22: http:// to h.test carries what the spans say in clear: write allow_plaintext: true", 1},
		{"tracing: { endpoint: \"https://h/v1\", allow_plaintext: true }\n",
		 "1:55: allow_plaintext has no effect here", 1},
		{"tracing: { endpoint: \"unix:///x\", tls: { server_name: h } }\n", "1:40: tls has no effect here", 1},
		{"tracing: { endpoint: \"https://h/v1\", sample: 2 }\n",
		 "1:46: sample is \"2\", expected a number from 0 to 1", 1},
		{"tracing: { endpoint: \"https://h/v1\", sample: 1.000000001 }\n", "1:46: sample is", 1},
		{"tracing: { endpoint: \"https://h/v1\", sample: 0.0000000001 }\n", "1:46: sample is", 1},
		{"tracing: { endpoint: \"https://h/v1\", sample: -0.1 }\n", "1:46: sample is", 1},
		{"tracing: { endpoint: \"https://h/v1\", sample: 1e-3 }\n", "1:46: sample is", 1},
		{"tracing: { endpoint: \"https://h/v1\", sample: 0. }\n", "1:46: sample is", 1},
		{"tracing: { endpoint: \"https://h/v1\", service_name: \"\" }\n", "1:52: service_name has 0 bytes", 1},
		{"preview: { domain: x }\n", "1:12: ", 1},
		{"preview: x\n", "1:10: ", 1},
		{"upstreams: { a: { url: \"http://[::1\" } }\n", "1:24: url is \"http://[::1\"", 2},
		{"upstreams: { a: { url: \"http://[]\" } }\n", "1:24: url is", 2},
		{"upstreams: { a: { url: \"http://h:0\", allow_plaintext: true } }\n", "1:24: url is", 3},
		{"upstreams: { a: { url: \"http://h/p\", allow_plaintext: true } }\n", "1:24: url is", 3},
		{"upstreams: { a: { url: \"http://127.0.0.1.evil.test\" } }\n",
		 "1:24: http:// to 127.0.0.1.evil.test carries the key in clear", 2},
		{"upstreams: { a: { url: local, allow_plaintext: true } }\n" LOCAL("{}"),
		 "1:48: allow_plaintext has no effect here", 1},
		{"upstreams: { a: { url: local, allow_plaintext: maybe } }\n" LOCAL("{}"),
		 "1:48: allow_plaintext is \"maybe\", expected true or false", 1},
		{"upstreams: { a: { url: local, pool: { max_connections: 4, max_idle: 5 } } }\n" LOCAL("{}"),
		 "1:69: max_idle is more than max_connections", 1},
		{"upstreams: { a: { url: local, pool: { min_idle: 17 } } }\n" LOCAL("{}"),
		 "1:49: min_idle is more than max_idle", 1},
		{"upstreams: { a: { url: local, pool: { max_idle: 2, min_idle: 3 } } }\n" LOCAL("{}"),
		 "1:62: min_idle is more than max_idle", 1},
		{"credentials: { k: { api_key: { env: X } } }\n" LOCAL("{}"),
		 "1:19: no client rule uses the credential \"k\"", 1},
		{"credentials: { k: { api_key: { env: X } } }\nclients: [ { name: me, match: {}, credential: k, "
		 "user_id: x, " GRANT " } ]\n",
		 "2:47: credential has no effect with upstream local", 2},
		{LOCAL("{ uid: [] }"), "1:38: uid must be a list with at least one entry", 1},
		{LOCAL("{ uid: 4294967295 }"), "1:38: uid is \"4294967295\", expected a number", 1},
		{LOCAL("{ gid: -1 }"), "1:38: gid is \"-1\"", 1},
		{LOCAL("{ gid: 65534 }"), "1:38: gid 65534 is what the kernel shows", 1},
		{LOCAL("{ group: nogroup }"), "1:40: group \"nogroup\" has gid 65534", 1},
		{LOCAL("{ user: root, uid: 0 }"), "1:50: user and uid in one rule", 1},
		{LOCAL("{ exe: sh }"), "1:38: exe is \"sh\", expected the absolute path of a program", 1},
		{LOCAL("{ unit: x }"), "1:39: unit is \"x\", expected NAME.service", 1},
		{LOCAL("{ unit: .service }"), "1:39: unit is \".service\"", 1},
		{LOCAL("{ unit: a/x.service }"), "1:39: unit is \"a/x.service\"", 1},
		{LOCAL("{ unit: \"user@bob:x.service\" }"), "1:39: unit is \"user@bob:x.service\"", 1},
		{"listen: [ { tcp: \"0.0.0.0:7423\" } ]\n", "1:18: tcp is \"0.0.0.0:7423\", expected 127.0.0.1:PORT",
		 1},
		{"listen: [ { tcp: \"127.0.0.1:0\" } ]\n", "1:18: tcp is \"127.0.0.1:0\"", 1},
		{"listen: [ { tcp: \"127.0.0.1:65536\" } ]\n", "1:18: tcp is \"127.0.0.1:65536\"", 1},
		{"listen: [ { tcp: \"[::]:1\" } ]\n", "1:18: tcp is \"[::]:1\"", 1},
		{"listen: [ { tcp: 7423 } ]\n", "1:18: tcp is \"7423\"", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", path: /x } ]\n", "1:11: the listener has path and tcp", 1},
		{"listen: [ { name: x } ]\n", "1:11: the listener has no path: expected path or tcp", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", mode: \"0600\" } ]\n",
		 "1:39: mode has no effect on a listener with tcp", 1},
		{"listen: [ { path: /x, hosts: [a] } ]\n", "1:30: hosts has no effect on a listener with path", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", hosts: [] } ]\n", "1:40: hosts must be a list", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", hosts: [\"a:1\"] } ]\n",
		 "1:41: hosts holds \"a:1\", expected a host name", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", origins: [\"*\"] } ]\n",
		 "1:43: origins holds \"*\", expected an origin", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", origins: [\"http://a/\"] } ]\n",
		 "1:43: origins holds \"http://a/\"", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\" }, { tcp: \"[::1]:1\", name: b } ]\n", "1:35: port 1 is used twice",
		 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", name: t } ]\n" LOCAL("{ group: root }"),
		 "2:12: the rule can never match: group, exe and unit are not known over TCP", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", name: t }, { path: /x } ]\n" LOCAL("{ exe: /bin/sh, listener: t }"),
		 "2:12: the rule can never match: group, exe and unit", 1},
		{"listen: [ { tcp: \"127.0.0.1:1\", name: t } ]\n" LOCAL("{ uid: 0 }"),
		 "2:12: the rule can never match: over TCP uid 0", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: all } ]\n",
		 "1:54: allow must be a list with at least one entry", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [] } ]\n",
		 "1:54: allow must be a list with at least one entry", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [sandbox] } ]\n",
		 "1:55: allow holds \"sandbox\", expected all, \"METHOD /path\", or one of: sandboxes, templates:read",
		 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [unknown] } ]\n",
		 "1:55: allow holds \"unknown\"", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [own] } ]\n", "1:55: allow holds \"own\"", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [all, system] } ]\n",
		 "1:55: allow: all covers every other entry", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [system, system] } ]\n",
		 "1:63: allow: system: it is written twice", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [admin] } ]\n",
		 "1:55: allow: admin: it needs admin: true", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [system], deny: [system] } ]\n",
		 "1:71: deny: system: it is in allow as well", 1},
		{"clients: [ { name: me, match: {}, user_id: x, deny: [quotas] } ]\n",
		 "1:54: deny: quotas: it has no effect, since the rule does not allow it", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/templates\", \"GET "
		 "/api/v1/templates\"] } ]\n",
		 "1:80: allow: \"GET /api/v1/templates\": it is written twice", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/templates\"], deny: [\"GET "
		 "/api/v1/templates\"] } ]\n",
		 "1:88: deny: \"GET /api/v1/templates\": it is in allow as well", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"/api/v1/templates\"] } ]\n",
		 "1:55: allow: \"/api/v1/templates\": expected METHOD /path with GET, POST", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"get /api/v1/templates\"] } ]\n",
		 "1:55: allow: \"get /api/v1/templates\": expected METHOD /path", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"HEAD /api/v1/templates\"] } ]\n",
		 "1:55: allow: \"HEAD /api/v1/templates\": HEAD goes with GET: write GET", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"OPTIONS /api/v1/templates\"] } ]\n",
		 "1:55: allow: \"OPTIONS /api/v1/templates\": expected METHOD", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET \"] } ]\n",
		 "1:55: allow: \"GET \": expected METHOD /path of at most 1024 bytes", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET api/v1/x\"] } ]\n",
		 "1:55: allow: \"GET api/v1/x\": expected a path below /api/v1 or /gateway/v1", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET  /api/v1/x\"] } ]\n",
		 "1:55: allow: \"GET  /api/v1/x\": expected a path below", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1x\"] } ]\n",
		 "1:55: allow: \"GET /api/v1x\": expected a path below", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /**\"] } ]\n",
		 "1:55: allow: \"GET /**\": expected a path below", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/a?b\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/a?b\": a path holds neither white space", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/a b\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/a b\": a path holds neither white space", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1//templates\"] } ]\n",
		 "1:55: allow: \"GET /api/v1//templates\": empty segment", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/../templates\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/../templates\": dot segment", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/%74emplates\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/%74emplates\": percent escape of a character that needs none", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/templates/\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/templates/\": leave the slash at the end out", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/temp*\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/temp*\": * stands for one whole segment", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/**/x\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/**/x\": * stands for one whole segment", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/***\"] } ]\n",
		 "1:55: allow: \"GET /api/v1/***\": * stands for one whole segment", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/worker/*\"], isolation: none } "
		 "]\n",
		 "1:55: allow: /api/v1/worker is always denied", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /api/v1/admin/audit\"], isolation: none "
		 "} ]\n",
		 "1:55: allow: what \"GET /api/v1/admin/audit\" matches needs admin: true", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"PUT /gateway/v1/log\"] } ]\n",
		 "1:55: allow: what \"PUT /gateway/v1/log\" matches needs admin: true", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"GET /gateway/v1/whoami\"] } ]\n",
		 "1:55: allow: \"GET /gateway/v1/whoami\" matches no route of the gateway that a rule can allow", 1},
		{"clients: [ { name: me, match: {}, user_id: x, allow: [\"PATCH /api/v1/sandboxes/*\"] } ]\n",
		 "1:55: allow: \"PATCH /api/v1/sandboxes/*\" matches no route that the gateway knows", 1},
		{"clients: [ { name: me, match: {}, user_id: x, isolation: some } ]\n",
		 "1:58: isolation is \"some\", expected owner or none", 1},
		{"clients: [ { name: me, match: {}, user_id: x, admin: yes } ]\n",
		 "1:54: admin is \"yes\", expected true or false", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { sandboxes: 0 } } ]\n",
		 "1:68: sandboxes is \"0\", expected a whole number from 1 to 1000000", 1},
		{"clients: [ { name: me, match: {}, user_id: x, keep_alive: 999ms } ]\n",
		 "1:59: keep_alive is \"999ms\", expected a duration from 1s to 24h0m0s", 1},
		{"clients: [ { name: me, match: {}, user_id: x, keep_alive: 2h, limits: { max_ttl: 1h } } ]\n",
		 "1:59: keep_alive is longer than limits.max_ttl", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { max_ttl: 1ms } } ]\n",
		 "1:66: max_ttl is \"1ms\", expected a duration from 1s", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { images: [] } } ]\n",
		 "1:65: images must be a list with at least one entry", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { providers: [a, a] } } ]\n",
		 "1:72: providers holds \"a\" twice", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { cpus: 1 } } ]\n",
		 "1:57: unknown key \"cpus\", expected one of: requests_per_second, ", 1},
		{"clients: [ { name: me, match: {}, user_id: x, spawn_defaults: { metadata: { stacygate.owner: x } } } "
		 "]\n",
		 "1:77: metadata: stacygate.* is the gateway's own", 1},
		{"clients: [ { name: me, match: {}, user_id: x, spawn_defaults: { metadata: { a: 1, a: 2 } } } ]\n",
		 "1:83: key \"a\" is written twice", 1},
		{"clients: [ { name: me, match: {}, user_id: x, spawn_defaults: { metadata: { a: [] } } } ]\n",
		 "1:80: a value of metadata is missing or not a single value", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { max_ttl: 1h }, spawn_defaults: { ttl: 2h } } "
		 "]\n",
		 "1:88: spawn_defaults: ttl is more than limits.max_ttl", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { max_vcpus: 1, max_memory_mb: 1 }, "
		 "spawn_defaults: { vcpus: 2, memory_mb: 2 } } ]\n",
		 "1:107: spawn_defaults: memory_mb is more than limits.max_memory_mb", 2},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { images: [\"python:*\"] }, spawn_defaults: { "
		 "image: alpine } } ]\n",
		 "1:97: spawn_defaults: image \"alpine\" is not one of limits.images", 1},
		{"clients: [ { name: me, match: {}, user_id: x, limits: { providers: [docker] }, spawn_defaults: { "
		 "provider: proot } } ]\n",
		 "1:96: spawn_defaults: provider \"proot\" is not one of limits.providers", 1},
		{"clients: [ { name: me, match: {}, user_id: x, shared_vm: accept } ]\n",
		 "1:47: unknown key \"shared_vm\"", 1},
		{"upstreams: { a: { url: local, shared_vm: accept } }\n" LOCAL("{}"),
		 "1:42: shared_vm has no effect here: the embedded server has no pool mode", 2},
		{"upstreams: { a: { url: \"unix:///x\", shared_vm: accept } }\ncredentials: { k: { api_key: { env: X } "
		 "} }\n"
		 "clients: [ { name: me, match: {}, credential: k, user_id: x, " GRANT " } ]\n",
		 "1:17: shared_vm: accept has no effect: no rule under isolation: owner uses the upstream", 1},
		{"upstreams: { a: { url: \"unix:///x\", shared_vm: yes } }\ncredentials: { k: { api_key: { env: X } } "
		 "}\n"
		 "clients: [ { name: me, match: {}, credential: k, user_id: x } ]\n",
		 "1:48: shared_vm is \"yes\", expected refuse or accept", 1},
		{"clients: [ { name: me, match: {}, user_id: \"{uid\", " GRANT " } ]\n",
		 "1:44: user_id holds {uid, expected {user}", 1},
		{"clients: [ { name: me, match: {}, user_id: \"uid}\", " GRANT " } ]\n",
		 "1:44: user_id may hold neither", 1},
		{"clients: [ { name: me, match: {}, user_id: \"{exe}\", " GRANT " } ]\n",
		 "1:44: {exe} needs {user} or {uid} beside it", 1},
		{"clients: [ { name: me, match: {}, user_id: \"{uid}{exe}\", " GRANT " } ]\n",
		 "1:44: {exe} may stand once, with a character between", 1},
		{"clients: [ { name: me, match: {}, user_id: \"{pid}\", " GRANT " } ]\n",
		 "1:44: user_id holds {pid}, expected {user}", 1},
		{"clients: [ { name: me, match: {}, user_id: \"\\xe9\", " GRANT " } ]\n",
		 "1:44: user_id may hold neither", 1},
		{"clients: [ { name: me, match: {}, upstream: other, user_id: x, " GRANT " } ]\n",
		 "1:45: there is no upstream \"other\"", 1},
		/* One line per fault, whatever stands in the text. */
		{"\"a\\nb\\e[31m\": 1\n", "1:1: unknown key \"a?b?[31m\"", 1},
		{"log: { level: \"\\r\\n\" }\n", "1:15: level is \"??\"", 1},
		{"host: [\n", "2:1: not valid YAML: ", 1},
		{"host: h\n---\nhost: i\n", "3:1: a second document, expected one", 1},
		{"- host\n", "1:1: the file must be a mapping of keys to values", 1},
		{"host: *h\n", "1:7: not valid YAML: ", 1},
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		expect_fault(rows[i].text, rows[i].place, rows[i].lines);
}

/* The password of a URL is in no fault, wherever the URL stands and whatever the password is made of. */
Test(gateway_config, passwords_are_not_said)
{
	static const struct {
		const char *before, *after;
	} rows[] = {
		{"upstreams: { u: { url: \"", "\" } }\n"},
		{"upstreams: { u: { url: local, proxy: \"", "\" } }\n"},
		{"preview: { url: \"", "\" }\n"},
		{"listen: [ { tcp: \"127.0.0.1:7423\", origins: [\"", "\"] } ]\n"},
		{"host: \"", "\"\n"},
		{"\"", "\": 1\n"},
		{"include: \"", "\"\n"},
		{"upstreams: { \"", "\": { url: local } }\n"},
		{"log: { access: \"", "\" }\n"},
	};
	static const char *const urls[] = {
		"http://u:SEKRET@127.0.0.1:3128", "https://SEKRET@h", "socks5h://u:SEKRET@h:1",
		"http://u:SE/K@SEKRET@h",         "ftp://u:SEKRET@h", "http://@:SEKRET@",
	};
	char longest[1500] = "http://u:SEKRET";

	memset(longest + strlen(longest), 'x', sizeof(longest) - strlen(longest) - 3);
	memcpy(longest + sizeof(longest) - 3, "@h", 3);
	for (size_t i = 0; i < COUNT(rows); i++) {
		for (size_t k = 0; k <= COUNT(urls); k++) {
			char text[2000];
			struct buf faults = BUF_EMPTY;
			int n = snprintf(text, sizeof(text), "%s%s%s", rows[i].before,
					 k < COUNT(urls) ? urls[k] : longest, rows[i].after);

			cr_expect_null(load_bytes(text, (size_t)n, &faults), "%s", text);
			buf_add_char(&faults, '\0');
			cr_expect_null(strstr(buf_data(&faults), "SEKRET"), "%s\nsays %s", text, buf_data(&faults));
			cr_expect(i > 2 || strstr(buf_data(&faults), "password, which may not stand in it"), "%s",
				  text);
			buf_fini(&faults);
		}
	}
}

/* All faults of a file are named in one run, in the order of the file. */
Test(gateway_config, all_at_once)
{
	struct buf faults = BUF_EMPTY;
	static const char text[] = "drain_timeout: x\nlog: { level: y }\nbounds: { body: z }\n";
	const char *a;
	const char *b;
	const char *c;

	cr_expect_null(load_bytes(text, strlen(text), &faults));
	buf_add_char(&faults, '\0');
	a = strstr(buf_data(&faults), ":1:16: ");
	b = strstr(buf_data(&faults), ":2:15: ");
	c = strstr(buf_data(&faults), ":3:17: ");
	cr_expect(a && b && c && a < b && b < c, "%s", buf_data(&faults));
	buf_fini(&faults);
}

/* ID14: a rule that an earlier one covers can never match; one that is only partly covered can. */
Test(gateway_config, coverage)
{
	static const struct {
		const char *first;
		const char *second;
		bool covered;
	} rows[] = {
		{"{}", "{ uid: 1 }", true},
		{"{}", "{}", true},
		{"{ uid: 1 }", "{}", false},
		{"{ uid: 1 }", "{ uid: 1 }", true},
		{"{ uid: [1, 2] }", "{ uid: 2 }", true},
		{"{ uid: 1 }", "{ uid: [1, 2] }", false},
		{"{ uid: 1 }", "{ gid: 1 }", false},
		{"{ uid: 1, gid: 1 }", "{ uid: 1 }", false},
		{"{ uid: 1 }", "{ uid: 1, gid: 1 }", true},
		{"{ user: root }", "{ uid: 0 }", true},
		{"{ group: root }", "{ gid: [0] }", true},
		{"{ listener: a }", "{ listener: a, uid: 1 }", true},
		{"{ listener: a }", "{ listener: b }", false},
		{"{ listener: [a, b] }", "{ listener: b }", true},
		{"{ listener: a }", "{ uid: 1 }", false},
		{"{ exe: /a }", "{ exe: /a, uid: 1 }", true},
		{"{ exe: [/a, /b] }", "{ exe: /b }", true},
		{"{ exe: /a }", "{ exe: [/a, /b] }", false},
		{"{ exe: /a }", "{ uid: 1 }", false},
		{"{ unit: x.service }", "{ unit: x.service }", true},
		{"{ unit: x.service }", "{ unit: \"user@1:x.service\" }", false},
		{"{}", "{ unit: x.service }", true},
		/* Over TCP the first is for nobody who is root. */
		{"{ uid: 0 }", "{ uid: 0, listener: t }", false},
		{"{ uid: 0 }", "{ uid: 0, listener: a }", true},
		{"{ uid: 1 }", "{ uid: 1, listener: t }", true},
		{"{}", "{ listener: [a, t] }", false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[600];
		struct buf faults = BUF_EMPTY;
		struct config *c;

		snprintf(text, sizeof(text),
			 "listen: [ { path: /a, name: a }, { path: /b, name: b }, { tcp: \"127.0.0.1:1\", name: t } "
			 "]\nclients:\n"
			 "  - { name: one, match: %s, user_id: x, " GRANT
			 " }\n  - { name: two, match: %s, user_id: x, " GRANT " }\n",
			 rows[i].first, rows[i].second);
		c = load_bytes(text, strlen(text), &faults);
		cr_expect_eq(c == NULL, rows[i].covered, "%s then %s", rows[i].first, rows[i].second);
		if (rows[i].covered)
			cr_expect(buf_contains(&faults, ":4:5: the rule can never match: the one in line 3 covers it"));
		config_unref(c);
		buf_fini(&faults);
	}
}

static char *dump(const struct config *c)
{
	struct buf out = BUF_EMPTY;
	char *text;

	config_dump(c, &out);
	cr_assert_not(out.failed);
	text = str_dup(buf_str(&out));
	cr_assert_not_null(text);
	buf_fini(&out);
	return text;
}

/* Every good file's effective form is a good file that means the same. */
Test(gateway_config, effective_form_loads_again)
{
	static const char *const rows[] = {
		"listen: [ { path: /a, name: a }, { tcp: \"localhost:7423\", hosts: [box, \"[::1]\"], origins: "
		"[\"http://localhost:3000\"] } ]\nclients: [ { name: me, match: { exe: [/bin/sh, /bin/ls], unit: "
		"x.service, "
		"listener: a }, user_id: \"{user}-{exe}@{unit}\", " GRANT " } ]\n",
		"{}\n",
		"drain_timeout: 1m30.5s\nhost: box\n",
		"listen: [ { path: \"/a b\\\"c\\\\\", name: \"n\\x7f\\u0085\\u2028\\xe9\\t\" } ]\n",
		"listen: [ { path: /a, mode: 0640, group: root }, { path: /b, name: two } ]\n" LOCAL(
			"{ listener: [two, /a] }"),
		"upstreams: { local: { url: local, pool: { max_connections: 3 } } }\n" LOCAL("{ uid: [1, 2], gid: 3 }"),
		"upstreams: { u: { url: \"http://localhost:7000/\" } }\ncredentials: { k: { api_key: { env: X } } }\n"
		"clients: [ { name: me, match: { user: root }, upstream: u, credential: k, " GRANT " } ]\n",
		"upstreams: { u: { url: \"http://localhost:7000\", allow_plaintext: false } }\ncredentials: { k: { "
		"api_key: { env: X } } }\n"
		"clients: [ { name: me, match: { user: root }, credential: k, " GRANT " } ]\n",
		"upstreams: { u: { url: \"http://h.test\", allow_plaintext: true, pool: { max_connections: 8, "
		"max_per_identity: 8, min_idle: 1, "
		"max_idle: 2, idle_timeout: 1s, lifetime: 0s, max_waiting: 0, wait_timeout: 10ms }, timeouts: { "
		"connect: 1s, response: 2s, "
		"spawn: 3s, exec: 4s, body_idle: 5s, stream_idle: 6s } } }\ncredentials: { k: { api_key: { file: "
		"\"/k\" } } }\n"
		"clients: [ { name: me, match: {}, credential: k, user_id: \"{client}-{uid}@{host}\", " GRANT " } ]\n",
		"upstreams: { u: { url: \"unix:///u\" } }\ncredentials: { k: { api_key: { systemd: a }, admin_api_key: "
		"{ "
		"command: [ /b, \"c d\", \"\", \"$x\" ], ttl: 1m, timeout: 2s } } }\n"
		"clients: [ { name: me, match: {}, credential: k, user_id: x, admin: true, " GRANT " } ]\n",
		"bounds: { connections: 5, connections_per_uid: 4, body: 1GiB, client_head: 1s, client_body_idle: 2s, "
		"idle_client: 3s }\n",
		"cache: { templates: { ttl: 1m, stale_while_revalidate: 2m, stale_if_error: 3m }, previews: { ttl: 4m "
		"}, "
		"max_entries: 5, max_bytes: 6MiB, keep: true }\n",
		"cache: { templates: { ttl: 0s }, previews: { ttl: 0s } }\n",
		"leases: { ttl: 3m, extend: 1m, grace: 5s }\n",
		"clients: [ { name: me, match: {}, user_id: x, keep_alive: 1h, limits: { max_ttl: 1h } } ]\n",
		"log: { level: warn, format: text, access: stderr }\n",
		"log: { level: debug, format: json, access: journal, audit: \"/a b/\\\"c\" }\n",
		"preview: { url: \"https://[::1]:8443/\" }\n",
		"preview: { url: }\n",
		"tracing: { endpoint: \"http://127.0.0.1:4318/v1/traces\" }\n",
		"tracing: { endpoint: \"http://h.test/\", allow_plaintext: true, sample: 0.25, service_name: \"a b\" "
		"}\n",
		"tracing: { endpoint: \"https://h.test:4318/x\", tls: { server_name: other }, sample: 0.000000001 }\n",
		"tracing: { endpoint: \"unix:///run/otlp.sock\", sample: 1 }\n",
		"clients: [ { name: me, match: {}, upstream: local, user_id: x, " GRANT " } ]\n",
		"clients: [ { name: me, match: {}, user_id: x } ]\n",
		"clients: [ { name: me, match: {}, user_id: x, admin: true } ]\n",
		"clients: [ { name: me, match: {}, user_id: x, admin: true, isolation: owner, deny: [admin, \"* "
		"/api/v1/quotas/**\"] } ]\n",
		"clients: [ { name: me, match: {}, user_id: x, isolation: none, allow: [metrics, \"GET /api/v1/new\"], "
		"deny: [all] } ]\n",
		"clients: [ { name: me, match: {}, user_id: x, limits: { requests_per_second: 1, concurrent_requests: "
		"2, "
		"connections: 3, sandboxes: 4, max_ttl: 1h, max_memory_mb: 5, max_vcpus: 6, images: [\"a:*\", "
		"\"b\\\"\"], providers: [d] }, spawn_defaults: { image: \"a:1\", provider: d, memory_mb: 5, vcpus: 6, "
		"ttl: 30m, metadata: { \"<k>\": \"v\\n\\x01\\u2028\" } } } ]\n",
		"upstreams: { u: { url: \"unix:///x\", shared_vm: accept } }\ncredentials: { k: { api_key: { env: X } "
		"} }\n"
		"clients: [ { name: me, match: {}, credential: k, user_id: x } ]\n",
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config *c = load(rows[i]);
		char *first = dump(c);
		struct config *again = load(first);
		char *second = dump(again);

		cr_expect_str_eq(first, second, "row %zu", i);
		free(first);
		free(second);
		cr_expect_str_eq(c->listeners[0].name, again->listeners[0].name, "row %zu", i);
		cr_expect_str_eq(c->listeners[0].path, again->listeners[0].path, "row %zu", i);
		config_unref(c);
		config_unref(again);
	}
}

/* The parts of tracing: the endpoint, which is split, and a fraction, which is exact. */
Test(gateway_config, tracing)
{
	static const struct {
		const char *text;
		uint64_t ppb;
	} samples[] = {{"0", 0},           {"1", 1000000000},  {"1.0", 1000000000},
		       {"0.5", 500000000}, {"0.000000001", 1}, {"0.010", 10000000}};
	struct config *c = load("tracing: { endpoint: \"http://[::1]:4318/v1/traces\" }\n");

	cr_expect_eq(c->tracing.to.scheme, CONFIG_HTTP);
	cr_expect_str_eq(c->tracing.to.host, "[::1]");
	cr_expect_eq(c->tracing.to.port, 4318);
	cr_expect_str_eq(c->tracing.path, "/v1/traces");
	cr_expect_eq(c->tracing.sample_ppb, 10000000);
	cr_expect_str_eq(c->tracing.service_name, "stacygate");
	config_unref(c);
	c = load("tracing: { endpoint: \"unix:///run/otlp.sock\" }\n");
	cr_expect_str_eq(c->tracing.to.path, "/run/otlp.sock");
	cr_expect_str_eq(c->tracing.path, "/v1/traces");
	config_unref(c);
	c = load("{}\n");
	cr_expect_null(c->tracing.to.url);
	config_unref(c);
	for (size_t i = 0; i < COUNT(samples); i++) {
		char text[128];
		snprintf(text, sizeof(text), "tracing: { endpoint: \"https://h.test/x\", sample: %s }\n",
			 samples[i].text);
		c = load(text);
		cr_expect_eq(c->tracing.sample_ppb, samples[i].ppb, "%s", text);
		config_unref(c);
	}
}

/* The parts of preview.url; without one previews are found by their names. */
Test(gateway_config, preview)
{
	struct config *c = load("preview: { url: \"https://front.example:8443/\" }\n");

	cr_expect_eq(c->preview.scheme, CONFIG_HTTPS);
	cr_expect_str_eq(c->preview.host, "front.example");
	cr_expect_eq(c->preview.port, 8443);
	config_unref(c);
	c = load("preview: { url: http://127.0.0.1 }\n");
	cr_expect_eq(c->preview.scheme, CONFIG_HTTP);
	cr_expect_str_eq(c->preview.host, "127.0.0.1");
	cr_expect_eq(c->preview.port, 80);
	config_unref(c);
	c = load("preview: { url: }\n");
	cr_expect_null(c->preview.url);
	config_unref(c);
}

/* What nobody wrote, as the manual says it. */
Test(gateway_config, defaults)
{
	struct config *c = NULL;
	struct buf faults = BUF_EMPTY;

	cr_assert_eq(config_load(NULL, &places, &c, &faults), 0);
	cr_expect_eq(c->nlisteners, 1);
	cr_expect_str_eq(c->listeners[0].path, places.socket);
	cr_expect_eq(c->listeners[0].mode, 0600);
	cr_expect_eq(c->nupstreams, 1);
	cr_expect_eq(c->upstreams[0].scheme, CONFIG_LOCAL);
	cr_expect_eq(c->upstreams[0].pool.max_connections, 64);
	cr_expect_eq(c->upstreams[0].pool.max_per_identity, 48);
	cr_expect_eq(c->upstreams[0].pool.max_idle, 16);
	cr_expect_eq(c->upstreams[0].pool.max_waiting, 1024);
	cr_expect_eq(c->upstreams[0].pool.idle_timeout_ms, 45000);
	cr_expect_eq(c->upstreams[0].pool.lifetime_ms, 3600000);
	cr_expect_eq(c->upstreams[0].pool.wait_timeout_ms, 30000);
	cr_expect_eq(c->upstreams[0].timeouts.connect_ms, 5000);
	cr_expect_eq(c->upstreams[0].timeouts.response_ms, 125000);
	cr_expect_eq(c->upstreams[0].timeouts.spawn_ms, 300000);
	cr_expect_eq(c->upstreams[0].timeouts.exec_ms, 900000);
	cr_expect_eq(c->upstreams[0].timeouts.body_idle_ms, 60000);
	cr_expect_eq(c->upstreams[0].timeouts.stream_idle_ms, 0);
	cr_expect_eq(c->nrules, 1);
	cr_expect(c->rules[0].match_uids && c->rules[0].uids.n == 1 && c->rules[0].uids.ids[0] == geteuid());
	cr_expect_str_eq(c->rules[0].user_id, "{user}@{host}");
	cr_expect(c->rules[0].admin && c->rules[0].isolation == CONFIG_ISOLATION_NONE);
	cr_expect_eq(c->rules[0].allow.classes, ROUTE_CLASS_BIT(ROUTE_CLASSES) - 1);
	cr_expect_eq(c->drain_timeout_ms, 30000);
	cr_expect_eq(c->cache.templates.ttl_ms, 30000);
	cr_expect_eq(c->cache.templates.stale_while_revalidate_ms, 30000);
	cr_expect_eq(c->cache.templates.stale_if_error_ms, 600000);
	cr_expect_eq(c->cache.preview_ttl_ms, 300000);
	cr_expect_eq(c->cache.max_entries, 4096);
	cr_expect_eq(c->cache.max_bytes, 67108864);
	cr_expect_not(c->cache.keep);
	cr_expect_eq(c->bounds.connections, 16384);
	cr_expect_eq(c->bounds.connections_per_uid, 4096);
	cr_expect_eq(c->bounds.body_bytes, 1073741824);
	cr_expect_eq(c->bounds.client_head_ms, 10000);
	cr_expect_eq(c->bounds.client_body_idle_ms, 30000);
	cr_expect_eq(c->bounds.idle_client_ms, 300000);
	cr_expect_eq(c->leases.ttl_ms, 120000);
	cr_expect_eq(c->leases.extend_ms, 40000);
	cr_expect_eq(c->leases.grace_ms, 120000);
	cr_expect_eq(c->rules[0].keep_alive_ms, 0);
	cr_expect_eq(c->access.kind, CONFIG_OUTPUT_OFF);
	cr_expect_eq(c->audit.kind, CONFIG_OUTPUT_OFF);
	cr_expect_eq(c->log_format, LOG_FORMAT_TEXT);
	cr_expect_eq(c->log_level, LOG_LEVEL_INFO);
	config_unref(c);
	buf_fini(&faults);
}

/* What a rule has when it says nothing of it. */
Test(gateway_config, grants)
{
	static const struct {
		const char *text;
		bool admin;
		bool owner;
		uint32_t classes; /* besides the common ones */
	} rows[] = {
		{"", false, true, ROUTE_CLASS_BIT(ROUTE_PRUNE)},
		{", isolation: none", false, false, 0},
		{", admin: false, isolation: owner", false, true, ROUTE_CLASS_BIT(ROUTE_PRUNE)},
		{", admin: true", true, false, ROUTE_CLASS_BIT(ROUTE_CLASSES) - 1},
		{", admin: true, isolation: owner", true, true, ROUTE_CLASS_BIT(ROUTE_CLASSES) - 1},
	};
	const uint32_t common = ROUTE_CLASS_BIT(ROUTE_SANDBOXES) | ROUTE_CLASS_BIT(ROUTE_TEMPLATES_READ) |
				ROUTE_CLASS_BIT(ROUTE_SYSTEM) | ROUTE_CLASS_BIT(ROUTE_EVENTS) |
				ROUTE_CLASS_BIT(ROUTE_PREVIEW) | ROUTE_CLASS_BIT(ROUTE_RUN) |
				ROUTE_CLASS_BIT(ROUTE_OWN);

	for (size_t i = 0; i < COUNT(rows); i++) {
		char text[200];
		struct config *c;

		snprintf(text, sizeof(text), "clients: [ { name: me, match: {}, user_id: x%s } ]\n", rows[i].text);
		c = load(text);
		cr_expect_eq(c->rules[0].admin, rows[i].admin, "%s", text);
		cr_expect_eq(c->rules[0].isolation == CONFIG_ISOLATION_OWNER, rows[i].owner, "%s", text);
		cr_expect_eq(c->rules[0].allow.classes, common | rows[i].classes, "%s", text);
		cr_expect_eq(c->rules[0].deny.classes, 0, "%s", text);
		config_unref(c);
	}
}

/* Limits and defaults come out as values, and as the JSON that a spawn is completed from. */
Test(gateway_config, limits)
{
	struct config *c =
		load("clients: [ { name: me, match: {}, user_id: x, limits: { requests_per_second: 1, "
		     "concurrent_requests: 2, connections: 3, sandboxes: 4, max_ttl: 1h, max_memory_mb: 5, "
		     "max_vcpus: 6, images: [\"a:*\", b], providers: [d, e] }, spawn_defaults: { image: \"a:1\", "
		     "provider: d, memory_mb: 5, vcpus: 6, ttl: 30m, metadata: { k: \"v\\\"\", n: 1 } } } ]\n");
	const struct config_limits *l = &c->rules[0].limits;

	cr_expect_eq(l->requests_per_second, 1);
	cr_expect_eq(l->concurrent_requests, 2);
	cr_expect_eq(l->connections, 3);
	cr_expect_eq(l->sandboxes, 4);
	cr_expect_eq(l->max_ttl_ms, 3600000);
	cr_expect_eq(l->max_memory_mb, 5);
	cr_expect_eq(l->max_vcpus, 6);
	cr_assert(l->nimages == 2 && l->nproviders == 2);
	cr_expect_str_eq(l->images[1], "b");
	cr_expect_str_eq(l->providers[1], "e");
	cr_expect_str_eq(
		c->rules[0].spawn_defaults,
		"{\"image\":\"a:1\",\"provider\":\"d\",\"memory_mb\":5,\"vcpus\":6,\"ttl\":\"30m\",\"metadata\":"
		"{\"k\":\"v\\\"\",\"n\":\"1\"}}");
	config_unref(c);
}

/* A star of an image's pattern stands for anything but a slash. */
Test(gateway_config, images)
{
	static const struct {
		const char *pattern;
		const char *image;
		bool fits;
	} rows[] = {
		{"python:*", "python:3.12", true},
		{"python:*", "python:", true},
		{"python:*", "python", false},
		{"python:*", "python:5000/x", false},
		{"python:*", "xpython:3", false},
		{"*", "alpine", true},
		{"*", "", true},
		{"*", "a/b", false},
		{"*/*", "a/b", true},
		{"*/*", "a/b/c", false},
		{"*a*b", "xaab", true},
		{"*a*b", "xaabc", false},
		{"*a*b", "xa/ab", false},
		{"a*/b*c", "ax/bcc", true},
		{"a*/b*c", "ax/bcd", false},
		{"", "", true},
		{"", "a", false},
		{"alpine", "Alpine", false},
		{"a**", "abc", true},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		char *pattern = strdup(rows[i].pattern);
		const struct config_limits l = {.nimages = 1, .images = &pattern};

		cr_expect_eq(config_limits_image(&l, str_from(rows[i].image)), rows[i].fits, "%s %s", rows[i].pattern,
			     rows[i].image);
		free(pattern);
	}
	cr_expect(config_limits_image(&(struct config_limits){0}, STR("anything/at:all")));
}

/* A pool smaller than the defaults takes them down with it; what is written must fit by itself. */
Test(gateway_config, small_pool)
{
	struct config *c = load("upstreams: { a: { url: local, pool: { max_connections: 4 } } }\n" LOCAL("{}"));

	cr_expect_eq(c->upstreams[0].pool.max_idle, 4);
	cr_expect_eq(c->upstreams[0].pool.max_per_identity, 3);
	config_unref(c);
}

/* {host} is what the first start kept, else the machine's name; what is written beats both. */
Test(gateway_config, host)
{
	struct config *c;

	scratch_text(&dir, "host", 0600, "kept\n");
	c = load("{}");
	cr_expect_str_eq(c->host, "kept");
	cr_expect_not(c->host_written);
	config_unref(c);
	c = load("host: written\n");
	cr_expect_str_eq(c->host, "written");
	cr_expect(c->host_written);
	config_unref(c);
}

static struct config_ranges ranges_of(const char *text)
{
	struct config_ranges out = {0};

	cr_assert_eq(config_read_ranges(scratch_text(&dir, "subuid", 0644, text), &out), 0);
	return out;
}

/* ID21: /etc/subuid is read as those read it who hand the ids out; what is no range is none. */
Test(gateway_config, ID21_ranges)
{
	struct config_ranges r =
		ranges_of("alice:100000:65536\n\n# x\nbob:165536:1\nx:y:z\nmax:4294967294:100\nnone:7:0\n"
			  "last:300000:2");

	cr_expect_eq(r.n, 4);
	cr_expect_not(config_ranges_hold(&r, 99999));
	cr_expect(config_ranges_hold(&r, 100000));
	cr_expect(config_ranges_hold(&r, 165535));
	cr_expect(config_ranges_hold(&r, 165536));
	cr_expect_not(config_ranges_hold(&r, 165537));
	cr_expect_not(config_ranges_hold(&r, 7));
	cr_expect(config_ranges_hold(&r, 300001));
	cr_expect(config_ranges_hold(&r, 4294967294u));
	free(r.ranges);
	r = ranges_of("");
	cr_expect_eq(r.n, 0);
	cr_expect_eq(config_read_ranges("/nonexistent/subuid", &r), 0);
	cr_expect_eq(config_read_ranges(dir.path, &r), -EISDIR);
}

#define OPERATOR(admin_key, allow)                                                                                     \
	"upstreams: { u: { url: \"unix:///u\" } }\ncredentials: { k: { api_key: { file: /k }" admin_key                \
	" } }\nclients: [ { name: me, match: { uid: 1 }, credential: k, user_id: x, admin: true, allow: " allow        \
	" } ]\n"

/* What is allowed but can hardly be meant is told. */
Test(gateway_config, warnings)
{
	static const struct {
		const char *text;
		bool warned;
	} rows[] = {
		{"listen: [ { path: /a, name: a }, { path: /b } ]\n" LOCAL("{ uid: 0 }"), true},
		{"listen: [ { path: /a, name: a }, { path: /b } ]\n" LOCAL("{ uid: 0, listener: a }"), false},
		{"listen: [ { path: /a, name: a } ]\n" LOCAL("{ uid: 0 }"), false},
		{LOCAL("{}"), true},
		{LOCAL("{ uid: [1, 2] }"), true},
		{LOCAL("{ uid: 1 }"), false},
		{"clients: [ { name: me, match: {}, user_id: \"a-{uid}\", " GRANT " } ]\n", false},
		{"host: localhost\nclients: [ { name: me, match: { uid: 1 }, user_id: \"{uid}@{host}\", " GRANT
		 " } ]\n",
		 true},
		{"host: localhost\nclients: [ { name: me, match: { uid: 1 }, user_id: \"{uid}\", " GRANT " } ]\n",
		 false},
		{"listen: [ { path: /a }, { path: /b } ]\nclients: [ { name: me, match: { uid: 1 }, user_id: x, admin: "
		 "true } ]\n",
		 true},
		{"listen: [ { path: /a }, { path: /b } ]\nclients: [ { name: me, match: { uid: 1, listener: /a }, "
		 "user_id: "
		 "x, admin: true } ]\n",
		 false},
		/* Admin routes without the key for them are 403. */
		{OPERATOR("", "[all]"), true},
		{OPERATOR("", "[system]"), false},
		{OPERATOR(", admin_api_key: { file: /a }", "[all]"), false},
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct config *c = load(rows[i].text);
		struct buf out = BUF_EMPTY;

		config_warnings(c, &out);
		cr_expect_eq(out.len > 0, rows[i].warned, "%s", rows[i].text);
		buf_fini(&out);
		config_unref(c);
	}
}

/* L2: files that want to be expensive are refused, or read, in little time. */
Test(gateway_config, expensive_files)
{
	struct buf text = BUF_EMPTY;
	struct buf faults = BUF_EMPTY;
	uint64_t start = wait_now_ms();

	buf_add_cstr(&text, "a: &a [x, x, x, x, x, x, x, x, x]\n");
	for (char c = 'b'; c < 'j'; c++)
		buf_addf(&text, "%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n", c, c, c - 1, c - 1, c - 1,
			 c - 1, c - 1, c - 1, c - 1, c - 1, c - 1);
	cr_expect_null(load_bytes(buf_data(&text), text.len, &faults));
	buf_reset(&text);
	buf_reset(&faults);
	for (unsigned i = 0; i < 1000000; i++)
		buf_add_char(&text, '[');
	cr_expect_null(load_bytes(buf_data(&text), text.len, &faults));
	cr_expect(buf_contains(&faults, ":1:101: more than 100 brackets are open here\n"));
	buf_reset(&faults);
	for (unsigned i = 0; i < 100000; i++)
		buf_add_char(&text, ' ');
	cr_expect_null(load_bytes(buf_data(&text), text.len, &faults));
	cr_expect(buf_contains(&faults, "larger than 1 MiB"));
	buf_fini(&text);
	buf_fini(&faults);
	cr_expect_lt(wait_now_ms() - start, 5000);
}

/* A pool is kept over a reload when name, url and every number are the same, and only then. */
Test(gateway_config, same_upstream)
{
	struct config *a = load("upstreams: { a: { url: local } }\n" LOCAL("{}"));
	struct config *b =
		load("upstreams: { a: { url: local, pool: { max_connections: 64 } } }\n" LOCAL("{ uid: 3 }"));
	static const char *const others[] = {
		"upstreams: { b: { url: local } }\n" LOCAL("{}"),
		"upstreams: { a: { url: \"unix:///x\" } }\ncredentials: { k: { api_key: { env: X } } }\n"
		"clients: [ { name: me, match: {}, credential: k, user_id: x, " GRANT " } ]\n",
		"upstreams: { a: { url: local, pool: { lifetime: 1s } } }\n" LOCAL("{}"),
		"upstreams: { a: { url: local, timeouts: { exec: 1s } } }\n" LOCAL("{}"),
	};

	cr_expect(config_upstream_same(&a->upstreams[0], &b->upstreams[0]));
	for (size_t i = 0; i < COUNT(others); i++) {
		struct config *c = load(others[i]);
		cr_expect_not(config_upstream_same(&a->upstreams[0], &c->upstreams[0]), "%s", others[i]);
		config_unref(c);
	}
	config_unref(a);
	config_unref(b);
}
