/* SPDX-License-Identifier: Apache-2.0 */
/* A client that sends exact bytes, cut where a test wants it, and reads exact answers, never for longer than told. */
#ifndef LIB_RAW_H
#define LIB_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/str.h"

/* A planted credential holds this; a byte string with it that reaches a client fails the test at once. */
#define PLANTED_SECRET "SEKRET"

struct raw {
	int fd;        /* -1 once closed */
	struct buf in; /* received, not yet taken by an answer */
	bool ended;    /* the other side closed (or reset, see below) */
	bool reset;
};

enum answer_end {
	ANSWER_COMPLETE,  /* head and body whole */
	ANSWER_CUT,       /* the connection ended before that */
	ANSWER_LATE,      /* not within the time */
	ANSWER_MALFORMED, /* not HTTP */
};

struct answer {
	enum answer_end end;
	unsigned status;
	struct buf head; /* with its empty line */
	struct buf wire; /* the body as it came, framing and all */
	struct buf body; /* the body without framing */
};

/* Connects; fails the test when that is refused. */
struct raw raw_unix(const char *path);
struct raw raw_tcp(unsigned port);
/* The same with a socket that belongs to this uid (needs root unless it is the own one), to ::1 with `v6`. */
struct raw raw_tcp_as(unsigned port, uid_t uid, bool v6);
/* A port that nobody has on either loopback address right now. */
unsigned raw_free_port(void);
bool raw_has_ipv6(void);
/* Connects without failing: 0 or negative errno. */
int raw_try_unix(struct raw *r, const char *path);
/* The same as another uid and gid, with these groups (needs root); the connection keeps that identity. */
struct raw raw_unix_as(const char *path, uid_t uid, gid_t gid, const gid_t *groups, size_t ngroups);
void raw_close(struct raw *r);
/* Closes with a reset where the transport has one (TCP), else with unread input. */
void raw_reset(struct raw *r);
/* No more will be sent; reading goes on. */
void raw_half_close(struct raw *r);

/* Sends all of it; false when the other side does not take it within WAIT_MS or is gone. */
bool raw_send(struct raw *r, const void *p, size_t n);
bool raw_text(struct raw *r, const char *text);
/* The same in two pieces, the second after the first was taken; 0 < at < n. */
bool raw_split(struct raw *r, const void *p, size_t n, size_t at);
bool raw_bytewise(struct raw *r, const void *p, size_t n);
/* Sends as much as the other side takes at once; how much that was. */
size_t raw_push(struct raw *r, const void *p, size_t n);

/* Reads at least n bytes into r->in within ms; false when the end or the clock came first. */
bool raw_read(struct raw *r, size_t n, unsigned ms);
/* Reads until the needle is in r->in. */
bool raw_read_text(struct raw *r, const char *needle, unsigned ms);
/* Whether the other side closes within ms; what it sends before stays in r->in. */
bool raw_closes(struct raw *r, unsigned ms);
/* Whether nothing at all arrives in this time: for what must not happen. */
bool raw_silent(struct raw *r, unsigned ms);

/*
 * Takes the next answer from the connection, waiting up to ms for it. `bodiless` for the answer to HEAD; 1xx, 204 and
 * 304 are known. Release with answer_fini.
 */
struct answer raw_answer(struct raw *r, bool bodiless, unsigned ms);
void answer_fini(struct answer *a);

static inline struct str answer_head(const struct answer *a)
{
	return buf_str(&a->head);
}

/* One request on a connection of its own: sent, answered, closed. */
struct answer raw_once(const char *path, const char *request);

#endif
