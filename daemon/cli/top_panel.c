/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/top_panel.h"

#include <jansson.h>
#include <stdlib.h>

#include "cli/top_data.h"

#define COLUMNS(list) (list), sizeof(list) / sizeof((list)[0])

/* ---- cells ------------------------------------------------------------- */

static void add_text(struct grid *g, const json_t *row, const char *key)
{
	grid_add(g, CANVAS_PLAIN, top_text(row, key));
}

static void add_number(struct grid *g, const json_t *row, const char *path)
{
	if (json_is_integer(top_member(row, path)))
		grid_addf(g, CANVAS_PLAIN, "%lld", (long long)top_number(row, path));
	else
		grid_add(g, CANVAS_PLAIN, STR(""));
}

static void add_rate(struct grid *g, double rate)
{
	char text[TOP_SHORT];

	top_format_rate(rate, text);
	grid_add(g, CANVAS_PLAIN, str_from(text));
}

static void add_span(struct grid *g, int64_t ms)
{
	char text[TOP_SHORT];

	top_format_span(ms, text);
	grid_add(g, CANVAS_PLAIN, str_from(text));
}

/* Whose it is: his name, or else his uid. */
static void add_owner(struct grid *g, const json_t *row)
{
	struct str name = top_text(row, "user_id");

	if (name.n)
		grid_add(g, CANVAS_PLAIN, name);
	else
		grid_addf(g, CANVAS_PLAIN, "uid %lld", (long long)top_number(row, "uid"));
}

/* The time of day of an RFC 3339 time; all of what is none. */
static void add_time(struct grid *g, const json_t *row, const char *key)
{
	struct str text = top_text(row, key);

	grid_add(g, CANVAS_PLAIN, text.n > 19 && text.p[10] == 'T' ? str_of(text.p + 11, 8) : text);
}

/* ---- order ------------------------------------------------------------- */

struct ranked {
	const json_t *row;
	double rank; /* the greater the earlier */
	size_t place;
};

static int by_rank(const void *a, const void *b)
{
	const struct ranked *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank > y->rank ? -1 : 1;
	return x->place < y->place ? -1 : 1;
}

/* Adds the rows of a list in the order of their ranks. */
static void add_ranked(struct grid *g, const json_t *list, const json_t *now, const json_t *before,
		       double (*rank)(const json_t *row, const json_t *now, const json_t *before),
		       void (*add)(struct grid *g, const json_t *row, const json_t *now, const json_t *before))
{
	size_t n = json_array_size(list);
	struct ranked *rows = calloc(n + 1, sizeof(*rows));

	if (!rows) {
		g->failed = true;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const json_t *row = json_array_get(list, i);
		rows[i] = (struct ranked){row, rank(row, now, before), i};
	}
	qsort(rows, n, sizeof(*rows), by_rank);
	for (size_t i = 0; i < n; i++)
		add(g, rows[i].row, now, before);
	free(rows);
}

/* ---- clients ----------------------------------------------------------- */

static const struct grid_column owner_columns[] = {
	{"OWNER", GRID_TEXT, 12},   {"UID", GRID_NUMBER, 5},      {"RULE", GRID_TEXT, 8}, {"CONNS", GRID_NUMBER, 0},
	{"ACTIVE", GRID_NUMBER, 0}, {"REQUESTS", GRID_NUMBER, 0}, {"/S", GRID_NUMBER, 5},
};

static bool is_same_owner(const json_t *a, const json_t *b)
{
	return top_number(a, "uid") == top_number(b, "uid") && str_eq(top_text(a, "user_id"), top_text(b, "user_id")) &&
	       str_eq(top_text(a, "rule"), top_text(b, "rule"));
}

/* Requests are those of the connections that there are; when one has closed they go back, and the rate is 0 once. */
static double owner_rate(const json_t *row, const json_t *now, const json_t *before)
{
	const json_t *list = top_member(before, "clients.owners");
	size_t i;
	const json_t *other;

	json_array_foreach((json_t *)list, i, other)
	{
		if (is_same_owner(row, other))
			return top_per_second(now, before, top_number(row, "requests"), top_number(other, "requests"));
	}
	return 0;
}

/* What is under way first, then what comes in; connections tell the idle apart. */
static double owner_rank(const json_t *row, const json_t *now, const json_t *before)
{
	return (double)top_number(row, "active") * 1e9 + owner_rate(row, now, before) * 1e3 +
	       (double)top_number(row, "connections") * 1e-3;
}

static void add_owner_row(struct grid *g, const json_t *row, const json_t *now, const json_t *before)
{
	add_owner(g, row);
	add_number(g, row, "uid");
	add_text(g, row, "rule");
	add_number(g, row, "connections");
	add_number(g, row, "active");
	add_number(g, row, "requests");
	add_rate(g, owner_rate(row, now, before));
}

static void fill_owners(struct grid *g, const json_t *now, const json_t *before)
{
	add_ranked(g, top_member(now, "clients.owners"), now, before, owner_rank, add_owner_row);
}

/* ---- requests under way ------------------------------------------------ */

static const struct grid_column request_columns[] = {
	{"UNDER WAY", GRID_TEXT, 24}, {"FOR", GRID_NUMBER, 7},    {"OWNER", GRID_TEXT, 8},
	{"PID", GRID_NUMBER, 6},      {"SANDBOX", GRID_TEXT, 11},
};

static double request_rank(const json_t *row, const json_t *now, const json_t *before)
{
	(void)now;
	(void)before;
	return (double)top_number(row, "for_ms");
}

static void add_request_row(struct grid *g, const json_t *row, const json_t *now, const json_t *before)
{
	(void)now;
	(void)before;
	struct buf what = BUF_EMPTY;

	buf_add_str(&what, top_text(row, "method"));
	buf_add_char(&what, ' ');
	buf_add_str(&what, top_text(row, "route"));
	grid_add(g, CANVAS_PLAIN, buf_str(&what));
	g->failed |= what.failed;
	buf_fini(&what);
	add_span(g, top_number(row, "for_ms"));
	add_owner(g, row);
	add_number(g, row, "pid");
	add_text(g, row, "sandbox");
}

static void fill_requests(struct grid *g, const json_t *now, const json_t *before)
{
	add_ranked(g, top_member(now, "clients.active"), now, before, request_rank, add_request_row);
}

/* ---- errors ------------------------------------------------------------ */

static const struct grid_column error_columns[] = {
	{"ERROR", GRID_TEXT, 24}, {"LEVEL", GRID_TEXT, 7}, {"TIMES", GRID_NUMBER, 0}, {"LAST", GRID_TEXT, 8}};

static void fill_errors(struct grid *g, const json_t *now, const json_t *before)
{
	size_t i;
	const json_t *row;

	(void)before;
	json_array_foreach((json_t *)top_member(now, "errors"), i, row)
	{
		add_text(g, row, "text");
		add_text(g, row, "level");
		add_number(g, row, "count");
		add_time(g, row, "time");
	}
}

/* ---- rules ------------------------------------------------------------- */

static const struct grid_column rule_columns[] = {
	{"RULE", GRID_TEXT, 12},    {"ANSWERED", GRID_NUMBER, 0}, {"REFUSED", GRID_NUMBER, 0},
	{"FAILED", GRID_NUMBER, 0}, {"LEFT", GRID_NUMBER, 0},     {"/S", GRID_NUMBER, 5},
};

static const char *const answered[] = {"1xx", "2xx", "3xx"};

static int64_t rule_answered(const json_t *row)
{
	int64_t n = 0;

	for (size_t i = 0; i < sizeof(answered) / sizeof(answered[0]); i++)
		n += top_number(row, answered[i]);
	return n;
}

static int64_t rule_total(const json_t *row)
{
	return rule_answered(row) + top_number(row, "4xx") + top_number(row, "5xx") + top_number(row, "none");
}

static double rule_rate(const json_t *row, const json_t *now, const json_t *before)
{
	size_t i;
	const json_t *other;

	json_array_foreach((json_t *)top_member(before, "rules"), i, other)
	{
		if (str_eq(top_text(row, "name"), top_text(other, "name")))
			return top_per_second(now, before, rule_total(row), rule_total(other));
	}
	return 0;
}

/* The last row of the document has no name: it is of callers whom no rule admits. */
static void fill_rules(struct grid *g, const json_t *now, const json_t *before)
{
	size_t i;
	const json_t *row;

	json_array_foreach((json_t *)top_member(now, "rules"), i, row)
	{
		struct str name = top_text(row, "name");
		if (name.n == 0 && rule_total(row) == 0)
			continue;
		grid_add(g, CANVAS_PLAIN, name.n ? name : STR("(nobody's)"));
		grid_addf(g, CANVAS_PLAIN, "%lld", (long long)rule_answered(row));
		add_number(g, row, "4xx");
		add_number(g, row, "5xx");
		add_number(g, row, "none");
		add_rate(g, rule_rate(row, now, before));
	}
}

/* ---- one's own --------------------------------------------------------- */

static const struct grid_column spawn_columns[] = {
	{"SPAWN", GRID_TEXT, 10}, {"UPSTREAM", GRID_TEXT, 8}, {"PLACE", GRID_NUMBER, 0}, {"SANDBOX", GRID_TEXT, 11}};

static void fill_spawns(struct grid *g, const json_t *now, const json_t *before)
{
	size_t i;
	const json_t *row;

	(void)before;
	json_array_foreach((json_t *)top_member(now, "own.spawns"), i, row)
	{
		add_text(g, row, "state");
		add_text(g, row, "upstream");
		add_number(g, row, "position");
		add_text(g, row, "sandbox");
	}
}

static const struct grid_column lease_columns[] = {{"LEASE", GRID_TEXT, 11},
						   {"KIND", GRID_TEXT, 10},
						   {"PID", GRID_NUMBER, 6},
						   {"STATE", GRID_TEXT, 8},
						   {"ENDS", GRID_TEXT, 8}};

static void fill_leases(struct grid *g, const json_t *now, const json_t *before)
{
	size_t i;
	const json_t *row;

	(void)before;
	json_array_foreach((json_t *)top_member(now, "own.leases"), i, row)
	{
		add_text(g, row, "sandbox");
		add_text(g, row, "kind");
		add_number(g, row, "pid");
		add_text(g, row, "state");
		add_time(g, row, "expires_at");
	}
}

/* ---- upstreams --------------------------------------------------------- */

static const struct grid_column upstream_columns[] = {
	{"UPSTREAM", GRID_TEXT, 12}, {"HEALTH", GRID_WORD, 0},    {"IN USE", GRID_NUMBER, 0},
	{"IDLE", GRID_NUMBER, 0},    {"WAITING", GRID_NUMBER, 0}, {"DIALS", GRID_NUMBER, 0},
	{"FAILED", GRID_NUMBER, 0},  {"CIRCUIT", GRID_WORD, 0},   {"EVENTS", GRID_WORD, 8},
};

static void fill_upstreams(struct grid *g, const json_t *now, const json_t *before)
{
	size_t i;
	const json_t *row;

	(void)before;
	json_array_foreach((json_t *)top_member(now, "upstreams"), i, row)
	{
		bool healthy = json_is_true(top_member(row, "healthy"));
		bool open = json_is_true(top_member(row, "pool.circuit_open"));
		int64_t waiting = top_number(row, "pool.waiting");
		add_text(g, row, "name");
		grid_add(g, healthy ? CANVAS_GOOD : CANVAS_BAD, healthy ? STR("ok") : STR("bad"));
		grid_addf(g, CANVAS_PLAIN, "%lld/%lld", (long long)top_number(row, "pool.leased"),
			  (long long)top_number(row, "pool.max_connections"));
		add_number(g, row, "pool.idle");
		grid_addf(g, waiting ? CANVAS_BAD : CANVAS_PLAIN, "%lld", (long long)waiting);
		add_number(g, row, "pool.dials");
		add_number(g, row, "pool.dial_failures");
		grid_add(g, open ? CANVAS_BAD : CANVAS_PLAIN, open ? STR("open") : STR("closed"));
		grid_add(g, CANVAS_PLAIN,
			 json_is_true(top_member(row, "events.connected")) ? STR("read") : STR("not read"));
	}
}

/* ------------------------------------------------------------------------ */

static const struct top_panel all[] = {
	{"nobody is connected", COLUMNS(owner_columns), fill_owners, "clients.owners_left_out"},
	{"no request is under way", COLUMNS(request_columns), fill_requests, "clients.active_left_out"},
	{"none since the start", COLUMNS(error_columns), fill_errors, NULL},
	{"there is none", COLUMNS(rule_columns), fill_rules, NULL},
};

static const struct top_panel own[] = {
	{"none is under way", COLUMNS(spawn_columns), fill_spawns, NULL},
	{"none", COLUMNS(lease_columns), fill_leases, NULL},
};

static const struct top_panel upstreams = {"none", COLUMNS(upstream_columns), fill_upstreams, NULL};

_Static_assert(sizeof(all) / sizeof(all[0]) <= TOP_PANELS_MAX, "too many panels");

const struct top_panel *top_panels(const json_t *now, size_t *n)
{
	bool mine_only = !json_is_object(top_member(now, "clients"));

	*n = mine_only ? sizeof(own) / sizeof(own[0]) : sizeof(all) / sizeof(all[0]);
	return mine_only ? own : all;
}

const struct top_panel *top_panel_upstreams(void)
{
	return &upstreams;
}
