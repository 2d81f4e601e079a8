/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From the top: state, rates, stock, trouble if there is any, the upstreams, then the panels, of which the chosen one gets the room
 * that the others leave, and the keys in the last line. Where the panels have no room for one another the chosen one stands alone.
 */
#include "cli/top_view.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "cli/top_data.h"
#include "common/units.h"

enum {
	NEWS_MS = 10000,
	SILENT_AFTER_MS = 3000, /* a document comes every second */
	LEAST_PANEL_ROWS = 3,   /* a heading and two rows */
};

void top_view_fini(struct top_view *v)
{
	json_decref(v->now);
	json_decref(v->before);
	*v = TOP_VIEW_EMPTY;
}

/* ---- documents --------------------------------------------------------- */

static void tell(struct top_view *v, uint64_t now_ms, const char *news)
{
	snprintf(v->news, sizeof(v->news), "%s", news);
	v->news_until_ms = now_ms + NEWS_MS;
}

/* What happened between the two, as far as it can be seen in them. */
static bool compare(struct top_view *v, const json_t *next, uint64_t now_ms)
{
	bool restarted = top_number(next, "uptime_ms") < top_number(v->now, "uptime_ms");

	if (restarted)
		tell(v, now_ms, "the gateway was started anew");
	else if (top_number(next, "config.generation") != top_number(v->now, "config.generation"))
		tell(v, now_ms, "another configuration is in force");
	return !restarted;
}

void top_view_take(struct top_view *v, json_t *document, uint64_t now_ms)
{
	v->heard_ms = now_ms;
	v->lost = false;
	if (v->paused) {
		json_decref(document);
		return;
	}
	json_decref(v->before);
	v->before = NULL;
	if (v->now && compare(v, document, now_ms))
		v->before = v->now;
	else
		json_decref(v->now);
	v->now = document;
}

void top_view_lost(struct top_view *v, const char *why)
{
	v->lost = true;
	snprintf(v->why, sizeof(v->why), "%s", why ? why : "");
}

/* ---- keys -------------------------------------------------------------- */

static void choose(struct top_view *v, size_t panel)
{
	v->panel = panel;
	v->help = false;
}

/* The end is found when it is drawn. */
static void scroll(struct top_view *v, bool down, size_t by)
{
	size_t *first = &v->first[v->panel];

	if (down)
		*first += by;
	else
		*first -= by < *first ? by : *first;
}

bool top_view_key(struct top_view *v, int key)
{
	size_t n;

	top_panels(v->now, &n);
	switch (key) {
	case 'q':
	case 'Q':
		return true;
	case 'h':
	case '?':
		v->help = !v->help;
		break;
	case 'p':
	case ' ':
		v->paused = !v->paused;
		break;
	case '\t':
		choose(v, (v->panel + 1) % n);
		break;
	case TOP_KEY_BACK_TAB:
		choose(v, (v->panel + n - 1) % n);
		break;
	case 'j':
	case TOP_KEY_DOWN:
		scroll(v, true, 1);
		break;
	case 'k':
	case TOP_KEY_UP:
		scroll(v, false, 1);
		break;
	case TOP_KEY_PAGE_DOWN:
		scroll(v, true, v->page);
		break;
	case TOP_KEY_PAGE_UP:
		scroll(v, false, v->page);
		break;
	case 'g':
	case TOP_KEY_HOME:
		v->first[v->panel] = 0;
		break;
	case 'G':
	case TOP_KEY_END:
		v->first[v->panel] = SIZE_MAX / 2;
		break;
	default:
		if (key >= '1' && key < '1' + (int)n)
			choose(v, (size_t)(key - '1'));
		break;
	}
	return false;
}

/* ---- the lines at the top ---------------------------------------------- */

static bool is_whole(const struct top_view *v)
{
	return json_is_object(top_member(v->now, "clients"));
}

static bool all_healthy(const json_t *now)
{
	size_t i;
	const json_t *row;

	json_array_foreach((json_t *)top_member(now, "upstreams"), i, row)
	{
		if (!json_is_true(top_member(row, "healthy")))
			return false;
	}
	return true;
}

static void draw_state(const struct top_view *v, struct canvas *c, uint64_t now_ms)
{
	const char *word = "connected";
	bool good = true;

	if (v->lost || now_ms - v->heard_ms >= SILENT_AFTER_MS) {
		word = v->lost ? "disconnected" : "silent";
		good = false;
	} else if (is_whole(v)) {
		bool draining = json_is_true(top_member(v->now, "draining"));
		good = !draining && all_healthy(v->now);
		word = draining ? "draining" : good ? "ok" : "degraded";
	}
	canvas_add(c, good ? CANVAS_GOOD : CANVAS_BAD, str_from(word));
}

static void draw_title(const struct top_view *v, struct canvas *c, uint64_t now_ms)
{
	char up[TOP_SHORT];

	top_format_span(top_number(v->now, "uptime_ms"), up);
	canvas_add(c, CANVAS_STRONG, STR("stacygate "));
	canvas_add(c, CANVAS_STRONG, top_text(v->now, "version"));
	canvas_add(c, CANVAS_PLAIN, STR("  "));
	draw_state(v, c, now_ms);
	if (v->paused)
		canvas_add(c, CANVAS_BAD, STR("  paused"));
	canvas_addf(c, CANVAS_PLAIN, "  up %s", up);
	if (top_member(v->now, "config")) {
		int64_t failed = top_number(v->now, "config.reloads_failed");
		canvas_addf(c, CANVAS_PLAIN, "  configuration %lld",
			    (long long)top_number(v->now, "config.generation"));
		if (failed)
			canvas_addf(c, CANVAS_BAD, ", %lld reloads failed", (long long)failed);
		canvas_add(c, CANVAS_PLAIN, STR("  "));
		canvas_add(c, CANVAS_PLAIN, top_text(v->now, "config.file"));
	}
	canvas_next_line(c);
}

/* "NAME value  ": the values stand out. */
static void draw_value(struct canvas *c, const char *name, bool good, const char *value)
{
	canvas_addf(c, CANVAS_PLAIN, "%s ", name);
	canvas_add(c, good ? CANVAS_STRONG : CANVAS_BAD, str_from(value));
	canvas_add(c, CANVAS_PLAIN, STR("  "));
}

static void draw_number(struct canvas *c, const char *name, bool good, int64_t value)
{
	char text[TOP_SHORT];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	draw_value(c, name, good, text);
}

static void draw_rate(struct canvas *c, const char *name, bool good_above_0, double rate)
{
	char text[TOP_SHORT];

	top_format_rate(rate, text);
	draw_value(c, name, good_above_0 || rate <= 0, text);
}

static void draw_rates(const struct top_view *v, struct canvas *c)
{
	const json_t *now = v->now, *before = v->before;
	int64_t active = (int64_t)json_array_size(top_member(now, "clients.active"));

	draw_rate(c, "requests/s", true, top_rate(now, before, "requests.total"));
	draw_rate(c, "4xx/s", true, top_rate(now, before, "requests.by_status.4xx"));
	draw_rate(c, "failed/s", false,
		  top_rate(now, before, "requests.by_status.5xx") + top_rate(now, before, "requests.by_status.none"));
	draw_number(c, "connections", true, top_number(now, "clients.connections"));
	draw_number(c, "under way", true, active + top_number(now, "clients.active_left_out"));
	canvas_next_line(c);
}

static int64_t sum_of_pools(const json_t *now, const char *path)
{
	int64_t sum = 0;
	size_t i;
	const json_t *row;

	json_array_foreach((json_t *)top_member(now, "upstreams"), i, row) sum += top_number(row, path);
	return sum;
}

static int64_t waiting_spawns(const json_t *now)
{
	int64_t n = 0;
	size_t i;
	const json_t *row;

	json_array_foreach((json_t *)top_member(now, "spawns"), i, row) n += top_member(row, "position") != NULL;
	return n;
}

static void draw_cache(const json_t *now, struct canvas *c)
{
	int64_t found = top_number(now, "cache.hits") + top_number(now, "cache.stale");
	int64_t asked = found + top_number(now, "cache.misses");
	char text[64], size[TOP_SHORT];

	size_format((uint64_t)top_number(now, "cache.bytes"), size);
	if (asked)
		snprintf(text, sizeof(text), "%.0f %% hits, %s", 100 * (double)found / (double)asked, size);
	else
		snprintf(text, sizeof(text), "unused");
	draw_value(c, "cache", true, text);
}

static void draw_stock(const json_t *now, struct canvas *c)
{
	int64_t waiting = sum_of_pools(now, "pool.waiting"), queued = waiting_spawns(now);
	char text[64];

	snprintf(text, sizeof(text), "%lld/%lld", (long long)sum_of_pools(now, "pool.leased"),
		 (long long)sum_of_pools(now, "pool.max_connections"));
	draw_value(c, "pool", true, text);
	draw_number(c, "queue", waiting == 0, waiting);
	snprintf(text, sizeof(text), "%zu (%lld queued)", json_array_size(top_member(now, "spawns")),
		 (long long)queued);
	draw_value(c, "spawns", true, text);
	draw_number(c, "leases", true, top_number(now, "leases.present"));
	draw_cache(now, c);
	canvas_next_line(c);
}

static void draw_own(const json_t *now, struct canvas *c)
{
	canvas_add(c, CANVAS_PLAIN, STR("you are "));
	canvas_add(c, CANVAS_STRONG, top_text(now, "own.user_id"));
	canvas_add(c, CANVAS_PLAIN, STR("  "));
	draw_number(c, "connections", true, top_number(now, "own.connections"));
	draw_number(c, "spawns", true, (int64_t)json_array_size(top_member(now, "own.spawns")));
	draw_number(c, "leases", true, (int64_t)json_array_size(top_member(now, "own.leases")));
	canvas_next_line(c);
	canvas_add(c, CANVAS_FAINT,
		   STR("Your own part. Clients, pool, cache and rates are for rules with `admin: true`."));
	canvas_next_line(c);
}

static void draw_news(const struct top_view *v, struct canvas *c, uint64_t now_ms)
{
	if (v->lost) {
		canvas_addf(c, CANVAS_BAD, "trying again every second: %s",
			    v->why[0] ? v->why : "the gateway has ended the stream");
		canvas_next_line(c);
	} else if (now_ms - v->heard_ms >= SILENT_AFTER_MS) {
		canvas_addf(c, CANVAS_BAD, "nothing has come for %llu s",
			    (unsigned long long)(now_ms - v->heard_ms) / 1000);
		canvas_next_line(c);
	}
	if (v->news[0] && now_ms < v->news_until_ms) {
		canvas_add(c, CANVAS_STRONG, str_from(v->news));
		canvas_next_line(c);
	}
}

/* ---- panels ------------------------------------------------------------ */

/* A panel with its rows, as long as it is drawn. */
struct filled {
	const struct top_panel *panel;
	struct grid grid;
	size_t rows; /* of the screen, heading included */
};

static void fill(struct filled *p, const struct top_panel *panel, const struct top_view *v)
{
	p->panel = panel;
	grid_init(&p->grid, panel->columns, panel->ncolumns);
	panel->fill(&p->grid, v->now, v->before);
	p->rows = 0;
}

/* How many rows it would take; one says that there is nothing. */
static size_t wanted(const struct filled *p)
{
	size_t n = grid_rows(&p->grid);

	return 1 + (n ? n : 1);
}

/* "2 UNDER WAY 4-9/30" */
static void make_title(const struct filled *p, const struct top_view *v, size_t number, size_t first, char out[80])
{
	size_t shown = p->rows - 1, n = grid_rows(&p->grid);
	size_t all = n + (p->panel->left_out ? (size_t)top_number(v->now, p->panel->left_out) : 0);
	const char *title = p->panel->columns[0].title;

	if (shown < all && n > 0)
		snprintf(out, 80, "%zu %s %zu-%zu/%zu", number, title, first + 1, first + (shown < n ? shown : n), all);
	else
		snprintf(out, 80, "%zu %s", number, title);
}

static void draw_panel(struct top_view *v, struct canvas *c, const struct filled *p, size_t index)
{
	size_t n = grid_rows(&p->grid);
	size_t shown = p->rows - 1;
	size_t last = n > shown ? n - shown : 0;
	char title[80];

	if (v->first[index] > last)
		v->first[index] = last;
	if (index == v->panel)
		v->page = shown > 0 ? shown : 1;
	make_title(p, v, index + 1, v->first[index], title);
	grid_draw(&p->grid, c, index == v->panel ? CANVAS_CHOSEN : CANVAS_HEADING, title, v->first[index], shown);
	if (n == 0 && shown > 0) {
		canvas_add(c, CANVAS_FAINT, str_from(p->panel->none));
		canvas_next_line(c);
	}
}

/* What all have is a few rows each; the chosen one has what is left, and if it does not need it the others do. */
static void share_out(struct filled *panels, size_t n, size_t chosen, size_t room)
{
	size_t share = room / (n + 2) > LEAST_PANEL_ROWS ? room / (n + 2) : LEAST_PANEL_ROWS;

	if (room < n * LEAST_PANEL_ROWS) {
		panels[chosen].rows = room;
		return;
	}
	for (size_t i = 0; i < n; i++) {
		panels[i].rows = wanted(&panels[i]) < share ? wanted(&panels[i]) : share;
		room -= panels[i].rows;
	}
	for (size_t i = 0; i < n; i++) {
		struct filled *p = &panels[(chosen + i) % n];
		size_t more = wanted(p) - p->rows < room ? wanted(p) - p->rows : room;
		p->rows += more;
		room -= more;
	}
}

static void draw_panels(struct top_view *v, struct canvas *c, size_t room)
{
	struct filled filled[TOP_PANELS_MAX];
	size_t n;
	const struct top_panel *panels = top_panels(v->now, &n);

	if (v->panel >= n)
		v->panel = 0;
	for (size_t i = 0; i < n; i++)
		fill(&filled[i], &panels[i], v);
	share_out(filled, n, v->panel, room);
	for (size_t i = 0; i < n; i++) {
		if (filled[i].rows > 0)
			draw_panel(v, c, &filled[i], i);
		grid_fini(&filled[i].grid);
	}
}

/* The first few, the sick ones with the reason. */
static void draw_upstreams(const struct top_view *v, struct canvas *c)
{
	size_t most = c->rows / 6 > 1 ? c->rows / 6 : 1;
	struct filled p;
	size_t i, errors = 0;
	const json_t *row;
	char title[80];

	fill(&p, top_panel_upstreams(), v);
	if (grid_rows(&p.grid) > most)
		snprintf(title, sizeof(title), "UPSTREAM %zu/%zu", most, grid_rows(&p.grid));
	else
		snprintf(title, sizeof(title), "UPSTREAM");
	grid_draw(&p.grid, c, CANVAS_HEADING, title, 0, most);
	grid_fini(&p.grid);
	json_array_foreach((json_t *)top_member(v->now, "upstreams"), i, row)
	{
		if (!top_text(row, "error").n || errors == (most + 1) / 2)
			continue;
		errors++;
		canvas_add(c, CANVAS_BAD, top_text(row, "name"));
		canvas_add(c, CANVAS_BAD, STR(": "));
		canvas_add(c, CANVAS_BAD, top_text(row, "error"));
		canvas_next_line(c);
	}
}

static void draw_help(struct canvas *c)
{
	static const char *const lines[] = {
		"q, Ctrl-C         leave",
		"1 to 4, Tab       choose a table: it gets the room that the others leave",
		"arrows, j, k      scroll it; PgUp, PgDn, Home, End, g, G too",
		"p, space          hold what is shown, and go on",
		"h, ?              this text, and back",
		"",
		"Rates are of the last second; failed/s is answers 5xx and requests without one.",
		"First stand the owners with most under way, and the requests that last longest.",
	};

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]) && canvas_rows_left(c) > 1; i++) {
		canvas_add(c, CANVAS_PLAIN, str_from(lines[i]));
		canvas_next_line(c);
	}
}

void top_view_draw(struct top_view *v, struct canvas *c, uint64_t now_ms)
{
	draw_title(v, c, now_ms);
	if (is_whole(v)) {
		draw_rates(v, c);
		draw_stock(v->now, c);
	} else {
		draw_own(v->now, c);
	}
	draw_news(v, c, now_ms);
	if (is_whole(v))
		draw_upstreams(v, c);
	if (v->help)
		draw_help(c);
	else if (canvas_rows_left(c) > 1)
		draw_panels(v, c, canvas_rows_left(c) - 1);
	if (canvas_rows_left(c) > 0) {
		c->row = c->rows - 1;
		c->column = 0;
		canvas_add(c, CANVAS_FAINT, STR("q quit  h help  p pause  1-4 Tab table  j/k PgUp/PgDn scroll"));
	}
}
