/* SPDX-License-Identifier: Apache-2.0 */
/* `stacygate top` without a terminal: what is laid out from which document, for which size, after which keys. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "cli/top_data.h"
#include "cli/top_view.h"

enum {
	START_MS = 1000000
};

static const char whole[] =
	"{'version':'0.1.0','uptime_ms':3723000,'draining':false,"
	"'config':{'file':'/etc/stacygate/stacygate.yaml','generation':2,'reloads_failed':0},"
	"'clients':{'connections':3,'owners':["
	"{'uid':1000,'user_id':'idle','rule':'people','connections':2,'active':0,'requests':7},"
	"{'uid':1001,'user_id':'busy','rule':'people','connections':1,'active':2,'requests':40}],'owners_left_out':0,"
	"'active':["
	"{'connection':1,'uid':1001,'user_id':'busy','rule':'people','pid':77,'listener':'/s','method':'GET','route':'/"
	"gateway/v1/health',"
	"'for_ms':5},"
	"{'connection':2,'uid':1001,'user_id':'','rule':'people','listener':'tcp','method':'POST','route':'/api/v1/"
	"sandboxes/{id}/exec',"
	"'sandbox':'sb-0000002a','for_ms':65000}],'active_left_out':0},"
	"'requests':{'total':100,'by_status':{'none':1,'2xx':80,'4xx':10,'5xx':5}},"
	"'rules':[{'name':'people','none':1,'1xx':0,'2xx':80,'3xx':0,'4xx':10,'5xx':5},"
	"{'name':'','none':0,'1xx':0,'2xx':0,'3xx':0,'4xx':0,'5xx':0}],"
	"'spawns':[{'state':'waiting','position':1},{'state':'sent'}],"
	"'cache':{'hits':6,'stale':1,'misses':3,'entries':4,'bytes':3482},'leases':{'present':5},"
	"'upstreams':[{'name':'main','healthy':true,'pool':{'connections':8,'idle':5,'leased':3,'waiting':0,'max_"
	"connections':64,"
	"'dials':9,'dial_failures':1,'circuit_open':false},'events':{'connected':true}},"
	"{'name':'spare','healthy':false,'error':'cannot "
	"connect','pool':{'leased':0,'idle':0,'waiting':2,'max_connections':8,'dials':5,"
	"'dial_failures':5,'circuit_open':true},'events':{'connected':false}}],"
	"'errors':[{'time':'2026-01-02T03:04:05.678Z','level':'warning','count':3,'text':'upstream spare: cannot "
	"connect'}]}";

static const char mine[] = "{'version':'0.1.0','uptime_ms':5000,'own':{'connections':2,'user_id':'alice@vm','spawns':"
			   "[{'state':'waiting','upstream':'main','position':4}],'leases':"
			   "[{'sandbox':'sb-0000002a','kind':'process','pid':77,'state':'bound','owner':'alice@vm'}]}}";

/* A document; in the text ' stands for ". */
static json_t *document(const char *text)
{
	char *copy = strdup(text);
	json_error_t why;
	json_t *root;

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	root = json_loads(copy, JSON_ALLOW_NUL, &why);
	cr_assert(root, "%s at %d in %s", why.text, why.position, copy);
	free(copy);
	return root;
}

static void set(json_t *root, const char *object, const char *key, json_int_t value)
{
	json_object_set_new(object ? json_object_get(root, object) : root, key, json_integer(value));
}

/* The screen as lines, spaces at their ends left out. Nothing may leave it, nor be anything but text. */
static void draw(struct top_view *v, size_t rows, size_t columns, uint64_t now_ms, char *out, size_t size)
{
	struct canvas c;
	size_t n = 0;

	canvas_init(&c, rows, columns);
	top_view_draw(v, &c, now_ms);
	cr_assert_not(c.failed);
	*out = 0;
	for (size_t row = 0, i = 0; row < rows; row++) {
		size_t column = 0, line = n;
		for (; i < c.n && c.pieces[i].row == row; i++) {
			struct str text = str_of(buf_data(&c.text) + c.pieces[i].at, c.pieces[i].bytes);
			cr_assert_eq(c.pieces[i].column, column, "a gap or an overlap in row %zu", row);
			column += canvas_width(text);
			cr_assert(column <= columns, "row %zu is too long", row);
			for (size_t k = 0; k < text.n; k++)
				cr_assert((unsigned char)text.p[k] >= 0x20 && text.p[k] != 0x7f,
					  "a control byte in row %zu", row);
			n += (size_t)snprintf(out + n, size - n, "%.*s", STR_ARG(text));
		}
		while (n > line && out[n - 1] == ' ')
			n--;
		n += (size_t)snprintf(out + n, size - n, "\n");
		cr_assert_lt(n, size);
		if (row + 1 == rows)
			cr_assert_eq(i, c.n, "something lies below the screen");
	}
	canvas_fini(&c);
}

static char screen[65536];

static void assert_shows(struct top_view *v, const char *text)
{
	draw(v, 24, 80, v->heard_ms, screen, sizeof(screen));
	cr_assert(strstr(screen, text), "'%s' is missing:\n%s", text, screen);
}

static void assert_shows_not(struct top_view *v, const char *text)
{
	draw(v, 24, 80, v->heard_ms, screen, sizeof(screen));
	cr_assert_not(strstr(screen, text), "'%s' is there:\n%s", text, screen);
}

/* In the usual size everything is on one screen: the busy before the idle, the longest request first. */
Test(cli_top, all_of_it_in_80x24)
{
	static const char expected[] =
		"stacygate 0.1.0  degraded  up 1h 2m  configuration 2  /etc/stacygate/stacygate.y\n"
		"requests/s 0  4xx/s 0  failed/s 0  connections 3  under way 2\n"
		"pool 3/72  queue 2  spawns 2 (1 queued)  leases 5  cache 70 % hits, 3.4 KiB\n"
		"UPSTREAM      HEALTH  IN USE  IDLE  WAITING  DIALS  FAILED  CIRCUIT  EVENTS\n"
		"main          ok        3/64     5        0      9       1  closed   read\n"
		"spare         bad        0/8     0        2      5       5  open     not read\n"
		"spare: cannot connect\n"
		"1 OWNER         UID  RULE      CONNS  ACTIVE  REQUESTS     /S\n"
		"busy           1001  people        1       2        40      0\n"
		"idle           1000  people        2       0         7      0\n"
		"2 UNDER WAY                           FOR  OWNER        PID  SANDBOX\n"
		"POST /api/v1/sandboxes/{id}/exec    1m 5s  uid 1001       -  sb-0000002a\n"
		"GET /gateway/v1/health                 0s  busy          77  -\n"
		"3 ERROR                         LEVEL    TIMES  LAST\n"
		"upstream spare: cannot connect  warning      3  03:04:05\n"
		"4 RULE        ANSWERED  REFUSED  FAILED  LEFT     /S\n"
		"people              80       10       5     1      0\n"
		"\n\n\n\n\n\n"
		"q quit  h help  p pause  1-4 Tab table  j/k PgUp/PgDn scroll\n";
	struct top_view v = TOP_VIEW_EMPTY;

	top_view_take(&v, document(whole), START_MS);
	draw(&v, 24, 80, START_MS, screen, sizeof(screen));
	cr_assert_str_eq(screen, expected, "%s", screen);
	top_view_fini(&v);
}

/* Rates are differences over the gateway's own clock; an earlier document of another run is no base for them. */
Test(cli_top, rates)
{
	struct top_view v = TOP_VIEW_EMPTY;
	json_t *next = document(whole);
	json_t *owner = json_array_get(json_object_get(json_object_get(next, "clients"), "owners"), 1);

	set(next, NULL, "uptime_ms", 3723000 + 2000);
	set(next, "requests", "total", 125);
	set(json_object_get(next, "requests"), "by_status", "4xx", 11);
	set(json_object_get(next, "requests"), "by_status", "5xx", 5 + 400);
	set(next, "clients", "connections", 1);
	set(owner, NULL, "requests", 60);
	set(json_array_get(json_object_get(next, "rules"), 0), NULL, "2xx", 81);
	top_view_take(&v, document(whole), START_MS);
	top_view_take(&v, next, START_MS + 2000);
	assert_shows(&v, "requests/s 12.5  4xx/s 0.5  failed/s 200  connections 1  ");
	assert_shows(&v, "busy           1001  people        1       2        60   10.0\n");
	assert_shows(&v, "people              81       10       5     1    0.5\n");
	/* Gone back: a restart. */
	top_view_take(&v, document(whole), START_MS + 3000);
	cr_assert_null(v.before);
	assert_shows(&v, "requests/s 0  4xx/s 0  failed/s 0 ");
	assert_shows(&v, "\nthe gateway was started anew\n");
	top_view_fini(&v);
}

/* What has become of the gateway is said for a while: another configuration, no word, no connection. */
Test(cli_top, news)
{
	struct top_view v = TOP_VIEW_EMPTY;
	json_t *next = document(whole);

	set(next, "config", "generation", 3);
	top_view_take(&v, document(whole), START_MS);
	top_view_take(&v, next, START_MS + 1000);
	assert_shows(&v, "\nanother configuration is in force\n");
	draw(&v, 24, 80, START_MS + 1000 + 10000, screen, sizeof(screen));
	cr_assert_not(strstr(screen, "in force"));
	cr_assert(strstr(screen, "  silent  ") && strstr(screen, "\nnothing has come for 10 s\n"), "%s", screen);
	top_view_lost(&v, NULL);
	assert_shows(&v, "  disconnected  ");
	assert_shows(&v, "\ntrying again every second: the gateway has ended the stream\n");
	top_view_lost(&v, "cannot \033[31mconnect");
	assert_shows(&v, "\ntrying again every second: cannot \\x1b[31mconnect\n");
	next = document(whole);
	json_object_set_new(next, "draining", json_true());
	top_view_take(&v, next, START_MS + 20000);
	assert_shows(&v, "  draining  ");
	next = document(whole);
	json_object_set_new(json_array_get(json_object_get(next, "upstreams"), 1), "healthy", json_true());
	set(next, "config", "reloads_failed", 2);
	top_view_take(&v, next, START_MS + 21000);
	assert_shows(&v, "  ok  up 1h 2m  configuration 2, 2 reloads failed  ");
	top_view_fini(&v);
}

/* While it is paused what comes is left alone; afterwards rates are of all the time between. */
Test(cli_top, pause)
{
	struct top_view v = TOP_VIEW_EMPTY;

	top_view_take(&v, document(whole), START_MS);
	cr_assert_not(top_view_key(&v, 'p'));
	for (int i = 1; i <= 3; i++) {
		json_t *next = document(whole);
		set(next, NULL, "uptime_ms", 3723000 + i * 1000);
		set(next, "requests", "total", 100 + i * 10);
		if (i == 3) {
			assert_shows(&v, "degraded  paused  up 1h 2m");
			assert_shows(&v, "requests/s 0 ");
			top_view_key(&v, 'p');
		}
		top_view_take(&v, next, START_MS + (uint64_t)i * 1000);
	}
	assert_shows_not(&v, "paused");
	assert_shows(&v, "requests/s 10.0 ");
	top_view_fini(&v);
}

/* To whom the gateway shows his own part that is shown, and what is not is said. */
Test(cli_top, own_part)
{
	struct top_view v = TOP_VIEW_EMPTY;

	top_view_take(&v, document(mine), START_MS);
	assert_shows(&v, "stacygate 0.1.0  connected  up 5s\n"
			 "you are alice@vm  connections 2  spawns 1  leases 1\n"
			 "Your own part. Clients, pool, cache and rates are for rules with `admin: true`.\n"
			 "1 SPAWN     UPSTREAM  PLACE  SANDBOX\n"
			 "waiting     main          4  -\n"
			 "2 LEASE      KIND           PID  STATE     ENDS\n"
			 "sb-0000002a  process         77  bound     -\n");
	/* A rule that is one of an admin no more has fewer panels. */
	top_view_take(&v, document(whole), START_MS);
	top_view_key(&v, '4');
	top_view_take(&v, document(mine), START_MS);
	draw(&v, 24, 80, START_MS, screen, sizeof(screen));
	cr_assert_eq(v.panel, 0);
	top_view_key(&v, '3');
	cr_assert_eq(v.panel, 0);
	top_view_fini(&v);
}

/* X14: names, paths and errors of others, with everything in them that a terminal could obey, are text. */
Test(cli_top, hostile_text)
{
	static const char evil[] =
		"{'version':'\\u001b[2J','uptime_ms':1,'config':{'file':'\\u001b]0;PWNED\\u0007','generation':1},'"
		"clients':{'owners':["
		"{'uid':1,'user_id':'\\u001b[31mred\\u009b1m\\u0000\\r\\n','rule':'a\\tb','connections':1}],'active':["
		"{'method':'\\u001b','route':'\\u001bc','sandbox':'\\u007f','user_id':'\\u001b[?1049l'}]},'upstreams':["
		"{'name':'\\u001bP','error':'\\u001b]52;c;UFdORUQ=\\u0007'}],'rules':[{'name':'\\u001b','4xx':1}],"
		"'errors':[{'time':'\\u001b[1;1H23456789012345','level':'\\u001b','text':'line\\nline \\u001b[6n'}]}";
	static const char *const shown[] = {"stacygate \\x1b[2J  ",
					    "\\x1b]0;PWNED\\x07",
					    "\\x1b[31mred\\xc2\\x9b1m\\x00\\x0d\\x0a",
					    "a\\x09b",
					    "\\x1b \\x1bc",
					    "\\x7f",
					    "\\x1b[?1049l",
					    "\\x1bP: \\x1b]52;c;UFdORUQ=\\x07",
					    "line\\x0aline \\x1b[6n"};
	struct top_view v = TOP_VIEW_EMPTY;

	setlocale(LC_CTYPE, "C.UTF-8");
	top_view_take(&v, document(evil), START_MS);
	draw(&v, 24, 200, START_MS, screen, sizeof(screen));
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
		cr_expect(strstr(screen, shown[i]), "'%s' is missing:\n%s", shown[i], screen);
	/* In every size too. */
	for (size_t rows = 0; rows < 30; rows++)
		for (size_t columns = 0; columns < 130; columns += 3)
			draw(&v, rows, columns, START_MS, screen, sizeof(screen));
	top_view_fini(&v);
	top_view_take(&v, document(mine), START_MS);
	json_object_set_new(json_object_get(v.now, "own"), "user_id", json_string("\033[H"));
	assert_shows(&v, "you are \\x1b[H ");
	top_view_fini(&v);
}

/* Whatever is missing, or is something else than it should be, is empty or 0, in every size. */
Test(cli_top, anything_may_be_missing)
{
	static const char *const texts[] = {
		"{}",
		"{'clients':{}}",
		"{'clients':[],'own':7}",
		"{'clients':{'owners':[{},7,null,[]],'active':[{},'x'],'owners_left_out':'many'},'upstreams':[{},{'"
		"pool':[]},3],'rules':[{}],"
		"'errors':[{},[]],'requests':{'by_status':3},'cache':null,'spawns':{},'config':[]}",
		"{'uptime_ms':-5,'clients':{'connections':-1,'active_left_out':1e9}}",
		"{'own':{'spawns':[{},1],'leases':[null,{}]}}",
		whole,
		mine,
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct top_view v = TOP_VIEW_EMPTY;
		top_view_take(&v, document(texts[i]), START_MS);
		top_view_take(&v, document(texts[(i + 1) % (sizeof(texts) / sizeof(texts[0]))]), START_MS);
		for (int help = 0; help < 2; help++) {
			for (size_t rows = 0; rows < 60; rows++)
				for (size_t columns = 0; columns < 90; columns += 7)
					draw(&v, rows, columns, START_MS + 5000, screen, sizeof(screen));
			top_view_key(&v, 'h');
		}
		top_view_fini(&v);
	}
	/* Nothing has come at all. */
	struct top_view v = TOP_VIEW_EMPTY;
	draw(&v, 24, 80, START_MS, screen, sizeof(screen));
	top_view_key(&v, '\t');
	top_view_fini(&v);
}

/* As many owners as the gateway names, and some that it does not. */
static json_t *crowd(void)
{
	json_t *root = document(whole);
	json_t *clients = json_object_get(root, "clients");
	json_t *owners = json_array();

	for (int i = 0; i < 100; i++)
		json_array_append_new(owners,
				      json_pack("{s:i, s:o, s:s, s:i}", "uid", i, "user_id",
						json_sprintf("user%02d", i), "rule", "people", "active", 100 - i));
	json_object_set_new(clients, "owners", owners);
	set(clients, NULL, "owners_left_out", 20);
	return root;
}

/* The chosen table has the room that the others leave, says where it is, and is scrolled no further than its end. */
Test(cli_top, keys)
{
	struct top_view v = TOP_VIEW_EMPTY;

	top_view_take(&v, crowd(), START_MS);
	assert_shows(&v, "\n1 OWNER 1-8/120");
	assert_shows(&v, "\nuser00 ");
	top_view_key(&v, 'j');
	top_view_key(&v, TOP_KEY_DOWN);
	assert_shows(&v, "\n1 OWNER 3-10/120");
	assert_shows_not(&v, "\nuser01 ");
	top_view_key(&v, 'k');
	assert_shows(&v, "\n1 OWNER 2-9/120");
	top_view_key(&v, TOP_KEY_PAGE_DOWN);
	assert_shows(&v, "\n1 OWNER 10-17/120");
	top_view_key(&v, TOP_KEY_END);
	assert_shows(&v, "\n1 OWNER 93-100/120");
	assert_shows(&v, "\nuser99 ");
	top_view_key(&v, TOP_KEY_DOWN);
	assert_shows(&v, "\n1 OWNER 93-100/120");
	top_view_key(&v, TOP_KEY_PAGE_UP);
	assert_shows(&v, "\n1 OWNER 85-92/120");
	for (int i = 0; i < 30; i++)
		top_view_key(&v, TOP_KEY_PAGE_UP);
	assert_shows(&v, "\n1 OWNER 1-8/120");
	top_view_key(&v, 'G');
	top_view_key(&v, TOP_KEY_HOME);
	assert_shows(&v, "\n1 OWNER 1-8/120");
	/* Another table, and round. */
	top_view_key(&v, '2');
	assert_shows(&v, "\n1 OWNER 1-8/120");
	top_view_key(&v, TOP_KEY_BACK_TAB);
	cr_assert_eq(v.panel, 0);
	top_view_key(&v, TOP_KEY_BACK_TAB);
	cr_assert_eq(v.panel, 3);
	top_view_key(&v, '\t');
	cr_assert_eq(v.panel, 0);
	for (const int *key = (const int[]){'5', '0', 'x', 27, 0, 255, 9999, -1}; *key != -1; key++)
		cr_assert_not(top_view_key(&v, *key));
	cr_assert_eq(v.panel, 0);
	top_view_key(&v, '?');
	assert_shows(&v, "\nq, Ctrl-C         leave\n");
	assert_shows_not(&v, "user00");
	top_view_key(&v, 'h');
	assert_shows(&v, "user00");
	cr_assert(top_view_key(&v, 'q'));
	top_view_fini(&v);
}

/* Where the tables have no room for one another the chosen one stands alone; a tall screen shows them whole. */
Test(cli_top, small_and_tall)
{
	struct top_view v = TOP_VIEW_EMPTY;

	top_view_take(&v, crowd(), START_MS);
	draw(&v, 16, 80, START_MS, screen, sizeof(screen));
	cr_assert(strstr(screen, "\n1 OWNER 1-7/120") && !strstr(screen, "\n2 UNDER WAY"), "%s", screen);
	top_view_key(&v, '2');
	draw(&v, 16, 80, START_MS, screen, sizeof(screen));
	cr_assert(strstr(screen, "\n2 UNDER WAY") && !strstr(screen, "\n1 OWNER"), "%s", screen);
	draw(&v, 130, 80, START_MS, screen, sizeof(screen));
	cr_assert(strstr(screen, "\n1 OWNER 1-100/120") && strstr(screen, "\nuser99 ") && strstr(screen, "\n4 RULE"),
		  "%s", screen);
	top_view_fini(&v);
}

/* Many upstreams do not push the rest off the screen. */
Test(cli_top, many_upstreams)
{
	struct top_view v = TOP_VIEW_EMPTY;
	json_t *root = document(whole);
	json_t *list = json_object_get(root, "upstreams");

	for (int i = 0; i < 20; i++)
		json_array_append(list, json_array_get(list, 1));
	top_view_take(&v, root, START_MS);
	assert_shows(&v, "\nUPSTREAM 4/22 ");
	assert_shows(&v, "\n1 OWNER");
	top_view_fini(&v);
}

/* Wide characters take two columns, are not halved, and are cut with a mark; a locale without them has them escaped. */
Test(cli_top, characters)
{
	struct canvas c;
	struct buf visible = BUF_EMPTY;

	setlocale(LC_CTYPE, "C.UTF-8");
	cr_assert_eq(canvas_width(STR("\xe6\xbc\xa2\xe5\xad\x97")), 4);
	cr_assert_eq(canvas_width(STR("e\xcc\x81")), 1);
	canvas_visible(&visible, STR("a\xff\xe6\xbc\xa2\xc2\x85"));
	cr_assert(str_eq(buf_str(&visible), STR("a\\xff\xe6\xbc\xa2\\xc2\\x85")), "%.*s", STR_ARG(buf_str(&visible)));
	canvas_init(&c, 2, 10);
	canvas_cell(&c, CANVAS_PLAIN, STR("\xe6\xbc\xa2\xe5\xad\x97"), 4, false);
	canvas_cell(&c, CANVAS_PLAIN, STR("\xe6\xbc\xa2\xe5\xad\x97"), 3, false);
	canvas_cell(&c, CANVAS_PLAIN, STR("\xe6\xbc\xa2\xe5\xad\x97"), 2, true);
	cr_assert_eq(c.column, 9);
	canvas_add(&c, CANVAS_PLAIN, STR("\xe6\xbc\xa2"));
	cr_assert_eq(c.column, 9, "half a character");
	canvas_add(&c, CANVAS_PLAIN, STR("xyz"));
	cr_assert(str_eq(buf_str(&c.text), STR("\xe6\xbc\xa2\xe5\xad\x97\xe6\xbc\xa2++ x")), "%.*s",
		  STR_ARG(buf_str(&c.text)));
	canvas_fini(&c);
	setlocale(LC_CTYPE, "C");
	buf_reset(&visible);
	canvas_visible(&visible, STR("h\xc3\xa9"));
	cr_assert(str_eq(buf_str(&visible), STR("h\\xc3\\xa9")), "%.*s", STR_ARG(buf_str(&visible)));
	buf_fini(&visible);
}

/* Texts give way to numbers, the widest first, and not below a few columns. */
Test(cli_top, grid)
{
	static const struct grid_column columns[] = {{"A", GRID_TEXT, 0}, {"B", GRID_NUMBER, 4}, {"C", GRID_WORD, 0}};
	static const struct {
		size_t columns;
		const char *text;
	} cases[] = {{30, "TITL                B  C      abcdefghijklmno     1  word"},
		     {20, "TITL         B  C   abcdefg+     1  word"},
		     {10, "TITL     Babc+     1"}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct grid g;
		struct canvas c;
		struct buf joined = BUF_EMPTY;

		grid_init(&g, columns, 3);
		grid_add(&g, CANVAS_PLAIN, STR("abcdefghijklmno"));
		grid_addf(&g, CANVAS_PLAIN, "%d", 1);
		grid_add(&g, CANVAS_PLAIN, STR("word"));
		canvas_init(&c, 2, cases[i].columns);
		grid_draw(&g, &c, CANVAS_HEADING, "TITL", 0, 5);
		for (size_t row = 0; row < 2; row++) {
			size_t n = 0;
			for (size_t k = 0; k < c.n; k++)
				if (c.pieces[k].row == row) {
					buf_add(&joined, buf_data(&c.text) + c.pieces[k].at, c.pieces[k].bytes);
					n += c.pieces[k].bytes;
				}
			for (; n < cases[i].columns; n++)
				buf_add_char(&joined, ' ');
		}
		while (joined.len > strlen(cases[i].text) && buf_data(&joined)[joined.len - 1] == ' ')
			joined.len--;
		cr_assert(str_eq(buf_str(&joined), str_from(cases[i].text)), "%zu: '%.*s'", cases[i].columns,
			  STR_ARG(buf_str(&joined)));
		buf_fini(&joined);
		canvas_fini(&c);
		grid_fini(&g);
	}
}

/* Spans and rates, in as few characters as say it. */
Test(cli_top, formats)
{
	static const struct {
		int64_t ms;
		const char *text;
	} spans[] = {{0, "0s"},          {59999, "59s"},
		     {60000, "1m 0s"},   {3599999, "59m 59s"},
		     {7260000, "2h 1m"}, {INT64_MAX, "106751991167d 7h"}};
	static const struct {
		double rate;
		const char *text;
	} rates[] = {{0, "0"}, {0.01, "0.1"}, {12.34, "12.3"}, {99.99, "100.0"}, {100, "100"}, {123456.7, "123457"}};
	char text[TOP_SHORT];

	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		top_format_span(spans[i].ms, text);
		cr_expect_str_eq(text, spans[i].text);
	}
	for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		top_format_rate(rates[i].rate, text);
		cr_expect_str_eq(text, rates[i].text);
	}
}
