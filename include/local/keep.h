/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's end of the keeper (local/keeper.h): what it holds of each sandbox, so that the next server on the same state
 * directory finds it, and how it is told.
 */
#ifndef LOCAL_KEEP_H
#define LOCAL_KEEP_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/list.h"

enum {
	KEEP_ID_MAX = 63,        /* bytes of the id of a sandbox */
	KEEP_NOTE_MAX = 8 << 20, /* bytes of a note */
};

/* The descriptors of a sandbox that is held. */
enum kept_fd {
	KEPT_DOOR,  /* a socket for its init goes in here */
	KEPT_LEASH, /* held open for as long as it may live */
	KEPT_BWRAP, /* pidfd of its bubblewrap */
	KEPT_INIT,  /* pidfd of its init */
	KEPT_NOTE,  /* a memory file */
	KEPT_FDS
};

/*
 * Messages are records of a SOCK_SEQPACKET. The server may be newer than the keeper, which lives on over an upgrade: nothing
 * here may change its meaning.
 */
enum keep_type {
	KEEP_LISTEN = 1, /* to a new keeper, once: the socket at which servers come, its only descriptor */
	KEEP_WAIT,       /* the server serves: so long it is waited for when it goes */
	KEEP_HOLD,       /* a sandbox, with KEPT_FDS descriptors. From the keeper: it holds that one */
	KEEP_NOTE,       /* the next note of one, the only descriptor */
	KEEP_DROP,       /* one is held no more */
	KEEP_END,        /* from the keeper, when a server came: those were all */
};

struct keep_message {
	uint32_t type;
	uint32_t wait_ms;         /* WAIT */
	uint32_t uid;             /* HOLD: the uid it runs as, 0 for the server's */
	uint32_t wire;            /* HOLD: WIRE_VERSION of its init */
	char id[KEEP_ID_MAX + 1]; /* HOLD, NOTE, DROP */
};

/* A sandbox that an earlier server left. */
struct kept {
	struct list link; /* on the list of whoever has it */
	char id[KEEP_ID_MAX + 1];
	uid_t uid;         /* 0: the server's */
	uint32_t wire;     /* WIRE_VERSION of its init */
	int fds[KEPT_FDS]; /* owned; -1 once taken */
	struct buf note;   /* as the earlier server wrote it */
};

/* Closes what is open, takes it off its list and frees it. NULL is fine. */
void kept_free(struct kept *kept);

/*
 * Finds the keeper of the state directory `dir` and adds to `kept` what it holds. Where there is none, `fresh` becomes it: what
 * keeper_start() gave, or -1; it is taken over. *sock is a non-blocking socket to the keeper, -1 where there is none. Blocking,
 * for start-up. 0, or a negative errno (never -EPERM) and `why`.
 */
MUST_CHECK int keep_open(int dir, int fresh, struct list *kept, int *sock, char *why, size_t why_size);

/* Tells the keeper; `fds` are KEPT_FDS for HOLD, one for NOTE, NULL otherwise. 0 or a negative errno (-EAGAIN: later). */
MUST_CHECK int keep_tell(int sock, const struct keep_message *m, const int *fds);

/* A memory file of these bytes, or a negative errno. */
MUST_CHECK int keep_make_note(struct str bytes);

#endif
