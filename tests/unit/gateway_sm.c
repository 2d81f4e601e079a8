/* SPDX-License-Identifier: Apache-2.0 */
/* Each state machine against the edges of the diagram at the head of its file, written out here a second time. */
#include <criterion/criterion.h>
#include <string.h>

#include "common/sm.h"
#include "gateway/client.h"
#include "gateway/exchange.h"
#include "gateway/feed_source.h"
#include "gateway/fetch.h"
#include "gateway/key_command.h"
#include "gateway/lease.h"
#include "gateway/local_server.h"
#include "gateway/run.h"
#include "gateway/spawn_state.h"
#include "gateway/trace_export.h"
#include "gateway/upstream.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct row {
	const char *from;
	const char *to; /* the states it may go to, each followed by a space */
};

static bool drawn(const char *list, const char *state)
{
	size_t n = strlen(state);

	for (const char *p = list; (p = strstr(p, state)); p += n)
		if ((p == list || p[-1] == ' ') && p[n] == ' ')
			return true;
	return false;
}

static void expect_machine(const struct sm *sm, const struct row *rows, size_t n)
{
	cr_assert_eq(sm->nstates, n, "%s has %u states", sm->name, sm->nstates);
	for (unsigned from = 0; from < n; from++) {
		cr_assert_str_eq(sm->states[from], rows[from].from);
		for (unsigned to = 0; to < n; to++)
			cr_expect_eq(sm_allows(sm, from, to), drawn(rows[from].to, sm->states[to]), "%s: %s -> %s",
				     sm->name, sm->states[from], sm->states[to]);
	}
}

/* daemon/gateway/key_command.c */
Test(gateway_sm, key_command)
{
	static const struct row rows[] = {
		{"waiting", "running "},
		{"running", "waiting killed "},
		{"killed", "waiting "},
	};

	expect_machine(key_command_sm(), rows, COUNT(rows));
}

/* daemon/gateway/feed_source.c */
Test(gateway_sm, feed_source)
{
	static const struct row rows[] = {
		{"idle", "connect "},
		{"connect", "idle open wait "},
		{"open", "idle wait "},
		{"wait", "idle connect "},
	};

	expect_machine(feed_source_sm(), rows, COUNT(rows));
}

/* daemon/gateway/lease.c */
Test(gateway_sm, lease)
{
	static const struct row rows[] = {
		{"unbound", "held grace ending "},
		{"held", "grace ending "},
		{"grace", "ending "},
		{"ending", ""},
	};

	expect_machine(lease_sm(), rows, COUNT(rows));
}

/* daemon/gateway/upstream.c */
Test(gateway_sm, upstream_connection)
{
	static const struct row rows[] = {
		{"dialling", "idle closed "},
		{"idle", "leased closed "},
		{"leased", "idle closed "},
		{"closed", ""},
	};

	expect_machine(upstream_conn_sm(), rows, COUNT(rows));
}

/* daemon/gateway/client.c */
Test(gateway_sm, client)
{
	static const struct row rows[] = {
		{"idle", "head flush closed "},
		{"head", "body flush closed "},
		{"body", "answer flush closed "},
		{"answer", "idle tunnel flush closed "},
		{"tunnel", "flush closed "},
		{"flush", "linger closed "},
		{"linger", "closed "},
		{"closed", ""},
	};

	expect_machine(client_sm(), rows, COUNT(rows));
}

/* daemon/gateway/exchange.c */
Test(gateway_sm, exchange)
{
	static const struct row rows[] = {
		{"gather", "lease ended "}, {"lease", "head ended "}, {"head", "body tunnel lease ended "},
		{"body", "ended "},         {"tunnel", "ended "},     {"ended", ""},
	};

	expect_machine(exchange_sm(), rows, COUNT(rows));
}

/* daemon/gateway/fetch.c */
Test(gateway_sm, fetch)
{
	static const struct row rows[] = {
		{"lease", "answer ended "},
		{"answer", "lease ended "},
		{"ended", ""},
	};

	expect_machine(fetch_sm(), rows, COUNT(rows));
}

/* daemon/gateway/local_server.c */
Test(gateway_sm, local_server)
{
	static const struct row rows[] = {
		{"stopped", "starting "},       {"starting", "ready backoff stopping "},
		{"ready", "backoff stopping "}, {"backoff", "starting stopped "},
		{"stopping", "stopped "},
	};

	expect_machine(local_server_sm(), rows, COUNT(rows));
}

/* daemon/gateway/run.c */
Test(gateway_sm, run)
{
	static const struct row rows[] = {
		{"making", "files over "}, {"files", "exec destroying "}, {"exec", "status destroying "},
		{"status", "destroying "}, {"destroying", "over "},       {"over", ""},
	};

	expect_machine(run_sm(), rows, COUNT(rows));
}

/* daemon/gateway/spawn_state.c */
Test(gateway_sm, spawn)
{
	static const struct row rows[] = {
		{"waiting", "sent watched kept tombstone ended "},
		{"sent", "watched kept destroying ended "},
		{"watched", "kept destroying tombstone ended "},
		{"kept", "destroying ended "},
		{"destroying", "tombstone ended "},
		{"tombstone", "destroying ended "},
		{"ended", ""},
	};

	expect_machine(spawn_state_sm(), rows, COUNT(rows));
}

/* daemon/gateway/trace_export.c */
Test(gateway_sm, trace_export)
{
	static const struct row rows[] = {
		{"idle", "gathering "},
		{"gathering", "sending idle "},
		{"sending", "idle gathering resting "},
		{"resting", "sending idle "},
	};

	expect_machine(trace_export_sm(), rows, COUNT(rows));
}
