/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between a client and a program, both ways as they come, until either is done with the other. */
#ifndef LOCAL_RELAY_H
#define LOCAL_RELAY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/err.h"
#include "common/loop.h"

struct event;
struct relay;

enum {
	RELAY_PIECE_BYTES = 65536 /* read at a time, and the most that waits for a side that does not read */
};

/* One end of it. */
struct relay_side {
	struct relay *relay; /* borrowed */
	int fd;              /* owned; -1 once closed */
	struct event *ev;    /* owned; both directions, edge-triggered, for the life of the relay */
	bool readable;       /* it may have bytes, or an end */
	bool writable;       /* it may take bytes */
	bool ended;          /* it sends nothing more */
	bool told;           /* that the other side sends nothing more */
	bool deaf;           /* it takes nothing more: what is for it is dropped */
	struct buf out;      /* for it, not yet taken */
	uint64_t taken;      /* bytes that it took */
};

/* Embedded; its fields are the module's own but for `taken` above. */
struct relay {
	struct loop *loop; /* borrowed */
	char *scratch;     /* borrowed: RELAY_PIECE_BYTES, meaningless between calls */
	struct relay_side client;
	struct relay_side program;
	struct event *again; /* owned; active when a turn's share of work was used up */
	struct deferred end;
	/* Once, with both descriptors closed; from outside of all callbacks. It may free the relay. */
	void (*on_end)(struct relay *r);
};

/*
 * Begins. Both descriptors are connected stream sockets, taken over also when it fails; either may be blocking. The buffers
 * are taken too: what each side gets first. `client_ended`: nothing more is to be read of it. 0 or -ENOMEM; on_end is
 * called after 0 only.
 */
MUST_CHECK int relay_start(struct relay *r, struct loop *loop, char *scratch, int client, int program,
			   void (*on_end)(struct relay *r));
void relay_give(struct relay *r, struct buf *to_client, struct buf *to_program, bool client_ended);

/* Ends it at once; on_end follows. */
void relay_stop(struct relay *r);

/* The same without on_end; nothing is left of it. May be called after relay_stop, and on one that is all zeros. */
void relay_fini(struct relay *r);

#endif
