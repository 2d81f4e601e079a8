/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signals that concern a terminal are blocked and read from a descriptor, so that they are waited for with the keys and nothing of
 * ncurses runs within a handler. Stopping and SIGQUIT give the terminal back first, then have their ordinary effect.
 *
 * Failures: TERM is unknown or cannot place text; the terminal goes away without SIGHUP (its descriptor says so).
 */
#include "cli/top_screen.h"

#include <curses.h>
#include <errno.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "cli/top_view.h"
#include "common/check.h"
#include "common/fd.h"

enum {
	ESCAPE_WAIT_MS = 25,
	PAIR_GOOD = 1,
	PAIR_BAD,
};

struct top_screen {
	SCREEN *screen;               /* owned */
	sigset_t blocked;             /* what is read from signal_fd */
	sigset_t mask_before;         /* what was blocked before */
	struct sigaction stop_before; /* what SIGTSTP did before */
	int signal_fd;                /* owned */
	attr_t attributes[CANVAS_STYLES];
};

bool top_screen_is_possible(void)
{
	return isatty(0) && isatty(1);
}

/* ---- signals ----------------------------------------------------------- */

/* Never called: the signal is blocked. But with an action of ours ncurses, which ignores it while it draws, leaves it alone. */
static void on_stop(int sig)
{
	(void)sig;
}

/* Who has the program ignore being stopped has his reasons. */
static int take_stop(struct top_screen *s)
{
	struct sigaction action = {.sa_handler = on_stop};

	if (sigaction(SIGTSTP, NULL, &s->stop_before) < 0)
		return -errno;
	if (s->stop_before.sa_handler == SIG_IGN)
		return 0;
	sigaddset(&s->blocked, SIGTSTP);
	return sigaction(SIGTSTP, &action, NULL) < 0 ? -errno : 0;
}

static int open_signals(struct top_screen *s)
{
	int rc = take_stop(s);

	sigaddset(&s->blocked, SIGWINCH);
	sigaddset(&s->blocked, SIGCONT);
	sigaddset(&s->blocked, SIGQUIT);
	if (rc < 0 || sigprocmask(SIG_BLOCK, &s->blocked, NULL) < 0)
		return rc < 0 ? rc : -errno;
	s->signal_fd = signalfd(-1, &s->blocked, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signal_fd < 0 ? -errno : 0;
}

static void close_signals(struct top_screen *s)
{
	fd_close(&s->signal_fd);
	CHECK(sigaction(SIGTSTP, &s->stop_before, NULL) == 0);
	CHECK(sigprocmask(SIG_SETMASK, &s->mask_before, NULL) == 0);
}

/* Has the signal's ordinary effect; returns when the process goes on, if it does. */
static void suffer(const struct top_screen *s, int sig)
{
	struct sigaction saved;
	struct sigaction ordinary = {.sa_handler = SIG_DFL};

	endwin();
	CHECK(sigaction(sig, &ordinary, &saved) == 0 && raise(sig) == 0);
	CHECK(sigprocmask(SIG_SETMASK, &s->mask_before, NULL) == 0);
	CHECK(sigprocmask(SIG_BLOCK, &s->blocked, NULL) == 0);
	CHECK(sigaction(sig, &saved, NULL) == 0);
}

static void take_size(void)
{
	struct winsize size;

	if (ioctl(1, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		resizeterm(size.ws_row, size.ws_col);
}

static void take_signals(struct top_screen *s, bool *redraw)
{
	struct signalfd_siginfo info;

	while (read(s->signal_fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGTSTP || info.ssi_signo == SIGQUIT)
			suffer(s, (int)info.ssi_signo);
		/* Who went on may have another size, and anything on the screen. */
		if (info.ssi_signo != SIGWINCH) {
			endwin();
			clearok(curscr, TRUE);
		}
		take_size();
		*redraw = true;
	}
}

/* ---- opening and closing ----------------------------------------------- */

static void choose_attributes(struct top_screen *s)
{
	const char *no_color = getenv("NO_COLOR");
	bool color = has_colors() && !(no_color && *no_color) && start_color() == OK && use_default_colors() == OK;

	s->attributes[CANVAS_PLAIN] = A_NORMAL;
	s->attributes[CANVAS_STRONG] = A_BOLD;
	s->attributes[CANVAS_FAINT] = A_DIM;
	s->attributes[CANVAS_HEADING] = A_UNDERLINE;
	s->attributes[CANVAS_CHOSEN] = A_REVERSE;
	s->attributes[CANVAS_GOOD] = A_BOLD;
	s->attributes[CANVAS_BAD] = A_BOLD | A_UNDERLINE;
	if (color && init_pair(PAIR_GOOD, COLOR_GREEN, -1) == OK && init_pair(PAIR_BAD, COLOR_RED, -1) == OK) {
		s->attributes[CANVAS_GOOD] = A_BOLD | (attr_t)COLOR_PAIR(PAIR_GOOD);
		s->attributes[CANVAS_BAD] = A_BOLD | (attr_t)COLOR_PAIR(PAIR_BAD);
	}
}

static int open_terminal(struct top_screen *s, struct fault *f)
{
	const char *term = getenv("TERM");
	const char *place;

	setlocale(LC_CTYPE, "");
	s->screen = newterm(NULL, stdout, stdin);
	place = s->screen ? tigetstr("cup") : NULL;
	if (!place || place == (const char *)-1)
		return fault_set(f, FAULT_ERROR, "LOCAL_ERROR",
				 "TERM=%s: no terminal that text can be placed on; `stacygate top --json` needs none",
				 term ? term : "");
	set_escdelay(ESCAPE_WAIT_MS);
	cbreak();
	noecho();
	nonl();
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	/* Where it cannot be hidden it stays. */
	curs_set(0);
	choose_attributes(s);
	return 0;
}

int top_screen_open(struct top_screen **out, struct fault *f)
{
	struct top_screen *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return fault_memory(f);
	s->signal_fd = -1;
	sigemptyset(&s->blocked);
	CHECK(sigprocmask(SIG_SETMASK, NULL, &s->mask_before) == 0);
	rc = open_signals(s);
	rc = rc < 0 ? fault_errno(f, "signalfd", -rc) : open_terminal(s, f);
	if (rc == 0)
		*out = s;
	else
		top_screen_close(s);
	return rc;
}

void top_screen_close(struct top_screen *s)
{
	if (!s)
		return;
	if (s->screen) {
		endwin();
		delscreen(s->screen);
	}
	close_signals(s);
	free(s);
}

/* ---- keys -------------------------------------------------------------- */

void top_screen_fds(const struct top_screen *s, int fds[TOP_SCREEN_FDS])
{
	fds[0] = 0;
	fds[1] = s->signal_fd;
}

static int translate(int key)
{
	switch (key) {
	case KEY_UP:
		return TOP_KEY_UP;
	case KEY_DOWN:
		return TOP_KEY_DOWN;
	case KEY_PPAGE:
		return TOP_KEY_PAGE_UP;
	case KEY_NPAGE:
		return TOP_KEY_PAGE_DOWN;
	case KEY_HOME:
		return TOP_KEY_HOME;
	case KEY_END:
		return TOP_KEY_END;
	case KEY_BTAB:
		return TOP_KEY_BACK_TAB;
	default:
		return key < TOP_KEY_UP ? key : 0;
	}
}

/* A terminal that has gone is readable for good, and says nothing. */
static bool is_gone(void)
{
	struct pollfd p = {.fd = 0, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

int top_screen_read(struct top_screen *s, int *key, bool *redraw, struct fault *f)
{
	int c;

	take_signals(s, redraw);
	if (is_gone())
		return fault_set(f, FAULT_ERROR, "LOCAL_ERROR", "the terminal has gone");
	c = getch();
	if (c == ERR)
		return 0;
	*key = translate(c);
	return 1;
}

/* ---- drawing ----------------------------------------------------------- */

void top_screen_begin(const struct top_screen *s, struct canvas *c)
{
	(void)s;
	canvas_init(c, (size_t)LINES, (size_t)COLS);
}

void top_screen_show(const struct top_screen *s, const struct canvas *c)
{
	erase();
	for (size_t i = 0; i < c->n; i++) {
		const struct canvas_piece *p = &c->pieces[i];
		attrset(s->attributes[p->style]);
		mvaddnstr((int)p->row, (int)p->column, buf_data(&c->text) + p->at, (int)p->bytes);
	}
	attrset(A_NORMAL);
	refresh();
}
